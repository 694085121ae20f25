"""A chain with the keys of all its members: signs, proposes, votes and commits by itself.

Consensus is not here: every member signs every certificate. The chain is the real one.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus import wire
from consensus.types import Certificate, Digest, Height, View, VoteKind
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.transactions import SignedTransaction, Transaction, sign_transaction
from pyrsia_node.ports import KeyValueStore
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.identities import GENESIS_TIME_MS, Identity, genesis_of, identities


class LocalChain:
    """``n`` members in one place. ``now_ms`` is the clock that every call uses."""

    def __init__(
        self, n: int = 4, *, params: Params = DEFAULT_PARAMS, store: KeyValueStore | None = None
    ) -> None:
        self.members: tuple[Identity, ...] = identities(n)
        self.genesis = genesis_of(self.members, params)
        self.store: KeyValueStore = store if store is not None else MemoryKeyValueStore()
        self.chain = Chain.open(self.store, self.genesis)
        self.now_ms = GENESIS_TIME_MS + 1_000

    @property
    def network_id(self) -> bytes:
        return self.genesis.network_id

    def reopen(self) -> Chain:
        self.chain = Chain.open(self.store, self.genesis)
        return self.chain

    def sign(self, body: Transaction) -> SignedTransaction:
        author = next(one for one in self.members if one.id == body.author)
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
        return self.chain.commit(block, self.certify(block))
