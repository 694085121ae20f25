"""The planner against hostile peers: whatever they do, a node reaches what an honest peer has."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyrsia_node.ports import PeerId
from pyrsia_node.replica.plan import (
    OPEN_PER_PEER_MAX,
    PARALLEL_MAX,
    RANGES_AHEAD_MAX,
    Ask,
    AskKind,
    CatchupPlan,
)

HONEST = PeerId("m honest")
LIARS = tuple(PeerId(name) for name in ("a liar", "b liar", "z liar"))
WHAT_A_LIAR_DOES = st.sampled_from(
    ["claims", "nothing", "fails", "lies", "set unknown", "part", "wrong bytes", "stalls"]
)


class Sync(RuleBasedStateMachine):
    """A node, an honest peer whose chain grows, and three peers that do as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.height = 0
        self.tip = 0
        self.plan = CatchupPlan(0)
        self.open: list[Ask] = []
        self.ready: dict[int, tuple[int, PeerId, bool]] = {}

    @initialize(tip=st.integers(0, 3_000), liars=st.sets(st.sampled_from(LIARS)))
    def start(self, tip: int, liars: set[PeerId]) -> None:
        self.tip = tip
        self.plan.connected({HONEST, *liars}, self.now)

    # ------------------------------------------------------------ what happens

    @rule(blocks=st.integers(1, 300))
    def chain_grows(self, blocks: int) -> None:
        self.tip += blocks

    @rule(liars=st.sets(st.sampled_from(LIARS)))
    def liars_come_and_go(self, liars: set[PeerId]) -> None:
        self.plan.connected({HONEST, *liars}, self.now)

    @rule(name=st.integers(0, 10**9))
    def a_liar_comes_under_a_new_name(self, name: int) -> None:
        liar = PeerId(f"liar {name}")
        self.plan.connected({HONEST, liar}, self.now)
        self.plan.hinted(liar, 10**9, self.now)

    @rule(liar=st.sampled_from(LIARS), height=st.integers(0, 10**9))
    def liar_hints(self, liar: PeerId, height: int) -> None:
        self.plan.hinted(liar, height, self.now)

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.ask()

    @rule(data=st.data(), doing=WHAT_A_LIAR_DOES)
    def answer(self, data: st.DataObject, doing: str) -> None:
        if self.open:
            ask = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.answered(ask, doing if ask.peer != HONEST else "honestly")
            self.ask()

    @rule()
    def consensus_commits_one(self) -> None:
        if self.height < self.tip:
            self.height += 1
            self.plan.advanced(self.height)

    # ------------------------------------------------------------ how a follower behaves

    def ask(self) -> None:
        self.plan.advanced(self.height)
        self.open += self.plan.next_asks(self.now)

    def answered(self, ask: Ask, doing: str) -> None:
        match doing:
            case "honestly":
                self.honest_answer(ask)
            case "claims" | "nothing":
                self.plan.nothing_there(ask, self.now)
            case "set unknown" if ask.kind is AskKind.PROBE:
                self.plan.set_unknown(ask, 1)
            case "part" if ask.kind in {AskKind.PROBE, AskKind.RANGE} and ask.first <= self.tip:
                self.take(ask, min(ask.first, self.tip), is_right=True)
            case "wrong bytes" if ask.kind is AskKind.RANGE and ask.first <= self.tip:
                self.take(ask, min(ask.last, self.tip), is_right=False)
            case "stalls":
                self.now += 10.0
                self.plan.failed(ask, self.now, lied=False)
            case "fails":
                self.plan.failed(ask, self.now, lied=False)
            case _:
                self.plan.failed(ask, self.now, lied=True)

    def honest_answer(self, ask: Ask) -> None:
        match ask.kind:
            case AskKind.HEAD:
                self.plan.head_proved(ask, self.tip)
            case AskKind.CHANGES:
                self.plan.changes_proved(ask)
            case _ if ask.first > self.tip:
                self.plan.nothing_there(ask, self.now)
            case _:
                self.take(ask, min(ask.last, self.tip), is_right=True)

    def take(self, ask: Ask, last: int, *, is_right: bool) -> None:
        self.plan.blocks_proved(ask, last=last, size=1_000 * (last - ask.first + 1), now=self.now)
        held = self.ready.get(ask.first)
        if held is None or held[0] < last:
            self.ready[ask.first] = (last, ask.peer, is_right)
        self.apply()

    def apply(self) -> None:
        while True:
            for first, (last, peer, is_right) in list(self.ready.items()):
                if last <= self.height:
                    del self.ready[first]
                elif first <= self.height + 1 and is_right:
                    self.height = last
                    self.plan.advanced(self.height)
                    break
                elif first <= self.height + 1:
                    del self.ready[first]
                    self.plan.dropped(first, peer, self.now)
            else:
                return

    # ------------------------------------------------------------ what always holds

    @invariant()
    def never_asks_more_than_it_may(self) -> None:
        ranges = [ask for ask in self.open if ask.kind is AskKind.RANGE]
        assert len(ranges) <= PARALLEL_MAX
        assert len(self.open) - len(ranges) <= 2
        assert len(self.ready) + len(ranges) <= RANGES_AHEAD_MAX + PARALLEL_MAX
        for peer in {ask.peer for ask in self.open}:
            assert sum(ask.peer == peer for ask in self.open) <= OPEN_PER_PEER_MAX + 1

    @invariant()
    def claims_are_never_a_target(self) -> None:
        assert self.plan.target <= max(self.tip, self.height)

    @invariant()
    def time_to_wait_is_bounded(self) -> None:
        assert 0 < self.plan.wait_s(self.now) <= 2.0

    def teardown(self) -> None:
        """From here on liars stall, and the honest peer is still reached."""
        deadline = self.now + 3_000
        while self.height < self.tip and self.now < deadline:
            self.now += self.plan.wait_s(self.now)
            self.ask()
            for ask in list(self.open):
                self.open.remove(ask)
                self.answered(ask, "honestly" if ask.peer == HONEST else "stalls")
        assert self.height == self.tip, f"stuck at {self.height} of {self.tip}"


TestSync = Sync.TestCase
TestSync.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
