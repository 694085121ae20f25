"""Outputs of ``Replica.step``, in the order in which the driver must perform them.

Effects are performed in list order, and ``Persist`` must be durable before any later ``Send`` or
``Broadcast`` in any list leaves the machine. A driver may batch, but may not reorder across one.
``Commit`` is such a barrier too: what follows it in a list belongs to the next height.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from consensus.events import TimerKind
from consensus.types import (
    Certificate,
    Digest,
    Height,
    MemberSet,
    Message,
    NodeId,
    Proposal,
    View,
    Vote,
)


class RecordKind(IntEnum):
    """Type byte of a WAL record. Within one batch records stand in this order."""

    BODY = 1
    CERTIFICATE = 2
    PROPOSAL = 3
    VOTE = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One write-ahead record; ``payload`` is the wire form of what ``kind`` names."""

    kind: RecordKind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Persist:
    """Append the records as one batch and make them durable (one fdatasync)."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one member. Loss is legal; order per destination is kept."""

    to: NodeId
    message: Message


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other member of the set of the message's own height.

    Around a ``Commit`` that is not the replica's newest set: see ``Replica.members_of``.
    """

    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ask for ``TimerFired(kind, height, view)`` after ``delay_ms``; replaces one of its kind."""

    kind: TimerKind
    height: Height
    view: View
    delay_ms: int


@dataclass(frozen=True, slots=True)
class BuildBody:
    """Ask for a block for (height, view); answered by ``BodyBuilt``.

    ``parent_certificate`` carries every FINALIZE vote known for the parent (reputation, 3.4).
    It is None only at height 1.
    """

    height: Height
    view: View
    parent_certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class CheckBody:
    """Ask the state machine about a body; answered by ``BodyChecked``."""

    height: Height
    block: bytes


@dataclass(frozen=True, slots=True)
class RequestBody:
    """Fetch the body with this certified hash from any of ``holders`` (else from anyone)."""

    height: Height
    block_hash: Digest
    holders: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Block ``height`` is final: apply block, certificate and state in one synced write.

    ``transcript`` is, unless the block was simply notarized and decided in view 0, every other
    certificate known of its height: should the height ever fork, it names those who signed for
    both sides (3.9).
    """

    height: Height
    block: bytes
    certificate: Certificate
    next_set: MemberSet
    transcript: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class ServeDecisions:
    """Send Decisions of heights ``first`` .. ``first`` + 3, as far as they exist (rule R9)."""

    to: NodeId
    first: Height


@dataclass(frozen=True, slots=True)
class StartCatchup:
    """``source`` speaks of a height above ours; find certified decisions and apply them."""

    source: NodeId
    seen: Height


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    """Two signed statements of one member that contradict each other (3.9)."""

    culprit: NodeId
    first: Vote | Proposal
    second: Vote | Proposal


Effect = (
    Persist
    | Send
    | Broadcast
    | SetTimer
    | BuildBody
    | CheckBody
    | RequestBody
    | Commit
    | ServeDecisions
    | StartCatchup
    | ReportEvidence
)
