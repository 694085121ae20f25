"""Proves what peers send during catch-up, under the member sets proved so far. No I/O.

A head counts with its certificate alone. Of a range of decisions one certificate is checked, the
newest; the others hold because each block names the hash of its parent, and the hash of the
certificate that finalized it, which it carries. So a block costs a hash, not a quorum's signatures.
What a hash of the header cannot show is whether the *transactions* sent with it are the block's:
that shows when the block is executed, and is then the sender's fault (``replica.follow``).
Design: docs/design/catchup.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from consensus import ed25519, wire
from consensus.errors import DecodeError
from consensus.types import Digest
from pyrsia_node.ledger.adopting import WholeBlock
from pyrsia_node.ledger.blocks import check_certificate
from pyrsia_node.model.digest import ZERO_SHA256, sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.tlog.tree import leaf_hash, root
from pyrsia_node.tlog.trust import Epoch, Trust


class UnknownSetError(VerificationError):
    """A header names a member set that is not proved yet; its set changes come first."""


@dataclass(frozen=True, slots=True)
class ProvedBlock:
    """A block that a quorum finalized: its header is certain, its transactions are not.

    ``certificate`` is one that finalizes it: for the newest of a range the one that was checked,
    for the others the one that the next block carries.
    """

    header: Header
    block: bytes
    certificate: bytes


def voters_at(trust: Trust, height: int) -> Epoch:
    """Return the epoch whose members decide ``height``, as far as its changes are known."""
    for epoch in reversed(trust.epochs):
        if height > epoch.height:
            return epoch
    return trust.epochs[0]


def prove_head(trust: Trust, header: bytes, certificate: bytes) -> Header:
    """Return the header that a certificate finalizes.

    Raises:
        UnknownSetError: The set is not known; ask for the set changes first.
        InvalidInputError: Malformed.
        VerificationError: Another network, another set, or a signature does not hold.
    """
    found = Header.decode(header)
    network = trust.genesis.network_id
    if found.network != network.hex():
        raise VerificationError(f"header of network {found.network}, not {network.hex()}")
    epoch = voters_at(trust, found.height)
    if found.set != epoch.members.digest():
        what = f"header of height {found.height} names set {found.set}"
        if epoch is trust.epochs[-1]:
            raise UnknownSetError(f"{what}, which no proved change has made")
        raise VerificationError(f"{what}; the set of that height is {epoch.members.digest()}")
    _check(certificate, found.height, leaf_hash(header), epoch.members, network)
    return found


def prove_range(trust: Trust, decisions: list[bytes], *, first: int) -> list[ProvedBlock]:
    """Return the blocks of consecutive decisions, proved by the newest one's certificate.

    Args:
        trust: The sets proved so far.
        decisions: Encoded decisions, at least one, of heights ``first``, ``first`` + 1, …
        first: The height that was asked for.

    Raises:
        UnknownSetError: The newest block's set is not known.
        InvalidInputError: Malformed.
        VerificationError: The certificate, or a link between two blocks, does not hold.
    """
    split = [_split(each) for each in decisions]
    newest, certificate = split[-1]
    parts = _parts(newest)
    header = prove_head(trust, parts.header, certificate)
    proved = [ProvedBlock(header, newest, certificate)]
    for block, _ in reversed(split[:-1]):
        child, child_parts = header, parts
        parts = _parts(block)
        header = Header.decode(parts.header)
        _check_link(header, parts.header, child, child_parts.parent_certificate)
        proved.append(ProvedBlock(header, block, child_parts.parent_certificate))
    if header.height != first:
        raise VerificationError(f"decisions start at height {header.height}, asked was {first}")
    _check_parent(parts, header)
    proved.reverse()
    return proved


def prove_history(trust: Trust, blocks: Sequence[WholeBlock], *, first: int) -> None:
    """Check consecutive blocks with all their leaves, by the newest one's certificate.

    Unlike the transactions of ``prove_range``, the leaves are certain afterwards: each header
    names the root over those that follow it.

    Args:
        trust: The sets proved so far.
        blocks: At least one, of heights ``first``, ``first`` + 1, …
        first: The height that was asked for.

    Raises:
        UnknownSetError: The newest block's set is not known.
        InvalidInputError: Malformed.
        VerificationError: A certificate, a link or a leaf does not hold.
    """
    prove_head(trust, blocks[-1].leaves[0], blocks[-1].certificate)
    for block, child in pairwise(blocks):
        carried = child.parent_certificate
        _check_link(block.header, block.leaves[0], child.header, carried)
        if block.certificate != carried:
            raise VerificationError(
                f"block {block.header.height} comes with another certificate than the next carries"
            )
    for block in blocks:
        _check_leaves(block)
    if blocks[0].header.height != first:
        raise VerificationError(
            f"history starts at height {blocks[0].header.height}, asked was {first}"
        )


def _check_leaves(block: WholeBlock) -> None:
    header, body = block.header, block.leaves[1:]
    found = root(map(leaf_hash, body)).hex()
    if (len(body), found) != (header.n_leaves, header.body_root):
        raise VerificationError(
            f"block {header.height}: {len(body)} leaves with root {found}, its header says "
            f"{header.n_leaves} with {header.body_root}"
        )
    carried = block.parent_certificate
    if header.parent_cert != (sha256_of(carried) if carried else ZERO_SHA256):
        raise VerificationError(f"block {header.height} comes with another parent certificate")


def _check_link(header: Header, encoded: bytes, child: Header, certificate: bytes) -> None:
    """Check that ``child``, which is proved, follows the header and carries its certificate."""
    name = leaf_hash(encoded).hex()
    if child.parent != name:
        raise VerificationError(f"block {child.height} has parent {child.parent}, not {name}")
    if child.parent_cert != sha256_of(certificate):
        raise VerificationError(
            f"block {child.height} carries a certificate of hash {sha256_of(certificate)}, its "
            f"header names {child.parent_cert}"
        )
    if header.height + 1 != child.height:
        raise VerificationError(f"block {header.height} stands below block {child.height}")


def _check_parent(parts: wire.BlockParts, header: Header) -> None:
    # Nobody signed the certificate that comes along: left out or exchanged, it is the sender's
    # doing, and must not look like something that the quorum did.
    carried = parts.parent_certificate
    expected = sha256_of(carried) if carried else ZERO_SHA256
    if header.parent_cert != expected:
        raise VerificationError(
            f"block {header.height} comes with a parent certificate of hash {expected}, its "
            f"header names {header.parent_cert}"
        )


def _check(
    certificate: bytes, height: int, block_hash: bytes, members: SetLeaf, network: bytes
) -> None:
    check_certificate(
        certificate,
        height=height,
        block_hash=Digest(block_hash),
        voters=members.to_consensus(),
        chain_id=Digest(network),
        verify=ed25519.verify,
    )


def _split(decision: bytes) -> tuple[bytes, bytes]:
    try:
        return wire.split_decision(decision)
    except DecodeError as error:
        raise InvalidInputError(f"decision: {error}") from None


def _parts(block: bytes) -> wire.BlockParts:
    try:
        return wire.split_block(block)
    except DecodeError as error:
        raise InvalidInputError(str(error)) from None
