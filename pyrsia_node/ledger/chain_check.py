"""Walks a chain from the genesis on and checks that every block follows from the one before.

Heights, parents, sizes, tree roots, body roots, member sets with their epochs, and the certificate
of every block are checked from the leaves alone. Transactions are not executed again: that a quorum
signed the block's ``state_root`` is taken as it is here. Costs a signature check for each signer of
each block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from consensus import ed25519
from consensus.errors import DecodeError
from consensus.ingress import verify_certificate
from consensus.types import Digest, VoteKind
from consensus.wire import decode_certificate, split_block
from pyrsia_node.ledger.findings import Finding
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.model.digest import ZERO_SHA256
from pyrsia_node.model.errors import NotFoundError, PyrsiaError
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, Frontier, leaf_hash, root
from pyrsia_node.tlog.trust import Trust

REPAIR: Final = (
    "move this folder away and run 'pyrsia-node run': the node fetches the chain from its peers"
)
_GENESIS_LEAVES: Final = 2


def check_chain(chain: CommittedChain, trust: Trust, path: Path) -> Iterator[Finding]:
    """Yield what is wrong with the chain; stops at the first block that cannot be followed.

    Args:
        chain: The chain.
        trust: From the genesis of the node's network.
        path: The chain's folder, for the findings.
    """
    walk = _Walk(chain, trust)
    try:
        yield from (Finding(path, what, REPAIR) for what in walk.problems())
    except PyrsiaError as error:
        where = f"block {walk.height}" if walk.height else "the genesis"
        yield Finding(path, f"{where}: {error}", REPAIR)


class _Walk:
    """The state of the walk: the frontier and the block hash before the next block."""

    def __init__(self, chain: CommittedChain, trust: Trust) -> None:
        self._chain = chain
        self._genesis = trust.genesis
        self._members = trust.genesis.set_leaf()
        self._frontier: Frontier = EMPTY_FRONTIER
        self._parent = leaf_hash(trust.genesis.encode())
        self._epoch_height = 0
        self.height = 0

    def problems(self) -> Iterator[str]:
        """Yield what is wrong, block by block."""
        leaves = list(self._chain.leaves(0, _GENESIS_LEAVES))
        if leaves != [self._genesis.encode(), self._members.encode()]:
            yield "leaves 0 and 1 are not the genesis and its member set"
            return
        self._frontier = EMPTY_FRONTIER.extend(map(leaf_hash, leaves))
        tip = self._chain.tip
        for height in range(1, tip.height + 1):
            self.height = height
            found = list(self._check_block(height))
            if found:
                yield from (f"block {height}: {what}" for what in found)
                return
        self.height = tip.height
        size, root_hash = self._frontier.size, self._frontier.root()
        if (tip.size, bytes(tip.root)) != (size, root_hash):
            yield (
                f"the tip says size {tip.size} root {bytes(tip.root).hex()}, the leaves have size "
                f"{size} root {root_hash.hex()}"
            )

    def _check_block(self, height: int) -> Iterator[str]:
        position = self._frontier.size
        (leaf,) = self._chain.leaves(position, position + 1)
        header = Header.decode(leaf)
        body = list(self._chain.leaves(position + 1, header.prev_size + 1 + header.n_leaves))
        hashes = [leaf_hash(each) for each in body]
        block, certificate = self._chain.decision(height) or (b"", b"")
        for name, found, expected in (
            ("network", header.network, self._genesis.network_id.hex()),
            ("height", header.height, height),
            ("parent", header.parent, self._parent.hex()),
            ("prev_size", header.prev_size, position),
            ("prev_root", header.prev_root, self._frontier.root().hex()),
            ("body_root", header.body_root, root(hashes).hex()),
            ("set", header.set, self._members.digest()),
            ("prev_epoch_height", header.prev_epoch_height, self._epoch_height),
            ("parent_cert", header.parent_cert, _carried_certificate(block)),
        ):
            if found != expected:
                yield f"{name} is {found}, expected {expected}"
        yield from self._check_certificate(certificate, leaf_hash(leaf), height)
        if header.next_set != header.set:
            yield from self._check_set(header, body[-1])
        self._parent = leaf_hash(leaf)
        self._frontier = self._frontier.extend([self._parent, *hashes])
        stored = self._chain.root_at(self._frontier.size).hex()
        if stored != self._frontier.root().hex():
            yield f"the stored root is {stored}, the leaves have {self._frontier.root().hex()}"

    def _check_set(self, header: Header, leaf: bytes) -> Iterator[str]:
        """Take over the set that a block makes; ``leaf`` is its last one."""
        before, after = self._members, SetLeaf.decode(leaf)
        self._members, self._epoch_height = after, header.height
        if after.digest() != header.next_set:
            yield f"the set leaf is {after.digest()}, next_set {header.next_set}"
        if (after.epoch, after.prev) != (before.epoch + 1, before.digest()):
            yield (
                f"the set leaf is of epoch {after.epoch} after {after.prev}, expected "
                f"{before.epoch + 1} after {before.digest()}"
            )
        try:
            stored = self._chain.set_leaf_of(after.epoch)
        except NotFoundError as error:
            yield str(error)
            return
        if stored != after:
            yield f"the stored set of epoch {after.epoch} is another: {stored.digest()}"

    def _check_certificate(self, data: bytes, block_hash: bytes, height: int) -> Iterator[str]:
        try:
            certificate = decode_certificate(data, n=len(self._members.members))
        except DecodeError as error:
            yield f"its certificate is malformed: {error}"
            return
        is_right = (
            certificate.kind is VoteKind.FINALIZE
            and certificate.height == height
            and certificate.block_hash == block_hash
            and verify_certificate(
                certificate,
                self._members.to_consensus(),
                Digest(self._genesis.network_id),
                ed25519.verify,
            )
        )
        if not is_right:
            yield f"its certificate does not finalize {block_hash.hex()}"


def _carried_certificate(block: bytes) -> str:
    """Return the hash of the parent's certificate as the block carries it; zeros without one."""
    try:
        carried = split_block(block).parent_certificate
    except DecodeError as error:
        return f"in a block that cannot be split: {error}"
    return hashlib.sha256(carried).hexdigest() if carried else ZERO_SHA256
