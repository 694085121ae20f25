"""A committee in one process for the tests of the core: real replicas, real codec, no network.

Frames wait in queues until a test lets them through, timers fire when a test says so, and bodies
are judged by a toy state machine. Signatures are a keyed hash unless a test asks for Ed25519.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from consensus import ed25519, wire
from consensus.effects import (
    Broadcast,
    BuildBody,
    CheckBody,
    Commit,
    Effect,
    Persist,
    Record,
    Send,
)
from consensus.events import (
    BodyBuilt,
    BodyChecked,
    Event,
    TimerFired,
    TimerKind,
    TimeVerdict,
    WorkPending,
)
from consensus.ingress import Ingress
from consensus.recovery import recover
from consensus.replica import Start
from consensus.signer import GENESIS, Signer
from consensus.timing import Timing
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    Member,
    MemberSet,
    Message,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)

T = TypeVar("T")

CHAIN = Digest(hashlib.sha256(b"a chain of tests").digest())
N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


def secret(node: str) -> bytes:
    return hashlib.sha256(b"secret of " + node.encode()).digest()


def keyed_sign(node: str) -> Callable[[bytes], bytes]:
    return lambda message: hashlib.blake2b(message, key=secret(node)).digest()


def keyed_public(node: str) -> bytes:
    """The public key is the member's name, padded: forging is out of scope in these tests."""
    return node.encode().ljust(32, b".")


def names(n: int) -> list[NodeId]:
    return [NodeId(f"m{index:03}") for index in range(n)]


def keyed_verify(key: bytes, message: bytes, signature: bytes) -> bool:
    node = key.rstrip(b".").decode()
    return hashlib.blake2b(message, key=secret(node)).digest() == signature


def member_set(ids: Iterable[str], *, epoch: int = 0, is_real: bool = False) -> MemberSet:
    members = tuple(
        Member(
            NodeId(node),
            ed25519.public_key(secret(node)) if is_real else keyed_public(node),
        )
        for node in sorted(ids)
    )
    text = f"{epoch}:{[(member.id, member.vote_key) for member in members]}".encode()
    return MemberSet(epoch, members, Digest(hashlib.sha256(text).digest()))


def rotated(members: MemberSet, *nodes: str) -> MemberSet:
    """Return the set of the next epoch, in which ``nodes`` have the keys named "<node> again"."""
    after = tuple(
        Member(one.id, keyed_public(f"{one.id} again")) if one.id in nodes else one
        for one in members.members
    )
    text = f"{members.epoch + 1}:{after}".encode()
    return MemberSet(members.epoch + 1, after, Digest(hashlib.sha256(text).digest()))


def make_block(
    *,
    height: int,
    view: int,
    proposer: str,
    parent: Digest,
    transactions: tuple[bytes, ...] = (b"tx",),
    parent_certificate: bytes = b"",
) -> bytes:
    content = hashlib.sha256(b"|".join((parent_certificate, *transactions))).hexdigest()
    header = f"{height}/{view}/{proposer}/{parent.hex()}/{content}".encode()
    return wire.encode_block(header, parent_certificate, transactions)


def verdict(
    block: bytes, *, next_set: MemberSet, time: TimeVerdict = TimeVerdict.OK
) -> BodyChecked:
    """The toy state machine: a block is valid if its content is what the header says."""
    parts = wire.split_block(block)
    height, view, proposer, parent, content = parts.header.decode().split("/")
    joined = b"|".join((parts.parent_certificate, *parts.transactions))
    is_valid = hashlib.sha256(joined).hexdigest() == content and b"bad" not in parts.transactions
    return BodyChecked(
        height=Height(int(height)),
        body_id=wire.body_id(block),
        block_hash=wire.block_hash(block),
        valid=is_valid,
        time=time,
        parent=Digest(bytes.fromhex(parent)),
        origin_view=View(int(view)),
        origin_proposer=NodeId(proposer),
        next_set=next_set if is_valid else None,
    )


def vote_of(
    node: str,
    members: MemberSet,
    kind: VoteKind,
    *,
    view: int,
    block_hash: Digest = ZERO_DIGEST,
    height: int = 1,
) -> Vote:
    index = members.index_of(NodeId(node))
    assert index is not None
    message = wire.vote_bytes(
        kind,
        Height(height),
        View(view),
        block_hash,
        chain_id=CHAIN,
        set_hash=members.set_hash,
    )
    return Vote(kind, Height(height), View(view), block_hash, index, keyed_sign(node)(message))


def certificate_of(
    members: MemberSet,
    kind: VoteKind,
    *,
    view: int,
    block_hash: Digest = ZERO_DIGEST,
    height: int = 1,
    signers: Iterable[int] | None = None,
) -> Certificate:
    n = len(members.members)
    indexes = tuple(signers) if signers is not None else tuple(range(n - (n - 1) // 3))
    votes = [
        vote_of(
            members.members[index].id,
            members,
            kind,
            view=view,
            block_hash=block_hash,
            height=height,
        )
        for index in indexes
    ]
    signatures = tuple(vote.signature for vote in votes)
    return Certificate(kind, Height(height), View(view), block_hash, indexes, signatures)


def proposal_of(
    node: str,
    members: MemberSet,
    block: bytes,
    *,
    view: int,
    height: int = 1,
    notarization: Certificate | None = None,
    nullifications: tuple[Certificate, ...] = (),
) -> Proposal:
    message = wire.proposal_bytes(
        Height(height),
        View(view),
        wire.block_hash(block),
        chain_id=CHAIN,
        set_hash=members.set_hash,
    )
    signature = keyed_sign(node)(message)
    return Proposal(Height(height), View(view), block, notarization, nullifications, signature)


GENESIS_TIP = Digest(hashlib.sha256(b"genesis of tests").digest())


@dataclass
class Node:
    """A replica with its gate and what its driver would hold; performs what needs no network."""

    me: NodeId
    members: MemberSet
    start: Start
    records: list[Record] = field(default_factory=list)
    committed: list[Commit] = field(default_factory=list)
    done: list[Effect] = field(default_factory=list)
    sent: deque[tuple[NodeId, bytes]] = field(default_factory=deque)
    is_slow: bool = False
    time: TimeVerdict = TimeVerdict.OK
    next_sets: dict[int, MemberSet] = field(default_factory=dict)
    is_real: bool = False
    transactions: tuple[bytes, ...] = (b"tx",)
    first_height: Height | None = GENESIS
    key: str = ""
    """Whose key it holds, by name; its own where empty."""

    def __post_init__(self) -> None:
        key = self.key or self.me
        sign = ed25519.signer(secret(key)) if self.is_real else keyed_sign(key)
        verify = ed25519.verify if self.is_real else keyed_verify
        self.refused: list[str] = []
        public = ed25519.public_key(secret(key)) if self.is_real else keyed_public(key)
        self.signer = Signer(CHAIN, self.me, public, sign, first_height=self.first_height)
        self.gate = Ingress(CHAIN, verify, on_refusal=lambda _, why: self.refused.append(why))
        self.gate.enter(self.start.height, self.start.members)
        self.replica, effects = recover(
            list(self.records),
            me=self.me,
            chain_id=CHAIN,
            start=self.start,
            signer=self.signer,
            timing=Timing(),
            verify=verify,
        )
        self.perform(effects)

    # -- inputs ----------------------------------------------------------------------------------

    def step(self, *events: Event) -> list[Effect]:
        """Step and perform; return everything that came of it."""
        mark = len(self.done)
        for event in events:
            self.perform(self.replica.step(event))
            self.gate.set_view(self.replica.view)
        return self.done[mark:]

    def hear(self, sender: str, frame: bytes) -> list[Effect]:
        return self.step(*self.gate.admit(NodeId(sender), frame))

    def tell(self, sender: str, message: Message) -> list[Effect]:
        """Let the node hear a message through its gate."""
        members = self.replica.members_of(message_height(message)) or self.members
        return self.hear(sender, wire.encode_message(message, n=len(members.members)))

    def fire(self, kind: TimerKind = TimerKind.VIEW) -> list[Effect]:
        return self.step(TimerFired(kind, self.replica.height, self.replica.view))

    def work(self) -> list[Effect]:
        return self.step(WorkPending(self.replica.height))

    # -- effects ---------------------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.done.append(effect)
            for event in self._perform(effect):
                self.step(event)

    def _perform(self, effect: Effect) -> list[Event]:
        match effect:
            case Persist():
                self.records += effect.records
            case Send():
                self._send([effect.to], effect.message)
            case Broadcast():
                members = self.replica.members_of(message_height(effect.message))
                assert members is not None
                self._send([one.id for one in members.members if one.id != self.me], effect.message)
            case BuildBody() if effect.height != self.replica.height:
                pass  # decided meanwhile, by an event that an earlier effect of this step led to
            case BuildBody() if not self.is_slow:
                return [self.build(effect)]
            case CheckBody() if not self.is_slow:
                return [self.check(effect.block)]
            case Commit():
                self.committed.append(effect)
                self.members = effect.next_set
                return self.gate.enter(Height(effect.height + 1), effect.next_set)
            case _:
                pass
        return []

    def build(self, effect: BuildBody) -> BodyBuilt:
        if not self.transactions:
            return BodyBuilt(effect.height, effect.view, None)
        parent = effect.parent_certificate
        below = self.replica.members_of(Height(effect.height - 1))
        assert below is not None
        encoded = wire.encode_certificate(parent, n=len(below.members)) if parent else b""
        tip = parent.block_hash if parent else GENESIS_TIP
        block = make_block(
            height=effect.height,
            view=effect.view,
            proposer=self.me,
            parent=tip,
            parent_certificate=encoded,
            transactions=self.transactions,
        )
        return BodyBuilt(effect.height, effect.view, block)

    def check(self, block: bytes) -> BodyChecked:
        height = self.replica.height
        return verdict(block, next_set=self.next_sets.get(height, self.members), time=self.time)

    def _send(self, targets: list[NodeId], message: Message) -> None:
        members = self.replica.members_of(message_height(message))
        assert members is not None
        frame = wire.encode_message(message, n=len(members.members))
        self.sent += [(target, frame) for target in targets]

    def restart(self, *, first_height: Height | None = GENESIS, key: str = "") -> Node:
        """Return this node as it comes back from its records after losing everything else.

        ``key`` names the key that it finds on its disk; the one that it held where empty.
        """
        last = self.committed[-1] if self.committed else None
        start = self.start
        if last is not None:
            start = Start(
                Height(last.height + 1),
                last.certificate.block_hash,
                last.next_set,
                last.certificate,
                (),
            )
        return Node(
            self.me,
            start.members,
            start,
            records=list(self.records),
            committed=list(self.committed),
            next_sets=self.next_sets,
            is_real=self.is_real,
            first_height=first_height,
            key=key or self.key,
        )


class Committee:
    """Nodes that hear each other through ``deliver``."""

    def __init__(self, n: int, *, is_real: bool = False) -> None:
        self.members = member_set(names(n), is_real=is_real)
        start = Start(Height(1), GENESIS_TIP, self.members, None, ())
        self.nodes = {node: Node(node, self.members, start, is_real=is_real) for node in names(n)}

    def __getitem__(self, index: int) -> Node:
        return self.nodes[NodeId(f"m{index:03}")]

    def leader(self, view: int = 0) -> Node:
        first = next(iter(self.nodes.values()))
        return self.nodes[first.replica.leader(View(view))]

    def deliver(
        self, keep: Callable[[NodeId, NodeId, bytes], bool] = lambda _from, _to, _frame: True
    ) -> int:
        """Carry frames until none is left; those that ``keep`` refuses are lost."""
        carried = 0
        while any(node.sent for node in self.nodes.values()):
            for sender, node in self.nodes.items():
                while node.sent:
                    target, frame = node.sent.popleft()
                    if target in self.nodes and keep(sender, target, frame):
                        self.nodes[target].hear(sender, frame)
                        carried += 1
        return carried


def alone(n: int, me: int, *, start: Start | None = None) -> Node:
    """A node of an n-member set whose peers a test speaks for."""
    members = member_set(names(n))
    begin = start or Start(Height(1), GENESIS_TIP, members, None, ())
    return Node(names(n)[me], begin.members, begin)


def message_height(message: Message) -> Height:
    return message.certificate.height if isinstance(message, Decision) else message.height


def votes_in(effects: Iterable[Effect]) -> list[tuple[VoteKind, int]]:
    """The own votes that leave in ``effects``, as (kind, view)."""
    return [
        (effect.message.kind, effect.message.view)
        for effect in effects
        if isinstance(effect, Broadcast) and isinstance(effect.message, Vote)
    ]


def of_type(effects: Iterable[Effect], kind: type[T]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def proposals_in(node: Node) -> list[Proposal]:
    """Return what a node has proposed so far."""
    return [
        effect.message
        for effect in of_type(node.done, Broadcast)
        if isinstance(effect.message, Proposal)
    ]
