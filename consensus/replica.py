"""The consensus participant of one node: ``Replica.step(event) -> list[Effect]``.

It holds the state of the working height, does what ``rules`` ask for, and moves from height to
height. It has no clock, socket, disk or randomness: the same events give the same effects. Every
event may be a duplicate, late or unknown and then has no effect; what is impossible asserts.
Effects are performed in list order (see ``effects``). Protocol: docs/design/consensus.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from consensus import bodies, rules, wire
from consensus.below import Below, merged
from consensus.effects import BuildBody, Commit, Effect, RecordKind, ReportEvidence, SetTimer
from consensus.errors import SignerRefusal
from consensus.events import (
    AheadSeen,
    BodyBuilt,
    BodyChecked,
    BodyReceived,
    DecisionApplied,
    Event,
    MessageReceived,
    TimerFired,
    TimerKind,
    ViewMeasured,
    WorkLapsed,
    WorkPending,
)
from consensus.evidence import proposals_contradict
from consensus.help import Help
from consensus.outbox import Outbox
from consensus.quorum import History
from consensus.signer import Signer
from consensus.state import Build, BuildPhase, HeightState, KeptProposal
from consensus.tally import Tally
from consensus.timing import Pace, Timing
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    MemberSet,
    Message,
    NodeId,
    Proposal,
    Status,
    View,
    Vote,
    VoteKind,
)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a replica begins: everything below ``height`` is committed.

    Attributes:
        height: the working height, tip + 1.
        tip: hash of the block below; of the genesis for height 1.
        members: the set of ``height``.
        parent_certificate: what finalized the block below; None at height 1.
        history: signer ids of the parent certificate inside each of the newest blocks up to
            height - 1, oldest first; ``quorum.history_blocks(n)`` of them, or all there are.
        parent_members: the set of ``height`` - 1; None where it is ``members``.
    """

    height: Height
    tip: Digest
    members: MemberSet
    parent_certificate: Certificate | None
    history: History
    parent_members: MemberSet | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier life made durable at the working height; own votes are in the signer."""

    certificates: tuple[Certificate, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    bodies: tuple[bytes, ...] = ()


class Replica:
    """One member's, or one watcher's, part in the protocol."""

    def __init__(
        self, me: NodeId, chain_id: Digest, start: Start, signer: Signer, timing: Timing
    ) -> None:
        """Stand at ``start``; nothing happens before ``begin``.

        Where the signer may not sign, because it is silent or the set names another key for this
        member, the node votes for nothing and builds nothing; it follows, relays and commits.

        Args:
            me: this node's member id; outside the set it only watches.
            chain_id: hash of the genesis; the signer's must be the same.
            start: the committed chain's end.
            signer: holds the vote key and what was signed before.
            timing: bounds of the time-outs.
        """
        assert signer.chain_id == chain_id, "the signer signs for another chain"
        assert signer.me == me, "the signer signs for another member"
        self._me = me
        self._signer = signer
        self._pace = Pace(me, timing)
        self._out = Outbox()
        self._help = Help(self._out, self._pace)
        self._tally = Tally(self._out, self._help)
        parent_members = start.parent_members or start.members
        self._below = Below(parent_members, start.parent_certificate, start.history)
        self._state = self._fresh_state(start.height, start.tip, start.members)

    def _fresh_state(self, height: Height, tip: Digest, members: MemberSet) -> HeightState:
        self._signer.enter(height, members)
        state = HeightState(self._me, height, tip, members, self._below.history)
        state.can_sign = self._signer.may_sign(height)
        state.mine = {(vote.kind, vote.view): vote for vote in self._signer.votes(height)}
        return state

    # -- what others may know --------------------------------------------------------------------

    @property
    def height(self) -> Height:
        """Return the working height; everything below is committed."""
        return self._state.height

    @property
    def view(self) -> View:
        """Return the current view of the working height."""
        return self._state.view

    @property
    def members(self) -> MemberSet:
        """Return the member set of the working height."""
        return self._state.members

    @property
    def is_halted(self) -> bool:
        """Say whether two contradicting final certificates were seen: more than f traitors."""
        return self._state.is_halted

    @property
    def fork(self) -> tuple[Certificate, ...]:
        """Return every certificate of the working height, if it was decided twice."""
        return self._state.fork

    def halt(self) -> None:
        """Do nothing more: a committed height was decided twice."""
        self._state.is_halted = True

    def members_of(self, height: Height) -> MemberSet | None:
        """Return the set of the working height or of the one below; None for any other."""
        if height == self._state.height:
            return self._state.members
        return self._below.members if height == self._state.height - 1 else None

    def body(self, block_hash: Digest) -> bytes | None:
        """Return a valid body of the working height, for peers that ask for it by hash."""
        body = self._state.valid.get(block_hash)
        return None if body is None else body.block

    def votes_of(self, node: NodeId) -> list[Vote]:
        """Return every vote of a member that was seen at the working height."""
        index = self._state.members.index_of(node)
        return [] if index is None else self._state.book.votes_of(index)

    def leader(self, view: View) -> NodeId:
        """Return the leader of a view of the working height."""
        return self._state.leader(view)

    # -- the two ways in -------------------------------------------------------------------------

    def begin(self, remembered: Remembered | None = None) -> list[Effect]:
        """Return the first effects: what was remembered is said again, and peers hear of us."""
        if remembered is not None:
            self._restore(remembered)
        self._follow_rules()
        if not self._state.is_halted:
            self._help.repeat(self._state)
        return self._out.take()

    def _restore(self, remembered: Remembered) -> None:
        state = self._state
        for body in remembered.bodies:
            name = wire.block_hash(body)
            state.durable.add(name)
            bodies.check(state, self._out, body, wire.body_id(body), name)
        for proposal in remembered.proposals:
            name = wire.block_hash(proposal.block)
            state.own_proposals[proposal.view] = proposal
            state.durable.add(name)
            self._keep_proposal(proposal, name)
        for certificate in remembered.certificates:
            self._tally.store(state, certificate, is_durable=True)
        for vote in list(state.mine.values()):
            self._tally.count(state, vote)
        if state.mine or state.own_proposals or remembered.certificates:
            self._help.arm(state)

    def step(self, event: Event) -> list[Effect]:
        """Take in one event and return what is to be done, in order."""
        if not self._state.is_halted:
            self._state.can_sign = self._signer.may_sign(self._state.height)
            self._take_in(event)
            self._follow_rules()
        return self._out.take()

    def _take_in(self, event: Event) -> None:
        match event:
            case MessageReceived():
                self._on_message(event.sender, event.message)
            case AheadSeen():
                self._help.heard_of(self._state, event.sender, event.height)
            case TimerFired():
                self._on_timer(event)
            case WorkPending():
                self._on_work(event.height)
            case WorkLapsed():
                self._on_no_work(event.height)
            case BodyBuilt() | BodyReceived() | BodyChecked():
                self._on_body(event)
            case DecisionApplied():
                self._on_applied(event)
            case ViewMeasured():
                self._pace.measured(event.elapsed_ms)
            case _:
                assert_never(event)

    def _follow_rules(self) -> None:
        """Do what the rules ask for, again from the first one after every change."""
        while not self._state.is_halted and (
            self._commit()
            or self._finalize()
            or self._advance()
            or self._propose()
            or self._notarize()
            or self._nullify()
        ):
            pass

    # -- rules R1 to R6 --------------------------------------------------------------------------

    def _commit(self) -> bool:  # R1
        found = rules.commit(self._state)
        if found is None:
            return False
        certificate, body = found
        assert body.verdict is not None
        assert body.verdict.next_set is not None, "a valid body names the next set"
        next_set = body.verdict.next_set
        height, view, name = self._state.height, certificate.view, certificate.block_hash
        votes = self._state.tallies.get((VoteKind.FINALIZE, view, name), {})
        complete = merged(certificate, votes)
        transcript = rules.transcript(self._state, certificate)
        self._out.commit(Commit(height, body.block, complete, next_set, transcript))
        self._enter(complete, next_set, self._below.signers_inside(body.block))
        return True

    def _enter(
        self, certificate: Certificate, next_set: MemberSet, signers: tuple[NodeId, ...]
    ) -> None:
        """Stand at the next height, on the block that ``certificate`` made final."""
        decided = self._state
        self._below = self._below.after(decided.members, certificate, signers, next_set=next_set)
        self._state = self._fresh_state(
            Height(decided.height + 1), certificate.block_hash, next_set
        )
        self._help.entered(self._state)

    def _finalize(self) -> bool:  # R2
        certificate = rules.finalize(self._state)
        if certificate is None:
            return False
        body = self._state.valid[certificate.block_hash]
        bodies.make_durable(self._state, self._out, body)
        self._cast(VoteKind.FINALIZE, certificate.view, certificate.block_hash)
        return True

    def _advance(self) -> bool:  # R3
        view = rules.advance(self._state)
        if view is None:
            return False
        state = self._state
        state.view = view
        state.is_timed_out = False
        state.has_asked_peers = False
        state.is_holding = state.has_held = False
        state.build = Build()
        # A proposal of a view that is over can only matter by its body, which is fetched by hash
        # if it is ever certified.
        state.proposals = {at: kept for at, kept in state.proposals.items() if at >= view}
        state.is_armed = False
        self._help.arm(state)
        return True

    def _propose(self) -> bool:  # R4
        state = self._state
        match rules.propose(state):
            case None:
                return False
            case rules.Again() as again:
                return self._send_proposal(
                    again.body.block, again.notarization, again.nullifications
                )
            case rules.Fresh() as fresh:
                if state.build.block is not None:
                    return self._send_proposal(state.build.block, None, fresh.nullifications)
                if state.is_armed and state.build.phase is BuildPhase.IDLE:
                    state.build.phase = BuildPhase.ASKED
                    parent = self._below.certificate
                    self._out.add(BuildBody(state.height, state.view, parent))
            case rules.NotYet.ASK:
                if not state.has_asked_peers:
                    state.has_asked_peers = True
                    self._out.broadcast(state, rules.status(state))
            case rules.NotYet.HOLD:
                if not state.is_holding:
                    state.is_holding = True
                    delay = self._pace.delta_ms
                    self._out.add(SetTimer(TimerKind.HOLD, state.height, state.view, delay))
        return False

    def _notarize(self) -> bool:  # R5
        state = self._state
        body = rules.notarize(state)
        if body is not None:
            bodies.make_durable(state, self._out, body)
            self._cast(VoteKind.NOTARIZE, state.view, body.block_hash)
            return True
        if rules.judge(state) is rules.Judgement.CHECK:
            kept = state.proposals[state.view]
            block = kept.proposal.block
            bodies.check(state, self._out, block, kept.body_id, kept.block_hash)
        return False

    def _nullify(self) -> bool:  # R6
        if not rules.nullify(self._state):
            return False
        self._cast(VoteKind.NULLIFY, self._state.view, ZERO_DIGEST)
        return True

    def _cast(self, kind: VoteKind, view: View, block_hash: Digest) -> None:
        """Sign, persist, send and count an own vote; a refusing signer makes it no vote at all."""
        state = self._state
        assert state.my_index is not None
        try:
            vote = self._signer.sign_vote(
                kind, state.height, view, block_hash, voter=state.my_index
            )
        except SignerRefusal:
            state.refusals.add((kind, view))
            return
        state.mine[kind, view] = vote
        self._out.persist(RecordKind.VOTE, wire.encode_vote(vote))
        self._help.arm(state)
        self._out.broadcast(state, vote)
        self._tally.count(state, vote)

    def _send_proposal(
        self,
        block: bytes,
        notarization: Certificate | None,
        nullifications: tuple[Certificate, ...],
    ) -> bool:
        state = self._state
        name = wire.block_hash(block)
        try:
            signature = self._signer.sign_proposal(state.height, state.view, name)
        except SignerRefusal:
            return False
        proposal = Proposal(
            state.height, state.view, block, notarization, nullifications, signature
        )
        state.own_proposals[state.view] = proposal
        self._keep_proposal(proposal, name)
        payload = wire.encode_proposal(proposal, n=state.n)
        self._out.persist(RecordKind.PROPOSAL, payload)
        # The record holds the block, so this node's own notarization needs no second copy.
        state.durable.add(name)
        self._help.arm(state)
        self._out.broadcast(state, proposal)
        return True

    # -- messages --------------------------------------------------------------------------------

    def _on_message(self, sender: NodeId, message: Message) -> None:
        state = self._state
        match message:
            case Vote():
                if message.height == state.height:
                    self._tally.count(state, message)
                else:
                    self._below = self._below.with_vote(message)
            case Certificate():
                if message.height == state.height:
                    self._tally.store(state, message)
            case Proposal():
                if message.height == state.height:
                    self._on_proposal(sender, message)
            case Decision():
                if message.certificate.height == state.height:
                    name = message.certificate.block_hash
                    bodies.check_found(state, self._out, message.block, name)
                    self._tally.store(state, message.certificate)
            case Status():
                self._help.heard_status(state, sender, message)
            case _:
                assert_never(message)

    def _on_proposal(self, sender: NodeId, proposal: Proposal) -> None:
        state = self._state
        # Certificates inside count as if they had come alone, whatever becomes of the proposal.
        for certificate in proposal.nullifications:
            self._tally.store(state, certificate)
        if proposal.notarization is not None:
            self._tally.store(state, proposal.notarization)
        if sender != state.leader(proposal.view):
            return
        name = wire.block_hash(proposal.block)
        first = state.proposals.get(proposal.view)
        if first is not None:
            self._compare(sender, first, proposal, name)
        elif proposal.view >= state.view:
            self._keep_proposal(proposal, name)
            self._help.arm(state)
        if name in state.missing_bodies():
            bodies.check_found(state, self._out, proposal.block, name)

    def _compare(self, leader: NodeId, first: KeptProposal, second: Proposal, name: Digest) -> None:
        """Report a leader's second block for one view, once; it is not kept (3.12)."""
        if proposals_contradict(first.block_hash, name) and not first.is_reported:
            first.is_reported = True
            self._out.add(ReportEvidence(leader, first.proposal, second))

    def _keep_proposal(self, proposal: Proposal, name: Digest) -> None:
        identity = wire.body_id(proposal.block)
        self._state.proposals[proposal.view] = KeptProposal(proposal, name, identity)

    # -- timers and work -------------------------------------------------------------------------

    def _on_timer(self, event: TimerFired) -> None:
        state = self._state
        if (event.height, event.view) != (state.height, state.view):
            # A stale VIEW timer must not nullify: that view may be finalized here.
            return
        match event.kind:
            case TimerKind.VIEW:
                state.is_timed_out = state.is_armed
            case TimerKind.RETRY:
                self._help.retry(state)
            case TimerKind.HOLD:
                state.has_held = True

    def _on_work(self, height: Height) -> None:
        state = self._state
        if height != state.height:
            return
        if state.build.phase is BuildPhase.ASKED:
            state.build.has_new_work = True
        elif state.build.block is None:
            state.build.phase = BuildPhase.IDLE
        if not state.is_armed:
            self._help.arm(state)
            state.is_armed_by_work_alone = state.is_armed

    def _on_no_work(self, height: Height) -> None:
        state = self._state
        if height == state.height and state.is_armed_by_work_alone and state.view == 0:
            state.is_armed = False

    def _on_body(self, event: BodyBuilt | BodyReceived | BodyChecked) -> None:
        match event:
            case BodyBuilt():
                self._on_built(event)
            case BodyReceived():
                bodies.received(self._state, self._out, event)
            case BodyChecked():
                bodies.checked(self._state, event)

    def _on_built(self, event: BodyBuilt) -> None:
        state = self._state
        build = state.build
        is_current = (event.height, event.view) == (state.height, state.view)
        if not is_current or build.phase is not BuildPhase.ASKED:
            return
        build.block = event.block
        again = event.block is None and build.has_new_work
        build.phase = BuildPhase.IDLE if again else BuildPhase.ANSWERED
        build.has_new_work = False

    def _on_applied(self, event: DecisionApplied) -> None:
        """Stand on a decision that catch-up has applied; no vote of ours was needed."""
        if event.height == self._state.height:
            assert event.certificate.block_hash == event.block_hash
            self._enter(event.certificate, event.next_set, event.signers)
