"""Runs blocks through the state machine alone: no signatures, no chain, any block time."""

from __future__ import annotations

from consensus.types import NodeId
from pyrsia_node.ledger.machine.context import BlockContext, RecordCache
from pyrsia_node.ledger.machine.execute import Execution, execute
from pyrsia_node.ledger.request_view import RequestView, read_request
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.transactions import (
    BuildRequest,
    SignedTransaction,
    Transaction,
    sign_transaction,
)
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.identities import GENESIS_TIME_MS, identities

NETWORK = bytes(32)


def unsigned(body: Transaction) -> SignedTransaction:
    """Return the transaction with a signature of zeros; the machine never looks at it."""
    return sign_transaction(body, network_id=NETWORK, sign=lambda _: bytes(64))


class BlockRunner:
    """A state, a log and a set of ``n`` members."""

    def __init__(self, n: int = 4, *, params: Params = DEFAULT_PARAMS) -> None:
        self.members: tuple[NodeId, ...] = tuple(one.id for one in identities(n))
        self.params = params
        self.state = MemoryKeyValueStore()
        self.leaves: list[bytes] = [b"genesis", b"set"]
        self.time_ms = GENESIS_TIME_MS
        self._known = RecordCache()  # as the chain keeps one
        self._requests: dict[Sha256, BuildRequest] = {}

    def run(
        self,
        *bodies: Transaction,
        after_ms: int = 1_000,
        next_members: tuple[NodeId, ...] | None = None,
    ) -> Execution:
        """Execute a block ``after_ms`` later and keep what it changes."""
        time_ms = self.time_ms + after_ms
        members = self.members
        context = BlockContext(
            time_ms=time_ms,
            first_leaf=len(self.leaves),
            members=members,
            next_members=members if next_members is None else next_members,
            params=self.params,
        )
        signed = [unsigned(body) for body in bodies]
        execution = execute(
            self.state, context, signed, read_leaf=self.leaves.__getitem__, known=self._known
        )
        self._known.forget(change.key for change in execution.changes)
        self.time_ms = time_ms
        self.members = context.next_members
        encoded = [each.encoded for each in signed]
        self.leaves += [b"header", *encoded, *execution.leaves]
        self.state.write(
            ((change.key.encode(), change.value) for change in execution.changes), sync=False
        )
        for each in signed:
            if isinstance(each.body, BuildRequest):
                self._requests[each.id] = each.body
        return execution

    def open(self, body: BuildRequest, *, after_ms: int = 1_000) -> Sha256:
        """Open a request in a block of its own; return its id."""
        self.run(body, after_ms=after_ms)
        return unsigned(body).id

    def view(self, request: Sha256) -> RequestView:
        """Return a request as the state has it."""
        view = read_request(self.state, request, self._requests[request])
        assert view is not None
        return view
