"""Inputs of ``Replica.step``. Everything in an event has already been checked by ``ingress``.

Duplicate, late or unknown input is legal and yields no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from consensus.types import Certificate, Digest, Height, MemberSet, Message, NodeId, View


class TimerKind(Enum):
    """VIEW ends patience with a leader (R6a); RETRY resends what was lost (R8).

    HOLD ends a leader's wait for finalizations that make its re-proposal needless (R4).
    """

    VIEW = "view"
    RETRY = "retry"
    HOLD = "hold"


class TimeVerdict(Enum):
    """How a fresh block's time stands against the clock of the driver (time rule of R5)."""

    OK = "ok"
    FUTURE = "future"
    PAST = "past"


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message from member ``sender``; every signature inside it has been verified."""

    sender: NodeId
    message: Message


@dataclass(frozen=True, slots=True)
class AheadSeen:
    """Member ``sender`` speaks of ``height``, above ours. A claim: nothing in it was verified."""

    sender: NodeId
    height: Height


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by ``SetTimer`` ran out; stale (height, view) is dropped by the core."""

    kind: TimerKind
    height: Height
    view: View


@dataclass(frozen=True, slots=True)
class WorkPending:
    """A transaction valid against the state of ``height`` - 1 waits, or an outcome is due."""

    height: Height


@dataclass(frozen=True, slots=True)
class WorkLapsed:
    """Nothing waits any more at ``height`` (the last transaction lapsed): no need to hurry."""

    height: Height


@dataclass(frozen=True, slots=True)
class BodyBuilt:
    """Answer to ``BuildBody``; ``block`` is None when there is nothing to propose."""

    height: Height
    view: View
    block: bytes | None


@dataclass(frozen=True, slots=True)
class BodyReceived:
    """A block body that a peer sent on request. Not yet checked against anything."""

    height: Height
    block: bytes


@dataclass(frozen=True, slots=True)
class BodyChecked:
    """Answer to ``CheckBody``: what the state machine says of exactly these bytes.

    ``body_id`` is SHA-256 of the whole body, ``block_hash`` that of its header leaf: a hostile
    peer can send other transactions under a true header, so a verdict belongs to ``body_id``.
    ``valid`` is permanent for the height: it never depends on the clock. ``time`` matters for a
    fresh proposal only. ``next_set`` is the member set of height + 1 if this block commits.
    """

    height: Height
    body_id: Digest
    block_hash: Digest
    valid: bool
    time: TimeVerdict
    parent: Digest
    origin_view: View
    origin_proposer: NodeId
    next_set: MemberSet | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DecisionApplied:
    """The driver applied a decision found by catch-up; the core enters the next height.

    ``signers`` are the member ids in the parent certificate inside that block (reputation, 3.4).
    ``certificate`` is the decision's own: the next block of this node carries it.
    """

    height: Height
    block_hash: Digest
    next_set: MemberSet
    signers: tuple[NodeId, ...]
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class ViewMeasured:
    """Optional: how long the deciding view of a committed height took at this node.

    ``elapsed_ms`` runs from the first sight (or sending) of that view's Proposal to its Commit.
    Time-outs adapt to it; without it they stay at their start.
    """

    height: Height
    elapsed_ms: int


Event = (
    MessageReceived
    | AheadSeen
    | TimerFired
    | WorkPending
    | WorkLapsed
    | BodyBuilt
    | BodyReceived
    | BodyChecked
    | DecisionApplied
    | ViewMeasured
)
