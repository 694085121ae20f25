"""Build requests: when one may open, and what its opening changes.

All limits on sponsors are here, in the state machine, so that no proposer can pass them by.
Specification: docs/spec/leaves.md, "Validity".
"""

from __future__ import annotations

from typing import Final, cast

from consensus.quorum import faults, quorum
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import BlockContext, BlockState, NotYetValidError
from pyrsia_node.ledger.machine.records import RequestRecord, SponsorRecord, Tally
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.limits import ATTEMPT_WINDOW_MS, ATTEMPTS_MAX, UNTIL_AHEAD_MS_MAX
from pyrsia_node.model.sources import IMAGE
from pyrsia_node.model.transactions import BuildRequest

CREDIT_PER_REQUEST: Final = 3_600_000
"""Credit that one request costs: the milliseconds of an hour, so that a rate is an integer."""


def threshold(ecosystem_k: int, *, n: int) -> int:
    """Return k for a request that ``n`` members see open: never below f + 1."""
    return quorum(n) if ecosystem_k == 0 else max(ecosystem_k, faults(n) + 1)


def open_request(
    state: BlockState,
    context: BlockContext,
    request: BuildRequest,
    *,
    request_id: Sha256,
    leaf: int,
) -> None:
    """Open a request, or refuse it and change nothing.

    Raises:
        NotYetValidError: It may become valid later: rate, open requests, ``until`` too far ahead.
        InvalidInputError: It breaks a rule; the text names it.
    """
    k = _check_network(context, request)
    _check_time(context, request)
    if state.request(request_id) is not None:
        raise InvalidInputError(f"build request {request_id} is in the log already")
    uniqueness = sha256_of(canonical.dumps(request.uniqueness()))
    holder = state.view.get(records.uniqueness_key(uniqueness))
    if holder is not None:
        raise InvalidInputError(f"an equal build request is open: {holder}")
    tries = _tries(state, context, request)
    sponsor = _charged(state, context, request)

    record = RequestRecord(
        purl=str(request.purl),
        claim=request.claim,
        sponsor=request.sponsor,
        uniqueness=uniqueness,
        leaf=leaf,
        opened_ms=context.time_ms,
        class_ms=context.params.class_ms[request.time_class],
        k=k,
        members=context.members,
        is_sealed=context.in_force.sealed == 1,
        root=request.source.sha256 if request.source.kind == IMAGE else "",
    )
    state.put_request(request_id, record)
    state.put_tally(request_id, Tally(state=records.OPEN, due_ms=record.deadline_ms))
    state.view.put(records.due_key(record.deadline_ms, request_id), 1)
    state.view.put(records.uniqueness_key(uniqueness), request_id)
    state.view.put(records.tries_key(request.sponsor, record.purl), [*tries, context.time_ms])
    state.put_sponsor(request.sponsor, sponsor)


def release(state: BlockState, record: RequestRecord) -> None:
    """Free what an open request held, when it gets its outcome."""
    state.view.delete(records.uniqueness_key(record.uniqueness))
    sponsor = state.sponsor(record.sponsor)
    assert sponsor is not None
    assert sponsor.open > 0
    state.put_sponsor(
        record.sponsor, SponsorRecord(sponsor.open - 1, sponsor.credit, sponsor.time_ms)
    )


def _check_network(context: BlockContext, request: BuildRequest) -> int:
    """Check what depends on the set and the parameters; return k."""
    n = len(context.members)
    if request.sponsor not in context.members:
        raise InvalidInputError(f"sponsor {request.sponsor} is no authorized node")
    if n < context.params.min_authorized:
        raise InvalidInputError(
            f"{n} authorized nodes are too few: build requests need "
            f"{context.params.min_authorized} (min_authorized)"
        )
    ecosystem_k = context.params.k.get(request.purl.type)
    if ecosystem_k is None:
        known = ", ".join(sorted(context.params.k))
        raise InvalidInputError(
            f"this network does not rebuild {request.purl.type} packages, only: {known}"
        )
    k = threshold(ecosystem_k, n=n)
    if k > n:
        raise InvalidInputError(
            f"{request.purl.type} needs {k} equal builds, but only {n} nodes are authorized"
        )
    return k


def _check_time(context: BlockContext, request: BuildRequest) -> None:
    if request.until < context.time_ms:
        raise InvalidInputError(
            f"build request was valid until {request.until} ms; block time is {context.time_ms} ms"
        )
    if request.until > context.time_ms + UNTIL_AHEAD_MS_MAX:
        raise NotYetValidError(
            f"until {request.until} ms is more than 24 hours after {context.time_ms} ms"
        )


def _tries(state: BlockState, context: BlockContext, request: BuildRequest) -> list[int]:
    """Return the sponsor's earlier requests for the purl inside the window."""
    stored = state.view.get(records.tries_key(request.sponsor, str(request.purl)))
    earliest = context.time_ms - ATTEMPT_WINDOW_MS
    times = [each for each in cast("list[int]", stored or []) if each > earliest]
    if len(times) >= ATTEMPTS_MAX:
        raise InvalidInputError(
            f"{request.purl} was requested {len(times)} times by this sponsor within 24 hours"
        )
    return times


def _charged(state: BlockState, context: BlockContext, request: BuildRequest) -> SponsorRecord:
    """Return the sponsor's limits after one more request."""
    params = context.params
    full = params.burst * CREDIT_PER_REQUEST
    before = state.sponsor(request.sponsor) or SponsorRecord(0, full, context.time_ms)
    if before.open >= params.open_max:
        raise NotYetValidError(f"sponsor has {before.open} open requests (open_max)")
    earned = (context.time_ms - before.time_ms) * params.rate_per_hour
    credit = min(full, before.credit + earned)
    if credit < CREDIT_PER_REQUEST:
        wait_ms = -((credit - CREDIT_PER_REQUEST) // params.rate_per_hour)
        raise NotYetValidError(f"sponsor asks too fast: next request in {wait_ms} ms of block time")
    return SponsorRecord(before.open + 1, credit - CREDIT_PER_REQUEST, context.time_ms)
