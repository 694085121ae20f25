"""``evidence``: who signed what contradicts itself, other trees of the log, and its forks."""

from __future__ import annotations

from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option, say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.schema.evidence import (
    EvidenceLine,
    EvidenceList,
    ForkLine,
    SplitViewLine,
    StatementLine,
)
from pyrsia_node.schema.exit_codes import VERIFICATION

COLUMNS: Final = ("member", "crime", "height", "view", "first", "second", "leaf", "by", "id")

_HASH_CHARS: Final = 12
"""As much of a block's hash as tells two of them apart for people."""


@click.command()
@format_option
@click.pass_context
def evidence(context: click.Context, output_format: str) -> None:
    """List members that broke their word. Exit 3 if there are any, 0 if none is known.

    A member breaks its word when it signs two statements that no honest member signs both: for two
    blocks in one view, or for skipping a view and for finalizing it. Each line names both. The log
    keeps each as a leaf (`leaf`); one that has no leaf yet waits for its block.

    A split view is two heads of the log that cannot both be true, cosigned; the proof is the file
    `id` in the folder `evidence` of the data directory. Compare what other nodes have.

    A fork is worse: two blocks of one height are final. The node has stopped voting then, and goes
    on serving what it has. Keep the whole data directory, tell the other admins by another way than
    this network, ask every node for its evidence, and decide together which branch lives and
    without whom; the guide "Recover", at "The log has forked", leads through it.

    \b
    pyrsia evidence --format json     both signatures, whole hashes
    pyrsia search type:evidence       the same from the log, each with its proof
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get("/api/v1/evidence", EvidenceList)
    rows = evidence_rows(found)
    if rows or output_format != "table":
        emit(rows, COLUMNS, output_format, document=found.dump())
    else:
        say("No member is known to have broken its word.")
    if rows:
        context.exit(VERIFICATION)


def evidence_rows(found: EvidenceList) -> list[Row]:
    """Return one row for each fork, then for each split view, then for each pair of statements."""
    forks = [_fork_row(fork) for fork in found.forks]
    views = [_split_view_row(view) for view in found.split_views]
    return forks + views + [_row(line) for line in found.evidence]


def _fork_row(fork: ForkLine) -> Row:
    pairs = zip(fork.culprits, fork.culprit_labels, strict=True)
    return {
        "member": [label or culprit for culprit, label in pairs],
        "crime": f"fork: {len(fork.culprits)} of at least {fork.needed} makers are named",
        "height": fork.height,
        "id": fork.culprits,
    }


def _split_view_row(view: SplitViewLine) -> Row:
    return {
        "member": view.signed_both or view.cosigned_by,
        "crime": "split view" if view.is_proved else "split view, not proved to others yet",
        "first": f"size {view.our_size} root {view.our_root[:_HASH_CHARS]}",
        "second": f"size {view.size} root {view.root[:_HASH_CHARS]}",
        "id": view.file,
    }


def _row(line: EvidenceLine) -> Row:
    return {
        "member": line.label or line.culprit,
        "crime": line.crime.replace("_", " "),
        "height": line.height,
        "view": line.view,
        "first": _statement(line.first),
        "second": _statement(line.second),
        "leaf": line.leaf,
        "by": line.by,
        "id": line.culprit,
    }


def _statement(statement: StatementLine) -> str:
    if statement.kind == "nullify":
        return statement.kind
    return f"{statement.kind} {statement.block[:_HASH_CHARS]}"
