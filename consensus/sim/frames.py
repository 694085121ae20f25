"""Frames of the simulated driver beside those of consensus: transactions, bodies, decisions.

The product moves these over other protocols (docs/spec/peer-protocols.md); the simulator needs
only their meaning. Like any frame from outside they are decoded with care: a traitor makes them.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from consensus.types import Digest, Height
from consensus.wire import MessageKind

_BODY_ASKED: Final = struct.Struct(">BQ32s")
_HEIGHT: Final = struct.Struct(">BQ")
_LENGTH: Final = struct.Struct(">I")


class SideKind(IntEnum):
    """First byte of a frame that consensus does not read itself."""

    TRANSACTION = 6
    BODY_ASKED = 16
    BODY = 17
    DECISIONS_ASKED = 18
    DECISIONS = 19
    RECALL_ASKED = 20
    RECALL = 21
    TIP_ASKED = 22
    TIP = 23


MEMORY_KINDS: Final = frozenset(
    (SideKind.RECALL_ASKED, SideKind.RECALL, SideKind.TIP_ASKED, SideKind.TIP)
)
"""What a node that has just started asks about its own votes, and the answers."""


CONSENSUS_KINDS: Final = frozenset(int(kind) for kind in MessageKind)


def transaction_frame(transaction: bytes) -> bytes:
    """Return the frame that pushes one transaction."""
    return bytes([SideKind.TRANSACTION]) + transaction


def body_asked_frame(height: Height, block_hash: Digest) -> bytes:
    """Return the frame that asks for the body with this hash."""
    return _BODY_ASKED.pack(SideKind.BODY_ASKED, height, block_hash)


def body_frame(height: Height, block: bytes) -> bytes:
    """Return the frame that answers with a body."""
    return _HEIGHT.pack(SideKind.BODY, height) + block


def decisions_asked_frame(first: Height) -> bytes:
    """Return the frame that asks for decisions from ``first`` on."""
    return _HEIGHT.pack(SideKind.DECISIONS_ASKED, first)


def decisions_frame(decisions: list[bytes]) -> bytes:
    """Return the frame that answers with encoded decisions, or with none."""
    parts = (_LENGTH.pack(len(one)) + one for one in decisions)
    return bytes([SideKind.DECISIONS]) + b"".join(parts)


def read_body_asked(frame: bytes) -> tuple[Height, Digest] | None:
    """Return what a frame asks for, or None if it is malformed."""
    if len(frame) != _BODY_ASKED.size:
        return None
    _, height, digest = _BODY_ASKED.unpack(frame)
    return Height(height), Digest(digest)


def read_decisions(frame: bytes) -> list[bytes] | None:
    """Return the encoded decisions of an answer, or None if it is malformed."""
    decisions: list[bytes] = []
    offset = 1
    while offset < len(frame):
        if offset + _LENGTH.size > len(frame):
            return None
        (length,) = _LENGTH.unpack_from(frame, offset)
        offset += _LENGTH.size
        if offset + length > len(frame):
            return None
        decisions.append(frame[offset : offset + length])
        offset += length
    return decisions


def read_height(frame: bytes) -> tuple[Height, bytes] | None:
    """Return the height behind the first byte and the rest, or None if it is malformed."""
    if len(frame) < _HEIGHT.size:
        return None
    _, height = _HEIGHT.unpack_from(frame)
    return Height(height), frame[_HEIGHT.size :]
