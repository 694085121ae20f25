"""Which statements about entries are valid, by the rules of the state machine alone."""

from __future__ import annotations

import pytest

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.statements import ADVICE_PER_DAY_MAX
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Deprecate, Revoke, Vulnerable, Withdraw
from tests.fakes.block_runner import NETWORK, BlockRunner, unsigned
from tests.strategies.build_bodies import PURL, batch, built, digest, document, request, result
from tests.strategies.member_bodies import approve

BYTES = digest("wheel ")
OTHER = Purl.pypi("six", "1.16.0")


@pytest.fixture
def runner() -> BlockRunner:
    return BlockRunner(4)


def revoke(by: NodeId, sha256: Sha256 = BYTES, *, nonce: int = 0) -> Revoke:
    return Revoke(by, PURL, sha256, "malware", f"{nonce:032x}")


def advice(by: NodeId, nonce: int = 0) -> Vulnerable:
    return Vulnerable(by, PURL, "CVE-2024-3094", "backdoor", f"{nonce:032x}")


def approved(runner: BlockRunner, statement: Revoke | Withdraw, count: int) -> None:
    """Let the first ``count`` members approve a statement."""
    bodies = [
        approve(member, statement, NETWORK, expiry=runner.height + 10)
        for member in runner.members[:count]
    ]
    runner.run(*bodies)


def accepted_entry(runner: BlockRunner) -> int:
    """Have a build accepted; return the leaf of its outcome."""
    body = request(runner.members[0])
    runner.run(body)
    wanted = unsigned(body).id
    answers = [batch(member, 1, built(wanted)) for member in runner.members]
    runner.run(*answers, result(runner.members[0], wanted))
    view = runner.view(wanted)
    assert view.outcome == "accepted"
    assert view.outcome_leaf is not None
    return view.outcome_leaf


def test_a_revocation_needs_a_quorum_and_is_then_state(runner: BlockRunner) -> None:
    statement = revoke(runner.members[0])
    approved(runner, statement, 2)
    with pytest.raises(NotYetValidError, match="2 of 3 approvals"):
        runner.run(statement)
    approved(runner, statement, 3)
    first = len(runner.leaves)
    runner.run(statement)
    assert runner.state.get(records.revoked_key(BYTES).encode()) == str(first + 1).encode()


def test_bytes_are_revoked_once(runner: BlockRunner) -> None:
    statement = revoke(runner.members[0])
    approved(runner, statement, 3)
    runner.run(statement)
    with pytest.raises(InvalidInputError, match="is in the log already"):
        runner.run(statement)
    with pytest.raises(InvalidInputError, match="says revoke already"):
        runner.run(revoke(runner.members[1], nonce=1))


def test_approvals_of_one_reason_do_not_carry_another(runner: BlockRunner) -> None:
    approved(runner, revoke(runner.members[0]), 4)
    other = Revoke(runner.members[0], PURL, BYTES, "I do not like it", "00" * 16)
    with pytest.raises(NotYetValidError, match="0 of 3 approvals"):
        runner.run(other)


def test_only_an_accepted_entry_of_that_purl_is_withdrawn(runner: BlockRunner) -> None:
    entry = accepted_entry(runner)
    member = runner.members[0]
    for wrong, why in (
        (Withdraw(member, PURL, 0, "why", "00" * 16), "is no accepted build"),
        (Withdraw(member, OTHER, entry, "why", "00" * 16), "not of pkg:pypi/six@1.16.0"),
        (Withdraw(member, PURL, 10_000, "why", "00" * 16), "there is no entry 10000"),
    ):
        approved(runner, wrong, 3)
        with pytest.raises(InvalidInputError, match=why):
            runner.run(wrong)
    statement = Withdraw(member, PURL, entry, "built from another source", "00" * 16)
    approved(runner, statement, 3)
    runner.run(statement)
    assert runner.state.get(records.withdrawn_key(entry).encode()) is not None
    again = Withdraw(member, PURL, entry, "built from another source", "01" * 16)
    with pytest.raises(InvalidInputError, match="says withdraw already"):
        runner.run(again)


def test_one_member_advises_alone_and_closes_nothing(runner: BlockRunner) -> None:
    member = runner.members[3]
    runner.run(advice(member), Deprecate(member, PURL, "unmaintained", OTHER, "00" * 16))
    assert not list(runner.state.scan(b"revoked/"))
    assert not list(runner.state.scan(b"withdrawn/"))


def test_advice_of_a_member_is_limited_each_day(runner: BlockRunner) -> None:
    member = runner.members[0]
    runner.run(*(advice(member, number) for number in range(ADVICE_PER_DAY_MAX)))
    with pytest.raises(NotYetValidError, match="200 pieces of advice today"):
        runner.run(advice(member, ADVICE_PER_DAY_MAX))
    runner.run(advice(runner.members[1], 0))
    runner.run(advice(member, ADVICE_PER_DAY_MAX), after_ms=24 * 3_600_000)


@pytest.mark.parametrize("kind", ["revoke", "vulnerable"])
def test_who_is_no_member_states_nothing(runner: BlockRunner, kind: str) -> None:
    stranger = BlockRunner(5).members
    outsider = next(each for each in stranger if each not in runner.members)
    statement = revoke(outsider) if kind == "revoke" else advice(outsider)
    with pytest.raises(InvalidInputError, match="is no authorized node, so it states nothing"):
        runner.run(statement)


def test_a_document_of_the_entry_is_what_the_fixture_says() -> None:
    assert document().files[0].sha256 == BYTES
