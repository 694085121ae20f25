"""Whatever holders do, every piece is fetched in the end, lowest first, rarely twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyrsia_node.artifacts.schedule import FAILURES_MAX, PieceSchedule
from pyrsia_node.ports import PeerId
from pyrsia_node.store.pieces import Bitmap

PEERS = [PeerId(f"peer{number}") for number in range(4)]


class ScheduleMachine(RuleBasedStateMachine):
    """Holders that come, go, fail and lack pieces, in any order."""

    @initialize(count=st.integers(1, 12), have=st.sets(st.integers(0, 11)))
    def start(self, count: int, have: set[int]) -> None:
        bitmap = Bitmap(count)
        for index in have:
            if index < count:
                bitmap.add(index)
        self.count = count
        self.missing = set(bitmap.missing())
        self.schedule = PieceSchedule(bitmap)
        self.busy: dict[tuple[PeerId, int], float] = {}
        self.lacking: dict[PeerId, set[int]] = {}
        self.now = 0.0

    @rule(peer=st.sampled_from(PEERS))
    def add(self, peer: PeerId) -> None:
        self.schedule.add_holder(peer, None)
        self.lacking[peer] = set()

    @rule(peer=st.sampled_from(PEERS))
    def drop(self, peer: PeerId) -> None:
        self.schedule.drop_holder(peer)
        self._forget(peer)

    @rule(peer=st.sampled_from(PEERS), seconds=st.floats(0, 10))
    def ask(self, peer: PeerId, seconds: float) -> None:
        self.now += seconds
        index = self.schedule.next(peer, self.now)
        if index is None:
            return
        assert peer in self.lacking
        assert index in self.missing
        assert index not in self.lacking[peer]
        assert (peer, index) not in self.busy
        others = [p for p, i in self.busy if i == index]
        assert len(others) <= 1
        self.busy[peer, index] = self.now

    @rule(index=st.integers(0, 11))
    def want(self, index: int) -> None:
        self.schedule.want(index)

    @rule(draw=st.data(), how=st.sampled_from(["done", "lacks", "failed"]))
    def answer(self, draw: st.DataObject, how: str) -> None:
        if not self.busy:
            return
        peer, index = draw.draw(st.sampled_from(sorted(self.busy)))
        if how == "done":
            self.schedule.done(peer, index, self.now)
            self.missing.discard(index)
            self.busy = {key: at for key, at in self.busy.items() if key[1] != index}
            return
        del self.busy[peer, index]
        if how == "lacks":
            self.schedule.lacks(peer, index)
            self.lacking[peer].add(index)
        elif not self.schedule.failed(peer, index):
            self._forget(peer)

    @invariant()
    def done_is_done(self) -> None:
        if hasattr(self, "schedule"):
            assert self.schedule.is_done == (not self.missing)

    def teardown(self) -> None:
        """A fresh holder of everything can always finish, in order."""
        if not hasattr(self, "schedule"):
            return
        for peer in PEERS:
            self.schedule.drop_holder(peer)
        fresh = PeerId("fresh")
        self.schedule.add_holder(fresh, None)
        while (index := self.schedule.next(fresh, self.now)) is not None:
            self.schedule.done(fresh, index, self.now)
            self.missing.discard(index)
        assert not self.missing
        assert self.schedule.is_done

    def _forget(self, peer: PeerId) -> None:
        self.lacking.pop(peer, None)
        self.busy = {key: at for key, at in self.busy.items() if key[0] != peer}


TestSchedule = ScheduleMachine.TestCase


@given(st.integers(1, 50))
def test_pieces_go_out_lowest_first(count: int) -> None:
    schedule = PieceSchedule(Bitmap(count))
    schedule.add_holder(PEERS[0], None)
    assert [schedule.next(PEERS[0], 0.0) for _ in range(count)] == list(range(count))


def test_wanted_piece_goes_before_all_others() -> None:
    schedule = PieceSchedule(Bitmap(9))
    schedule.add_holder(PEERS[0], None)
    schedule.want(7)
    assert [schedule.next(PEERS[0], 0.0) for _ in range(3)] == [7, 0, 1]


def test_holder_gets_only_what_it_has() -> None:
    schedule = PieceSchedule(Bitmap(3))
    some = Bitmap(3)
    some.add(1)
    schedule.add_holder(PEERS[0], some)
    assert schedule.next(PEERS[0], 0.0) == 1
    assert schedule.next(PEERS[0], 0.0) is None
    schedule.add_holder(PEERS[0], None)
    assert schedule.next(PEERS[0], 0.0) == 0


def test_slow_holder_is_helped_by_a_faster_one_and_only_then() -> None:
    schedule = PieceSchedule(Bitmap(3))
    fast, slow = PEERS[0], PEERS[1]
    schedule.add_holder(fast, None)
    schedule.add_holder(slow, None)
    assert schedule.next(slow, 0.0) == 0
    for index in (1, 2):
        assert schedule.next(fast, float(index)) == index
        schedule.done(fast, index, index + 0.5)
    assert schedule.next(fast, 0.9) is None
    assert schedule.next(fast, 3.0) == 0
    schedule.done(fast, 0, 3.5)
    assert schedule.is_done


def test_holder_that_fails_again_and_again_is_left() -> None:
    schedule = PieceSchedule(Bitmap(2))
    schedule.add_holder(PEERS[0], None)
    for number in range(FAILURES_MAX):
        index = schedule.next(PEERS[0], 0.0)
        assert index == 0
        assert schedule.failed(PEERS[0], index) == (number < FAILURES_MAX - 1)
    assert schedule.holders() == []
