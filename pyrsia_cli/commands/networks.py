"""``network`` and ``devnet``: the node's own commands, reachable from here as well.

They work on data directories and processes, which is the node's business; this command only passes
them on, with the same arguments and the same exit code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.schema.program_name import CALLED_AS

PASS_ON: Final = {"ignore_unknown_options": True, "help_option_names": []}
"""Settings of a command that hands everything on, its ``--help`` too."""


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def network(arguments: Sequence[str]) -> None:
    """Make a network's genesis from member records.

    The same as `pyrsia-node network`.
    """
    run_node_command("network", arguments)


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def devnet(arguments: Sequence[str]) -> None:
    """Run a whole network on this machine.

    The same as `pyrsia-node devnet`.
    """
    run_node_command("devnet", arguments)


def run_node_command(command: str, arguments: Sequence[str]) -> None:
    """Run a subcommand of ``pyrsia-node`` in the place of this one, and end with its exit code.

    Raises:
        UnavailableError: ``pyrsia-node`` is not installed beside this command.
    """
    program = Path(sys.executable).with_name("pyrsia-node")
    if not program.exists():
        raise UnavailableError(f"{program} is not installed beside this command")
    # Its help shall teach the command that was typed.
    environment = {**os.environ, CALLED_AS: click.get_current_context().find_root().info_name or ""}
    try:
        done = subprocess.run([str(program), command, *arguments], check=False, env=environment)
    except KeyboardInterrupt:
        click.get_current_context().exit(130)
    click.get_current_context().exit(done.returncode)
