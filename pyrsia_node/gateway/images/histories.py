"""Steps of a tag's history as ``_oci/tag-history`` shows them.

Each is a descriptor of what the tag was, with the time at which it became that (``created``), as
the open proposal of the distribution specification has it; ours adds who did it, who vouches for
it, and, for an image of the log, the leaf and where its proof is. A deletion is no step of its own,
because it has no content: it is said of the step that it ended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pyrsia_node.artifacts.images.found import LoggedChange
from pyrsia_node.gateway.images.routes import RouteError
from pyrsia_node.ports.registry import TagChange
from pyrsia_node.registry.service import Registry

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_ROWS: Final = 512
TIME_MS_MAX: Final = 253_402_300_799_000
"""The last second that four digits of a year can say."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step: when, what ``last`` continues behind it, and what is shown of it."""

    time_ms: int
    cursor: str
    shown: dict[str, object]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: behind a change of that number, or before a time; both None is first."""

    number: int | None = None
    time_ms: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Return what ``last`` says: a number of ours, or the ``created`` of a step.

        Raises:
            RouteError: Neither.
        """
        if text is None:
            return cls()
        if _NUMBER.fullmatch(text):
            return cls(number=int(text))
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise RouteError(400, "UNSUPPORTED", f"last={text[:60]!r} is no step's time") from None
        if when.tzinfo is None:
            raise RouteError(400, "UNSUPPORTED", f"last={text[:60]!r} has no time zone")
        return cls(time_ms=int(when.timestamp() * 1000))


async def own_steps(
    registry: Registry, repository: str, tag: str, *, cursor: Cursor, count: int
) -> list[Step]:
    """Return up to ``count`` steps of a tag that was pushed here, newest first."""
    steps: list[Step] = []
    ended: TagChange | None = None
    before = cursor.number
    while len(steps) < count:
        rows = await registry.history(repository, tag, before=before, limit=_ROWS)
        for row in rows:
            if not row.digest:
                ended = row
                continue
            if cursor.time_ms is None or row.time_ms < cursor.time_ms:
                steps.append(_own_step(row, ended))
            ended = None
        if len(rows) < _ROWS:
            break
        before = rows[-1].number
    return steps[:count]


def _own_step(row: TagChange, ended: TagChange | None) -> Step:
    shown: dict[str, object] = {
        "mediaType": row.media,
        "digest": row.digest,
        "size": row.size,
        "created": rfc3339(row.time_ms),
        "actor": row.actor,
        "verified": "local",
    }
    if ended is not None:
        shown["deleted"] = rfc3339(ended.time_ms)
        shown["deletedBy"] = ended.actor
    return Step(row.time_ms, str(row.number), shown)


def logged_step(change: LoggedChange) -> Step:
    """Return a step that an entry of the log made."""
    shown: dict[str, object] = {
        "mediaType": change.media,
        "digest": change.digest,
        "size": change.size,
        "created": rfc3339(change.time_ms),
        "actor": change.actor,
        "verified": "log",
        "index": change.index,
        "proof": f"/api/v1/entries/{change.index}/proof",
        "sightings": [
            {"member": member, "seen": rfc3339(seen_ms)} for member, seen_ms in change.sightings
        ],
    }
    return Step(change.time_ms, f"log-{change.index}", shown)


def after(steps: list[Step], text: str | None) -> list[Step]:
    """Return the steps behind the one that ``last`` names; all of them if there is none."""
    if text is None:
        return steps
    for position, step in enumerate(steps):
        if step.cursor == text:
            return steps[position + 1 :]
    time_ms = Cursor.parse(text).time_ms
    return [step for step in steps if time_ms is not None and step.time_ms < time_ms]


def rfc3339(time_ms: int) -> str:
    """Return a time as RFC 3339 writes it, in UTC, with milliseconds.

    A member's clock may say anything: what lies beyond the year 9999 is shown as its last moment.
    """
    when = datetime.fromtimestamp(min(time_ms, TIME_MS_MAX) / 1000, tz=UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
