"""One honest node among traitors who hold every other key: it never contradicts itself.

Hypothesis plays the rest of the world: any certificate at any time (more than real traitors could
make), any proposal, other bytes under true headers, timers, bodies in any order, and restarts from
any point of the log, with its own key or with another. What leaves the node must be durable, must
be signed with the key that the set names, and must never be two votes that no honest member signs;
CONSENSUS 3.5 rests on nothing else of a single node.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from consensus import wire
from consensus.effects import Broadcast, CheckBody, Effect, Persist, RecordKind, Send
from consensus.events import BodyReceived, TimerKind, TimeVerdict
from consensus.evidence import contradicts
from consensus.types import Decision, Height, Proposal, View, Vote, VoteKind
from tests.unit.consensus.committee import (
    CHAIN,
    GENESIS_TIP,
    F,
    N,
    Node,
    X,
    alone,
    certificate_of,
    keyed_verify,
    make_block,
    member_set,
    names,
    of_type,
    proposal_of,
    vote_of,
)

SET = member_set(names(4))
VIEWS = 4
LEADERS = ["m001", "m002", "m003", "m000"]

views = st.integers(0, VIEWS - 1)
labels = st.sampled_from([b"x", b"y"])
peers = st.sampled_from(["m001", "m002", "m003"])


def block_of(view: int, label: bytes) -> bytes:
    return make_block(
        height=1, view=view, proposer=LEADERS[view], parent=GENESIS_TIP, transactions=(label,)
    )


def is_signed(vote: Vote) -> bool:
    """Whether the key that the set names for its voter made a vote."""
    text = wire.vote_bytes(
        vote.kind,
        vote.height,
        vote.view,
        vote.block_hash,
        chain_id=CHAIN,
        set_hash=SET.set_hash,
    )
    return keyed_verify(SET.members[vote.voter].vote_key, text, vote.signature)


class World(RuleBasedStateMachine):
    """Keeps every vote that left the node, across its lives."""

    @initialize(is_slow=st.sampled_from([False, False, False, True]))
    def start(self, *, is_slow: bool) -> None:
        self.node = alone(4, 0)
        self.node.is_slow = is_slow
        self.seen = 0
        self.votes: list[Vote] = []
        self.proposals: list[Proposal] = []
        self.durable: set[tuple[RecordKind, bytes]] = set()
        self.bodies: set[bytes] = set()

    # -- the world -------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from([N, X]), ahead=st.integers(-1, 1), of=views, label=labels, peer=peers
    )
    def certificate(self, kind: VoteKind, ahead: int, of: int, label: bytes, peer: str) -> None:
        """Mostly of the current view: the game is over too soon when views fly by."""
        view = max(0, min(self.node.replica.view + ahead, VIEWS - 1))
        if kind is X:
            found = certificate_of(SET, X, view=view, signers=(1, 2, 3))
        else:
            name = wire.block_hash(block_of(min(of, view), label))
            found = certificate_of(SET, kind, view=view, block_hash=name, signers=(1, 2, 3))
        self.node.tell(peer, found)

    @rule(
        view=views,
        of=views,
        label=labels,
        skipped=st.sets(views, max_size=3),
        is_again=st.booleans(),
        is_forged=st.booleans(),
    )
    def proposal(
        self,
        *,
        view: int,
        of: int,
        label: bytes,
        skipped: set[int],
        is_again: bool,
        is_forged: bool,
    ) -> None:
        leader = LEADERS[view]
        if leader == "m000":
            return
        origin = min(of, view)
        block = block_of(origin, label)
        name = wire.block_hash(block)
        notarization = None
        if is_again and view > 0:
            at = min(origin, view - 1)
            notarization = certificate_of(SET, N, view=at, block_hash=name, signers=(1, 2, 3))
        if is_forged:
            block = wire.encode_block(wire.split_block(block).header, b"", (b"forged",))
        nulls = tuple(
            certificate_of(SET, X, view=one, signers=(1, 2, 3))
            for one in sorted(skipped)
            if one < view
        )
        self.node.tell(
            leader,
            proposal_of(
                leader, SET, block, view=view, notarization=notarization, nullifications=nulls
            ),
        )

    @rule(peer=peers, kind=st.sampled_from(VoteKind), view=views, label=labels)
    def vote(self, peer: str, kind: VoteKind, view: int, label: bytes) -> None:
        if kind is X:
            self.node.tell(peer, vote_of(peer, SET, X, view=view))
        else:
            name = wire.block_hash(block_of(view, label))
            self.node.tell(peer, vote_of(peer, SET, kind, view=view, block_hash=name))

    @rule(view=views, label=labels, is_forged=st.booleans())
    def body(self, *, view: int, label: bytes, is_forged: bool) -> None:
        block = block_of(view, label)
        if is_forged:
            block = wire.encode_block(wire.split_block(block).header, b"", (b"forged",))
        self.node.step(BodyReceived(Height(1), block))

    @rule(kind=st.sampled_from(TimerKind))
    def timer(self, kind: TimerKind) -> None:
        self.node.fire(kind)

    @rule(is_impatient=st.booleans())
    def work(self, *, is_impatient: bool) -> None:
        self.node.work()
        if is_impatient:
            self.node.fire()

    @rule(time=st.sampled_from(TimeVerdict))
    def clock(self, time: TimeVerdict) -> None:
        self.node.time = time

    @rule(position=st.integers(0, 50))
    def answer(self, position: int) -> None:
        """A slow state machine answers one of its questions, in any order, perhaps again."""
        asked = of_type(self.node.done, CheckBody)
        if asked and self.node.replica.height == 1:
            self.node.step(self.node.check(asked[position % len(asked)].block))

    @rule(label=labels, view=views, dice=st.integers(0, 7))
    def decision(self, label: bytes, view: int, dice: int) -> None:
        """Rare, for it ends the height; two final blocks would halt the node."""
        if dice or self.node.replica._state.finalizations:
            return
        block = block_of(view, label)
        name = wire.block_hash(block)
        final = certificate_of(SET, F, view=view, block_hash=name, signers=(1, 2, 3))
        self.node.tell("m001", Decision(block, final))

    @rule(key=st.sampled_from(["m000", "m000", "m000", "m000 again"]))
    def restart(self, key: str) -> None:
        """From any point of the log; now and then with a key that the set does not name."""
        self.look()
        slow, time = self.node.is_slow, self.node.time
        self.node = self.node.restart(key=key)
        self.node.is_slow, self.node.time = slow, time
        self.seen = 0

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def look(self) -> None:
        for effect in self.node.done[self.seen :]:
            self.check(effect)
        self.seen = len(self.node.done)

    def check(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self.durable |= {(one.kind, one.payload) for one in effect.records}
            self.bodies |= {one.payload for one in effect.records if one.kind is RecordKind.BODY}
        elif isinstance(effect, Broadcast | Send):
            self.check_message(effect)

    def check_message(self, effect: Broadcast | Send) -> None:
        message = effect.message
        if isinstance(message, Vote):
            assert (RecordKind.VOTE, wire.encode_vote(message)) in self.durable
            assert is_signed(message), "nobody would believe it but its maker"
            if message.kind is N and message.height == 1:
                durable = {wire.block_hash(body) for body in self.bodies}
                durable |= {wire.block_hash(one.block) for one in self.proposals}
                assert message.block_hash in durable, "the body is durable before its vote"
            assert not any(contradicts(message, earlier) for earlier in self.votes)
            self.votes.append(message)
        elif isinstance(message, Proposal):
            assert (RecordKind.PROPOSAL, wire.encode_proposal(message, n=4)) in self.durable
            for earlier in self.proposals:
                if (earlier.height, earlier.view) == (message.height, message.view):
                    assert earlier.block == message.block
            self.proposals.append(message)

    @invariant()
    def forged_bytes_are_never_kept(self) -> None:
        assert not any(wire.split_block(body).transactions == (b"forged",) for body in self.bodies)

    @invariant()
    def at_most_one_commit_a_height(self) -> None:
        heights = [commit.height for commit in self.node.committed]
        assert heights == sorted(set(heights))


def test_honest_node_never_contradicts_itself() -> None:
    World.TestCase.settings = settings(
        World.TestCase.settings, max_examples=150, stateful_step_count=40
    )
    World.TestCase("runTest").runTest()


def test_the_checks_would_see_a_contradiction() -> None:
    """The world above is worth something only if its eyes are open."""
    node: Node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, block_of(0, b"x"), view=0))
    node.records.clear()
    again = node.restart()
    again.tell("m001", proposal_of("m001", SET, block_of(0, b"y"), view=0))
    votes = [
        effect.message
        for effect in [*of_type(node.done, Broadcast), *of_type(again.done, Broadcast)]
        if isinstance(effect.message, Vote)
    ]
    assert contradicts(votes[0], votes[1]), "a node without its records would vote twice"
    assert View(0) == votes[0].view
