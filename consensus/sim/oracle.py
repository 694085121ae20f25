"""What must never happen, stated a second time and checked on what leaves each honest node.

The oracle imports value types and the byte layout, nothing of the rules, the replica or the
quorum arithmetic: it restates CONSENSUS.md 3.1, 3.3 and 3.5 by itself, so that a mistake in the
core cannot excuse itself here. It sees bytes only when they leave a node, records only when they
are durable, and it remembers across restarts. It knows who is honest, which no node can know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from consensus.effects import Record, ReportEvidence
from consensus.errors import DecodeError
from consensus.sim.accountability import Transcript
from consensus.sim.ballots import Ballots
from consensus.sim.platter import Platter, Witnessed
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
from consensus.wire import (
    block_hash,
    decode_message,
    encode_certificate,
    proposal_bytes,
    vote_bytes,
)

Verify = Callable[[bytes, bytes, bytes], bool]

Successor = Callable[[MemberSet, bytes], MemberSet]
"""The set that follows a set and a block of it."""

LINK_BYTES_PER_SECOND_MAX: Final = 400_000
"""Most that an honest node may send one peer in one second of simulated time.

The retry cap of 64 kB (R8), four decisions (R9) and the live traffic of some heights fit well in.
"""


class Violation(Exception):  # noqa: N818 - a finding of the oracle, not an error of a program
    """Something happened that must never happen. ``rule`` is its short fixed name."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class Fork(Exception):  # noqa: N818 - an event of a run in which more than f members are traitors
    """Two blocks of one height were decided."""

    def __init__(self, height: Height) -> None:
        super().__init__(f"height {height} was decided twice")
        self.height = height


class Oracle:
    """Judge of one run. Every method raises ``Violation`` or returns nothing."""

    def __init__(
        self,
        *,
        chain_id: Digest,
        genesis_set: MemberSet,
        honest: frozenset[NodeId],
        verify: Verify,
        successor: Successor | None = None,
        sees_disks: bool = True,
        may_fork: bool = False,
    ) -> None:
        """Judge a run of ``honest`` nodes.

        Args:
            chain_id: part of everything that is signed.
            genesis_set: the set of height 1.
            honest: the nodes that are held to the rules.
            verify: the signature check of the run.
            successor: what set must follow a set and a block; None if any may.
            sees_disks: also check that what leaves a node rests on what is durable there; without
                it, a log that forgets is found only by what becomes of it.
            may_fork: there are more than f traitors: disagreement is no violation, and two decided
                blocks of one height raise ``Fork`` instead.
        """
        self._may_fork = may_fork
        self._successor = successor
        self._passed_on = Transcript()
        self._kept = Transcript()
        self._kept_whole: dict[Height, bool] = {}
        self._sees_disks = sees_disks
        self._chain_id = chain_id
        self._honest = honest
        self._verify = verify
        self._sets: dict[Height, MemberSet] = {Height(1): genesis_set}
        self._ballots: dict[Height, Ballots] = {}
        self._decided: dict[Height, Digest] = {}
        self._lives = {node: Witnessed() for node in sorted(honest)}
        self._seen: dict[NodeId, set[bytes]] = {node: set() for node in sorted(honest)}
        self.link_bytes_per_second = 0
        """Most bytes that any honest node sent one peer in one second."""

    # -- what a node says ---------------------------------------------------------------------

    def frame_left(self, node: NodeId, frame: bytes, *, members: int) -> None:
        """Check one consensus frame in the moment in which ``node`` lets go of it.

        ``members`` is the size of the set whose bitmaps the frame uses. A frame that the node
        sent before in the same life is known to be sound; a restart clears that memory.
        """
        seen = self._seen[node]
        if frame in seen:
            return
        seen.add(frame)
        self._check_message(node, decode_message(frame, n=members))

    def bytes_left(self, node: NodeId, target: NodeId, size: int, *, second: int) -> None:
        """Count what an honest node sends, and hold it to ``LINK_BYTES_PER_SECOND_MAX``."""
        seconds = self._lives[node].link_second
        last, count = seconds.get(target, (second, 0))
        count = count + size if last == second else size
        seconds[target] = (second, count)
        if count > self.link_bytes_per_second:
            self.link_bytes_per_second = count
            if count > LINK_BYTES_PER_SECOND_MAX:
                raise Violation("egress", f"{node} sent {target} {count} bytes in one second")

    def _check_message(self, node: NodeId, message: Message) -> None:
        match message:
            case Vote():
                self._check_own_vote(node, message)
            case Certificate():
                self._require_member(node, message.height)
                self._check_certificate(node, message)
            case Proposal():
                self._check_proposal(node, message)
            case Decision():
                self._check_certificate(node, message.certificate)
                if message.certificate.block_hash != block_hash(message.block):
                    raise Violation("decision", f"{node} sends a certificate of another block")
            case Status():
                self._require_member(node, message.height)

    def _require_member(self, node: NodeId, height: Height) -> None:
        """Only members speak: others have nothing durable to speak of, and no say."""
        if self._at(height).members.index_of(node) is None:
            raise Violation("stranger", f"{node} speaks at height {height}, being no member")

    def _check_own_vote(self, node: NodeId, vote: Vote) -> None:
        ballots = self._at(vote.height)
        if ballots.members.index_of(node) != vote.voter:
            raise Violation("foreign vote", f"{node} sends a vote of member {vote.voter}")
        if not self._is_signed(ballots, vote):
            raise Violation("bad signature", f"{node} sends a vote that is not signed")
        self._check_vote_durable(node, vote)
        self._count(ballots, node, vote)

    def _check_proposal(self, node: NodeId, proposal: Proposal) -> None:
        ballots = self._at(proposal.height)
        name = block_hash(proposal.block)
        key = ballots.members.members[self._index(ballots, node)].vote_key
        text = proposal_bytes(
            proposal.height,
            proposal.view,
            name,
            chain_id=self._chain_id,
            set_hash=ballots.members.set_hash,
        )
        if not self._verify(key, text, proposal.signature):
            raise Violation("foreign proposal", f"{node} sends a proposal it did not sign")
        first = ballots.proposed.setdefault((node, proposal.view), name)
        if first != name:
            raise Violation("two proposals", f"{node} at {proposal.height}/{proposal.view}")
        if self._sees_disks and not self._lives[node].platter.holds(proposal, name):
            raise Violation("proposal not durable", f"{node} at {proposal.height}/{proposal.view}")
        if proposal.notarization is not None:
            self._check_certificate(node, proposal.notarization)
        for certificate in proposal.nullifications:
            self._check_certificate(node, certificate)

    # -- votes --------------------------------------------------------------------------------

    def _count(self, ballots: Ballots, node: NodeId, vote: Vote) -> None:
        """Hold one honest vote against every other vote of that node in that view."""
        cast = ballots.cast.setdefault((node, vote.view), {})
        before = cast.get(vote.kind)
        if before == vote.block_hash:
            return
        where = f"{node} at {vote.height}/{vote.view}"
        if before is not None:
            raise Violation(f"two {vote.kind.name.lower()} votes", where)
        cast[vote.kind] = vote.block_hash
        if VoteKind.NULLIFY in cast and VoteKind.FINALIZE in cast:
            raise Violation("nullify and finalize", where)
        final = cast.get(VoteKind.FINALIZE)
        if final is not None and cast.get(VoteKind.NOTARIZE, final) != final:
            raise Violation("notarize one block, finalize another", where)
        if self._may_fork:
            return
        if vote.kind is VoteKind.FINALIZE:
            self._count_finalize(ballots, node, vote)
        elif vote.kind is VoteKind.NOTARIZE:
            self._count_notarize(ballots, node, vote)

    def _count_finalize(self, ballots: Ballots, node: NodeId, vote: Vote) -> None:
        """Once the traitors could complete a decision, no honest node may contradict it later.

        This is step 3 of the safety proof (CONSENSUS.md 3.5). It does not depend on the order in
        which votes were cast, so it is checked from both sides.
        """
        voters = ballots.finalizers.setdefault((vote.view, vote.block_hash), set())
        voters.add(node)
        if len(voters) + ballots.traitors < ballots.quorum:
            return
        ballots.decidable[vote.view] = vote.block_hash
        for view, blocks in ballots.notarized.items():
            for name, voter in blocks.items():
                if view > vote.view and name != vote.block_hash:
                    raise _contradiction(
                        vote.height, (view, name), voter, (vote.view, vote.block_hash)
                    )

    def _count_notarize(self, ballots: Ballots, node: NodeId, vote: Vote) -> None:
        ballots.notarized.setdefault(vote.view, {}).setdefault(vote.block_hash, node)
        for view, name in ballots.decidable.items():
            if view < vote.view and name != vote.block_hash:
                raise _contradiction(vote.height, (vote.view, vote.block_hash), node, (view, name))

    # -- certificates -------------------------------------------------------------------------

    def _check_certificate(self, node: NodeId, certificate: Certificate) -> None:
        """Check a certificate that an honest node passes on, and every vote inside it."""
        ballots = self._at(certificate.height)
        encoded = encode_certificate(certificate, n=len(ballots.members.members))
        if encoded in ballots.verified:
            return
        where = f"{certificate.kind.name} of {certificate.height}/{certificate.view} from {node}"
        signers = certificate.signers
        if len(set(signers)) != len(signers) or len(signers) < ballots.quorum:
            raise Violation("certificate without a quorum", f"{where}: {len(signers)} votes")
        if certificate.kind is VoteKind.NULLIFY and certificate.block_hash != ZERO_DIGEST:
            raise Violation("nullification of a block", where)
        for vote in _votes_of(certificate):
            if not self._is_signed(ballots, vote):
                raise Violation("forged certificate", f"{where}: vote of member {vote.voter}")
            voter = ballots.members.members[vote.voter].id
            if voter in self._honest:
                self._count(ballots, voter, vote)
                if self._lives[voter].expects(vote.height):
                    self._check_vote_durable(voter, vote)
        ballots.verified.add(encoded)
        self._passed_on.add(certificate, ballots.members)
        self._compare(ballots, certificate, where)

    def certificate_arrived(
        self, node: NodeId, source: NodeId, frame: bytes, *, height: Height, view: View
    ) -> None:
        """Check that a certificate moved ``node``, now in ``view``, past the view it ends (R3).

        However far ahead: were it dropped, a node that comes back after many failed views could
        stay behind for ever. Only what members send must be heard.
        """
        ballots = self._at(height)
        if ballots.members.index_of(source) is None:
            return
        try:
            certificate = decode_message(frame, n=len(ballots.members.members))
        except DecodeError:
            return
        assert isinstance(certificate, Certificate)
        is_passed = certificate.view < view or certificate.kind is VoteKind.FINALIZE
        if certificate.height != height or is_passed:
            return
        if len(certificate.signers) >= ballots.quorum and all(
            self._is_signed(ballots, vote) for vote in _votes_of(certificate)
        ):
            where = f"{node} in view {view}"
            raise Violation("certificate ignored", f"{where} takes no notice of {certificate.view}")

    def _compare(self, ballots: Ballots, certificate: Certificate, where: str) -> None:
        """No view may have two notarizations, or both a nullification and a finalization."""
        if self._may_fork:
            return
        key = (certificate.kind, certificate.view)
        if ballots.certified.setdefault(key, certificate.block_hash) != certificate.block_hash:
            raise Violation("two certificates of a kind", where)
        view = certificate.view
        final = ballots.certified.get((VoteKind.FINALIZE, view))
        if final is None:
            return
        if (VoteKind.NULLIFY, view) in ballots.certified:
            raise Violation("nullification and finalization", where)
        if ballots.certified.get((VoteKind.NOTARIZE, view), final) != final:
            raise Violation("finalization of what was not notarized", where)

    # -- durability ---------------------------------------------------------------------------

    def became_durable(self, node: NodeId, records: tuple[Record, ...]) -> None:
        """Note records of ``node`` that a sync has made durable."""
        self._lives[node].platter.write(records, self._size)

    def _check_vote_durable(self, node: NodeId, vote: Vote) -> None:
        if not self._sees_disks:
            return
        life = self._lives[node]
        lacking = life.platter.lacks_for(vote)
        if lacking and life.forgotten.lacks_for(vote):
            where = f"{vote.kind.name} of {node} at {vote.height}/{vote.view}"
            raise Violation(f"{lacking} not durable", where)

    def restarted(
        self,
        node: NodeId,
        chain: list[Digest],
        records: tuple[Record, ...],
        *,
        forgot: bool = False,
    ) -> None:
        """Compare what a node found on its disk with what it had said and acknowledged.

        ``forgot`` says that its log was damaged from outside since the last start; what it lost
        by that it must still not contradict.
        """
        life = self._lives[node]
        if chain != life.chain:
            raise Violation("acknowledged entry lost", f"{node} had {len(life.chain)} blocks")
        self._seen[node] = set()
        had, life.platter = life.platter, Platter()
        self.became_durable(node, records)
        if forgot:
            life.forgotten.add(had)
            return
        lost = had.lost_in(life.platter, Height(len(chain) + 1))
        if lost:
            raise Violation("durable record lost", f"{node}: {', '.join(lost)}")

    def put_back(self, node: NodeId, blocks: int) -> None:
        """Note that a node has older files again; it must still not contradict what it said."""
        life = self._lives[node]
        life.committed_once = max(life.committed_once, len(life.chain))
        del life.chain[blocks:]
        life.forgotten.add(life.platter)
        life.platter = Platter()

    # -- decisions ----------------------------------------------------------------------------

    def committed(
        self,
        node: NodeId,
        decision: Decision,
        *,
        parent: Digest,
        next_set: MemberSet,
        transcript: tuple[Certificate, ...] | None = None,
    ) -> None:
        """Check a commit of ``node``; ``parent`` is what the block itself names.

        ``transcript`` is what the node keeps beside the certificate against forks; None if it
        caught up and never saw more than the decision.
        """
        life, certificate = self._lives[node], decision.certificate
        height = Height(len(life.chain) + 1)
        name = block_hash(decision.block)
        where = f"{node} at height {height}"
        if certificate.height != height:
            raise Violation("commit out of order", f"{where} commits {certificate.height}")
        if certificate.kind is not VoteKind.FINALIZE or certificate.block_hash != name:
            raise Violation("commit without its certificate", where)
        self._check_certificate(node, certificate)
        self._keep(node, certificate, transcript)
        if self._decided.setdefault(height, name) != name:
            if self._may_fork:
                raise Fork(height)
            raise Violation("fork", where)
        if life.chain and life.chain[-1] != parent:
            raise Violation("commit on another parent", where)
        known = self._sets.setdefault(Height(height + 1), self._next(decision, next_set))
        if known != next_set:
            raise Violation("member sets differ", where)
        life.chain.append(name)
        life.platter.forget_below(Height(height + 1))
        life.forgotten.forget_below(Height(height + 1))

    def _next(self, decision: Decision, next_set: MemberSet) -> MemberSet:
        """Return the set that must follow; what the first node says, if nobody knows better."""
        if self._successor is None:
            return next_set
        return self._successor(self._at(decision.certificate.height).members, decision.block)

    def _keep(
        self, node: NodeId, certificate: Certificate, transcript: tuple[Certificate, ...] | None
    ) -> None:
        ballots = self._at(certificate.height)
        whole = self._kept_whole.get(certificate.height, True)
        self._kept_whole[certificate.height] = whole and transcript is not None
        for one in (certificate, *(transcript or ())):
            self._check_certificate(node, one)
            self._kept.add(one, ballots.members)

    def culprits(self, height: Height) -> tuple[NodeId, ...]:
        """Return whom a fork of ``height`` convicts: by what those who committed it have kept.

        If one of them caught up, the kept transcripts may not reach; then by everything that
        honest nodes passed on, which live nodes report as evidence.
        """
        source = self._kept if self._kept_whole.get(height) else self._passed_on
        return source.culprits(height)

    def evidence(self, node: NodeId, report: ReportEvidence) -> None:
        """No honest node is ever accused, and what is reported must really contradict."""
        if report.culprit in self._honest:
            raise Violation("honest node accused", f"{report.culprit} by {node}")
        first, second = report.first, report.second
        is_pair = (
            type(first) is type(second)
            and (first.height, first.view) == (second.height, second.view)
            and first != second
        )
        if not is_pair:
            raise Violation("evidence of nothing", f"{node} accuses {report.culprit}")

    # -- shared -------------------------------------------------------------------------------

    def _at(self, height: Height) -> Ballots:
        ballots = self._ballots.get(height)
        if ballots is None:
            members = self._sets.get(height)
            if members is None:
                raise Violation("speaks of the future", f"height {height} before its parent")
            traitors = sum(member.id not in self._honest for member in members.members)
            ballots = self._ballots[height] = Ballots(members, traitors)
        return ballots

    def _size(self, height: Height) -> int:
        return len(self._at(height).members.members)

    def _index(self, ballots: Ballots, node: NodeId) -> int:
        index = ballots.members.index_of(node)
        if index is None:
            raise Violation("stranger", f"{node} speaks at a height of which it is no member")
        return index

    def _is_signed(self, ballots: Ballots, vote: Vote) -> bool:
        text = vote_bytes(
            vote.kind,
            vote.height,
            vote.view,
            vote.block_hash,
            chain_id=self._chain_id,
            set_hash=ballots.members.set_hash,
        )
        key = ballots.members.members[vote.voter].vote_key
        return self._verify(key, text, vote.signature)


def _votes_of(certificate: Certificate) -> Iterator[Vote]:
    for index, signature in zip(certificate.signers, certificate.signatures, strict=True):
        yield Vote(
            certificate.kind,
            certificate.height,
            certificate.view,
            certificate.block_hash,
            index,
            signature,
        )


def _contradiction(
    height: Height, notarized: tuple[View, Digest], voter: NodeId, decided: tuple[View, Digest]
) -> Violation:
    return Violation(
        "notarized against a decision",
        f"{voter} notarized {notarized[1].hex()[:8]} at {height}/{notarized[0]}, "
        f"though {decided[1].hex()[:8]} could be final since view {decided[0]}",
    )
