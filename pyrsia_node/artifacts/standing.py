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
