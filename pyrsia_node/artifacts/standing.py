"""What this node remembers of holders between downloads: who lied, who failed, who served well.

Memory only, bounded, forgotten at a restart. It orders and excludes; it never makes bytes trusted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from pyrsia_node.ports import Holder, PeerId

LIE_SECONDS: Final = 3600.0
"""A holder that sent a wrong piece is not asked again for this long."""

FAILURE_SECONDS: Final = 15.0
GUESSES_MAX: Final = 15
"""After so many good guesses the router is asked once, so that other holders get their turn."""

PAUSE_MAX: Final = 64
"""For so many files at most no holder is guessed after wrong guesses."""

PEERS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one holder. Times are seconds of the event loop's clock."""

    holder: Holder
    excluded_until: float = 0.0
    pieces: int = 0
    lies: int = 0


class HolderMemory:
    """Standings of the holders met lately, the most recently used last."""

    def __init__(self) -> None:
        """Start without any memory."""
        self._known: OrderedDict[PeerId, Standing] = OrderedDict()
        self._good_guesses = 0
        self._pause = 1
        self._unguessed = 0

    def guess(self, now: float) -> Holder | None:
        """Return a holder that may be asked for a small file before the router is asked at all.

        Whoever has one file mostly has those that belong to it: so it is the one that served last.
        None when it is the router's turn.
        """
        if self._unguessed:
            self._unguessed -= 1
            return None
        for known in reversed(self._known.values()):
            if known.pieces and known.excluded_until <= now:
                return replace(known.holder, complete=True)
        return None

    def guessed(self, *, well: bool) -> None:
        """Note how a guess ended: the more wrong ones, the longer none is made.

        So many good ones in a row that the router gets its turn end that.
        """
        self._good_guesses = self._good_guesses + 1 if well else 0
        if not well:
            self._pause = min(2 * self._pause, PAUSE_MAX)
            self._unguessed = self._pause
        elif self._good_guesses == GUESSES_MAX:
            self._good_guesses, self._pause, self._unguessed = 0, 1, 1

    def usable(self, holders: list[Holder], now: float) -> list[Holder]:
        """Return the holders that may be asked now, in their order."""
        return [holder for holder in holders if self._standing(holder).excluded_until <= now]

    def served(self, holder: Holder) -> None:
        """Note a good piece."""
        standing = self._standing(holder)
        self._keep(replace(standing, holder=holder, pieces=standing.pieces + 1))

    def lied(self, holder: Holder, now: float) -> None:
        """Note a wrong piece."""
        standing = self._standing(holder)
        self._keep(
            replace(
                standing,
                holder=holder,
                lies=standing.lies + 1,
                excluded_until=now + LIE_SECONDS,
            )
        )

    def failed(self, holder: Holder, now: float) -> None:
        """Note that a holder could not be used."""
        standing = self._standing(holder)
        until = max(standing.excluded_until, now + FAILURE_SECONDS)
        self._keep(replace(standing, holder=holder, excluded_until=until))

    def recent(self) -> list[Holder]:
        """Return holders that served something, the latest first: whom to ask without a router."""
        return [known.holder for known in reversed(self._known.values()) if known.pieces]

    def standings(self) -> list[Standing]:
        """Return everything remembered."""
        return list(self._known.values())

    def _standing(self, holder: Holder) -> Standing:
        return self._known.get(holder.peer, Standing(holder))

    def _keep(self, standing: Standing) -> None:
        self._known[standing.holder.peer] = standing
        self._known.move_to_end(standing.holder.peer)
        while len(self._known) > PEERS_MAX:
            self._known.popitem(last=False)
