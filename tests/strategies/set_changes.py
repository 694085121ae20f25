"""Networks whose member set changes: certified headers and set leaves, without a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from consensus import wire
from consensus.quorum import quorum
from consensus.types import Certificate, Digest, Height, View, VoteKind
from pyrsia_node.model.digest import ZERO_SHA256
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.tlog.tree import leaf_hash
from pyrsia_node.tlog.trust import SetChange
from tests.strategies.identities import Identity, genesis_of

BLOCK_LEAVES = 5


@dataclass(slots=True)
class ChangingSet:
    """Makes one set change after another; every block has five leaves, height h ends at 2 + 5h."""

    genesis: Genesis
    members: tuple[Identity, ...]
    leaf: SetLeaf
    height: int = 0
    epoch_height: int = 0
    changes: list[SetChange] = field(default_factory=list)
    sets: list[tuple[Identity, ...]] = field(default_factory=list)

    @classmethod
    def start(cls, members: tuple[Identity, ...]) -> ChangingSet:
        genesis = genesis_of(members)
        return cls(genesis, members, genesis.set_leaf(), sets=[members])

    @property
    def size(self) -> int:
        return 2 + BLOCK_LEAVES * self.height

    def change(
        self,
        members: Sequence[Identity],
        *,
        blocks: int = 1,
        signers: Sequence[Identity] | None = None,
    ) -> SetChange:
        """Return the change to ``members``, ``blocks`` after the tip, and go on from it."""
        ordered = tuple(sorted(members, key=lambda one: one.id))
        records = tuple(one.member.record for one in ordered)
        old = self.leaf.digest()
        leaf = SetLeaf(epoch=self.leaf.epoch + 1, prev=old, members=records)
        self.height += blocks
        header = Header(
            network=self.genesis.network_id.hex(),  # type: ignore[arg-type] # hex of a digest
            height=self.height,
            parent=ZERO_SHA256,
            prev_size=self.size - BLOCK_LEAVES,
            prev_root=ZERO_SHA256,
            view=0,
            proposer=self.members[0].id,
            time_ms=self.genesis.time_ms + self.height,
            n_leaves=BLOCK_LEAVES - 1,
            body_root=ZERO_SHA256,
            state_root=ZERO_SHA256,
            set=old,
            next_set=leaf.digest(),
            prev_epoch_height=self.epoch_height,
            parent_cert=ZERO_SHA256,
        )
        voters = signers if signers is not None else self.members[: quorum(len(self.members))]
        certificate = self._certify(header, voters)
        made = SetChange(header.encode(), certificate, leaf.encode())
        self.leaf, self.members, self.epoch_height = leaf, ordered, self.height
        self.changes.append(made)
        self.sets.append(ordered)
        return made

    def _certify(self, header: Header, voters: Sequence[Identity]) -> bytes:
        block_hash = Digest(leaf_hash(header.encode()))
        signed = wire.vote_bytes(
            VoteKind.FINALIZE,
            Height(header.height),
            View(0),
            block_hash,
            chain_id=Digest(self.genesis.network_id),
            set_hash=Digest(bytes.fromhex(header.set)),
        )
        places = [index for index, one in enumerate(self.members) if one in voters]
        certificate = Certificate(
            kind=VoteKind.FINALIZE,
            height=Height(header.height),
            view=View(0),
            block_hash=block_hash,
            signers=tuple(places),
            signatures=tuple(self.members[index].sign["vote"](signed) for index in places),
        )
        return wire.encode_certificate(certificate, n=len(self.members))
