"""The mempool against a naive model: one list in the order of arrival, sorted anew each time.

Hypothesis plays authors that fill their quotas with transactions of all kinds and sizes, verdicts
that change while something waits, blocks that hold what they like, and reviews after them. The
limits are made small, so that every one of them is met.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consensus.types import NodeId
from pyrsia_node.ledger import mempool as limits
from pyrsia_node.ledger.admission import TransactionInfo
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError, UnavailableError

AUTHOR_COUNT, AUTHOR_BYTES, TOTAL_BYTES = 6, 40, 90
BLOCK_BYTES, URGENT_BYTES, REVIEW = 30, 9, 2
LIMITS = {
    "AUTHOR_COUNT_MAX": AUTHOR_COUNT,
    "AUTHOR_BYTES_MAX": AUTHOR_BYTES,
    "TOTAL_BYTES_MAX": TOTAL_BYTES,
    "BLOCK_BYTES_MAX": BLOCK_BYTES,
    "_URGENT_BYTES_MAX": URGENT_BYTES,
    "REVIEW_MAX": REVIEW,
}
URGENT = ("approve", "deprecate")
BUILDS = ("build_request", "attest_batch")
"""Some of each sort, in the order of a block."""

READY, WAITS, DEAD = "ready", "waits", "dead"

verdicts = st.sampled_from([READY, WAITS, WAITS, DEAD])
authors = st.sampled_from([NodeId(name) for name in "abc"])
kinds = st.sampled_from([*URGENT, *BUILDS])
floods = st.lists(
    st.tuples(
        st.sampled_from([4, 4, 4, 5, 6, 7, 10, 15, 30]),
        st.integers(0, 2),
        st.sampled_from([READY, WAITS]),
    ),
    min_size=1,
    max_size=7,
)
"""Of one author and kind: bytes, number of a batch, verdict."""


@dataclass
class Waiting:
    """A transaction as the model has it; ``believed`` is the verdict that the pool was told."""

    data: bytes
    kind: str
    author: NodeId
    sequence: int
    believed: str

    @property
    def id(self) -> Sha256:
        return sha256_of(self.data)


class MempoolAgainstModel(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.patched = pytest.MonkeyPatch()
        for name, value in LIMITS.items():
            self.patched.setattr(limits, name, value)
        self.pool = Mempool()
        self.waiting: list[Waiting] = []  # in the order of arrival
        self.all: dict[bytes, Waiting] = {}  # whatever was made, here or not
        self.truth: dict[bytes, str] = {}  # what the ledger says of it now
        self.blocks = 0
        self.tellings = 0

    def teardown(self) -> None:
        if hasattr(self, "patched"):
            self.patched.undo()

    # -------------------------------------------------------------- the model

    def judge(self, data: bytes) -> TransactionInfo:
        """Stand in for the ledger."""
        one = self.all[data]
        if self.truth[data] == DEAD:
            raise InvalidInputError("it can not become valid")
        waits = "" if self.truth[data] == READY else "something"
        return TransactionInfo(one.id, one.kind, one.author, waits, one.sequence)

    def lane(self, kind: str, author: NodeId) -> list[Waiting]:
        mine = [each for each in self.waiting if (each.kind, each.author) == (kind, author)]
        return sorted(mine, key=lambda each: each.sequence)  # stable: then by arrival

    def lanes(self) -> list[list[Waiting]]:
        return [self.lane(*each) for each in {(one.kind, one.author) for one in self.waiting}]

    def in_turn(self, kind: str) -> list[Waiting]:
        """Return all of a kind: the first of each author, then the second of each, and so on."""
        names = sorted({each.author for each in self.waiting if each.kind == kind})
        places = []
        for rank, author in enumerate(names):
            turn = (rank - self.blocks) % len(names)
            places += [((depth, turn), each) for depth, each in enumerate(self.lane(kind, author))]
        return [each for _, each in sorted(places, key=lambda place: place[0])]

    def told(self) -> list[Waiting]:
        """Return all: the first of each author, and so on; an author's lanes take turns in it."""
        names = sorted({each.author for each in self.waiting})
        places = []
        for rank, author in enumerate(names):
            turn = (rank - self.tellings) % len(names)
            lanes = [self.lane(kind, author) for kind in (*URGENT, *BUILDS)]
            own = [
                ((depth, n), each) for n, row in enumerate(lanes) for depth, each in enumerate(row)
            ]
            own.sort(key=lambda place: place[0])
            places += [((at, turn), each) for at, (_, each) in enumerate(own)]
        return [each for _, each in sorted(places, key=lambda place: place[0])]

    # -------------------------------------------------------------- rules

    @rule(author=authors, kind=kinds, flood=floods)
    def arrive(self, author: NodeId, kind: str, flood: list[tuple[int, int, str]]) -> None:
        for size, sequence, verdict in flood:
            data = len(self.all).to_bytes(4, "big") + bytes(size - 4)
            number = sequence if kind == "attest_batch" else 0
            self.all[data] = Waiting(data, kind, author, number, READY)
            self.truth[data] = verdict
            self.offer(data)

    @precondition(lambda self: self.all)
    @rule(choice=st.data())
    def arrive_again(self, choice: st.DataObject) -> None:
        """Offer what waits already, or what was dropped, committed or refused before."""
        data = choice.draw(st.sampled_from(sorted(self.all)))
        if self.truth[data] != DEAD:
            self.offer(data)

    def offer(self, data: bytes) -> None:
        one, info = self.all[data], self.judge(data)
        if one in self.waiting:
            assert not self.pool.add(info, data)
            one.believed = self.truth[data]
            return
        mine = [len(each.data) for each in self.waiting if each.author == one.author]
        total = sum(len(each.data) for each in self.waiting)
        if len(mine) >= AUTHOR_COUNT or sum(mine) + len(data) > AUTHOR_BYTES:
            with pytest.raises(UnavailableError, match=f"{one.author} has {len(mine)} trans"):
                self.pool.add(info, data)
        elif total + len(data) > TOTAL_BYTES:
            with pytest.raises(UnavailableError, match=f"is full: {total} bytes"):
                self.pool.add(info, data)
        else:
            assert self.pool.add(info, data)
            one.believed = self.truth[data]
            self.waiting.append(one)

    @precondition(lambda self: self.waiting)
    @rule(
        choice=st.data(), news=st.lists(verdicts, min_size=1, max_size=4), is_reviewed=st.booleans()
    )
    def the_world_changes(
        self, choice: st.DataObject, news: list[str], *, is_reviewed: bool
    ) -> None:
        """Let the ledger think otherwise of a lane's front; a review tells the pool, or a copy."""
        one = choice.draw(st.sampled_from(self.waiting))
        changed = self.lane(one.kind, one.author)[: len(news)]
        for each, verdict in zip(changed, news, strict=False):
            self.truth[each.data] = verdict
        if is_reviewed:
            self.review()
        elif self.truth[one.data] != DEAD:
            self.offer(one.data)

    @precondition(lambda self: self.all)
    @rule(choice=st.data())
    def commit(self, choice: st.DataObject) -> None:
        """Let a block hold what waits, what was never here, and perhaps one thing twice."""
        held = choice.draw(st.lists(st.sampled_from(sorted(self.all)), max_size=4))
        self.pool.committed([sha256_of(data) for data in held])
        self.waiting = [each for each in self.waiting if each.data not in held]

    @rule()
    def commit_a_whole_block(self) -> None:
        held = self.candidates()
        self.pool.committed([sha256_of(data) for data in held])
        self.waiting = [each for each in self.waiting if each.data not in held]

    @rule()
    def a_review(self) -> None:
        self.review()

    def review(self) -> None:
        """Let both look at the front of every lane; they must drop the same."""
        dropped = []
        for lane in self.lanes():
            for each in lane[:REVIEW]:
                each.believed = self.truth[each.data]
                if each.believed == DEAD:
                    dropped.append(each)
                elif each.believed == READY:
                    break
        assert sorted(self.pool.review(self.judge)) == sorted(each.id for each in dropped)
        self.waiting = [each for each in self.waiting if each not in dropped]

    @rule()
    def propose(self) -> None:
        self.candidates()

    def candidates(self) -> list[bytes]:
        """Return the candidates for a block, as the model expects them too."""
        self.blocks += 1
        expected: list[bytes] = []
        for kind in URGENT:
            room = URGENT_BYTES
            for each in (one for one in self.in_turn(kind) if one.believed == READY):
                room -= len(each.data)
                if room < 0:
                    break
                expected.append(each.data)
        room = BLOCK_BYTES - sum(map(len, expected))
        for each in (one for kind in BUILDS for one in self.in_turn(kind)):
            room -= len(each.data)
            if room < 0:
                break
            expected.append(each.data)
        found = self.pool.for_block()
        assert found == expected
        return found

    # -------------------------------------------------------------- what always holds

    @invariant()
    def holds_what_the_model_holds_in_the_order_of_arrival(self) -> None:
        assert self.pool.ids() == [each.id for each in self.waiting]
        assert len(self.pool) == len(self.waiting)
        here = {each.data for each in self.waiting}
        for data in self.all:
            assert self.pool.get(sha256_of(data)) == (data if data in here else None)

    @invariant()
    def tells_of_all_that_waits_by_authors_in_turn(self) -> None:
        self.tellings += 1
        assert list(self.pool.in_turns()) == [(each.id, each.data) for each in self.told()]

    @invariant()
    def has_work_when_something_at_the_front_is_ready(self) -> None:
        fronts = [each for lane in self.lanes() for each in lane[:REVIEW]]
        assert self.pool.has_work() == any(each.believed == READY for each in fronts)

    @invariant()
    def is_bounded(self) -> None:
        assert self.pool.size_bytes == sum(len(each.data) for each in self.waiting) <= TOTAL_BYTES
        assert max(Counter(each.author for each in self.waiting).values(), default=0) <= (
            AUTHOR_COUNT
        )
        for author in {each.author for each in self.waiting}:
            mine = [len(each.data) for each in self.waiting if each.author == author]
            assert sum(mine) <= AUTHOR_BYTES


TestMempool = MempoolAgainstModel.TestCase
TestMempool.settings = settings(max_examples=100, stateful_step_count=40)
