"""A toy state machine behind the core: blocks of labelled transactions, judged purely.

It stands where the ledger stands in the product: it builds bodies, judges them against the state
of their parent, and derives the next member set. The verdict is a pure function of parent and
body, so one machine serves every node of a world and remembers what it has already judged.
Consensus must not care what a body means; the kinds below exist to make bodies that are slow to
judge, never valid, or that change the member set.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from consensus.errors import DecodeError
from consensus.quorum import history_blocks
from consensus.sim.clock import MILLISECOND
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Digest,
    Height,
    MemberSet,
    NodeId,
    VoteKind,
)
from consensus.wire import (
    block_hash,
    body_id,
    decode_certificate,
    encode_block,
    encode_certificate,
    split_block,
)

GENESIS: Final = Digest(hashlib.sha256(b"simulated genesis").digest())
"""Parent of block 1."""

EPOCH_MS: Final = 1_700_000_000_000
"""Time of the genesis, milliseconds."""

TRANSACTIONS_MAX: Final = 8
"""Most transactions that a proposer puts into one block."""

SLOW_US: Final = 40 * MILLISECOND
"""How long one slow transaction keeps a node busy, when it is built upon and when it is judged."""

JUDGE_US: Final = 200
BUILD_US: Final = 300
"""How long a body of plain transactions takes to be judged, and to be built."""

SLOWNESS_MAX: Final = 30
"""How many times longer an overloaded node may take, before the network settles."""

BUSY_US_MAX: Final = (BUILD_US + TRANSACTIONS_MAX * SLOW_US) * SLOWNESS_MAX
"""The longest that a node is busy with one body."""

_HEADER: Final = struct.Struct(">4sQIQ32s32s32s32s")
_MAGIC: Final = b"toy1"


class TransactionKind(IntEnum):
    """First byte of a transaction."""

    PLAIN = 0
    SLOW = 1
    INVALID = 2
    NEW_SET = 3


@dataclass(frozen=True, slots=True)
class State:
    """What a chain up to ``height`` has made of the world."""

    height: Height
    tip: Digest
    time_ms: int
    members: MemberSet
    """The set of ``height`` + 1."""
    block_members: MemberSet
    """The set of ``height`` itself, which signed its certificate."""
    applied: frozenset[bytes]
    signers: tuple[NodeId, ...]
    """Members in the parent certificate inside this block."""
    parent: State | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the machine says of one body on one parent. ``next_set`` is None if it is invalid."""

    block_hash: Digest
    parent: Digest
    origin_view: int
    origin_proposer: NodeId
    time_ms: int
    next_set: MemberSet | None
    reason: str
    cost_us: int
    """How long a node is busy with judging it."""


@dataclass(frozen=True, slots=True)
class _Header:
    height: int
    view: int
    time_ms: int
    parent: bytes
    content: bytes
    members: bytes
    next_members: bytes
    proposer: str


class Machine:
    """The state machine of one world, with a memory for everything it computed."""

    __slots__ = ("_certificate_holds", "_states", "_successor", "_verdicts")

    def __init__(
        self,
        genesis_set: MemberSet,
        *,
        certificate_holds: Callable[[Certificate, MemberSet], bool],
        successor: Callable[[MemberSet], MemberSet],
    ) -> None:
        genesis = State(
            height=Height(0),
            tip=GENESIS,
            time_ms=EPOCH_MS - 1,
            members=genesis_set,
            block_members=genesis_set,
            applied=frozenset(),
            signers=(),
            parent=None,
        )
        self._states: dict[Digest, State] = {GENESIS: genesis}
        self._verdicts: dict[tuple[Digest, Digest], Verdict] = {}
        self._certificate_holds = certificate_holds
        self._successor = successor

    def state(self, tip: Digest) -> State:
        """Return the state after the block ``tip``, which must have been applied here before."""
        return self._states[tip]

    def build(
        self,
        parent: Digest,
        *,
        view: int,
        proposer: NodeId,
        wall_ms: int,
        parent_certificate: Certificate | None,
        transactions: tuple[bytes, ...],
    ) -> bytes:
        """Return a body on ``parent``; it is valid exactly if all transactions are."""
        state = self._states[parent]
        certificate = b""
        if parent_certificate is not None:
            certificate = encode_certificate(parent_certificate, n=len(state.block_members.members))
        next_set = self._next_set(state, transactions)
        header = _HEADER.pack(
            _MAGIC,
            state.height + 1,
            view,
            max(wall_ms, state.time_ms + 1),
            parent,
            _content(certificate, transactions),
            state.members.set_hash,
            next_set.set_hash,
        )
        return encode_block(header + proposer.encode(), certificate, transactions)

    def judge(self, parent: Digest, block: bytes) -> Verdict:
        """Say whether ``block`` is a valid successor of ``parent``, for ever."""
        key = (parent, body_id(block))
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._judge(self._states[parent], block)
            self._verdicts[key] = verdict
        return verdict

    def apply(self, parent: Digest, block: bytes) -> State:
        """Return the state after a valid block."""
        verdict = self.judge(parent, block)
        assert verdict.next_set is not None, f"an invalid block was decided: {verdict.reason}"
        known = self._states.get(verdict.block_hash)
        if known is not None:
            return known
        state = self._states[parent]
        parts = split_block(block)
        signers: tuple[NodeId, ...] = ()
        if state.height > 0:
            old = state.block_members.members
            certificate = decode_certificate(parts.parent_certificate, n=len(old))
            signers = tuple(old[index].id for index in certificate.signers)
        after = State(
            height=Height(state.height + 1),
            tip=verdict.block_hash,
            time_ms=verdict.time_ms,
            members=verdict.next_set,
            block_members=state.members,
            applied=state.applied.union(parts.transactions),
            signers=signers,
            parent=state,
        )
        self._states[verdict.block_hash] = after
        return after

    def _judge(self, state: State, block: bytes) -> Verdict:
        try:
            parts = split_block(block)
            header = _parse_header(parts.header)
        except DecodeError as error:
            return _unreadable(block, str(error))
        transactions = tuple(parts.transactions)
        next_set = self._next_set(state, transactions)
        reason = _why_invalid(state, header, parts.parent_certificate, transactions, next_set)
        if not reason and not self._parent_is_certified(state, parts.parent_certificate):
            reason = "the certificate of the parent does not hold"
        return Verdict(
            block_hash=block_hash(block),
            parent=Digest(header.parent),
            origin_view=header.view,
            origin_proposer=NodeId(header.proposer),
            time_ms=header.time_ms,
            next_set=None if reason else next_set,
            reason=reason,
            cost_us=JUDGE_US + _slow_us(transactions),
        )

    def _parent_is_certified(self, state: State, encoded: bytes) -> bool:
        if state.height == 0:
            return not encoded
        members = state.block_members
        try:
            certificate = decode_certificate(encoded, n=len(members.members))
        except DecodeError:
            return False
        return (
            certificate.kind is VoteKind.FINALIZE
            and certificate.height == state.height
            and certificate.block_hash == state.tip
            and self._certificate_holds(certificate, members)
        )

    def _next_set(self, state: State, transactions: tuple[bytes, ...]) -> MemberSet:
        if any(_is(one, TransactionKind.NEW_SET) for one in transactions):
            return self._successor(state.members)
        return state.members


def recent_signers(state: State) -> tuple[tuple[NodeId, ...], ...]:
    """Return who signed in the newest blocks, oldest first, as many as leaders depend on."""
    signers: list[tuple[NodeId, ...]] = []
    at: State | None = state
    while at is not None and at.height > 0:
        if len(signers) == history_blocks(len(state.members.members)):
            break
        signers.append(at.signers)
        at = at.parent
    return tuple(reversed(signers))


def build_us(transactions: tuple[bytes, ...]) -> int:
    """Return how long a node is busy with building a body, which executes what it puts in."""
    return BUILD_US + _slow_us(transactions)


def transaction(kind: TransactionKind, number: int, *, size: int = 24) -> bytes:
    """Return a transaction of ``size`` bytes that differs from those of other numbers."""
    return (bytes([kind]) + number.to_bytes(8)).ljust(size, b".")


def swap_transactions(block: bytes, transactions: tuple[bytes, ...]) -> bytes:
    """Return a body with other transactions under the unchanged, true header."""
    parts = split_block(block)
    return encode_block(parts.header, parts.parent_certificate, transactions)


def _slow_us(transactions: tuple[bytes, ...]) -> int:
    return SLOW_US * sum(_is(one, TransactionKind.SLOW) for one in transactions)


def _is(transaction_bytes: bytes, kind: TransactionKind) -> bool:
    return transaction_bytes[:1] == bytes([kind])


def _why_invalid(
    state: State,
    header: _Header,
    certificate: bytes,
    transactions: tuple[bytes, ...],
    next_set: MemberSet,
) -> str:
    """Return why a block may not follow ``state``, or nothing if it may."""
    if header.height != state.height + 1 or header.parent != state.tip:
        return "another parent"
    if header.content != _content(certificate, transactions):
        return "the body is not what the header commits to"
    if header.members != state.members.set_hash or header.next_members != next_set.set_hash:
        return "another member set"
    if header.time_ms <= state.time_ms:
        return "not after its parent"
    if state.members.index_of(NodeId(header.proposer)) is None:
        return "proposed by a stranger"
    if not transactions:
        return "nothing in it"
    return _why_transactions_invalid(state, transactions)


def _why_transactions_invalid(state: State, transactions: tuple[bytes, ...]) -> str:
    if len(set(transactions)) != len(transactions):
        return "one transaction twice"
    if any(one in state.applied for one in transactions):
        return "a transaction of an earlier block"
    if any(_is(one, TransactionKind.INVALID) for one in transactions):
        return "a transaction that is never valid"
    if sum(_is(one, TransactionKind.NEW_SET) for one in transactions) > 1:
        return "two changes of the member set"
    return ""


def _parse_header(header: bytes) -> _Header:
    if len(header) < _HEADER.size:
        raise DecodeError(f"a header of {len(header)} bytes")
    magic, height, view, time_ms, parent, content, members, next_members = _HEADER.unpack_from(
        header
    )
    proposer = header[_HEADER.size :]
    if magic != _MAGIC or not proposer.isascii():
        raise DecodeError("not a header of this machine")
    return _Header(
        height=height,
        view=view,
        time_ms=time_ms,
        parent=parent,
        content=content,
        members=members,
        next_members=next_members,
        proposer=proposer.decode("ascii"),
    )


def _content(certificate: bytes, transactions: tuple[bytes, ...]) -> bytes:
    text = hashlib.sha256(len(certificate).to_bytes(4) + certificate)
    for one in transactions:
        text.update(len(one).to_bytes(4) + one)
    return text.digest()


def _unreadable(block: bytes, reason: str) -> Verdict:
    return Verdict(
        block_hash=Digest(hashlib.sha256(block).digest()),
        parent=ZERO_DIGEST,
        origin_view=0,
        origin_proposer=NodeId(""),
        time_ms=0,
        next_set=None,
        reason=reason,
        cost_us=0,
    )
