"""Which evidence enters the log, by the rules of the state machine alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.types import NodeId
from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.evidence import (
    EVIDENCE_PER_BLOCK_MAX,
    contradiction_in,
    evidence_of,
)
from pyrsia_node.model.digest import ZERO_SHA256, Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.evidence import Evidence, SignedStatement
from pyrsia_node.model.transactions import decode_transaction
from tests.fakes.block_runner import NETWORK, BlockRunner, unsigned
from tests.strategies.build_bodies import request
from tests.strategies.crimes import PAIRS, crime
from tests.strategies.identities import identities, identity


@pytest.fixture
def runner() -> BlockRunner:
    return BlockRunner(4)


def evidence(
    runner: BlockRunner,
    name: str = "two_notarizations",
    *,
    culprit: int = 3,
    height: int = 1,
    view: int = 0,
) -> Evidence:
    proof = crime(
        identities(4)[culprit],
        name,
        network_id=NETWORK,
        voters=runner.voters[0],
        height=height,
        view=view,
    )
    return evidence_of(proof, by=runner.members[0])


@pytest.mark.parametrize("name", PAIRS)
def test_every_kind_of_contradiction_enters_the_log(runner: BlockRunner, name: str) -> None:
    body = evidence(runner, name)
    assert contradiction_in(body).crime.value == name
    runner.run(body)
    assert runner.leaves[-1] == unsigned(body).encoded
    again = decode_transaction(unsigned(body).encoded, network_id=NETWORK)
    assert again.body == body


def test_a_member_is_convicted_once_of_a_kind_in_an_epoch(runner: BlockRunner) -> None:
    runner.run(evidence(runner))
    with pytest.raises(
        InvalidInputError, match="convicted of two_notarizations in epoch 0 already"
    ):
        runner.run(evidence(runner, view=7))
    runner.run(evidence(runner, "two_finalizations"), evidence(runner, culprit=2))


def test_a_block_holds_eight_pieces_of_evidence(runner: BlockRunner) -> None:
    many = [evidence(runner, name, culprit=culprit) for name in PAIRS for culprit in (2, 3)]
    with pytest.raises(NotYetValidError, match="holds 8 pieces of evidence"):
        runner.run(*many)
    runner.run(*many[:EVIDENCE_PER_BLOCK_MAX])
    runner.run(*many[EVIDENCE_PER_BLOCK_MAX:])


def test_evidence_changes_nothing_for_honest_members(runner: BlockRunner) -> None:
    runner.run(evidence(runner))
    runner.run(request(runner.members[3]))  # the convicted member still speaks, too


def test_mulberry_evidence_carries_no_time_and_does_not_age(runner: BlockRunner) -> None:
    """What its finder says of time would be what its finder wants; the pair alone convicts."""
    body = evidence(runner)
    with pytest.raises(InvalidInputError, match="time_ms"):
        decode_transaction(
            unsigned(body).encoded.replace(b'"v":1,', b'"time_ms":1,"v":1,'), network_id=NETWORK
        )
    runner.run(request(runner.members[1]))
    runner.run(body, after_ms=900 * 24 * 3_600_000)
    assert unsigned(body).encoded in runner.leaves


def forged(signed: SignedStatement) -> SignedStatement:
    return replace(signed, signature=bytes(64))


STRANGER = identity(77)

WRONG = {
    "is no authorized node, so it reports nothing": lambda body: replace(body, by=STRANGER.id),
    "had no vote at height 1": lambda body: replace(body, culprit=STRANGER.id),
    "did not sign both": lambda body: replace(body, second=forged(body.second)),
    "in a block of height 1": lambda body: replace(body, height=2),
    "the set of height 1 is not": lambda body: replace(body, set=ZERO_SHA256),
    "in the wrong order": lambda body: replace(body, first=body.second, second=body.first),
    "do not contradict each other": lambda body: replace(body, second=body.first),
    "names a block wrongly": lambda body: replace(
        body, first=replace(body.first, block=ZERO_SHA256)
    ),
}


@pytest.mark.parametrize("reason", WRONG)
def test_evidence_that_breaks_a_rule_is_refused_by_its_name(
    runner: BlockRunner, reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        runner.run(WRONG[reason](evidence(runner)))
    runner.run(evidence(runner))


@pytest.mark.parametrize(
    "change",
    [
        lambda body: replace(body, view=1),
        lambda body: replace(body, culprit=NodeId(identities(4)[2].id)),
        lambda body: replace(body, first=replace(body.first, block=Sha256("c" * 64))),
        lambda body: replace(
            body,
            first=replace(body.first, kind="proposal"),
            second=replace(body.second, kind="proposal"),
        ),
    ],
)
def test_no_honest_member_is_convicted_by_statements_bent_to_fit(
    runner: BlockRunner, change: object
) -> None:
    assert callable(change)
    with pytest.raises(InvalidInputError, match=r"did not sign both|wrong order"):
        runner.run(change(evidence(runner)))
