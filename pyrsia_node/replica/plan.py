"""Plans how a node that is behind gets the blocks it lacks: what to ask, whom, and when. Pure.

The planner knows heights and peers, never bytes, clocks or sockets; the follower performs what it
asks and tells it how that went, with the time. Its rules:

* A peer's word about its height is a hint for whom to ask, never a target (ASA-2025-001: nodes that
  synced to a claimed height waited for it for ever). A target is a height whose certificate was
  checked; even then nothing waits for it: any block that comes is taken.
* Near the tip one *probe* for what follows is enough. What fills its answer, or names a member set
  that is not known, leads to the set changes first and to the peer's certified head; then ranges
  are fetched from up to four peers at once.
* Who does not answer in time is asked for a quarter of it next: a range that a slow link cannot
  carry in time would be asked for for ever. Each answer that comes doubles it again.
* A probe or range that takes long is asked of a second peer as well; whichever comes first counts.
* Peers that fail are left alone for a while, those that lied for longer, also over a new link. When
  nobody else is there they are asked all the same, one question a second, so that lying never locks
  a node out.
* A new peer stands at the end of the line, and of two questions in a row one goes to a peer that
  has delivered, if there is one: under ever new names a liar gains every second question at most.
* Nothing is kept that a hostile peer could grow: one record a connected peer, 256 of those that
  left, eight ranges.

Design: docs/design/catchup.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pyrsia_node.ports import PeerId

POLL_S: Final = 2.0
"""Pause between probes that brought nothing."""

PACE_S: Final = 1.0
"""Shortest time between two questions to a peer that is being left alone."""

EMPTY_S: Final = 1.0
"""How long a peer is left alone that lacks what somebody certainly has."""

FAILED_S: Final = 15.0
"""How long a peer is left alone that did not answer."""

LIED_S: Final = 120.0
"""How long a peer is left alone that sent what does not hold."""

STALLED_S: Final = 4.0
"""Age at which an open range is asked of a second peer."""

PARALLEL_MAX: Final = 4
OPEN_PER_PEER_MAX: Final = 2
RANGES_AHEAD_MAX: Final = 8
"""Ranges open or waiting for their turn: at most 32 MiB."""

COUNT_MIN: Final = 64
"""Blocks that a question asks for at least, however large those seen so far were, if there are."""

COUNT_MAX: Final = 4096
AIM_BYTES: Final = 2 * 1024 * 1024
"""Size of an answer that the planner aims at, by the blocks seen so far."""

AIM_BYTES_MIN: Final = 32 * 1024
"""The same for a peer that has failed again and again."""

HINTED_MAX: Final = 8

GONE_MAX: Final = 256
"""Peers without a link that are remembered while they are left alone."""


class AskKind(enum.Enum):
    """What a question is."""

    PROBE = "probe"
    HEAD = "head"
    CHANGES = "changes"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class Ask:
    """A question: ``count`` decisions from height ``first`` on, a head, or set changes.

    Of decisions, no more than ``bytes_max`` are wanted, but one in any case.
    """

    number: int
    kind: AskKind
    peer: PeerId
    first: int = 0
    count: int = 0
    bytes_max: int = 0

    @property
    def last(self) -> int:
        """The last height asked for."""
        return self.first + self.count - 1


@dataclass(slots=True)
class _Peer:
    """What is remembered of a connected peer."""

    left_alone_until: float
    asked_at: float
    open: int = 0
    has_delivered: bool = False
    aim_bytes: int = AIM_BYTES


@dataclass(slots=True)
class _Open:
    """A question that is not answered yet."""

    ask: Ask
    since: float
    is_doubled: bool = False


class CatchupPlan:
    """Decides the next questions. Times are seconds of one monotonic clock."""

    __slots__ = (
        *("_block_bytes", "_gone", "_height", "_hinted", "_next", "_number", "_open", "_peers"),
        *("_poll_at", "_ready", "_target", "_tried_another"),
    )

    def __init__(self, height: int) -> None:
        """Start at the committed height."""
        self._height = height
        self._target = height
        self._peers: dict[PeerId, _Peer] = {}
        self._gone: dict[PeerId, float] = {}
        self._tried_another = False
        self._hinted: list[PeerId] = []
        self._open: dict[int, _Open] = {}
        self._ready: dict[int, int] = {}
        self._next: tuple[AskKind, PeerId, int] | None = None
        self._poll_at = float("-inf")
        self._number = 0
        self._block_bytes = AIM_BYTES // COUNT_MIN

    @property
    def height(self) -> int:
        """The committed height as last told."""
        return self._height

    @property
    def target(self) -> int:
        """The greatest height that is proved to be final."""
        return self._target

    # ------------------------------------------------------------ what happens around

    def connected(self, peers: Iterable[PeerId], now: float) -> None:
        """Take note of who can be asked; of the others only who is to be left alone is kept."""
        here = set(peers)
        for gone in self._peers.keys() - here:
            self._gone[gone] = self._peers.pop(gone).left_alone_until
        for new in here - self._peers.keys():
            self._peers[new] = _Peer(left_alone_until=self._gone.pop(new, 0.0), asked_at=now)
        if self._gone:
            kept = sorted(self._gone.items(), key=lambda one: one[1])[-GONE_MAX:]
            self._gone = {peer: until for peer, until in kept if until > now}
        self._hinted = [peer for peer in self._hinted if peer in here]
        if self._next is not None and self._next[1] not in here:
            self._next = None

    def hinted(self, peer: PeerId, height: int, now: float) -> None:
        """Note that ``peer`` speaks of ``height``; it is asked next if that is news."""
        standing = self._peers.get(peer)
        if standing is not None and standing.left_alone_until > now:
            return
        if height > self._height and peer not in self._hinted:
            self._hinted = [*self._hinted[1 - HINTED_MAX :], peer]

    def advanced(self, height: int) -> None:
        """Note the committed height, whoever brought it about."""
        if height > self._height:
            self._height = height
            self._target = max(self._target, height)
            self._ready = {first: last for first, last in self._ready.items() if last > height}

    def aim(self, height: int) -> None:
        """Note a height that was proved to be final elsewhere."""
        self._target = max(self._target, height)

    # ------------------------------------------------------------ what to ask

    def next_asks(self, now: float) -> list[Ask]:
        """Return the questions to put now; each must end in one of the calls below."""
        asks: list[Ask] = []
        while (ask := self._next_ask(now)) is not None:
            asks.append(ask)
        return asks

    def wait_s(self, now: float) -> float:
        """Return how long nothing new is to be asked, if nothing happens meanwhile."""
        is_level = self._target <= self._height
        if self._next is not None or (is_level and self._hinted):
            return PACE_S / 10
        until = self._poll_at if is_level else now + PACE_S
        return min(max(until - now, PACE_S / 10), POLL_S)

    def _next_ask(self, now: float) -> Ask | None:
        if self._next is not None:
            kind, to, first = self._next
            self._next = None
            return self._put(kind, to, now, first=first)
        if self._target > self._height:
            return self._next_range(now)
        waiting = [each for each in self._open.values() if each.ask.kind is not AskKind.RANGE]
        peer = self._peer_to_probe(waiting, now)
        if peer is None:
            return None
        self._poll_at = now + POLL_S
        # As much as fits: a peer that is busy with the very blocks that are missed here takes
        # seconds for an answer, however few are in it.
        count = max(COUNT_MIN, self._block_count(peer))
        return self._put(AskKind.PROBE, peer, now, first=self._height + 1, count=count)

    def _peer_to_probe(self, waiting: list[_Open], now: float) -> PeerId | None:
        if waiting:
            if len(waiting) > 1 or now - waiting[0].since < STALLED_S:
                return None
            return self._choose(now, but=waiting[0].ask.peer)
        peer = self._hinted_peer(now)
        if peer is None:
            return self._choose(now) if now >= self._poll_at else None
        if self._tried_another and not self._peers[peer].has_delivered:
            proven = self._choose(now)
            if proven is not None and self._peers[proven].has_delivered:
                self._hinted.insert(0, peer)  # it is next
                return proven
        return peer

    def _next_range(self, now: float) -> Ask | None:
        ranges = [each for each in self._open.values() if each.ask.kind is AskKind.RANGE]
        if len(ranges) >= PARALLEL_MAX:
            return None
        gap = self._gap(ranges)
        if gap is None:
            return self._double(ranges, now)
        peer = self._choose(now)
        if peer is None:
            return None
        first, end = gap
        count = min(end - first + 1, self._block_count(peer))
        return self._put(AskKind.RANGE, peer, now, first, count)

    def _gap(self, ranges: list[_Open]) -> tuple[int, int] | None:
        """Return the lowest heights, first and last, that are neither here nor asked for."""
        covers = sorted(
            [(each.ask.first, each.ask.last) for each in ranges] + list(self._ready.items())
        )
        if len(covers) >= RANGES_AHEAD_MAX:
            return None
        first, end = self._height + 1, self._target
        for start, last in covers:
            if start > first:
                end = min(end, start - 1)
                break
            first = max(first, last + 1)
        return (first, end) if first <= end else None

    def _block_count(self, peer: PeerId) -> int:
        """Return how many blocks are likely to fit an answer of this peer, at least one."""
        return min(COUNT_MAX, max(1, self._peers[peer].aim_bytes // self._block_bytes))

    def _double(self, ranges: list[_Open], now: float) -> Ask | None:
        """Return the oldest stalled range as a question to another peer."""
        for each in sorted(ranges, key=lambda one: one.ask.first):
            if now - each.since < STALLED_S or each.is_doubled:
                continue
            peer = self._choose(now, but=each.ask.peer)
            if peer is None:
                return None
            each.is_doubled = True
            ask = self._put(AskKind.RANGE, peer, now, each.ask.first, each.ask.count)
            self._open[ask.number].is_doubled = True
            return ask
        return None

    def _hinted_peer(self, now: float) -> PeerId | None:
        while self._hinted:
            peer = self._hinted.pop(0)
            standing = self._peers.get(peer)  # gossip also brings hints of those without a link
            if standing is not None and standing.left_alone_until <= now:
                return peer
        return None

    def _choose(self, now: float, *, but: PeerId | None = None) -> PeerId | None:
        """Return the peer whose turn it is: idle ones first, then who was asked longest ago.

        After one that has never delivered, only those that have are looked at, if there are any.
        """
        free = {
            peer: one
            for peer, one in self._peers.items()
            if one.open < OPEN_PER_PEER_MAX and peer != but
        }
        ready = [peer for peer, one in free.items() if one.left_alone_until <= now]
        proven = [peer for peer in ready if free[peer].has_delivered]
        if self._tried_another and proven:
            ready = proven
        if ready:
            return min(ready, key=lambda peer: (free[peer].open, free[peer].asked_at, peer))
        # Everybody failed lately. Asking nobody would be worse, so the one that is due first.
        paced = [
            peer for peer, one in free.items() if not one.open and one.asked_at <= now - PACE_S
        ]
        trusted = any(one.left_alone_until <= now for one in self._peers.values())
        if trusted or not paced:
            return None
        return min(paced, key=lambda peer: (free[peer].left_alone_until, peer))

    def _put(self, kind: AskKind, peer: PeerId, now: float, first: int = 0, count: int = 0) -> Ask:
        self._number += 1
        standing = self._peers[peer]
        ask = Ask(self._number, kind, peer, first, count, bytes_max=2 * standing.aim_bytes)
        self._open[ask.number] = _Open(ask, now)
        standing.open += 1
        standing.asked_at = now
        self._tried_another = not standing.has_delivered
        return ask

    # ------------------------------------------------------------ how it went

    def head_proved(self, ask: Ask, height: int) -> None:
        """Note that the peer's head, of ``height``, is proved to be final."""
        self._close(ask, has_delivered=True)
        self._target = max(self._target, height)

    def blocks_proved(self, ask: Ask, *, last: int, size: int, now: float) -> None:
        """Note that blocks ``ask.first`` to ``last`` came and are proved; ``size`` bytes of them.

        They wait for their turn until ``advanced`` or ``dropped``.
        """
        self._close(ask, has_delivered=True)
        self._aim(ask, lambda aim: aim * 2)
        count = last - ask.first + 1
        self._block_bytes = max(1, (3 * self._block_bytes + size // count) // 4)
        self._target = max(self._target, last)
        if last > self._height:
            self._ready[ask.first] = max(last, self._ready.get(ask.first, 0))
        if ask.kind is AskKind.PROBE:
            # More may follow: look again at once, and if the answer was full, see how far it goes.
            self._poll_at = now
            if count >= ask.count or 2 * size >= ask.bytes_max:
                self._follow_up(AskKind.HEAD, ask.peer)

    def nothing_there(self, ask: Ask, now: float) -> None:
        """Note an honest "I have nothing": no news, or not yet what somebody else proved."""
        self._close(ask)
        if ask.kind is AskKind.RANGE:
            self._leave_alone(ask.peer, now + EMPTY_S)

    def set_unknown(self, ask: Ask, next_epoch: int) -> None:
        """Note that an answer names a set that is not known: its changes come first."""
        self._close(ask)
        self._follow_up(AskKind.CHANGES, ask.peer, next_epoch)

    def changes_proved(self, ask: Ask) -> None:
        """Note that set changes were proved; now the peer's head can be judged."""
        self._close(ask, has_delivered=True)
        self._follow_up(AskKind.HEAD, ask.peer)

    def failed(self, ask: Ask, now: float, *, lied: bool) -> None:
        """Note that there was no answer in time, or one that does not hold."""
        self._close(ask)
        self._aim(ask, lambda aim: aim // 4)
        self._distrust(ask.peer, now + (LIED_S if lied else FAILED_S))

    def dropped(self, first: int, peer: PeerId, now: float) -> None:
        """Note that blocks which waited since ``first`` turned out to be another's bytes."""
        self._ready.pop(first, None)
        self._distrust(peer, now + LIED_S)

    def _aim(self, ask: Ask, change: Callable[[int], int]) -> None:
        standing = self._peers.get(ask.peer)
        if standing is not None and ask.count:
            standing.aim_bytes = min(AIM_BYTES, max(AIM_BYTES_MIN, change(standing.aim_bytes)))

    def _follow_up(self, kind: AskKind, peer: PeerId, first: int = 0) -> None:
        if peer in self._peers:
            self._next = (kind, peer, first)

    def _distrust(self, peer: PeerId, until: float) -> None:
        if peer in self._peers:
            self._peers[peer].has_delivered = False
        self._leave_alone(peer, until)

    def _leave_alone(self, peer: PeerId, until: float) -> None:
        standing = self._peers.get(peer)
        if standing is not None:
            standing.left_alone_until = max(standing.left_alone_until, until)
        elif peer in self._gone:
            self._gone[peer] = max(self._gone[peer], until)

    def _close(self, ask: Ask, *, has_delivered: bool = False) -> None:
        standing = self._peers.get(ask.peer)
        if self._open.pop(ask.number, None) is not None and standing is not None:
            standing.open = max(0, standing.open - 1)
            standing.has_delivered = standing.has_delivered or has_delivered
