"""Requests and answers about single entries, byte for byte: ``find``, ``entries``.

For nodes that have no history yet. Nothing in an answer is believed here.
Specification: docs/spec/peer-protocols.md, "ask".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.replica.catchup_wire import join_prefixed, split_prefixed

FIND_REQUEST_BYTES_MAX: Final = 512
FOUND_MAX: Final = 2048
"""Most entries, and most statements, that one answer names."""

ENTRIES_MAX: Final = 256
ENTRIES_REQUEST_BYTES_MAX: Final = 8 * (1 + ENTRIES_MAX)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a node says that a package's accepted entries, and statements about it, stand."""

    entries: tuple[int, ...]
    statements: tuple[int, ...]


def encode_find(ecosystem: str, name: str) -> bytes:
    """Return the request for what is known of a package."""
    return f"{ecosystem}/{name}".encode("ascii", "replace")


def decode_find(payload: bytes) -> tuple[str, str]:
    """Return ecosystem and name that a request asks for.

    Raises:
        InvalidInputError: Not two printable ASCII words with a slash between.
    """
    text = payload.decode("ascii", "replace")
    ecosystem, slash, name = text.partition("/")
    if not (ecosystem and slash and name and text.isascii() and text.isprintable()):
        raise InvalidInputError(f"find: {text!r:.60} is no ecosystem/name")
    return ecosystem, name


def encode_found(found: Found) -> bytes:
    """Return the answer that names leaves; the first of each, when there are too many."""
    rows = (found.entries[:FOUND_MAX], found.statements[:FOUND_MAX])
    return join_prefixed([struct.pack(f">{len(row)}Q", *row) for row in rows])


def decode_found(answer: bytes) -> Found:
    """Return the leaves that an answer names.

    Raises:
        InvalidInputError: Malformed, or too many.
    """
    parts = split_prefixed(answer, items_max=2)
    if len(parts) != 2 or any(len(part) % 8 or len(part) > 8 * FOUND_MAX for part in parts):
        raise InvalidInputError("found: two rows of numbers are expected")
    entries, statements = (struct.unpack(f">{len(part) // 8}Q", part) for part in parts)
    return Found(entries, statements)


def encode_entries(leaves: list[int], *, size: int) -> bytes:
    """Return the request for leaves with their proofs under a head of ``size``."""
    assert 0 < len(leaves) <= ENTRIES_MAX
    return struct.pack(f">{1 + len(leaves)}Q", size, *leaves)


def decode_entries(payload: bytes) -> tuple[int, list[int]]:
    """Return (size, leaves) of a request.

    Raises:
        InvalidInputError: Malformed, or a leaf lies beyond the size.
    """
    if len(payload) % 8 or not 16 <= len(payload) <= ENTRIES_REQUEST_BYTES_MAX:
        raise InvalidInputError(f"entries: request of {len(payload)} bytes")
    size, *leaves = struct.unpack(f">{len(payload) // 8}Q", payload)
    if max(leaves) >= size:
        raise InvalidInputError(f"entries: leaf {max(leaves)} is beyond size {size}")
    return size, leaves
