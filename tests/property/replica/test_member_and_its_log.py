"""One member, its signer and its real log of votes, against a model that simply remembers.

Hypothesis plays the other members, the clock, power cuts at every write, and whatever can happen to
files. The model is a set of all votes that ever left, and a list of all records whose write had
returned. Two things must hold whatever is played: no vote leaves that an honest member could not
add to those that left before; and what a start reads back is what was durable, or the damage is
told and nothing is signed before the height that the wait ends at.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consensus import wire
from consensus.effects import Broadcast, Commit, Effect, Persist, Record, RecordKind, Send
from consensus.events import Event, TimerKind
from consensus.replica import Start
from consensus.signer import GENESIS
from consensus.types import Decision, Digest, Height, Message, NodeId, View, Vote, VoteKind
from consensus.wal import PAGE_BYTES, encode_batch
from pyrsia_node.replica import wal as wal_module
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog, height_in
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.unit.consensus.committee import (
    GENESIS_TIP,
    F,
    N,
    Node,
    X,
    certificate_of,
    make_block,
    member_set,
    names,
    proposal_of,
    vote_of,
)

SET = member_set(names(4))
ME = NodeId("m000")
VIEWS = 4
SMALL_FILE_BYTES = 8 * PAGE_BYTES
"""So that files rotate and go all the time."""

views = st.integers(0, VIEWS - 1)
labels = st.sampled_from([b"x", b"y"])
peers = st.sampled_from(["m001", "m002", "m003"])


def _nothing(*_arguments: int) -> None:
    """Stand in for calls that wait for the disk."""


class PowerCut(BaseException):
    """The process ends here; what its list of effects says next never happens."""


class Member(Node):
    """A node whose records go into a real log and whose commits are durable at once."""

    world: World

    def _perform(self, effect: Effect) -> list[Event]:
        if isinstance(effect, Persist):
            self.world.persist(effect.records, self.replica.height)
        elif isinstance(effect, Broadcast | Send):
            self.world.left(effect.message)
        elif isinstance(effect, Commit):
            self.world.commit(effect)
        return super()._perform(effect)


def honest_may_add(vote: Vote, earlier: Iterable[Vote]) -> bool:
    """The naive rule: what may be signed after ``earlier`` of the same height and view."""
    said = {(one.kind, one.block_hash) for one in earlier}
    if (vote.kind, vote.block_hash) in said:
        return True
    kinds = {kind for kind, _ in said}
    match vote.kind:
        case VoteKind.NOTARIZE:
            return not kinds
        case VoteKind.NULLIFY:
            return F not in kinds
        case VoteKind.FINALIZE:
            others = {name for kind, name in said if kind is N and name != vote.block_hash}
            return not kinds & {X, F} and not others


class World(RuleBasedStateMachine):
    """The member's lives, and all that must outlast them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="wal-"))
        self.small = mock.patch.object(wal_module, "FILE_BYTES", SMALL_FILE_BYTES)
        self.small.start()
        # Slow, and of no use where the power is cut by the test.
        self.no_sync = mock.patch.multiple(
            "os", fsync=_nothing, fdatasync=_nothing, posix_fadvise=_nothing
        )
        self.no_sync.start()

    def teardown(self) -> None:
        self.node_wal.close()
        self.no_sync.stop()
        self.small.stop()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        self.store = MemoryKeyValueStore()
        self.committed: list[Commit] = []
        self.votes: set[Vote] = set()
        self.durable: list[Record] = []
        self.found: tuple[Record, ...] = ()
        self.cut: tuple[str, int] | None = None
        self.first_height = GENESIS
        self.lives = 0
        self.live()

    # -- a life ----------------------------------------------------------------------------------

    def live(self) -> None:
        """Start on what the disk holds, as the composition root does."""
        self.lives += 1
        self.node_wal = WriteAheadLog(self.folder, StoreAnchor(self.store))
        records, damage = self.node_wal.read()
        self.found = tuple(records)
        if damage:
            self.wait_for_the_others()
            self.node_wal.set_aside()
            self.durable = []
        else:
            self.check_read(records)
        Member.world = self
        start = self.start()
        try:
            self.node = Member(
                ME, SET, start, records=list(records), first_height=self.first_height
            )
        except PowerCut:
            self.die()

    def wait_for_the_others(self) -> None:
        """They were asked, and all have committed what we have: W is one more."""
        self.first_height = max(self.first_height, Height(len(self.committed) + 3))

    def start(self) -> Start:
        if not self.committed:
            return Start(Height(1), GENESIS_TIP, SET, None, ())
        last = self.committed[-1]
        return Start(
            Height(last.height + 1), last.certificate.block_hash, SET, last.certificate, ()
        )

    def check_read(self, records: list[Record]) -> None:
        """All that was durable of heights that are not committed is read back, in order."""
        open_height = len(self.committed) + 1
        wanted = [one for one in self.durable if height_in([one]) >= open_height]
        found = [one for one in records if height_in([one]) >= open_height]
        assert found == wanted, "the log forgot a record, or made one up"

    def holds_all(self, records: list[Record]) -> bool:
        open_height = len(self.committed) + 1
        return all(one in records for one in self.durable if height_in([one]) >= open_height)

    def die(self) -> None:
        self.cut = None
        self.node_wal.close()
        self.live()

    def step(self, act: str, *arguments: object) -> None:
        try:
            getattr(self.node, act)(*arguments)
        except PowerCut:
            self.die()

    # -- what the member does --------------------------------------------------------------------

    def persist(self, records: tuple[Record, ...], height: Height) -> None:
        how, after = self.cut or ("", 1)
        if self.cut and after:
            self.cut = (how, after - 1)
        elif how == "before":
            raise PowerCut
        elif how == "torn":
            self.write_torn(records)
            raise PowerCut
        self.node_wal.append(records, height=height)
        self.durable += records
        if how == "after" and not after:
            raise PowerCut

    def write_torn(self, records: tuple[Record, ...]) -> None:
        """Leave the file as a power cut does in the middle of a batch: some pages, not all."""
        wal = self.node_wal
        if wal._fd is None or wal._current is None:
            return
        batch = bytearray(encode_batch(wal._next_number, records))
        batch[20:28] = b"\xff" * 8
        if wal._offset + len(batch) <= wal._size:
            with wal._current.open("r+b") as file:
                file.seek(wal._offset)
                file.write(batch)

    def commit(self, effect: Commit) -> None:
        self.committed.append(effect)
        self.node_wal.discard(effect.height)

    def left(self, message: Message) -> None:
        if not isinstance(message, Vote):
            return
        record = Record(RecordKind.VOTE, wire.encode_vote(message))
        # What this start read in a damaged log was durable, and all that was forgotten came after
        # it and fits it: to say that again is no new vote.
        is_repeated = record in self.found
        assert is_repeated or record in self.durable, "a vote left before it was durable"
        assert is_repeated or message.height >= self.first_height, "a vote left in a silence"
        earlier = {
            one for one in self.votes if (one.height, one.view) == (message.height, message.view)
        }
        assert honest_may_add(message, earlier), f"{message} after {earlier}"
        self.votes.add(message)

    # -- the world -------------------------------------------------------------------------------

    @property
    def tip(self) -> Digest:
        return self.committed[-1].certificate.block_hash if self.committed else GENESIS_TIP

    def block(self, view: int, label: bytes) -> bytes:
        parent = (
            wire.encode_certificate(self.committed[-1].certificate, n=4) if self.committed else b""
        )
        return make_block(
            height=self.node.replica.height,
            view=view,
            proposer=self.node.replica.leader(View(view)),
            parent=self.tip,
            parent_certificate=parent,
            transactions=(label,),
        )

    @rule(kind=st.sampled_from([N, X]), of=views, label=labels, peer=peers)
    def certificate(self, kind: VoteKind, of: int, label: bytes, peer: str) -> None:
        view, height = self.node.replica.view, self.node.replica.height
        if kind is X:
            found = certificate_of(SET, X, view=view, height=height, signers=(1, 2, 3))
        else:
            name = wire.block_hash(self.block(min(of, view), label))
            found = certificate_of(
                SET, N, view=view, height=height, block_hash=name, signers=(1, 2, 3)
            )
        self.step("tell", peer, found)

    @rule(label=labels)
    def proposal(self, label: bytes) -> None:
        view = self.node.replica.view
        leader = self.node.replica.leader(view)
        if leader != ME:
            block = self.block(view, label)
            height = self.node.replica.height
            self.step("tell", leader, proposal_of(leader, SET, block, view=view, height=height))

    @rule(peer=peers, kind=st.sampled_from(VoteKind), view=views, label=labels)
    def vote(self, peer: str, kind: VoteKind, view: int, label: bytes) -> None:
        name = {} if kind is X else {"block_hash": wire.block_hash(self.block(view, label))}
        height = self.node.replica.height
        self.step("tell", peer, vote_of(peer, SET, kind, view=view, height=height, **name))

    @rule(kind=st.sampled_from(TimerKind))
    def timer(self, kind: TimerKind) -> None:
        self.step("fire", kind)

    @rule()
    def work(self) -> None:
        self.step("work")

    @rule(label=labels)
    def decision(self, label: bytes) -> None:
        state = self.node.replica._state
        if state.finalizations:
            return
        view = max([one.view for one in state.notarizations.values()], default=0)
        known = state.notarizations.get(View(view))
        block = self.block(view, label)
        if known is not None and known.block_hash != wire.block_hash(block):
            return
        final = certificate_of(
            SET,
            F,
            view=view,
            height=self.node.replica.height,
            block_hash=wire.block_hash(block),
            signers=(1, 2, 3),
        )
        self.step("tell", "m001", Decision(block, final))

    # -- the power and the disk ------------------------------------------------------------------

    @rule(how=st.sampled_from(["before", "torn", "after"]), after=st.integers(0, 3))
    def cut_power_at_a_write_to_come(self, how: str, after: int) -> None:
        self.cut = (how, after)

    @rule()
    def kill(self) -> None:
        self.die()

    @precondition(lambda self: any(self.folder.glob("*.wal")) and self.lives < 12)
    @rule(harm=st.sampled_from(["newest", "cut", "rot", "all"]), where=st.integers(0, 2**16))
    def harm_the_files(self, harm: str, where: int) -> None:
        """Something happens to the files of a dead process."""
        self.node_wal.close()
        files = sorted(self.folder.glob("*.wal"))
        if harm == "newest":
            files[-1].unlink()
        elif harm == "all":
            for file in files:
                file.unlink()
        elif harm == "cut":
            os.truncate(files[-1], where % SMALL_FILE_BYTES)
        else:
            with files[where % len(files)].open("r+b") as content:
                content.seek((where // 7) % SMALL_FILE_BYTES)
                content.write(b"\xa5")
        wal = WriteAheadLog(self.folder, StoreAnchor(self.store))
        records, damage = wal.read()
        assert damage or harm == "rot", f"{harm} was not noticed"
        if not damage and not self.holds_all(records):
            # A byte of the newest batch: it is gone as a torn one is, and no file can tell that it
            # was ever whole. The others can: that is what the question at every start is for.
            self.wait_for_the_others()
            self.durable = records
        self.cut = None
        self.live()

    @invariant()
    def signer_remembers_what_left(self) -> None:
        height = self.node.replica.height
        if height < self.first_height:
            return
        left = {vote for vote in self.votes if vote.height == height}
        assert left <= set(self.node.signer.votes(height))


def test_member_keeps_its_word_whatever_happens_to_its_process_and_its_files() -> None:
    World.TestCase.settings = settings(
        World.TestCase.settings, max_examples=40, stateful_step_count=30
    )
    World.TestCase("runTest").runTest()


def test_the_naive_rule_is_the_protocols() -> None:
    a, b = (
        wire.block_hash(make_block(height=1, view=0, proposer=name, parent=GENESIS_TIP))
        for name in "ab"
    )
    one = {kind: vote_of("m000", SET, kind, view=0, block_hash=a) for kind in (N, F)}
    two = {kind: vote_of("m000", SET, kind, view=0, block_hash=b) for kind in (N, F)}
    skip = vote_of("m000", SET, X, view=0)
    assert honest_may_add(skip, [one[N]])
    assert honest_may_add(one[F], [one[N]])
    assert honest_may_add(one[F], [])
    for said, then in [
        (one[N], two[N]),
        (one[F], two[F]),
        (one[N], two[F]),
        (one[F], skip),
        (skip, one[F]),
        (skip, one[N]),
        (one[F], one[N]),
    ]:
        assert not honest_may_add(then, [said])
