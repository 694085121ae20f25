"""``trust``: whose signatures count, kept current by following the log's set changes and heads.

Everything is checked here, against the file that the user already has: the node or the other file
that brings news is only believed where the news holds (``tlog.following``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option, say
from pyrsia_cli.proving import LogOfNode, load_following, save_following, trust_path
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.following import HEAD_AGE_S_MAX, Following
from pyrsia_node.tlog.proofs import make_consistency_proof
from pyrsia_node.tlog.tile import TileHashReader
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, TrustFile

_FILE: Final = click.argument("file", required=False, default="", metavar="[NETWORK.trust]")


@click.group()
def trust() -> None:
    """Show, refresh and export whom you trust.

    The trust file names the first members, and proves each later set from the one before.
    """


@trust.command("show")
@_FILE
@format_option
def show(file: str, output_format: str) -> None:
    """Show the network, its members, and the largest head seen.

    \b
    pyrsia trust show
    pyrsia trust show example.trust --format json
    """  # noqa: D301 - click reads the backspace character
    path = trust_path(load_settings(settings_path()), file)
    row = _row(path, load_following(path))
    rows: list[Row] = [{"what": what, "value": value} for what, value in row.items()]
    if output_format == "table":
        emit(rows, ("what", "value"), "table")
    else:
        emit([row], tuple(row), output_format, document=dict(row))


@trust.command("update")
@_FILE
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False),
    help="Take set changes from another trust file, without any network.",
)
@click.option(
    "--max-age",
    type=click.IntRange(1),
    default=HEAD_AGE_S_MAX,
    show_default=True,
    help="Refuse a head that no quorum stood behind for this many seconds.",
)
def update(file: str, source: str | None, max_age: int) -> None:
    """Follow the network: its set changes and newest head.

    The configured node is asked for both, or another trust file for the changes.

    \b
    pyrsia trust update                          ask the configured node
    pyrsia trust update --from colleague.trust   offline

    Refused, with exit 3 and nothing changed: a handover that is not certified or leaves out an
    epoch, keys that have handed over, a head that went back, forked, or is stale.
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    path = trust_path(settings, file)
    before = load_following(path)
    if source is not None:
        after = before.with_newer(_trust_file(Path(source)))
    else:
        with NodeApi(settings) as api:
            after = _from_node(before, api, age_s_max=max_age)
    save_following(path, after)
    epochs = after.trust.current.epoch - before.trust.current.epoch
    head = after.head
    size = f"size {head.checkpoint.size}, epoch {head.epoch}" if head else "no head yet"
    say(f"{after.trust.origin}: {epochs} new set(s) of members, {size}")


@trust.command("export-policy")
@_FILE
def export_policy(file: str) -> None:
    """Print the current members as a policy for other tools.

    It is a C2SP tlog-policy: whose signatures count on a head of the log.

    \b
    pyrsia trust export-policy > example.policy
    """  # noqa: D301 - click reads the backspace character
    path = trust_path(load_settings(settings_path()), file)
    click.echo(load_following(path).trust.policy(), nl=False)


def _from_node(held: Following, api: NodeApi, *, age_s_max: int) -> Following:
    """Return what is held after the node's set changes and its newest head."""
    grown = held.with_newer(TrustFile.parse(api.get_text("/api/v1/trust")))
    note = api.get_text("/log/checkpoint")
    new_size = SignedCheckpoint.parse(note).checkpoint.size
    old_size = held.head.checkpoint.size if held.head is not None else 0
    proof: tuple[bytes, ...] = ()
    if 0 < old_size < new_size:
        reader = TileHashReader(LogOfNode(api), new_size)
        proof = make_consistency_proof(reader, old_size=old_size, new_size=new_size)
    now_s = time.time_ns() // 1_000_000_000
    return grown.with_head(note, proof, now_s=now_s, age_s_max=age_s_max)


def _row(path: Path, held: Following) -> Row:
    current, head = held.trust.current, held.head
    return {
        "file": str(path),
        "network": held.trust.genesis.name,
        "network id": held.trust.genesis.network_id.hex(),
        "log": held.trust.origin,
        "epoch": current.epoch,
        "quorum": current.quorum,
        "members": [record.label for record in current.members],
        "largest head seen": head.checkpoint.size if head else 0,
        "its root": head.checkpoint.root.hex() if head else "",
        "a quorum stood behind it at": head.time_s if head else 0,
    }


def _trust_file(path: Path) -> TrustFile:
    try:
        with path.open("rb") as file:
            return TrustFile.parse(file.read(TRUST_BYTES_MAX + 1))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
