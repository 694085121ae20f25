"""Plans how a node that is behind gets the decisions it lacks. Pure: it asks, fetches nothing.

A peer's word about its height is a hint for whom to ask, never a target: the planner only ever
wants the next decision, and a height counts when its decision, certificate and all, was applied
(ASA-2025-001: nodes that synced to a claimed height waited for it for ever). Peers that claim and
do not deliver move to the end of the line, so any peer that does deliver is reached within one
round. Nothing is remembered that a hostile peer could grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.types import Height, NodeId

ASK_BYTES_MAX: Final = 4 * 1024 * 1024
"""Most bytes of decisions in one answer."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask ``peer`` for the decisions of ``first``, ``first`` + 1, …, ``bytes_max`` in all."""

    peer: NodeId
    first: Height
    bytes_max: int


@dataclass(slots=True)
class _Standing:
    """What is known of a peer: its newest claim, and its place in the line."""

    claim: Height
    failures: int = 0
    asked_at: int = 0


class Catchup:
    """Decides whom to ask next. One question is open at a time.

    The driver calls ``next_ask``, then ``applied`` as blocks are, then ``answered`` or ``failed``.
    """

    __slots__ = ("_had_claimed", "_height", "_is_stuck", "_open", "_peers", "_turn")

    def __init__(self, height: Height) -> None:
        """Stand at working height ``height``: everything below is applied."""
        self._height = height
        self._peers: dict[NodeId, _Standing] = {}
        self._open: Ask | None = None
        self._turn = 0
        self._is_stuck = False
        self._had_claimed = False

    @property
    def height(self) -> Height:
        """Return the next height that is wanted."""
        return self._height

    # -- who is there ----------------------------------------------------------------------------

    def joined(self, peer: NodeId) -> None:
        """Note a peer that can be asked; it stands at the end of the line."""
        self._peers.setdefault(peer, _Standing(Height(0), asked_at=self._turn))

    def left(self, peer: NodeId) -> None:
        """Forget a peer; an open question to it has failed."""
        self._peers.pop(peer, None)
        if self._open is not None and self._open.peer == peer:
            self._open = None
            self._is_stuck = True

    def heard(self, peer: NodeId, height: Height) -> None:
        """Note that ``peer`` speaks of working height ``height``. Peers not joined are ignored."""
        standing = self._peers.get(peer)
        if standing is not None:
            standing.claim = height

    # -- asking ----------------------------------------------------------------------------------

    def next_ask(self, *, is_poll: bool = False) -> Ask | None:
        """Return the next question, or None while one is open or there is nobody to ask.

        A claim that was not borne out makes claims worth nothing until the next poll or progress,
        so a liar costs at most one question a poll. Polls go round all peers, whatever their past:
        a peer that never claims and always answers "nothing" has no failures, and would otherwise
        stand for ever before honest ones that once failed to answer.

        Args:
            is_poll: also ask peers that claim nothing, as a node does every few seconds; hints can
                be lost, and a peer that never says anything may be the one that has the blocks.
        """
        if self._open is not None:
            return None
        candidates = [
            peer
            for peer, one in self._peers.items()
            if is_poll or (one.claim > self._height and not self._is_stuck)
        ]
        if not candidates:
            return None
        peer = min(candidates, key=self._turn_of if is_poll else self._place)
        self._turn += 1
        self._peers[peer].asked_at = self._turn
        self._open = Ask(peer, self._height, ASK_BYTES_MAX)
        # Judged by the claim of now: one that shrinks while we wait is a lie too.
        self._had_claimed = self._peers[peer].claim > self._height
        return self._open

    def _turn_of(self, peer: NodeId) -> tuple[int, NodeId]:
        return self._peers[peer].asked_at, peer

    def _place(self, peer: NodeId) -> tuple[int, int, NodeId]:
        standing = self._peers[peer]
        return standing.failures, standing.asked_at, peer

    def applied(self, height: Height) -> None:
        """Note that decisions below ``height`` are applied, from an answer or by consensus itself.

        An answer that brought something clears its sender's failures.
        """
        progressed = height > self._height
        self._height = max(self._height, height)
        if progressed and self._open is not None and self._open.peer in self._peers:
            self._peers[self._open.peer].failures = 0

    def answered(self) -> None:
        """Close the open question; call it after ``applied`` for all that the answer brought.

        A claim that the answer did not bear out is dropped, and its sender waits its turn.
        """
        ask, self._open = self._open, None
        standing = None if ask is None else self._peers.get(ask.peer)
        if ask is None or standing is None:
            return
        self._is_stuck = self._height == ask.first and self._had_claimed
        if self._is_stuck:
            standing.failures += 1
            standing.claim = Height(0)

    def failed(self) -> None:
        """Close the open question: no answer in time, or one that did not hold."""
        ask, self._open = self._open, None
        standing = None if ask is None else self._peers.get(ask.peer)
        self._is_stuck = True
        if standing is not None:
            standing.failures += 1
            standing.claim = Height(0)
