"""``vouch``: a person's word that a data directory is the newest copy of itself."""

from __future__ import annotations

import os
import pwd

import click

from pyrsia_node.cli.commands.options import data_option
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.replica.silence import SilenceFile
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import KeyUse, load_keys

_QUESTION = (
    "Is this data directory certainly as this node left it, and was neither it, nor the disk or the"
    " machine that it is on, put back from a backup, an image or a snapshot?"
)


@click.command()
@data_option
@click.option("--yes", "is_certain", is_flag=True, help="Do not ask; I am certain.")
def vouch(layout: Layout, *, is_certain: bool) -> None:
    """Say that no older copy of the data was put back, so that this node may vote.

    For an authorized node that was started with its machine while too many others are down to ask;
    it may be running. Do not if you are not certain: two votes of a node that contradict each other
    can fork the log. It holds until the machine is started again.
    """
    if not layout.config.is_file():
        raise NotFoundError(f"{layout.root} is no node's data directory")
    owner = layout.root.stat().st_uid
    if owner != os.geteuid():
        raise InvalidInputError(f"run this as {_name_of(owner)}, whose directory {layout.root} is")
    if not is_certain:
        click.confirm(_QUESTION, abort=True)
    vote_key = load_keys(layout.node_key).public(KeyUse.VOTE)
    silence = SilenceFile(layout.wal).read(vote_key)
    if silence is not None and silence.first_height is None:
        raise InvalidInputError(
            f"this node has forgotten votes ({silence.reason}); nobody's word brings them back:"
            " `pyrsia status` says when it votes again"
        )
    if not BootMark(layout.root, vote_key).vouch():
        raise UnavailableError(
            "this machine has no shared memory of its own to remember that in (/dev/shm)"
        )
    click.echo("vouched for, until this machine is started again; the node asks no longer")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
