"""The chain of one node: checks, builds and commits blocks, and answers what was committed.

``Chain`` is synchronous and belongs to the core process, to one thread. It keeps no clock: callers
pass the time. Every commit is one synced write, so a crash leaves the state before or after a
block and nothing between. Consensus decides *which* block; this module decides what is a block.
Design: docs/design/ledger.md; specification: docs/spec/leaves.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consensus import ed25519, wire
from consensus.events import BodyChecked, TimeVerdict
from consensus.quorum import history_blocks
from consensus.replica import Start
from consensus.types import ZERO_DIGEST, Digest, Height, MemberSet, NodeId, View
from pyrsia_node.ledger import storage
from pyrsia_node.ledger.admission import Admission, TransactionInfo
from pyrsia_node.ledger.blocks import (
    TIME_TOLERANCE_MS,
    Claims,
    ExecutedBlock,
    Tip,
    check_certificate,
    check_cheaply,
    check_derived,
    derive_header,
    header_of,
    named_hash,
    signers_of,
    split,
)
from pyrsia_node.ledger.durable import Committed, commit_changes, height_zero, read_tip
from pyrsia_node.ledger.machine.context import BlockContext, NotYetValidError, RecordCache
from pyrsia_node.ledger.machine.execute import Machine, execute
from pyrsia_node.ledger.machine.params import ParamsInForce, read_params
from pyrsia_node.ledger.motions import Approvable, check_motion
from pyrsia_node.ledger.queries import CommittedChain, TransactionStatus
from pyrsia_node.ledger.request_view import RequestView
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.genesis import RULES, Genesis
from pyrsia_node.model.leaves import Header, decode_outcome
from pyrsia_node.model.signing import Verify
from pyrsia_node.model.transactions import AttestBatch, SignedTransaction, decode_transaction
from pyrsia_node.ports import KeyValueStore

__all__ = [
    "Chain",
    "Committed",
    "RequestView",
    "Tip",
    "TransactionInfo",
    "TransactionStatus",
]

_HEADER_BYTES_RESERVED: Final = 2_000
_LENGTH_PREFIX_BYTES: Final = 4
_EXECUTED_MAX: Final = 8
_UPGRADE: Final = f"this program knows rules {RULES}: upgrade to rules >= {{}}"


class Chain(CommittedChain):
    """The committed chain in a store, and the judge of what may come next."""

    def __init__(self, store: KeyValueStore, genesis: Genesis, *, verify: Verify) -> None:
        """Use ``open``; this reads a store that holds height 0."""
        super().__init__(store, network_id=genesis.network_id)
        self.genesis: Final = genesis
        self._verify = verify
        self._admission = Admission(self._network, verify)
        # Blocks of the working height that were executed, by body id: checked once, not thrice.
        self._executed: dict[Digest, ExecutedBlock] = {}
        self._buckets = storage.BucketReader(store)
        # Decoded records of the tip's state; every commit forgets what it changes.
        self._known = RecordCache()
        self._in_force = read_params(genesis.params, self._state)

    @classmethod
    def open(
        cls, store: KeyValueStore, genesis: Genesis, *, verify: Verify = ed25519.verify
    ) -> Chain:
        """Return the chain in ``store``; an empty store gets height 0 first.

        Raises:
            CorruptStateError: The store holds another network's chain, or lacks a part.
        """
        first = store.get(storage.leaf_key(0))
        if first is None:
            store.write(height_zero(genesis), sync=True)
        elif sha256_of(first) != genesis.network_id.hex():
            raise CorruptStateError(
                f"the chain database is of network {sha256_of(first)}, "
                f"the genesis of network {genesis.network_id.hex()}"
            )
        return cls(store, genesis, verify=verify)

    @property
    def params(self) -> ParamsInForce:
        """The parameters of the next block."""
        return self._in_force

    def upgrade_needed(self) -> int | None:
        """Return the rules number of the next block if this program does not know it.

        Such a node decides nothing any more: it neither builds, nor checks, nor commits. What is
        committed stays as true as it was, so it serves on.
        """
        return self._in_force.rules if self._in_force.rules > RULES else None

    def start(self) -> Start:
        """Return what a consensus replica needs to work on the next height."""
        tip = self._tip
        first = max(1, tip.height + 1 - history_blocks(len(tip.members.members)))
        parent = None
        if tip.height:
            data = self._store.get(storage.certificate_key(tip.height))
            assert data is not None
            parent = wire.decode_certificate(data, n=len(tip.voters.members))
        return Start(
            height=Height(tip.height + 1),
            tip=tip.block_hash,
            members=tip.members,
            parent_certificate=parent,
            history=tuple(
                self._reader.record(height).signers for height in range(first, tip.height + 1)
            ),
            parent_members=tip.voters,
        )

    # ------------------------------------------------------------ what may come next

    def check_transaction(self, data: bytes, now_ms: int) -> TransactionInfo:
        """Judge a transaction against the tip.

        Returns:
            Who sent what; ``waits`` is set when only time or another transaction is missing.

        Raises:
            InvalidInputError: It can not become valid; the text names the rule.
        """
        transaction = self._admission.admit(data, self._tip.set_leaf)
        leaf = self._reader.transaction_leaf(transaction.id)
        if leaf is not None:
            raise InvalidInputError(
                f"transaction {transaction.id} is in the log already, at index {leaf}"
            )
        waits = ""
        try:
            self._machine(max(now_ms, self._tip.time_ms + 1)).apply(transaction)
        except NotYetValidError as error:
            waits = str(error)
        body = transaction.body
        return TransactionInfo(
            id=transaction.id,
            kind=body.kind,
            author=body.author,
            waits=waits,
            sequence=body.seq if isinstance(body, AttestBatch) else 0,
        )

    def check_motion(self, operation: Approvable) -> None:
        """Judge against the tip what members are still to approve: ``ledger.motions``.

        Raises:
            InvalidInputError: No approval would make it valid; the text names the rule.
        """
        check_motion(
            self._machine(self._tip.time_ms + 1),
            operation,
            network_id=self._network,
            size=self._tip.size,
            verify=self._verify,
        )

    def check_body(self, block: bytes, height: int, now_ms: int) -> BodyChecked:
        """Judge a block body for the working height. Never raises for any bytes.

        Args:
            block: The body, from anywhere.
            height: The working height that the caller means.
            now_ms: The clock, for the time rule of fresh proposals alone.
        """
        body_id = wire.body_id(block)
        header: Header | None = None
        next_set: MemberSet | None = None
        is_next = height == self._tip.height + 1
        reason = "" if is_next else f"height {height} is not the next, {self._tip.height + 1}"
        try:
            header = header_of(block)
            if is_next:
                next_set = self._examine(block, body_id).next_members(self._tip)
        except (InvalidInputError, VerificationError) as error:
            reason = reason or str(error)
        return BodyChecked(
            height=Height(height),
            body_id=body_id,
            block_hash=named_hash(block),
            valid=not reason,
            time=self._time_verdict(header, now_ms) if header else TimeVerdict.OK,
            parent=Digest(bytes.fromhex(header.parent)) if header else ZERO_DIGEST,
            origin_view=View(header.view if header else 0),
            origin_proposer=NodeId(header.proposer if header else ""),
            next_set=next_set,
            reason=reason,
        )

    def build_body(
        self,
        *,
        height: int,
        view: int,
        proposer: NodeId,
        now_ms: int,
        parent_certificate: bytes,
        transactions: Sequence[bytes],
    ) -> bytes | None:
        """Return a block for the working height, or None if there is nothing to put into it.

        Args:
            height: The working height.
            view: The view of the proposal.
            proposer: This node's member id.
            now_ms: The clock.
            parent_certificate: What finalized the tip; empty at height 1.
            transactions: Candidates in order; what is invalid or does not fit is left out.
        """
        assert height == self._tip.height + 1, "a block is built for the working height"
        if self.upgrade_needed() is not None:
            return None
        time_ms = max(now_ms, self._tip.time_ms + 1)
        machine = self._machine(time_ms)
        room = wire.BLOCK_BYTES_MAX - _HEADER_BYTES_RESERVED - len(parent_certificate)
        chosen = self._choose(machine, transactions, room=room)
        execution = machine.finish()
        if not chosen and not execution.leaves:
            return None
        claims = Claims(
            network=Sha256(self._network.hex()),
            view=view,
            proposer=proposer,
            time_ms=time_ms,
            parent_certificate=parent_certificate,
        )
        header = derive_header(
            self._tip, claims, chosen, execution, snapshot_root=self._buckets.root_after
        )
        header_bytes = header.encode()
        block = wire.encode_block(
            header_bytes, parent_certificate, [each.encoded for each in chosen]
        )
        signers = self._check_parent(parent_certificate)
        self._remember(
            wire.body_id(block),
            ExecutedBlock(
                header, header_bytes, parent_certificate, signers, tuple(chosen), execution
            ),
        )
        return block

    # ------------------------------------------------------------ commit

    def commit(self, block: bytes, certificate: bytes, *, is_proved: bool = False) -> Committed:
        """Make a final block durable; on return a power cut cannot take it away.

        Committing the tip again changes nothing and returns the same answer.

        Args:
            block: The whole body.
            certificate: What finalizes it, under the set of its height.
            is_proved: The header, this certificate and the one of the parent are known to hold,
                by a later block's certificate: their signatures are not checked again.

        Raises:
            InvalidInputError: Malformed, or of a height that is not next.
            UnavailableError: The network has moved on to rules that this program does not know.
            VerificationError: The certificate does not hold, or a quorum finalized what is no
                valid block, or another block than the one committed at that height.
        """
        needed = self.upgrade_needed()
        if needed is not None:
            raise UnavailableError(_UPGRADE.format(needed))
        header, tip = header_of(block), self._tip
        block_hash = wire.block_hash(block)
        if header.height == tip.height and header.height > 0:
            return self._commit_again(block_hash)
        if header.height != tip.height + 1:
            raise InvalidInputError(
                f"block of height {header.height} does not follow the tip, height {tip.height}"
            )
        if not is_proved:
            self._check_final(header.height, block_hash, certificate)
        try:
            executed = self._examine(block, wire.body_id(block), is_proved=is_proved)
        except (InvalidInputError, VerificationError) as error:
            raise VerificationError(
                f"block {block_hash.hex()} of height {header.height} is final but not valid: "
                f"{error}"
            ) from None
        sums = self._buckets.after(executed.execution.changes)
        changes = commit_changes(tip, executed, certificate, sums=sums)
        # One synced write. A crash before it leaves the tip as it was, and consensus replays the
        # block from its log or from peers; a crash after it leaves the block and all that follows
        # from it. Tiles and index are derived later and catch up by themselves.
        self._store.write(changes, sync=True)
        self._executed.clear()
        self._known.forget(change.key for change in executed.execution.changes)
        self._tip = read_tip(self._store)
        self._in_force = read_params(self.genesis.params, self._state)
        return self._committed(executed)

    # ------------------------------------------------------------ inside

    def _machine(self, time_ms: int) -> Machine:
        return Machine(
            self._state,
            self._context(time_ms),
            history=self._reader,
            known=self._known,
            verify=self._verify,
        )

    def _context(self, time_ms: int) -> BlockContext:
        tip = self._tip
        return BlockContext(
            network_id=self._network,
            height=tip.height + 1,
            time_ms=time_ms,
            first_leaf=tip.size,
            voters=tip.set_leaf,
            members=tuple(member.id for member in tip.members.members),
            in_force=self._in_force,
        )

    def _choose(
        self, machine: Machine, candidates: Sequence[bytes], *, room: int
    ) -> list[SignedTransaction]:
        """Apply candidates in order; return those that are valid and fit into ``room`` bytes."""
        chosen: list[SignedTransaction] = []
        for data in candidates:
            size = len(data) + _LENGTH_PREFIX_BYTES
            if len(chosen) == wire.TRANSACTIONS_MAX:
                break
            if size > room:
                continue
            try:
                transaction = self._admission.admit(data, self._tip.set_leaf)
                machine.apply(transaction)
            except InvalidInputError:
                continue
            chosen.append(transaction)
            room -= size
        return chosen

    def _examine(self, block: bytes, body_id: Digest, *, is_proved: bool = False) -> ExecutedBlock:
        """Return the block executed on the tip.

        Raises:
            InvalidInputError: It is no valid block after the tip; the text says why.
            VerificationError: The parent's certificate does not hold.
        """
        known = self._executed.get(body_id)
        if known is not None:
            return known
        needed = self.upgrade_needed()
        if needed is not None:
            raise InvalidInputError(_UPGRADE.format(needed))
        parts = split(block)
        header = Header.decode(parts.header)
        network = Sha256(self._network.hex())
        certificate = parts.parent_certificate
        check_cheaply(header, self._tip, network=network, certificate=certificate)
        signers = self._check_parent(certificate, is_proved=is_proved)
        transactions = tuple(
            self._admission.admit(data, self._tip.set_leaf) for data in parts.transactions
        )
        execution = execute(
            self._state,
            self._context(header.time_ms),
            transactions,
            history=self._reader,
            known=self._known,
            verify=self._verify,
        )
        claims = Claims(network, header.view, header.proposer, header.time_ms, certificate)
        derived = derive_header(
            self._tip, claims, transactions, execution, snapshot_root=self._buckets.root_after
        )
        check_derived(header, derived)
        executed = ExecutedBlock(
            header, parts.header, certificate, signers, transactions, execution
        )
        self._remember(body_id, executed)
        return executed

    def _remember(self, body_id: Digest, executed: ExecutedBlock) -> None:
        while len(self._executed) >= _EXECUTED_MAX:
            del self._executed[next(iter(self._executed))]
        self._executed[body_id] = executed

    def _check_parent(self, certificate: bytes, *, is_proved: bool = False) -> tuple[NodeId, ...]:
        """Check the parent's certificate inside a block; return who signed."""
        tip = self._tip
        if tip.height == 0:
            if certificate:
                raise InvalidInputError("block 1 carries a certificate of the genesis")
            return ()
        parent = check_certificate(
            certificate,
            height=tip.height,
            block_hash=tip.block_hash,
            voters=tip.voters,
            chain_id=Digest(self._network),
            verify=_holds if is_proved else self._verify,
        )
        return signers_of(parent, tip.voters)

    def _time_verdict(self, header: Header, now_ms: int) -> TimeVerdict:
        if header.time_ms < now_ms - TIME_TOLERANCE_MS:
            return TimeVerdict.PAST
        # A parent from a fast clock must not stop the chain: one more millisecond is always fine.
        is_next = header.time_ms == self._tip.time_ms + 1
        if header.time_ms > now_ms + TIME_TOLERANCE_MS and not is_next:
            return TimeVerdict.FUTURE
        return TimeVerdict.OK

    def _check_final(self, height: int, block_hash: Digest, certificate: bytes) -> None:
        check_certificate(
            certificate,
            height=height,
            block_hash=block_hash,
            voters=self._tip.members,
            chain_id=Digest(self._network),
            verify=self._verify,
        )

    def _commit_again(self, block_hash: Digest) -> Committed:
        if block_hash != self._tip.block_hash:
            raise VerificationError(
                f"height {self._tip.height} is committed as {self._tip.block_hash.hex()}; "
                f"another block is said to be final there: {block_hash.hex()}"
            )
        record = self._reader.record(self._tip.height)
        leaves = tuple(self._reader.leaves(record.first_leaf, record.size))
        ids = [
            decode_transaction(leaf, network_id=self._network).id
            for leaf in leaves[1 : 1 + record.transactions]
        ]
        tip = self._tip
        has_set = tip.epoch_height == tip.height
        derived = leaves[1 + record.transactions : len(leaves) - has_set]
        return Committed(
            tip=tip,
            first_leaf=record.first_leaf,
            leaves=leaves,
            outcomes=tuple(decode_outcome(leaf) for leaf in derived),
            transaction_ids=tuple(ids),
            parent_signers=record.signers,
            next_set=tip.set_leaf if has_set else None,
        )

    def _committed(self, executed: ExecutedBlock) -> Committed:
        return Committed(
            tip=self._tip,
            first_leaf=executed.header.prev_size,
            leaves=executed.leaves(),
            outcomes=executed.execution.outcomes,
            transaction_ids=tuple(each.id for each in executed.transactions),
            parent_signers=executed.parent_signers,
            next_set=executed.execution.next_set,
        )


def _holds(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    """Stand in for the check of a signature that is known to hold."""
    return True
