"""Runs blocks through the state machine alone: no signatures, no chain, any block time."""

from __future__ import annotations

from consensus.types import NodeId
from pyrsia_node.ledger.machine.context import BlockContext, Head, RecordCache
from pyrsia_node.ledger.machine.execute import Execution, execute
from pyrsia_node.ledger.machine.params import ParamsInForce, read_params
from pyrsia_node.ledger.motions import Approvable
from pyrsia_node.ledger.request_view import RequestView, read_request
from pyrsia_node.model.digest import ZERO_SHA256, Sha256, sha256_of
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.transactions import (
    BuildRequest,
    SignedTransaction,
    Transaction,
    sign_transaction,
)
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies import member_bodies as change
from tests.strategies.identities import GENESIS_TIME_MS, Identity, identities

NETWORK = bytes(32)


def unsigned(body: Transaction) -> SignedTransaction:
    """Return the transaction with a signature of zeros; the machine never looks at it."""
    return sign_transaction(body, network_id=NETWORK, sign=lambda _: bytes(64))


class BlockRunner:
    """A state, a log and a set of ``n`` members."""

    def __init__(self, n: int = 4, *, params: Params = DEFAULT_PARAMS) -> None:
        records = tuple(one.member.record for one in identities(n))
        self.voters = [SetLeaf(0, ZERO_SHA256, records)]  # by height - 1
        self.params = params
        self.state = MemoryKeyValueStore()
        self.leaves: list[bytes] = [b"genesis", b"set"]
        self.heads = [self._head()]
        self.time_ms = GENESIS_TIME_MS
        self._known = RecordCache()  # as the chain keeps one
        self._requests: dict[Sha256, BuildRequest] = {}

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Who votes on the next block."""
        return tuple(record.id for record in self.voters[-1].members)

    @property
    def height(self) -> int:
        """The height of the last block."""
        return len(self.heads) - 1

    # ------------------------------------------------------------ what the machine reads

    def leaf(self, index: int) -> bytes:
        return self.leaves[index]

    def head_at(self, height: int) -> Head | None:
        return self.heads[height] if 0 <= height < len(self.heads) else None

    def voters_at(self, height: int) -> SetLeaf | None:
        return self.voters[height - 1] if 1 <= height <= len(self.voters) else None

    def set_hash_at(self, height: int) -> Sha256 | None:
        voters = self.voters_at(height)
        return None if voters is None else voters.digest()

    # ------------------------------------------------------------ blocks

    def in_force(self) -> ParamsInForce:
        """Return the parameters of the next block."""
        return read_params(self.params, self.state)

    def trial(self, *bodies: Transaction, after_ms: int = 1_000) -> Execution:
        """Execute a block ``after_ms`` later and keep nothing."""
        context = BlockContext(
            network_id=NETWORK,
            height=self.height + 1,
            time_ms=self.time_ms + after_ms,
            first_leaf=len(self.leaves),
            voters=self.voters[-1],
            members=self.members,
            in_force=self.in_force(),
        )
        signed = [unsigned(body) for body in bodies]
        return execute(self.state, context, signed, history=self, known=self._known)

    def run(self, *bodies: Transaction, after_ms: int = 1_000) -> Execution:
        """Execute a block ``after_ms`` later and keep what it changes."""
        execution = self.trial(*bodies, after_ms=after_ms)
        self._known.forget(each.key for each in execution.changes)
        self.time_ms += after_ms
        signed = [unsigned(body) for body in bodies]
        encoded = [each.encoded for each in signed]
        self.leaves += [b"header", *encoded, *execution.leaves]
        self.heads.append(self._head())
        self.voters.append(execution.next_set or self.voters[-1])
        self.state.write(
            ((each.key.encode(), each.value) for each in execution.changes), sync=False
        )
        for each in signed:
            if isinstance(each.body, BuildRequest):
                self._requests[each.id] = each.body
        return execution

    def open(self, body: BuildRequest, *, after_ms: int = 1_000) -> Sha256:
        """Open a request in a block of its own; return its id."""
        self.run(body, after_ms=after_ms)
        return unsigned(body).id

    def approved(self, operation: Approvable) -> list[Transaction]:
        """Return everybody's approval of an operation, then the operation."""
        yes = [
            change.approve(member, operation, NETWORK, since=self.height, expiry=self.height + 10)
            for member in self.members
        ]
        return [*yes, operation]

    def add(self, newcomer: Identity) -> list[Transaction]:
        """Return what makes a newcomer a member."""
        head = self.heads[-1]
        return self.approved(
            change.add(self.members[0], newcomer, NETWORK, height=self.height, head=head)
        )

    def remove(self, node: NodeId) -> list[Transaction]:
        """Return what removes a member."""
        by = next(member for member in self.members if member != node)
        return self.approved(change.remove(by, node, nonce=self.height))

    def view(self, request: Sha256) -> RequestView:
        """Return a request as the state has it."""
        view = read_request(self.state, request, self._requests[request])
        assert view is not None
        return view

    def _head(self) -> Head:
        return Head(len(self.leaves), sha256_of(b"".join(self.leaves)))
