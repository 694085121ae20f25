"""Requests and answers of catch-up, byte for byte: ``decisions``, ``head``, ``changes``.

Every answer is a row of byte strings, each behind its length; nothing in one is believed here.
Specification: docs/spec/peer-protocols.md, "ask".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.tlog.trust import SetChange

ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
"""Most bytes of decisions or set changes in one answer; a first item may be larger."""

DECISIONS_MAX: Final = 4096
"""Most decisions in one answer."""

CHANGES_MAX: Final = 4096
"""Most set changes in one answer."""

_LENGTH: Final = struct.Struct(">I")
DECISIONS_REQUEST_BYTES: Final = 16
CHANGES_REQUEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class DecisionRange:
    """What a request for decisions asks: ``count`` of them from ``first`` on, within a size."""

    first: int
    count: int
    bytes_max: int


def encode_range(
    *, first: int, count: int = DECISIONS_MAX, bytes_max: int = ANSWER_BYTES_MAX
) -> bytes:
    """Return the request for ``count`` decisions from height ``first`` on."""
    return struct.pack(">QII", first, count, bytes_max)


def decode_range(payload: bytes) -> DecisionRange:
    """Return what a request asks, cut down to what one answer may hold.

    Raises:
        InvalidInputError: on any other length.
    """
    if len(payload) != DECISIONS_REQUEST_BYTES:
        raise InvalidInputError(
            f"decisions: request has {len(payload)} bytes, {DECISIONS_REQUEST_BYTES} expected"
        )
    first, count, bytes_max = struct.unpack(">QII", payload)
    return DecisionRange(first, min(count, DECISIONS_MAX), min(bytes_max, ANSWER_BYTES_MAX))


def encode_first_epoch(epoch: int) -> bytes:
    """Return the request for the set changes of ``epoch`` and later."""
    return struct.pack(">Q", epoch)


def decode_first_epoch(payload: bytes) -> int:
    """Return the first epoch that a request asks for, at least 1.

    Raises:
        InvalidInputError: on any other length.
    """
    if len(payload) != CHANGES_REQUEST_BYTES:
        raise InvalidInputError(
            f"changes: request has {len(payload)} bytes, {CHANGES_REQUEST_BYTES} expected"
        )
    (epoch,) = struct.unpack(">Q", payload)
    return max(1, int(epoch))


def encode_changes(changes: list[SetChange]) -> bytes:
    """Return the answer that carries ``changes``."""
    parts = [part for each in changes for part in (each.header, each.certificate, each.set_leaf)]
    return join_prefixed(parts)


def decode_changes(answer: bytes) -> list[SetChange]:
    """Return the set changes of an answer; none of them is checked yet.

    Raises:
        InvalidInputError: malformed, or too many.
    """
    parts = split_prefixed(answer, items_max=3 * CHANGES_MAX)
    if len(parts) % 3:
        raise InvalidInputError(f"changes: {len(parts)} parts are no whole number of changes")
    return [SetChange(*parts[at : at + 3]) for at in range(0, len(parts), 3)]


def encode_head(header: bytes, certificate: bytes) -> bytes:
    """Return the answer that carries the newest header and what finalized it."""
    return join_prefixed([header, certificate])


def decode_head(answer: bytes) -> tuple[bytes, bytes] | None:
    """Return (header, certificate) of an answer, unchecked; None from a node at height 0.

    Raises:
        InvalidInputError: malformed.
    """
    if not answer:
        return None
    parts = split_prefixed(answer, items_max=2)
    if len(parts) != 2:
        raise InvalidInputError(f"head: {len(parts)} parts, 2 expected")
    return parts[0], parts[1]


def join_prefixed(items: list[bytes]) -> bytes:
    """Return the items, each behind its u32 length."""
    return b"".join([part for item in items for part in (_LENGTH.pack(len(item)), item)])


def split_prefixed(payload: bytes, *, items_max: int) -> list[bytes]:
    """Undo ``join_prefixed``.

    Raises:
        InvalidInputError: when a length runs past the end or there are too many items.
    """
    items: list[bytes] = []
    # Every byte of a joining node's history passes here: the loop knows its names by itself.
    add, read, size, begin = items.append, _LENGTH.unpack_from, len(payload), 0
    while begin < size:
        if len(items) == items_max:
            raise InvalidInputError(f"more than {items_max} items")
        start = begin + 4
        if start > size:
            raise InvalidInputError("item length is cut short")
        begin = start + read(payload, begin)[0]
        if begin > size:
            raise InvalidInputError(f"item of {begin - start} bytes runs past the end")
        add(payload[start:begin])
    return items
