"""Which holder fetches which piece next. Pure: time is an argument, nothing is awaited.

Pieces go out lowest first, so that a client can be served in order while the rest arrives; a piece
that a client waits for goes before all others. Holders pull: a fast one comes back sooner and so
gets more. Near the end, and for a piece that somebody waits for, a second holder may be given a
piece that the first one has been at for much longer than the second would need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.ports import PeerId
from pyrsia_node.store.pieces import Bitmap

PATIENCE: Final = 3.0
"""A piece is given to a second holder after this many times the second's usual seconds."""

PATIENCE_SECONDS_MIN: Final = 1.0
"""But never sooner: below that, jitter would make holders fetch the same piece for nothing."""

FAILURES_MAX: Final = 3
"""A holder that fails this often in a row is left for this download."""


@dataclass(slots=True)
class _Holder:
    pieces: Bitmap | None
    """None: has all."""
    seconds: float = 0.0
    """Moving average of what a piece took; 0 before the first."""
    failures: int = 0
    lacking: set[int] = field(default_factory=set)

    def may_have(self, index: int) -> bool:
        return (self.pieces is None or index in self.pieces) and index not in self.lacking


class PieceSchedule:
    """The state of one download's pieces and holders."""

    def __init__(self, have: Bitmap) -> None:
        """Plan for the pieces that ``have`` lacks."""
        # A dictionary keeps the order of insertion and forgets any element in constant time.
        self._pending = dict.fromkeys(have.missing())
        self._in_flight: dict[int, dict[PeerId, float]] = {}
        self._wanted: dict[int, None] = {}
        self._holders: dict[PeerId, _Holder] = {}

    @property
    def is_done(self) -> bool:
        """Whether no piece is missing."""
        return not self._pending and not self._in_flight

    @property
    def is_under_way(self) -> bool:
        """Whether any holder is fetching a piece now."""
        return bool(self._in_flight)

    def holders(self) -> list[PeerId]:
        """Return the holders in use."""
        return list(self._holders)

    def add_holder(self, peer: PeerId, pieces: Bitmap | None) -> None:
        """Use a holder, or note what it has by now; None means everything."""
        known = self._holders.get(peer)
        if known is None:
            self._holders[peer] = _Holder(pieces)
        else:
            known.pieces = pieces
            known.lacking.clear()

    def drop_holder(self, peer: PeerId) -> None:
        """Stop using a holder; its pieces go to others."""
        self._holders.pop(peer, None)
        for index in [index for index, at in self._in_flight.items() if peer in at]:
            self._release(peer, index)

    def want(self, index: int) -> None:
        """Put a piece first: a client waits for it."""
        if index in self._pending or index in self._in_flight:
            self._wanted[index] = None

    def next(self, peer: PeerId, now: float) -> int | None:
        """Give the holder its next piece, or None if it has nothing to do now."""
        holder = self._holders.get(peer)
        if holder is None:
            return None
        index = self._fresh(holder)
        if index is None:
            index = self._second(peer, holder, now)
        if index is not None:
            self._pending.pop(index, None)
            self._in_flight.setdefault(index, {})[peer] = now
        return index

    def done(self, peer: PeerId, index: int, now: float) -> None:
        """Note that a checked piece came from a holder."""
        started = self._in_flight.pop(index, {}).get(peer, now)
        self._pending.pop(index, None)
        self._wanted.pop(index, None)
        holder = self._holders.get(peer)
        if holder is not None:
            took = now - started
            holder.seconds = took if not holder.seconds else 0.7 * holder.seconds + 0.3 * took
            holder.failures = 0

    def lacks(self, peer: PeerId, index: int) -> None:
        """Note that a holder does not have a piece; it may have others."""
        self._release(peer, index)
        holder = self._holders.get(peer)
        if holder is not None:
            holder.lacking.add(index)

    def failed(self, peer: PeerId, index: int) -> bool:
        """Note a failure that proves no ill will; tells whether the holder is still used."""
        self._release(peer, index)
        holder = self._holders.get(peer)
        if holder is None:
            return False
        holder.failures += 1
        if holder.failures >= FAILURES_MAX:
            self.drop_holder(peer)
            return False
        return True

    def _release(self, peer: PeerId, index: int) -> None:
        at = self._in_flight.get(index)
        if at is None or at.pop(peer, None) is None or at:
            return
        del self._in_flight[index]
        # Back to the front: it is the lowest or near it, and a reader may wait.
        self._pending = {index: None} | self._pending

    def _fresh(self, holder: _Holder) -> int | None:
        for queue in (self._wanted, self._pending):
            for index in queue:
                if index in self._pending and holder.may_have(index):
                    return index
        return None

    def _second(self, peer: PeerId, holder: _Holder, now: float) -> int | None:
        """Return a piece that another holder is too slow with."""
        if not holder.seconds:
            return None
        for index, at in self._in_flight.items():
            if self._pending and index not in self._wanted:
                continue
            if len(at) != 1 or peer in at or not holder.may_have(index):
                continue
            patience = max(PATIENCE * holder.seconds, PATIENCE_SECONDS_MIN)
            if now - next(iter(at.values())) > patience:
                return index
        return None
