"""What traitors know and can do: they hear every honest word at once, and own their own keys only.

``Knowledge`` collects what honest nodes let go of, wherever it was sent. ``Hand`` turns wishes
into signed, encoded frames. No actor can sign for an honest node or reach into one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from consensus.quorum import leader, quorum
from consensus.sim.keys import Sign
from consensus.sim.machine import GENESIS, State, TransactionKind, recent_signers, transaction
from consensus.sim.world import World
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    Height,
    MemberSet,
    Message,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from consensus.wire import (
    block_hash,
    encode_decision,
    encode_message,
    proposal_bytes,
    vote_bytes,
)

VoteKey = tuple[VoteKind, View, Digest]

Leak = Callable[[NodeId, bytes], bytes]


@dataclass(slots=True)
class HeightKnowledge:
    """Everything overheard at one height."""

    votes: dict[VoteKey, dict[int, bytes]] = field(default_factory=dict)
    certificates: dict[VoteKey, Certificate] = field(default_factory=dict)
    blocks: dict[Digest, bytes] = field(default_factory=dict)
    views: set[View] = field(default_factory=set)
    top: int = 0


class Knowledge:
    """What all traitors of a run know together."""

    def __init__(self) -> None:
        self.height = Height(1)
        self.decisions: dict[Height, Decision] = {}
        self.frames: list[bytes] = []
        self._heights: dict[Height, HeightKnowledge] = {}

    def at(self, height: Height) -> HeightKnowledge:
        """Return what is known of a height; empty for one never heard of."""
        return self._heights.setdefault(height, HeightKnowledge())

    def begin(self) -> tuple[Height, View] | None:
        """Return the view that begins with the world."""
        return self._begun(Height(1), View(0))

    def hear(self, message: Message) -> tuple[Height, View] | None:
        """Take in a message; return the (height, view) that it shows to have begun, if new."""
        match message:
            case Vote():
                self._hear_vote(message)
                return self._begun(message.height, message.view)
            case Certificate():
                self._hear_certificate(message)
                ended = message.view + (0 if message.kind is VoteKind.FINALIZE else 1)
                return self._begun(message.height, View(ended))
            case Proposal():
                known = self.at(message.height)
                known.blocks[block_hash(message.block)] = message.block
                for certificate in message.nullifications:
                    self._hear_certificate(certificate)
                return self._begun(message.height, message.view)
            case _:
                return None

    def decided(self, decision: Decision) -> tuple[Height, View] | None:
        """Note a committed block; return the height after it if that is new."""
        height = decision.certificate.height
        self.decisions.setdefault(height, decision)
        return self._begun(Height(height + 1), View(0))

    def _hear_vote(self, vote: Vote) -> None:
        key = (vote.kind, vote.view, vote.block_hash)
        self.at(vote.height).votes.setdefault(key, {})[vote.voter] = vote.signature

    def _hear_certificate(self, certificate: Certificate) -> None:
        key = (certificate.kind, certificate.view, certificate.block_hash)
        known = self.at(certificate.height)
        known.certificates.setdefault(key, certificate)
        votes = known.votes.setdefault(key, {})
        votes.update(zip(certificate.signers, certificate.signatures, strict=True))

    def _begun(self, height: Height, view: View) -> tuple[Height, View] | None:
        if height < self.height:
            return None
        self.height = height
        known = self.at(height)
        if view in known.views:
            return None
        known.views.add(view)
        known.top = max(known.top, view)
        return height, view


class Hand:
    """The means of the traitors: their keys, the network, and a shared memory."""

    def __init__(
        self,
        world: World,
        *,
        chance: random.Random,
        sign: dict[NodeId, Sign],
        leak: Leak,
        honest: tuple[NodeId, ...],
    ) -> None:
        """Own the keys of the traitors.

        Args:
            world: what everybody shares.
            chance: decides what traitors leave open.
            sign: signing calls of the traitors.
            leak: signs as anybody; used for keys that are no longer in force alone.
            honest: everybody else.
        """
        self.world = world
        self.chance = chance
        self.honest = honest
        self.traitors = tuple(sorted(sign))
        self.knowledge = Knowledge()
        self._sign = sign
        self._leak = leak
        self._invented = 0

    # -- the chain ----------------------------------------------------------------------------

    def tip(self, height: Height) -> Digest:
        """Return the hash of the block before ``height``."""
        decision = self.knowledge.decisions.get(Height(height - 1))
        return GENESIS if decision is None else decision.certificate.block_hash

    def members(self, height: Height) -> MemberSet:
        """Return the set of a height that has begun."""
        return self.world.machine.state(self.tip(height)).members

    def leads(self, me: NodeId, height: Height, view: View) -> bool:
        """Say whether ``me`` is the leader of a view."""
        state = self.world.machine.state(self.tip(height))
        return leader(height, view, state.members, recent_signers(state)) == me

    def block(
        self,
        me: NodeId,
        height: Height,
        view: View,
        *,
        late_ms: int = 0,
        kind: TransactionKind = TransactionKind.PLAIN,
        extra: tuple[bytes, ...] = (),
    ) -> bytes:
        """Return a block of invented transactions; a new one each time."""
        self._invented += 1
        parent = self.knowledge.decisions.get(Height(height - 1))
        return self.world.machine.build(
            self.tip(height),
            view=view,
            proposer=me,
            wall_ms=1_700_000_000_000 + self.world.clock.now_us // 1000 + late_ms,
            parent_certificate=None if parent is None else parent.certificate,
            transactions=(transaction(kind, 1_000_000 + self._invented), *extra),
        )

    def certificate(self, kind: VoteKind, height: Height, view: View) -> Certificate | None:
        """Return some overheard certificate of a kind and view."""
        for (one, at, _), certificate in self.knowledge.at(height).certificates.items():
            if (one, at) == (kind, view):
                return certificate
        return None

    # -- words --------------------------------------------------------------------------------

    def vote(self, me: NodeId, kind: VoteKind, height: Height, view: View, name: Digest) -> Vote:
        """Return a signed vote of a traitor, whatever it said before.

        One that is no member any more votes as the member that it was, by the set of that time.
        """
        members, index = self._standing(me, height)
        text = self._text(kind, height, view, name, members)
        return Vote(kind, height, view, name, index, self._sign[me](text))

    def _text(
        self, kind: VoteKind, height: Height, view: View, name: Digest, members: MemberSet
    ) -> bytes:
        chain_id, set_hash = self.world.chain_id, members.set_hash
        return vote_bytes(kind, height, view, name, chain_id=chain_id, set_hash=set_hash)

    def _standing(self, me: NodeId, height: Height) -> tuple[MemberSet, int]:
        """Return the newest set with ``me`` in it, and its place there."""
        members = self.members(height)
        for one in (members, *self.old_sets(height)):
            index = one.index_of(me)
            if index is not None:
                return one, index
        return members, 0  # it has yet to join, and takes somebody's place

    def old_sets(self, height: Height) -> list[MemberSet]:
        """Return the sets of the epochs before that of ``height``, newest first."""
        found: list[MemberSet] = []
        at: State | None = self.world.machine.state(self.tip(height))
        newest = self.members(height).epoch
        while at is not None:
            if at.members.epoch < newest:
                found.append(at.members)
                newest = at.members.epoch
            at = at.parent
        return found

    def votes_of_the_past(
        self, old: MemberSet, kind: VoteKind, height: Height, view: View, name: Digest
    ) -> dict[int, bytes]:
        """Return votes for the present by those of an earlier set whose keys are anybody's.

        These are the traitors' keys, and keys that were replaced or went with their owner: from
        the moment in which the set at work no longer names a key, it may be public.
        """
        assert old.epoch < self.members(height).epoch
        in_force = {member.vote_key for member in self.members(height).members}
        text = self._text(kind, height, view, name, old)
        return {
            index: self._leak(member.id, text)
            for index, member in enumerate(old.members)
            if member.id in self.traitors or member.vote_key not in in_force
        }

    def proposal(
        self,
        me: NodeId,
        height: Height,
        view: View,
        block: bytes,
        *,
        notarization: Certificate | None = None,
        nullifications: tuple[Certificate, ...] = (),
    ) -> Proposal:
        """Return a signed proposal of a traitor."""
        name = block_hash(block)
        self.knowledge.at(height).blocks[name] = block
        text = proposal_bytes(
            height,
            view,
            name,
            chain_id=self.world.chain_id,
            set_hash=self.members(height).set_hash,
        )
        return Proposal(height, view, block, notarization, nullifications, self._sign[me](text))

    def complete(self, height: Height, key: VoteKey) -> Certificate | None:
        """Return a certificate of overheard votes and the traitors' own, if they are enough."""
        kind, view, name = key
        members = self.members(height)
        votes = dict(self.knowledge.at(height).votes.get(key, {}))
        for traitor in self.traitors:
            if members.index_of(traitor) is not None:
                own = self.vote(traitor, kind, height, view, name)
                votes[own.voter] = own.signature
        need = quorum(len(members.members))
        if len(votes) < need:
            return None
        signers = tuple(sorted(votes))
        return Certificate(
            kind, height, view, name, signers, tuple(votes[index] for index in signers)
        )

    def encode(self, decision: Decision) -> bytes:
        """Return the bytes of a decision under the set of its height, as far as that is known."""
        height = min(decision.certificate.height, self.knowledge.height)
        return encode_decision(decision, n=len(self.members(height).members))

    def say(self, me: NodeId, message: Message, targets: Iterable[NodeId]) -> None:
        """Send a message to some honest nodes."""
        height = message.certificate.height if isinstance(message, Decision) else message.height
        n = len(self.members(min(height, self.knowledge.height)).members)
        self.raw(me, encode_message(message, n=n), targets)

    def raw(self, me: NodeId, frame: bytes, targets: Iterable[NodeId]) -> None:
        """Send any bytes to some honest nodes."""
        for target in targets:
            if target != me:
                self.world.send(me, target, frame)

    def some(self) -> list[NodeId]:
        """Return a random part of the honest nodes, not empty."""
        return sorted(self.chance.sample(self.honest, self.chance.randint(1, len(self.honest))))

    def even_halves(self) -> tuple[tuple[NodeId, ...], tuple[NodeId, ...]]:
        """Return the honest nodes in two parts of equal size, the same each time."""
        return self.honest[::2], self.honest[1::2]

    def just_enough(self, height: Height) -> tuple[list[NodeId], list[NodeId]]:
        """Return as many honest members as make a quorum with the traitors, and the others."""
        members = self.members(height)
        inside = [node for node in self.honest if members.index_of(node) is not None]
        need = quorum(len(members.members)) - (len(members.members) - len(inside))
        shuffled = self.chance.sample(inside, len(inside))
        return sorted(shuffled[: max(0, need)]), sorted(shuffled[max(0, need) :])

    def halves(self) -> tuple[list[NodeId], list[NodeId]]:
        """Return the honest nodes in two random parts."""
        shuffled = self.chance.sample(self.honest, len(self.honest))
        cut = self.chance.randint(0, len(shuffled))
        return sorted(shuffled[:cut]), sorted(shuffled[cut:])
