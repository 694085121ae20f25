"""Bodies of the working height: what is asked of the state machine, what is fetched, what is kept.

A verdict belongs to exact bytes (``body_id``), never to a block hash: a hostile peer can send other
transactions under a true header. So a bad body neither poisons its hash nor ends the search for
the good one, and only a body found valid is ever kept under its hash or made durable.
"""

from __future__ import annotations

from typing import Final

from consensus import wire
from consensus.effects import CheckBody, RecordKind, RequestBody
from consensus.errors import DecodeError
from consensus.events import BodyChecked, BodyReceived, TimeVerdict
from consensus.outbox import Outbox
from consensus.state import HeightState, KeptBody
from consensus.types import Digest

CHECKS_MAX: Final = 8
"""Most bodies that wait for the state machine at once, not counting the current proposal's."""


def check(state: HeightState, out: Outbox, block: bytes, identity: Digest, name: Digest) -> None:
    """Ask the state machine about a body, once."""
    if identity not in state.bodies:
        state.bodies[identity] = KeptBody(block, name)
        out.add(CheckBody(state.height, block))


def check_found(state: HeightState, out: Outbox, block: bytes, name: Digest) -> None:
    """Ask about a body that is not up for a vote, unless a valid one is here or too many wait."""
    waiting = sum(body.verdict is None for body in state.bodies.values())
    if name not in state.valid and waiting < CHECKS_MAX:
        check(state, out, block, wire.body_id(block), name)


def find(state: HeightState, out: Outbox, name: Digest, *, attempt: int) -> None:
    """Get the body of a certified block: from a proposal that is here, else from a holder.

    ``attempt`` turns the order of the holders, so that one that answers with other transactions
    under the true header is not first for ever.
    """
    for view in sorted(state.proposals):
        kept = state.proposals[view]
        if kept.block_hash == name and not kept.is_refused:
            check_found(state, out, kept.proposal.block, name)
    if not state.is_being_checked(name):
        holders = state.holders(name)
        first = attempt % len(holders) if holders else 0
        out.add(RequestBody(state.height, name, (*holders[first:], *holders[:first])))


def received(state: HeightState, out: Outbox, event: BodyReceived) -> None:
    """Take a body that was asked for; anything else is dropped."""
    if event.height != state.height:
        return
    try:
        wire.split_block(event.block)
        name = wire.block_hash(event.block)
    except DecodeError:
        return
    if name in state.missing_bodies():
        check_found(state, out, event.block, name)


def checked(state: HeightState, event: BodyChecked) -> None:
    """Take the state machine's verdict on exactly these bytes."""
    body = state.bodies.get(event.body_id)
    if event.height != state.height or body is None:
        return
    if event.valid and event.parent == state.tip and event.block_hash == body.block_hash:
        body.verdict = event
        state.valid.setdefault(body.block_hash, body)
        return
    del state.bodies[event.body_id]
    for kept in state.proposals.values():
        if kept.body_id == event.body_id:
            kept.is_refused = True


def check_time_again(state: HeightState, out: Outbox) -> None:
    """Ask again about the current proposal if its time was ahead of our clock."""
    kept = state.proposals.get(state.view)
    body = None if kept is None else state.valid.get(kept.block_hash)
    if body is not None and body.verdict is not None and body.verdict.time is TimeVerdict.FUTURE:
        out.add(CheckBody(state.height, body.block))


def make_durable(state: HeightState, out: Outbox, body: KeptBody) -> None:
    """Have a valid body written before whatever this step says about it leaves."""
    if body.block_hash not in state.durable:
        state.durable.add(body.block_hash)
        out.persist(RecordKind.BODY, body.block)
