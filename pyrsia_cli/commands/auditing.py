"""``audit``: the node's own command, reachable from here as well."""

from __future__ import annotations

from collections.abc import Sequence

import click

from pyrsia_cli.commands.networks import PASS_ON, run_node_command


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def audit(arguments: Sequence[str]) -> None:
    """Derive another node's whole log again (same as `pyrsia-node audit`)."""
    run_node_command("audit", arguments)
