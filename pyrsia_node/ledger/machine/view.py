"""The state as a block sees it: an ordered map of ASCII keys to JSON, and the changes over it.

Nothing is written here. The changes are part of what members vote on (``state_root``), so they
are exactly what the transactions put, in key order. Specification: docs/design/ledger.md 3.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonValue
from pyrsia_node.ports import KeyValueReader

STATE_TAG: Final = b"pyrsia/state/1\0"
"""Domain of the hash chain over the changes of all blocks."""

ZERO_ROOT: Final = bytes(32)
"""What stands before the first state root."""

# Only what this module wrote is read here, so the strict reader's checks would find nothing.
_DECODER: Final = json.JSONDecoder()


class Encodable(Protocol):
    """A record that knows its canonical bytes."""

    def encode(self) -> bytes:
        """Return them."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One key and its new canonical value; None deletes."""

    key: str
    value: bytes | None


def state_root(previous: bytes, changes: Iterable[Change]) -> bytes:
    """Return SHA-256(tag | root before the block | canonical array of the changes).

    Each change is ``[key,value]`` or, deleted, ``[key]``; they are in key order. The values are
    canonical already, so the array is joined and not encoded again.
    """
    parts = []
    for change in changes:
        # Quotation marks around what ``put`` took for a key: nothing in it needs an escape.
        key = change.key.encode("ascii")
        parts.append(
            b'["%b"]' % key if change.value is None else b'["%b",%b]' % (key, change.value)
        )
    return hashlib.sha256(STATE_TAG + previous + b"[" + b",".join(parts) + b"]").digest()


class StateView:
    """Reads through to the stored state; writes stay here.

    Records are encoded when somebody asks for their bytes: most of what a mempool has judged is
    thrown away, and a record may change several times in a block.
    """

    __slots__ = ("_base", "_changes", "_read")

    def __init__(self, base: KeyValueReader) -> None:
        """Start without changes over ``base``, the state after the parent block."""
        self._base = base
        self._changes: dict[str, bytes | Encodable | None] = {}
        self._read: dict[str, bytes | None] = {}

    def get(self, key: str) -> JsonValue | None:
        """Return the value of ``key``, or None. JSON null never is a value."""
        raw = self._raw(key)
        if raw is None:
            return None
        value: JsonValue = _DECODER.decode(raw.decode("utf-8"))
        return value

    def has(self, key: str) -> bool:
        """Tell whether ``key`` has a value."""
        return self._raw(key) is not None

    def put(self, key: str, value: JsonValue) -> None:
        """Set ``key``."""
        self._set(key, canonical.dumps(value))

    def put_record(self, key: str, record: Encodable) -> None:
        """Set ``key`` to a record, which does not change any more."""
        self._set(key, record)

    def delete(self, key: str) -> None:
        """Remove ``key``."""
        self._changes[key] = None

    def keys(self, prefix: str, *, up_to: str) -> list[str]:
        """Return the keys that have a value, start with ``prefix`` and are < ``up_to``."""
        found = []
        for raw_key, _ in self._base.scan(prefix.encode("ascii")):
            key = raw_key.decode("ascii")
            if key >= up_to:
                break
            if key not in self._changes:
                found.append(key)
        for key, value in self._changes.items():
            if value is not None and key.startswith(prefix) and key < up_to:
                bisect.insort(found, key)
        return found

    def first(self, prefix: str) -> str | None:
        """Return the smallest key with a value that starts with ``prefix``, or None."""
        candidates = [
            key
            for key, value in self._changes.items()
            if value is not None and key.startswith(prefix)
        ]
        for raw_key, _ in self._base.scan(prefix.encode("ascii")):
            key = raw_key.decode("ascii")
            if key not in self._changes:
                candidates.append(key)
                break
        return min(candidates, default=None)

    def changes(self) -> tuple[Change, ...]:
        """Return the changes so far, in key order."""
        return tuple(Change(key, self._encoded(key)) for key in sorted(self._changes))

    def _set(self, key: str, value: bytes | Encodable) -> None:
        assert key.isascii()
        assert '"' not in key
        assert "\\" not in key
        self._changes[key] = value

    def _encoded(self, key: str) -> bytes | None:
        value = self._changes[key]
        if value is None or isinstance(value, bytes):
            return value
        encoded = self._changes[key] = value.encode()
        return encoded

    def _raw(self, key: str) -> bytes | None:
        if key in self._changes:
            return self._encoded(key)
        if key not in self._read:
            self._read[key] = self._base.get(key.encode("ascii"))
        return self._read[key]
