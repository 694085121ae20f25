"""What an authorized node keeps of the tags that it follows, under ``builds/follow/``.

A row for each (who asked, tag): ``builds/follow/<peer id, or "own">/<sha256 of the purl>``, so that
nobody ends what somebody else wants. Every write is durable before it returns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.ports import KeyValueStore

RECORD_BYTES_MAX: Final = 16 * 1024

_PREFIX: Final = b"builds/follow/"


@dataclass(frozen=True, slots=True)
class FollowRecord:
    """One followed tag. Times are Unix milliseconds, 0 for never; "" is "none yet".

    Attributes:
        purl: The image with its tag.
        by: The peer whose wish it is; "" for this node's own user.
        platforms: Separated by commas; "" is all.
        every_s: Pause between two looks.
        looked_ms: When the upstream was asked last, whatever it answered.
        failures: Looks in a row that brought nothing.
        problem: Why.
        seen: The digest that the tag was at the last look that brought one.
        seen_ms: Since when it is seen to be that.
        asked: The digest whose import was asked for last, at ``asked_ms``, as ``build_id``.
        asks: How often that digest was asked for.
    """

    purl: str
    by: str
    platforms: str
    every_s: int
    looked_ms: int = 0
    failures: int = 0
    problem: str = ""
    seen: str = ""
    seen_ms: int = 0
    asked: str = ""
    asked_ms: int = 0
    asks: int = 0
    build_id: str = ""


class FollowRecords:
    """Reads and writes the records."""

    def __init__(self, store: KeyValueStore) -> None:
        """Use the core's store."""
        self._store = store

    def save(self, record: FollowRecord) -> None:
        """Write a record, replacing its earlier state."""
        value: JsonObject = {each.name: getattr(record, each.name) for each in fields(record)}
        self._store.write([(_key(record.by, record.purl), canonical.dumps(value))], sync=True)

    def delete(self, by: str, purl: str) -> bool:
        """Forget a tag; tell whether it was followed."""
        if self._store.get(_key(by, purl)) is None:
            return False
        self._store.write([(_key(by, purl), None)], sync=True)
        return True

    def get(self, by: str, purl: str) -> FollowRecord | None:
        """Return the record of a tag that somebody wanted followed."""
        raw = self._store.get(_key(by, purl))
        return None if raw is None else _record(raw)

    def all(self) -> list[FollowRecord]:
        """Return every record, by purl."""
        found = [_record(value) for _, value in self._store.scan(_PREFIX)]
        return sorted(found, key=lambda record: (record.purl, record.by))


def _key(by: str, purl: str) -> bytes:
    return _PREFIX + f"{by or 'own'}/{sha256_of(purl.encode())}".encode()


def _record(raw: bytes) -> FollowRecord:
    try:
        value = canonical.loads_object(raw, bytes_max=RECORD_BYTES_MAX)
        return FollowRecord(**value)  # type: ignore[arg-type] # written by ``save`` alone
    except (InvalidInputError, TypeError) as error:
        raise CorruptStateError(
            f"core.leveldb builds/follow/: {error}; run pyrsia-node fsck"
        ) from error
