"""``gc``: what leaves the node's registry, when, and why something does not.

Talks to the node's control API with the admin token, on the node's own machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option, note, say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.schema.collection import (
    CollectionReport,
    CollectionStatus,
    Explanation,
)

REPORT_COLUMNS: Final = ("what", "count")
REASON_COLUMNS: Final = ("kind", "why", "until")

_PATH: Final = "/api/v1/gc"
_POLL_S: Final = 0.2


@click.group()
def gc() -> None:
    """Remove what no repository needs.

    The node does it by itself every registry.collect_minutes, while clients push and pull. What
    lost its last use stays for registry.grace_minutes.
    """


@gc.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@format_option
def run(output_format: str, *, dry_run: bool) -> None:
    """Collect now, and wait for the end.

    \b
    pyrsia gc run --dry-run
    pyrsia gc run --format json
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        report = _until_done(api, _begin(api, dry_run=dry_run).number)
    if report.error:
        raise UnavailableError(f"the collection ended early: {report.error}")
    emit(_rows(report), REPORT_COLUMNS, output_format, document=report.dump())
    if output_format == "table" and report.busy:
        note(f"{report.busy} blobs were just being read; they go another time")


@gc.command()
@format_option
def status(output_format: str) -> None:
    """Show what is under way, what went last, and when the next begins."""
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get_as_admin(_PATH, CollectionStatus)
    rows = [] if found.last is None else _rows(found.last)
    emit(rows, REPORT_COLUMNS, output_format, document=found.dump())
    if output_format != "table":
        return
    if found.last is not None:
        kind = "a dry run: nothing went" if found.last.dry_run else "a collection"
        note(f"the last one was {kind}, at {_time(found.last.ended_ms)}")
    if found.stage != "idle":
        note(f"collection {found.number} is under way: {found.stage}, {found.done} looked at")
    elif found.last is None:
        note("nothing was collected since the node started")
    if found.last is not None and found.last.error:
        note(f"the last collection ended early: {found.last.error}")
    if found.next_ms:
        note(f"the next one begins at {_time(found.next_ms)}")


@gc.command()
@click.argument("digest")
@format_option
def explain(digest: str, output_format: str) -> None:
    """Say why the bytes of DIGEST are kept, and when they go.

    DIGEST is sha256:… or sha512:…, of a blob, a manifest or an artifact.
    """
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get_as_admin(f"{_PATH}/explain?digest={quote(digest)}", Explanation)
    rows: Sequence[Row] = [
        {"kind": each.kind, "why": each.text, "until": _time(each.until_ms)}
        for each in found.reasons
    ]
    emit(rows, REASON_COLUMNS, output_format, document=found.dump())
    if output_format == "table":
        say(found.verdict)


def _begin(api: NodeApi, *, dry_run: bool) -> CollectionStatus:
    """Begin a collection once none is under way."""
    found = api.get_as_admin(_PATH, CollectionStatus)
    while found.stage != "idle":
        time.sleep(_POLL_S)
        found = api.get_as_admin(_PATH, CollectionStatus)
    return api.post(_PATH, CollectionStatus, {"dry_run": dry_run})


def _until_done(api: NodeApi, number: int) -> CollectionReport:
    stage = ""
    while True:
        found = api.get_as_admin(_PATH, CollectionStatus)
        if found.last is not None and found.last.number == number:
            return found.last
        if found.number > number:
            raise UnavailableError(f"collection {number} ended; a later one is under way")
        if found.stage not in {stage, "idle"}:
            stage = found.stage
            note(f"looking at {stage} …")
        time.sleep(_POLL_S)


def _rows(report: CollectionReport) -> list[Row]:
    would = "would go" if report.dry_run else "went"
    return [
        {"what": f"blobs that {would}", "count": report.blobs},
        {"what": "their bytes", "count": report.bytes},
        {"what": "of them out of the cache, for want of space", "count": report.evicted},
        {"what": "of them without a row in the registry", "count": report.orphans},
        {"what": f"names in repositories that {would}", "count": report.links},
        {"what": f"uploads that {would}", "count": report.uploads},
    ]


def _time(when_ms: int | None) -> str:
    if when_ms is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(when_ms / 1000))
