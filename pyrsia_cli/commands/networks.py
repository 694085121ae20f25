"""``network`` and ``devnet``: the node's own commands, reachable from here as well.

They work on data directories and processes, which is the node's business; this command only passes
them on, with the same arguments and the same exit code.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pyrsia_node.model.errors import UnavailableError

_PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.command(context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def network(arguments: Sequence[str]) -> None:
    """Make a network's genesis from member records (same as `pyrsia-node network`)."""
    _node("network", arguments)


@click.command(context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def devnet(arguments: Sequence[str]) -> None:
    """Run a whole network on this machine (same as `pyrsia-node devnet`)."""
    _node("devnet", arguments)


def _node(command: str, arguments: Sequence[str]) -> None:
    program = Path(sys.executable).with_name("pyrsia-node")
    if not program.exists():
        raise UnavailableError(f"{program} is not installed beside this command")
    try:
        done = subprocess.run([str(program), command, *arguments], check=False)
    except KeyboardInterrupt:
        click.get_current_context().exit(130)
    click.get_current_context().exit(done.returncode)
