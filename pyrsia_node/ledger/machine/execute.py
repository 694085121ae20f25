"""Execution of a block: transactions in order, then the outcomes, the leaves and the changes.

``execute`` is what a voter runs to check a block; a proposer drives ``Machine`` itself, so that it
can leave out what has become invalid. Both are pure functions of the state before, the block's
context and the transactions: no clock, no randomness, no order of a set or dict.
Specification: docs/spec/leaves.md, "Order inside a block"; design: docs/design/ledger.md.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from consensus import ed25519
from consensus.types import NodeId
from pyrsia_node.ledger.machine import (
    approvals,
    attestations,
    evidence,
    membership,
    records,
    requests,
    sealing,
    sources,
    statements,
)
from pyrsia_node.ledger.machine.context import (
    BlockContext,
    BlockState,
    History,
    NotYetValidError,
    RecordCache,
)
from pyrsia_node.ledger.machine.late import late_leaves
from pyrsia_node.ledger.machine.records import Agreement, RequestRecord, Tally
from pyrsia_node.ledger.machine.sealing import SealFinding, StillSealed, Unseal
from pyrsia_node.ledger.machine.tally import (
    Agreed,
    Count,
    Disagreed,
    Finding,
    Overdue,
    Unbuildable,
    Undecided,
    evaluate,
)
from pyrsia_node.ledger.machine.view import Change, StateView
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import (
    Accepted,
    Diverged,
    Expired,
    Failed,
    Outcome,
    Unsealed,
    encode_outcome,
)
from pyrsia_node.model.limits import LEAF_BYTES_MAX
from pyrsia_node.model.mappings import AddSource
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.membership import MembershipOperation
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.signing import Verify
from pyrsia_node.model.statements import Statement
from pyrsia_node.model.transactions import (
    AddNode,
    Approve,
    AttestBatch,
    AttestCommit,
    BuildRequest,
    Deprecate,
    Evidence,
    RemoveNode,
    Result,
    Revoke,
    RotateKey,
    SetParam,
    SignedTransaction,
    Vulnerable,
    Withdraw,
)
from pyrsia_node.ports import KeyValueReader


@dataclass(frozen=True, slots=True)
class Execution:
    """What a block comes to.

    Attributes:
        outcomes: The outcomes, in log order; they follow the transactions.
        leaves: All derived leaves: the outcomes, then the set leaf of the next height if the block
            changes the set.
        next_set: That set; None if the block does not change it.
        changes: The changes of the state, in key order.
        due_ms: When the next outcome falls due after the block; None without open requests.
    """

    outcomes: tuple[Outcome, ...]
    leaves: tuple[bytes, ...]
    next_set: SetLeaf | None
    changes: tuple[Change, ...]
    due_ms: int | None


def execute(
    state: KeyValueReader,
    context: BlockContext,
    transactions: Iterable[SignedTransaction],
    *,
    history: History,
    known: RecordCache | None = None,
    verify: Verify = ed25519.verify,
) -> Execution:
    """Execute a block.

    Args:
        state: The state after the parent block.
        context: The block.
        transactions: Its transactions; their signatures are the caller's to check.
        history: What lies before the block.
        known: Decoded records of ``state``, kept from block to block by who commits.
        verify: The check of signatures that evidence carries.

    Raises:
        NotYetValidError: A transaction is not valid yet.
        InvalidInputError: A transaction is not valid; the text says which and why.
    """
    machine = Machine(state, context, history=history, known=known, verify=verify)
    for number, transaction in enumerate(transactions):
        try:
            machine.apply(transaction)
        except InvalidInputError as error:
            raise type(error)(f"transaction {number} of the block: {error}") from None
    return machine.finish()


class Machine:
    """Executes one block. ``apply`` each transaction, then ``finish`` once."""

    def __init__(
        self,
        state: KeyValueReader,
        context: BlockContext,
        *,
        history: History,
        known: RecordCache | None = None,
        verify: Verify = ed25519.verify,
    ) -> None:
        """Start a block over ``state``; arguments as for ``execute``."""
        self._view = StateView(state)
        self._state = BlockState(self._view, known)
        self._context = context
        self._history = history
        self._verify = verify
        self._changed: membership.Changed | None = None
        # Members of the next height; ``finish`` knows them.
        self._current = frozenset(context.members)
        self._count = 0
        self._ids: set[str] = set()
        self._spoken: dict[Sha256, set[NodeId]] = {}
        self._documents: dict[Sha256, Document] = {}

    def apply(self, transaction: SignedTransaction) -> None:
        """Execute one transaction, or refuse it and change nothing.

        Raises:
            NotYetValidError: It may become valid later.
            InvalidInputError: It is not valid; the text names the rule.
        """
        if transaction.id in self._ids:
            raise InvalidInputError(f"transaction {transaction.id} is in the block already")
        leaf = self._context.first_leaf + 1 + self._count
        match transaction.body:
            case BuildRequest() | AttestCommit() | AttestBatch() | Result() as body:
                self._apply_build(body, transaction.id, leaf=leaf)
            case AddNode() | RemoveNode() | RotateKey() | SetParam() as body:
                self._apply_change(body, transaction.id, leaf=leaf)
            case body:
                self._apply_word(body, transaction.id, leaf=leaf)
        self._ids.add(transaction.id)
        self._count += 1

    def _apply_build(
        self,
        body: BuildRequest | AttestCommit | AttestBatch | Result,
        transaction_id: Sha256,
        *,
        leaf: int,
    ) -> None:
        match body:
            case BuildRequest():
                requests.open_request(
                    self._state, self._context, body, request_id=transaction_id, leaf=leaf
                )
            case AttestCommit():
                sealing.apply_commit(self._state, self._context, body)
                self._spoken.setdefault(body.request, set())
            case AttestBatch():
                spoken = attestations.apply_batch(self._state, self._context, body, leaf=leaf)
                for request in spoken:
                    self._spoken.setdefault(request, set()).add(body.voter)
            case Result():
                attestations.apply_result(self._state, self._context, body, leaf=leaf)
                self._documents[body.document.digest()] = body.document
                self._spoken.setdefault(body.request, set())
            case _:
                assert_never(body)

    def _apply_word(
        self, body: Approve | Evidence | Statement | AddSource, transaction_id: Sha256, *, leaf: int
    ) -> None:
        match body:
            case Approve():
                approvals.approve(self._state, self._context, body)
            case Evidence():
                evidence.apply_evidence(
                    self._state,
                    self._context,
                    self._history,
                    body,
                    leaf=leaf,
                    verify=self._verify,
                )
            case Withdraw() | Revoke() | Deprecate() | Vulnerable():
                statements.apply_statement(
                    self._state,
                    self._context,
                    self._history,
                    body,
                    transaction_id=transaction_id,
                    leaf=leaf,
                )
            case AddSource():
                sources.apply_source(
                    self._state, self._context, body, transaction_id=transaction_id, leaf=leaf
                )
            case _:
                assert_never(body)

    def _apply_change(
        self, operation: MembershipOperation, transaction_id: Sha256, *, leaf: int
    ) -> None:
        if self._changed is not None:
            raise NotYetValidError("the block holds a change of the set or the parameters already")
        self._changed = membership.apply_change(
            self._state,
            self._context,
            self._history,
            operation,
            transaction_id=transaction_id,
            leaf=leaf,
        )

    def finish(self) -> Execution:
        """Derive the outcomes and the next set, and return what the block comes to."""
        if isinstance(self._changed, membership.SetChanged):
            after = self._changed.after
            self._current = frozenset(record.id for record in after.members)
        else:
            after = None
        outcomes: list[Outcome] = []
        late = sorted(
            request for request in self._spoken if self._state.tally(request).state != records.OPEN
        )
        for request in self._to_evaluate():
            outcome = self._evaluate(request, position=len(outcomes))
            if outcome is not None:
                outcomes.append(outcome)
        for request in late:
            outcomes.extend(self._late(request))
        approvals.forget_expired(self._state, self._context.height)
        next_due = self._view.first(records.DUE_PREFIX)
        leaves = [_encode(outcome) for outcome in outcomes]
        if after is not None:
            leaves.append(after.encode())
        return Execution(
            outcomes=tuple(outcomes),
            leaves=tuple(leaves),
            next_set=after,
            changes=self._view.changes(),
            due_ms=None if next_due is None else records.parse_due_key(next_due)[0],
        )

    def _to_evaluate(self) -> list[Sha256]:
        """Return the open requests that are touched, due, or lose a member, by (due, id)."""
        bound = records.due_bound(self._context.time_ms)
        found = {
            records.parse_due_key(key) for key in self._view.keys(records.DUE_PREFIX, up_to=bound)
        }
        for request in self._spoken:
            tally = self._state.tally(request)
            if tally.state == records.OPEN:
                found.add((tally.due_ms, request))
        found.update(self._losing())
        return [request for _, request in sorted(found)]

    def _losing(self) -> Iterable[tuple[int, Sha256]]:
        lost = set(self._context.members) - self._current
        if not lost:
            return
        for key in self._view.keys(records.DUE_PREFIX, up_to=f"{records.DUE_PREFIX}~"):
            due_ms, request = records.parse_due_key(key)
            if not lost.isdisjoint(self._record(request).members):
                yield due_ms, request

    def _evaluate(self, request: Sha256, *, position: int) -> Outcome | None:
        record, tally = self._record(request), self._state.tally(request)
        leaf = self._context.first_leaf + 1 + self._count + position
        finding: Finding | SealFinding
        if record.is_sealed and tally.unsealed is None:
            finding = self._seal_of(request, record, tally)
            if isinstance(finding, Unseal | StillSealed):
                return self._keep_sealed(request, record, tally, finding, leaf=leaf)
        else:
            finding = self._finding_of(request, record, tally)
        if isinstance(finding, Undecided):
            after = replace(tally, slots=finding.slots, due_ms=finding.due_ms)
            self._keep_open(request, tally, after)
            return None
        state, outcome = self._outcome(request, record, finding)
        agreement = None
        if isinstance(finding, Agreed):
            agreement = Agreement(finding.result, finding.level, finding.own)
        closed = replace(tally, state=state, outcome=leaf, agreement=agreement)
        self._state.put_tally(request, closed)
        self._view.delete(records.due_key(tally.due_ms, request))
        requests.release(self._state, record)
        return outcome

    def _finding_of(self, request: Sha256, record: RequestRecord, tally: Tally) -> Finding:
        return evaluate(
            self._counted(request),
            tally,
            time_ms=self._context.time_ms,
            has_document=lambda result: self._document(record, result) is not None,
        )

    def _seal_of(self, request: Sha256, record: RequestRecord, tally: Tally) -> SealFinding:
        counted = [member for member in record.members if member in self._current]
        committed, missing = self._by_commit(request, counted)
        return sealing.evaluate_seal(
            record, tally, committed=committed, missing=missing, time_ms=self._context.time_ms
        )

    def _by_commit(
        self, request: Sha256, members: Iterable[NodeId]
    ) -> tuple[tuple[NodeId, ...], tuple[NodeId, ...]]:
        """Return those who committed to their item of a sealed request, and the others."""
        committed: list[NodeId] = []
        others: list[NodeId] = []
        for member in members:
            has_one = sealing.has_committed(self._state, request, member)
            (committed if has_one else others).append(member)
        return tuple(committed), tuple(others)

    def _keep_sealed(
        self,
        request: Sha256,
        record: RequestRecord,
        tally: Tally,
        finding: Unseal | StillSealed,
        *,
        leaf: int,
    ) -> Outcome | None:
        if isinstance(finding, StillSealed):
            after = replace(tally, seal_ends_ms=finding.seal_ends_ms, due_ms=finding.due_ms)
            self._keep_open(request, tally, after)
            return None
        self._keep_open(request, tally, replace(tally, unsealed=leaf, due_ms=record.deadline_ms))
        return Unsealed(request, finding.committed)

    def _keep_open(self, request: Sha256, before: Tally, after: Tally) -> None:
        if after == before:
            return
        self._state.put_tally(request, after)
        if after.due_ms != before.due_ms:
            self._view.delete(records.due_key(before.due_ms, request))
            self._view.put(records.due_key(after.due_ms, request), 1)

    def _outcome(
        self, request: Sha256, record: RequestRecord, finding: Finding
    ) -> tuple[str, Outcome]:
        purl = Purl.parse(record.purl)
        match finding:
            case Agreed():
                document = self._document(record, finding.result)
                assert document is not None
                return records.ACCEPTED, Accepted(
                    request=request,
                    document=document,
                    k=record.k,
                    level=finding.level,
                    attestors=finding.attestors,
                    differ=finding.differ,
                )
            case Disagreed(classes):
                return records.DIVERGED, Diverged(request, purl, classes)
            case Unbuildable(causes):
                return records.FAILED, Failed(request, purl, causes)
            case Overdue(silent):
                return records.EXPIRED, Expired(request, purl, silent)
            case Undecided():
                raise AssertionError("an undecided request has no outcome")
            case _:
                assert_never(finding)

    def _late(self, request: Sha256) -> Sequence[Outcome]:
        tally = self._state.tally(request)
        record = self._record(request)
        # Who saw the others' items before it spoke can tell that it differs, not that it agrees.
        _, barred = self._by_commit(request, record.members) if record.is_sealed else ((), ())
        count = self._count_of(request, record, barred=())
        leaves, after = late_leaves(request, count, tally, self._spoken[request], barred=barred)
        if after != tally:
            self._state.put_tally(request, after)
        return leaves

    def _counted(self, request: Sha256) -> Count:
        """Return the items that count for the outcome."""
        record = self._record(request)
        _, barred = self._by_commit(request, record.members) if record.is_sealed else ((), ())
        return self._count_of(request, record, barred=barred)

    def _count_of(
        self, request: Sha256, record: RequestRecord, *, barred: Container[NodeId]
    ) -> Count:
        return Count.of(
            record,
            (
                (member, self._state.item(request, member))
                for member in record.members
                if member in self._current and member not in barred
            ),
        )

    def _record(self, request: Sha256) -> RequestRecord:
        record = self._state.request(request)
        assert record is not None
        return record

    def _document(self, record: RequestRecord, digest: Sha256) -> Document | None:
        """Return the document in the log with this digest, if it answers the request."""
        leaf = self._state.integer(records.document_key(digest))
        if leaf is None:
            return None
        document = self._documents.get(digest)
        if document is None:
            value = canonical.loads_object(self._history.leaf(leaf), bytes_max=LEAF_BYTES_MAX)
            document = self._documents[digest] = Document.from_json(value["doc"])
        # Items could name a document of another package that the log has for another request.
        return None if attestations.why_unfit(record, document) else document


def _encode(outcome: Outcome) -> bytes:
    leaf = encode_outcome(outcome)
    # Limits on what goes in make this impossible; a larger leaf would stop the log for ever.
    assert len(leaf) <= LEAF_BYTES_MAX, f"derived leaf of {len(leaf)} bytes"
    return leaf
