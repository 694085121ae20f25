"""What hostile members can make the core keep, ask and send is bounded (CONSENSUS 3.12).

Bounds of the gate (strangers, windows, frames that wait, distinct votes, signatures checked once)
are tested in ``test_ingress``; those of the wire in ``test_wire_limits``; egress of R8 in
``test_help``; the driver's (checks, answers and bytes a second) in
``tests/integration/replica/test_bounds_of_a_member``.
"""

from __future__ import annotations

from consensus import wire
from consensus.bodies import CHECKS_MAX
from consensus.effects import CheckBody, ReportEvidence, RequestBody
from consensus.events import BodyReceived
from consensus.evidence import DISTINCT_VOTES_MAX
from consensus.ingress import VIEW_WINDOW
from consensus.types import Height, View, VoteKind
from tests.unit.consensus.committee import (
    GENESIS_TIP,
    N,
    X,
    alone,
    certificate_of,
    make_block,
    member_set,
    names,
    of_type,
    proposal_of,
    vote_of,
)

SET = member_set(names(4))


def block(view: int, label: bytes = b"tx", proposer: str = "m001") -> bytes:
    return make_block(
        height=1, view=view, proposer=proposer, parent=GENESIS_TIP, transactions=(label,)
    )


def test_bodies_that_wait_for_the_state_machine_are_bounded() -> None:
    node = alone(4, 0)
    node.is_slow = True
    bodies = [block(view) for view in range(3 * CHECKS_MAX)]
    for view, body in enumerate(bodies):
        name = wire.block_hash(body)
        node.tell("m002", certificate_of(SET, N, view=view, block_hash=name, signers=(1, 2, 3)))
    for body in bodies:
        node.step(BodyReceived(Height(1), body))
    assert len(of_type(node.done, CheckBody)) == CHECKS_MAX
    # As verdicts come, others get their turn.
    for effect in of_type(node.done, CheckBody):
        node.step(node.check(effect.block))
    for body in bodies:
        node.step(BodyReceived(Height(1), body))
    assert len(of_type(node.done, CheckBody)) == 2 * CHECKS_MAX


def test_bodies_are_asked_for_by_certified_hash_alone() -> None:
    node = alone(4, 0)
    for view in range(VIEW_WINDOW):
        for peer in ("m001", "m002"):
            name = wire.block_hash(block(view))
            node.tell(peer, vote_of(peer, SET, N, view=view, block_hash=name))
    assert of_type(node.done, RequestBody) == []
    name = wire.block_hash(block(0))
    node.tell("m003", certificate_of(SET, N, view=0, block_hash=name, signers=(1, 2, 3)))
    assert [effect.block_hash for effect in of_type(node.done, RequestBody)] == [name]


def test_votes_that_one_member_can_make_us_keep_are_bounded() -> None:
    """All kinds, all views of the window, as many blocks as it likes."""
    node = alone(4, 0)
    for view in range(2 * VIEW_WINDOW):
        for number in range(10):
            for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
                name = wire.block_hash(block(view, b"%d" % number))
                node.tell("m001", vote_of("m001", SET, kind, view=view, block_hash=name))
        node.tell("m001", vote_of("m001", SET, X, view=view))
    kept = node.replica._state.tallies
    views = VIEW_WINDOW + 1
    assert {view for _, view, _ in kept} == set(range(views))
    # The node's own: it skips view 0 with its leader (R6c), whose vote that is.
    assert sum(map(len, kept.values())) <= views * (2 * DISTINCT_VOTES_MAX + 1) + 1
    # What convicts is reported once for each pair, so a member can only convict itself, in bounds.
    assert len(of_type(node.done, ReportEvidence)) <= views * 8


def test_proposals_that_one_leader_can_make_us_keep_are_bounded() -> None:
    node = alone(4, 0)
    node.is_slow = True
    for number in range(50):
        said = proposal_of("m001", SET, block(0, b"%d" % number), view=0)
        node.tell("m001", said)
    assert len(node.replica._state.proposals) == 1
    assert len(of_type(node.done, CheckBody)) == 1
    assert len(of_type(node.done, ReportEvidence)) == 1
    for view in range(1, 60):
        leader = node.replica.leader(View(view))
        if leader != "m000":
            node.tell(leader, proposal_of(leader, SET, block(view), view=view))
    assert len(node.replica._state.proposals) <= VIEW_WINDOW + 1
