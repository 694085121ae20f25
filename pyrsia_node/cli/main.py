"""The ``pyrsia-node`` command: one entry, one place where errors become exit codes.

Exit codes: 0 ok, 1 other, 2 invalid input, 3 verification failed, 4 not found, 5 unavailable,
6 corrupt state (schema/exit_codes.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Final

import click

from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.printable import plain_message
from pyrsia_node.schema.exit_codes import INVALID, exit_code_of
from pyrsia_node.schema.program_name import CALLED_AS

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_INTERRUPTED = 130


_COMMANDS: Final[Mapping[str, str]] = {
    "init": "making",
    "join": "making",
    "network": "making",
    "rotate-key": "rotating",
    "run": "running",
    "vouch": "vouching",
    "audit": "auditing",
    "doctor": "examining",
    "fsck": "repairing",
    "reindex": "repairing",
    "devnet": "devnet",
    "demo": "demo",
}
"""Subcommands by name, and the module of cli/commands in which each stands as a function."""


class _Commands(click.Group):
    """Loads a subcommand when it is asked for: a node's start must not wait for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"pyrsia_node.cli.commands.{_COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(metadata.version("pyrsia"), "-V", "--version", prog_name="pyrsia-node")
def cli() -> None:
    """Make and run Pyrsia nodes, and found networks of them.

    \b
    A node:
      pyrsia-node init --label north --role authorized
      pyrsia-node join genesis.json --peer /dns4/boot.example/tcp/44000/p2p/PEER
      pyrsia-node run
      pyrsia-node doctor                         what is wrong with it, and what to do

    \b
    A network, on one machine or out of other people's member.record files:
      pyrsia-node devnet
      pyrsia-node network init --name example --member a.record --member b.record

    Exit codes: 0 ok, 1 other, 2 invalid input, 3 verification failed, 4 not found,
    5 unavailable, 6 corrupt state.
    """  # noqa: D301 - click reads the backspace character


def main() -> None:
    """Run the command; end the process with its exit code."""
    if not __debug__:
        sys.stderr.write("pyrsia-node: refuses to run under python -O: assertions are part of it\n")
        sys.exit(INVALID)
    # Taken out of the environment: processes that are started from here have their own names.
    name = os.environ.pop(CALLED_AS, "") or None
    try:
        code = cli.main(prog_name=name, standalone_mode=False)
    except PyrsiaError as error:
        sys.stderr.write(plain_message("pyrsia-node", str(error)) + "\n")
        code = exit_code_of(error)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.stderr.write("pyrsia-node: interrupted\n")
        code = _INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = INVALID
    sys.exit(code if isinstance(code, int) else 0)
