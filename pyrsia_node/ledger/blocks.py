"""Blocks: what a header must say, given the tip, the transactions and their execution.

A header is derived, never trusted: a voter computes the whole header again and compares, so a
field without a rule cannot exist. Pure, but for the reads of the state below.
Specification: docs/spec/leaves.md, "Blocks".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from consensus import wire
from consensus.errors import DecodeError
from consensus.ingress import verify_certificate
from consensus.types import ZERO_DIGEST, Certificate, Digest, MemberSet, NodeId, VoteKind
from pyrsia_node.ledger import commitment
from pyrsia_node.ledger.machine.execute import Execution
from pyrsia_node.ledger.machine.view import Change, state_root
from pyrsia_node.model.digest import ZERO_SHA256, Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.signing import Verify
from pyrsia_node.model.transactions import SignedTransaction
from pyrsia_node.tlog import tree
from pyrsia_node.tlog.tree import Frontier

TIME_TOLERANCE_MS: Final = 10_000
"""How far the time of a fresh block may lie from a voter's clock."""


@dataclass(frozen=True, slots=True)
class Tip:
    """The newest committed block and what the next one builds on.

    Attributes:
        height: 0 right after the genesis.
        block_hash: Leaf hash of its header; at height 0 of the genesis.
        time_ms: Its block time.
        size: Tree size after it.
        root: Tree root after it.
        members: The set that votes on the next height.
        set_leaf: The same set, with all keys and labels.
        set_index: Leaf index of that set.
        voters: The set that decided this block.
        state_root: State root after it.
        epoch_height: The last height that changed the set; 0 if none did.
        frontier: The tree's frontier after it.
    """

    height: int
    block_hash: Digest
    time_ms: int
    size: int
    root: bytes
    members: MemberSet
    set_leaf: SetLeaf
    set_index: int
    voters: MemberSet
    state_root: bytes
    epoch_height: int
    frontier: Frontier

    @property
    def epoch(self) -> int:
        """Number of the set that votes on the next height."""
        return self.members.epoch


@dataclass(frozen=True, slots=True)
class Claims:
    """What a proposer chooses freely, within the rules, for a new block."""

    network: Sha256
    view: int
    proposer: NodeId
    time_ms: int
    parent_certificate: bytes


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """A block whose execution gave what its header says."""

    header: Header
    header_bytes: bytes
    parent_certificate: bytes
    parent_signers: tuple[NodeId, ...]
    transactions: tuple[SignedTransaction, ...]
    execution: Execution

    def leaves(self) -> tuple[bytes, ...]:
        """Return all leaves of the block in log order."""
        encoded = (transaction.encoded for transaction in self.transactions)
        return (self.header_bytes, *encoded, *self.execution.leaves)

    def next_members(self, tip: Tip) -> MemberSet:
        """Return who votes on the height after this block; ``tip`` is what it builds on."""
        after = self.execution.next_set
        return tip.members if after is None else after.to_consensus()


def derive_header(
    tip: Tip,
    claims: Claims,
    transactions: Sequence[SignedTransaction],
    execution: Execution,
    *,
    snapshot_root: Callable[[Iterable[Change]], Sha256],
) -> Header:
    """Return the one header that a block of these parts has.

    ``snapshot_root`` gives the root over the state after changes; it is asked only when due.

    Raises:
        InvalidInputError: The block holds no transaction and no outcome is due.
    """
    if not transactions and not execution.leaves:
        raise InvalidInputError("block without a transaction and without an outcome that is due")
    body = [transaction.encoded for transaction in transactions] + list(execution.leaves)
    certificate = claims.parent_certificate
    members = Sha256(tip.members.set_hash.hex())
    has_snapshot = commitment.is_due(tip.height + 1, changes_set=execution.next_set is not None)
    return Header(
        network=claims.network,
        height=tip.height + 1,
        parent=Sha256(tip.block_hash.hex()),
        prev_size=tip.size,
        prev_root=Sha256(tip.root.hex()),
        view=claims.view,
        proposer=claims.proposer,
        time_ms=claims.time_ms,
        n_leaves=len(body),
        body_root=Sha256(tree.root(tree.leaf_hash(leaf) for leaf in body).hex()),
        state_root=Sha256(state_root(tip.state_root, execution.changes).hex()),
        set=members,
        next_set=members if execution.next_set is None else execution.next_set.digest(),
        prev_epoch_height=tip.epoch_height,
        parent_cert=sha256_of(certificate) if certificate else ZERO_SHA256,
        snapshot_root=snapshot_root(execution.changes) if has_snapshot else None,
    )


def check_cheaply(header: Header, tip: Tip, *, network: Sha256, certificate: bytes) -> None:
    """Check what needs no execution, so that most bad blocks cost little.

    Raises:
        InvalidInputError: The text names the member and both values.
    """
    expected = {
        "network": network,
        "height": tip.height + 1,
        "parent": tip.block_hash.hex(),
        "prev_size": tip.size,
        "prev_root": tip.root.hex(),
        "set": tip.members.set_hash.hex(),
        "prev_epoch_height": tip.epoch_height,
        "parent_cert": sha256_of(certificate) if certificate else ZERO_SHA256,
    }
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise InvalidInputError(f"header: {name} is {getattr(header, name)}, not {value}")
    if header.time_ms <= tip.time_ms:
        raise InvalidInputError(
            f"header: time_ms {header.time_ms} is not after the parent's {tip.time_ms}"
        )
    if tip.members.index_of(header.proposer) is None:
        raise InvalidInputError(f"header: proposer {header.proposer} is no authorized node")


def check_derived(header: Header, derived: Header) -> None:
    """Check that a header is the one that execution gives.

    Raises:
        InvalidInputError: The text names the first member that differs, and both values.
    """
    for name in Header.__slots__:
        if getattr(header, name) != getattr(derived, name):
            raise InvalidInputError(
                f"header: {name} is {getattr(header, name)}, execution gives "
                f"{getattr(derived, name)}"
            )


def check_certificate(
    data: bytes,
    *,
    height: int,
    block_hash: Digest,
    voters: MemberSet,
    chain_id: Digest,
    verify: Verify,
) -> Certificate:
    """Return the certificate that finalizes a block.

    Raises:
        InvalidInputError: Malformed, or of another block or kind.
        VerificationError: A signature does not hold.
    """
    try:
        certificate = wire.decode_certificate(data, n=len(voters.members))
    except DecodeError as error:
        raise InvalidInputError(f"certificate of height {height}: {error}") from None
    named = (certificate.kind, certificate.height, certificate.block_hash)
    if named != (VoteKind.FINALIZE, height, block_hash):
        raise InvalidInputError(
            f"certificate is {certificate.kind.name} of height {certificate.height} and block "
            f"{certificate.block_hash.hex()}, not FINALIZE of {height} and {block_hash.hex()}"
        )
    if not verify_certificate(certificate, voters, chain_id, verify):
        raise VerificationError(f"certificate of height {height}: a signature does not hold")
    return certificate


def signers_of(certificate: Certificate | None, voters: MemberSet) -> tuple[NodeId, ...]:
    """Return the ids of those who signed; none for the genesis, which has no certificate."""
    if certificate is None:
        return ()
    return tuple(voters.members[index].id for index in certificate.signers)


def split(block: bytes) -> wire.BlockParts:
    """Return the parts of a body from anywhere.

    Raises:
        InvalidInputError: It has no such parts.
    """
    try:
        return wire.split_block(block)
    except DecodeError as error:
        raise InvalidInputError(str(error)) from None


def header_of(block: bytes) -> Header:
    """Return the header of a body from anywhere.

    Raises:
        InvalidInputError: It has none.
    """
    return Header.decode(split(block).header)


def named_hash(block: bytes) -> Digest:
    """Return the name of a body from anywhere; zero for bytes that name nothing."""
    try:
        return wire.block_hash(block)
    except DecodeError:
        return ZERO_DIGEST
