"""A chain with the keys of all its members: signs, proposes, votes and commits by itself.

Consensus is not here: every member signs every certificate. The chain is the real one.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus import wire
from consensus.types import Certificate, Digest, Height, NodeId, View, VoteKind
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.ledger.motions import Approvable
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.transactions import SignedTransaction, Transaction, sign_transaction
from pyrsia_node.ports import KeyValueStore
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies import member_bodies as change
from tests.strategies.identities import GENESIS_TIME_MS, Identity, genesis_of, identities


class LocalChain:
    """``n`` members in one place. ``now_ms`` is the clock that every call uses."""

    def __init__(
        self,
        n: int = 4,
        *,
        params: Params = DEFAULT_PARAMS,
        store: KeyValueStore | None = None,
        members: tuple[Identity, ...] = (),
    ) -> None:
        self._everybody: dict[bytes, Identity] = {}
        self.members = tuple(sorted(members, key=lambda one: one.id)) or identities(n)
        self.know(*self.members)
        self.genesis = genesis_of(self.members, params)
        self.store: KeyValueStore = store if store is not None else MemoryKeyValueStore()
        self.chain = Chain.open(self.store, self.genesis)
        self.now_ms = GENESIS_TIME_MS + 1_000

    def know(self, *newcomers: Identity) -> None:
        """Hold the keys of identities that are not members yet."""
        self._everybody |= {one.member.record.keys.vote: one for one in newcomers}

    @property
    def network_id(self) -> bytes:
        return self.genesis.network_id

    def reopen(self) -> Chain:
        self.chain = Chain.open(self.store, self.genesis)
        self._follow()
        return self.chain

    def sign(self, body: Transaction) -> SignedTransaction:
        author = next(one for one in self.members if one.id == body.author)
        return self.sign_as(author, body)

    def sign_as(self, author: Identity, body: Transaction) -> SignedTransaction:
        """Sign with the keys of ``author``, member or not."""
        return sign_transaction(body, network_id=self.network_id, sign=author.sign["tx"])

    def certify(
        self,
        block: bytes,
        *,
        height: int | None = None,
        view: int = 0,
        signers: Sequence[int] | None = None,
        kind: VoteKind = VoteKind.FINALIZE,
    ) -> bytes:
        """Return the certificate that members ``signers`` (all by default) make for a block."""
        tip = self.chain.tip
        height = tip.height + 1 if height is None else height
        name = wire.block_hash(block)
        signed = wire.vote_bytes(
            kind,
            Height(height),
            View(view),
            name,
            chain_id=Digest(self.network_id),
            set_hash=tip.members.set_hash,
        )
        chosen = tuple(range(len(self.members)) if signers is None else signers)
        certificate = Certificate(
            kind,
            Height(height),
            View(view),
            name,
            chosen,
            tuple(self.members[index].sign["vote"](signed) for index in chosen),
        )
        return wire.encode_certificate(certificate, n=len(self.members))

    def parent_certificate(self) -> bytes:
        decision = self.chain.decision(self.chain.tip.height)
        return decision[1] if decision else b""

    def build(self, *transactions: bytes, view: int = 0) -> bytes | None:
        tip = self.chain.tip
        leader = self.members[(tip.height + 1 + view) % len(self.members)].id
        return self.chain.build_body(
            height=tip.height + 1,
            view=view,
            proposer=leader,
            now_ms=self.now_ms,
            parent_certificate=self.parent_certificate(),
            transactions=transactions,
        )

    def commit(self, *bodies: Transaction) -> Committed:
        """Commit one block that holds exactly these transactions."""
        signed = [self.sign(body) for body in bodies]
        block = self.build(*(each.encoded for each in signed))
        assert block is not None, "there was nothing to commit"
        assert list(wire.split_block(block).transactions) == [each.encoded for each in signed]
        verdict = self.chain.check_body(block, self.chain.tip.height + 1, self.now_ms)
        assert verdict.valid, verdict.reason
        committed = self.chain.commit(block, self.certify(block))
        assert verdict.next_set == self.chain.tip.members
        self._follow()
        return committed

    # ------------------------------------------------------------ changes of the set

    def approved(self, operation: Approvable, *, heights: int = 10) -> list[Transaction]:
        """Return everybody's approval of an operation, then the operation."""
        since = self.chain.tip.height
        yes = [
            change.approve(one.id, operation, self.network_id, since=since, expiry=since + heights)
            for one in self.members
        ]
        return [*yes, operation]

    def add(self, newcomer: Identity) -> list[Transaction]:
        """Return what makes a newcomer a member."""
        self.know(newcomer)
        tip = self.chain.tip
        head = Head(tip.size, Sha256(tip.root.hex()))
        by = self.members[0].id
        return self.approved(
            change.add(by, newcomer, self.network_id, height=tip.height, head=head)
        )

    def remove(self, node: NodeId) -> list[Transaction]:
        """Return what removes a member; another one submits it, if there is one."""
        by = next((one.id for one in self.members if one.id != node), node)
        return self.approved(change.remove(by, node, nonce=self.chain.tip.height))

    def rotate(self, node: NodeId, fresh: Identity) -> list[Transaction]:
        """Return what gives a member the keys of ``fresh``."""
        old = next(one for one in self.members if one.id == node)
        after = change.renewed(old.member.record, fresh)
        self.know(after)
        tip = self.chain.tip
        head = Head(tip.size, Sha256(tip.root.hex()))
        return self.approved(change.rotate(after, self.network_id, height=tip.height, head=head))

    def set_param(self, name: str, value: int) -> list[Transaction]:
        """Return what changes a parameter."""
        by = self.members[0].id
        return self.approved(change.set_param(by, name, value, nonce=self.chain.tip.height))

    def _follow(self) -> None:
        records = self.chain.tip.set_leaf.members
        self.members = tuple(self._everybody[record.keys.vote] for record in records)
