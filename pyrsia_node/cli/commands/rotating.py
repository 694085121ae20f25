"""``rotate-key``: make the keys with which an authorized node wants to go on."""

from __future__ import annotations

import click

from pyrsia_node.cli.commands.options import data_option
from pyrsia_node.core.rotation import make_next_keys
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.config_file import read_config
from pyrsia_node.store.keys import KeyUse


@click.command("rotate-key")
@data_option
def rotate_key(layout: Layout) -> None:
    """Make new keys beside the old ones, for an authorized node that may be running.

    Nothing uses them before a quorum of the authorized nodes approved them; then the node starts
    to use them by itself, and keeps the old ones in keys/ under another name.
    """
    _, config = read_config(layout)
    if config.node.role != "authorized":
        raise InvalidInputError(
            f"{config.node.label} is a {config.node.role} node: only an authorized one has keys"
            " that others must approve"
        )
    keys = make_next_keys(layout)
    click.echo(f"next keys     {layout.next_key}")
    click.echo(f"next peer id  {peer_id_of(keys.public(KeyUse.P2P))}")
    click.echo("next: back up keys/, then `pyrsia rotate-key`; the other admins approve by")
    click.echo("      `pyrsia approve SUBJECT`, and `pyrsia nodes` shows who has")
