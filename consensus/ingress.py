"""The gate between the network and the core: what passes here is signed by who it says.

Cheap checks come first (size, kind, height, view window, membership, indexes), signatures last and
each only once. The gate never raises on hostile bytes; it returns no events and tells why to
``on_refusal``, so that the driver can score the peer. It decides nothing: the rules do.
Bounds: CONSENSUS 3.12. The rate of signature checks per second is the driver's, who has a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from consensus import wire
from consensus.ed25519 import Verify
from consensus.errors import DecodeError
from consensus.events import AheadSeen, Event, MessageReceived
from consensus.evidence import DISTINCT_VOTES_MAX
from consensus.quorum import quorum
from consensus.types import (
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
from consensus.wire import MessageKind

VIEW_WINDOW: Final = 16
"""Votes and proposals up to this many views ahead are taken; certificates of any view are."""

EARLY_BYTES_MAX: Final = 64 * 1024
"""Bytes of a peer's frames for coming heights that wait, unverified, until we are there."""

DECISIONS_AHEAD: Final = 3
"""Heights beyond the working one whose decisions may wait too: help comes four at a time (R9)."""

_VERIFIED_MAX: Final = 100_000
"""Signatures remembered as verified; forgetting them costs work only."""

OnRefusal = Callable[[NodeId, str], None]


class Ingress:
    """Turns frames of members into events for ``Replica.step``."""

    def __init__(
        self, chain_id: Digest, verify: Verify, *, on_refusal: OnRefusal | None = None
    ) -> None:
        """Admit nothing until ``enter``.

        Args:
            chain_id: hash of the genesis; part of all that is signed.
            verify: the one signature verifier.
            on_refusal: called with the sender and a reason for every frame that no correct peer
                sends. Frames that are merely early or late are dropped in silence.
        """
        self._chain_id = chain_id
        self._verify = verify
        self._on_refusal = on_refusal
        self._height = Height(0)
        self._view = View(0)
        self._members: MemberSet | None = None
        self._previous: MemberSet | None = None
        self._verified: set[tuple[bytes, bytes, bytes]] = set()
        self._votes: dict[tuple[int, VoteKind, View], set[bytes]] = {}
        self._late: dict[int, bytes] = {}
        self._proposals: dict[tuple[NodeId, View], set[Digest]] = {}
        self._early: list[tuple[NodeId, bytes]] = []
        self._early_bytes: dict[NodeId, int] = {}

    def enter(self, height: Height, members: MemberSet) -> list[Event]:
        """Work at ``height`` under ``members``; return the events of frames that came too early.

        Call it at start and after every height that the replica entered.
        """
        self._previous = self._members if height == self._height + 1 else None
        self._height, self._members, self._view = height, members, View(0)
        self._verified.clear()
        self._votes.clear()
        self._late.clear()
        self._proposals.clear()
        waiting, self._early, self._early_bytes = self._early, [], {}
        return [event for sender, frame in waiting for event in self.admit(sender, frame)]

    def set_view(self, view: View) -> None:
        """Move the window of views: call it after every ``Replica.step``."""
        self._view = view

    def admit(self, sender: NodeId, frame: bytes) -> list[Event]:
        """Return what ``frame`` says, verified, or nothing.

        Args:
            sender: the authenticated peer at the other end of the stream.
            frame: one frame, with its kind byte.
        """
        try:
            return self._admit(sender, frame)
        except DecodeError as error:
            if self._on_refusal is not None:
                self._on_refusal(sender, str(error))
            return []

    # -- by position -----------------------------------------------------------------------------

    def _admit(self, sender: NodeId, frame: bytes) -> list[Event]:
        assert self._members is not None, "enter comes before the first frame"
        kind, height, view = wire.peek(frame)
        if kind is MessageKind.STATUS:
            # Unsigned and harmless: a member of an older set may ask for its decisions (R9).
            return [MessageReceived(sender, wire.decode_message(frame, n=1))]
        if self._members.index_of(sender) is None:
            return self._admit_late(sender, kind, height, frame)
        if height > self._height:
            return self._keep_early(sender, kind, height, frame)
        if height < self._height:
            return self._admit_late(sender, kind, height, frame)
        if kind in (MessageKind.VOTE, MessageKind.PROPOSAL) and view > self._view + VIEW_WINDOW:
            return []
        message = wire.decode_message(frame, n=len(self._members.members))
        if not self._is_wanted(sender, message, self._members):
            return []
        self._check(sender, message, self._members)
        return [MessageReceived(sender, message)]

    def _keep_early(
        self, sender: NodeId, kind: MessageKind, height: Height, frame: bytes
    ) -> list[Event]:
        """Keep a frame that the next enter may make readable; tell of the height in any case."""
        ahead = DECISIONS_AHEAD if kind is MessageKind.DECISION else 1
        held = self._early_bytes.get(sender, 0) + len(frame)
        if height <= self._height + ahead and held <= EARLY_BYTES_MAX:
            self._early.append((sender, frame))
            self._early_bytes[sender] = held
        return [AheadSeen(sender, height)]

    def _admit_late(
        self, sender: NodeId, kind: MessageKind, height: Height, frame: bytes
    ) -> list[Event]:
        """Admit one finalization a member for the height just committed.

        The next proposer carries every one it knows into the chain (reputation, 3.4).
        """
        previous = self._previous
        if previous is None or kind is not MessageKind.VOTE or height != self._height - 1:
            return []
        vote = wire.decode_vote(frame[1:], n=len(previous.members))
        if vote.kind is not VoteKind.FINALIZE or previous.members[vote.voter].id != sender:
            return []
        if vote.voter in self._late:
            return []
        self._check_vote(vote, previous)
        self._late[vote.voter] = vote.signature
        return [MessageReceived(sender, vote)]

    # -- by content ------------------------------------------------------------------------------

    def _is_wanted(self, sender: NodeId, message: Message, members: MemberSet) -> bool:
        """Say whether a message adds anything; at most two of a kind do, before any signature."""
        if isinstance(message, Vote):
            if members.members[message.voter].id != sender:
                raise DecodeError(f"vote of member {message.voter} from another sender")
            key = (message.voter, message.kind, message.view)
            seen = self._votes.setdefault(key, set())
            return message.block_hash in seen or len(seen) < DISTINCT_VOTES_MAX
        if isinstance(message, Proposal):
            names = self._proposals.setdefault((sender, message.view), set())
            return wire.block_hash(message.block) in names or len(names) < DISTINCT_VOTES_MAX
        return True

    def _check(self, sender: NodeId, message: Message, members: MemberSet) -> None:
        """Verify every signature of a message of the working height.

        Raises:
            DecodeError: one does not hold.
        """
        match message:
            case Vote():
                self._check_vote(message, members)
                key = (message.voter, message.kind, message.view)
                self._votes[key].add(message.block_hash)
            case Certificate():
                self._check_certificate(message, members)
            case Proposal():
                self._check_proposal(sender, message, members)
            case Decision():
                self._check_certificate(message.certificate, members)
            case Status():
                raise AssertionError("a status is admitted unverified")

    def _check_vote(self, vote: Vote, members: MemberSet) -> None:
        signed = wire.vote_bytes(
            vote.kind,
            vote.height,
            vote.view,
            vote.block_hash,
            chain_id=self._chain_id,
            set_hash=members.set_hash,
        )
        if not self._holds(members.members[vote.voter].vote_key, signed, vote.signature):
            raise DecodeError(f"{vote.kind.name} at {vote.height}/{vote.view} is not signed")

    def _check_certificate(self, certificate: Certificate, members: MemberSet) -> None:
        if not verify_certificate(certificate, members, self._chain_id, self._holds):
            where = f"{certificate.height}/{certificate.view}"
            raise DecodeError(f"{certificate.kind.name} certificate of {where} does not hold")

    def _check_proposal(self, sender: NodeId, proposal: Proposal, members: MemberSet) -> None:
        """Verify a proposal; only its leader may send it, so the sender's key must have signed.

        The core checks that the sender leads the view. Were relayed proposals taken, a relay could
        put other transactions under the leader's signed header and get its view nullified (R6b).
        """
        name = wire.block_hash(proposal.block)
        signed = wire.proposal_bytes(
            proposal.height,
            proposal.view,
            name,
            chain_id=self._chain_id,
            set_hash=members.set_hash,
        )
        index = members.index_of(sender)
        assert index is not None
        if not self._holds(members.members[index].vote_key, signed, proposal.signature):
            raise DecodeError(f"proposal at {proposal.height}/{proposal.view} is not signed")
        self._proposals[sender, proposal.view].add(name)
        for certificate in proposal.nullifications:
            self._check_certificate(certificate, members)
        if proposal.notarization is not None:
            self._check_certificate(proposal.notarization, members)

    def _holds(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Verify a signature, or remember that it held."""
        entry = (key, message, signature)
        if entry in self._verified:
            return True
        if not self._verify(key, message, signature):
            return False
        if len(self._verified) >= _VERIFIED_MAX:
            self._verified.clear()
        self._verified.add(entry)
        return True


def verify_certificate(
    certificate: Certificate, members: MemberSet, chain_id: Digest, verify: Verify
) -> bool:
    """Say whether a certificate holds: a quorum of ``members`` signed it, each once.

    Costs a signature check a signer, in order, up to the first that does not hold.
    """
    n = len(members.members)
    signers = certificate.signers
    is_ascending = all(one < two for one, two in pairwise(signers))
    if not is_ascending or len(signers) < quorum(n) or len(certificate.signatures) != len(signers):
        return False
    if signers[0] < 0 or signers[-1] >= n:
        return False
    signed = wire.vote_bytes(
        certificate.kind,
        certificate.height,
        certificate.view,
        certificate.block_hash,
        chain_id=chain_id,
        set_hash=members.set_hash,
    )
    return all(
        verify(members.members[index].vote_key, signed, signature)
        for index, signature in zip(signers, certificate.signatures, strict=True)
    )


def verify_decision(
    decision: Decision, members: MemberSet, chain_id: Digest, verify: Verify
) -> bool:
    """Say whether the certificate of a decision holds and finalizes exactly its block.

    Says nothing of the transactions: they are the state machine's to judge.
    """
    certificate = decision.certificate
    if certificate.kind is not VoteKind.FINALIZE:
        return False
    try:
        name = wire.block_hash(decision.block)
    except DecodeError:
        return False
    return certificate.block_hash == name and verify_certificate(
        certificate, members, chain_id, verify
    )
