"""First byte of a member frame: what it carries (docs/spec/peer-protocols.md).

Consensus messages keep the byte that ``consensus.wire`` gives them; transactions and cosignatures
travel on the same streams, so that an idle member pair needs one stream only.
"""

from __future__ import annotations

from enum import IntEnum

from pyrsia_node.model.errors import InvalidInputError


class FrameKind(IntEnum):
    """What a member frame carries; 0 is the transport's own heartbeat."""

    VOTE = 1
    CERTIFICATE = 2
    PROPOSAL = 3
    DECISION = 4
    STATUS = 5
    TRANSACTION = 6
    COSIGNATURE = 7


CONSENSUS_KINDS = frozenset(
    (
        FrameKind.VOTE,
        FrameKind.CERTIFICATE,
        FrameKind.PROPOSAL,
        FrameKind.DECISION,
        FrameKind.STATUS,
    )
)


def pack_frame(kind: FrameKind, payload: bytes) -> bytes:
    """Return ``payload`` behind its kind byte."""
    return bytes((kind,)) + payload


def frame_kind(frame: bytes) -> FrameKind:
    """Return the kind of a frame.

    Raises:
        InvalidInputError: when it is empty or of an unknown kind.
    """
    if not frame:
        raise InvalidInputError("member frame is empty")
    try:
        return FrameKind(frame[0])
    except ValueError:
        raise InvalidInputError(f"member frame of unknown kind {frame[0]}") from None
