"""Approvals in the state machine: what counts, for how long, and what becomes of it."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.ledger.machine.approvals import APPROVAL_HEIGHTS_MAX, APPROVALS_MAX
from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.model.approvals import APPROVED_OPERATIONS, Approve
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.membership import SetParam
from pyrsia_node.model.transactions import Transaction
from tests.fakes.block_runner import NETWORK, BlockRunner
from tests.strategies import build_bodies as make
from tests.strategies import member_bodies as change
from tests.strategies.identities import identities, identity

NEW = identity(100)
FOUR = identities(4)


@pytest.fixture
def runner() -> BlockRunner:
    """Four members and two blocks."""
    runner = BlockRunner()
    runner.run(make.request(runner.members[0]))
    runner.run(make.request(runner.members[1], lock="other"))
    return runner


def approvals_in(bodies: list[Transaction]) -> list[Approve]:
    return [body for body in bodies if isinstance(body, Approve)]


def skip_to(runner: BlockRunner, height: int) -> None:
    """Let quiet heights pass up to ``height``; they cost nothing here."""
    passed = height - runner.height
    runner.heads += runner.heads[-1:] * passed
    runner.voters += runner.voters[-1:] * passed


def test_approvals_are_spent_by_the_operation_they_carried(runner: BlockRunner) -> None:
    removal = runner.remove(FOUR[3].id)
    runner.run(*removal)
    runner.run(*runner.add(FOUR[3]))
    again = change.remove(FOUR[0].id, FOUR[3].id, nonce=99)
    with pytest.raises(NotYetValidError, match="has 0 of 3 approvals"):
        runner.run(again)
    for spent in removal[:-1]:
        with pytest.raises(InvalidInputError, match=r"approved remove_node .* already"):
            runner.run(spent)


def test_approval_that_was_kept_back_does_not_count_after_its_operation(
    runner: BlockRunner,
) -> None:
    removal = runner.remove(FOUR[3].id)
    kept_back = [dataclasses.replace(each, expiry=900) for each in approvals_in(removal)]
    runner.run(*removal)
    runner.run(*runner.add(FOUR[3]))
    for held in kept_back:
        with pytest.raises(InvalidInputError, match="it happened at height 3"):
            runner.run(held)
    # Nor when those that were used would have expired long since.
    skip_to(runner, 500)
    with pytest.raises(InvalidInputError, match="it happened at height 3"):
        runner.run(kept_back[0])


def test_what_happened_is_known_until_all_older_approvals_have_expired(
    runner: BlockRunner,
) -> None:
    removal = runner.remove(FOUR[3].id)
    latest = [
        dataclasses.replace(each, expiry=each.since + APPROVAL_HEIGHTS_MAX)
        for each in approvals_in(removal)
    ]
    runner.run(*removal)
    spent_at = runner.height
    skip_to(runner, spent_at + APPROVAL_HEIGHTS_MAX - 2)
    with pytest.raises(InvalidInputError, match=f"it happened at height {spent_at}"):
        runner.run(latest[0])
    runner.run()
    runner.run()
    assert [key for key, _ in runner.state.scan(b"") if b"happ" in key or b"guar" in key] == []
    with pytest.raises(InvalidInputError, match="approval expires at height"):
        runner.run(latest[0])


def test_quorum_carries_more_operations_than_a_member_may_leave_open() -> None:
    runner = BlockRunner()
    for n in range(APPROVALS_MAX + 1):
        operation = SetParam(runner.members[0], "burst", 100 + n, f"{n:032x}")
        yes = [
            change.approve(each, operation, NETWORK, since=runner.height, expiry=90_000)
            for each in runner.members
        ]
        runner.run(*yes, operation)
    assert runner.in_force().params.burst == 100 + APPROVALS_MAX
    assert [key for key, _ in runner.state.scan(b"approv")] == []
    # Those that carried something are used up all the same.
    with pytest.raises(InvalidInputError, match=r"approved set_param .* it happened at height 1"):
        runner.run(
            change.approve(
                runner.members[0],
                SetParam(runner.members[0], "burst", 100, "00" * 16),
                NETWORK,
                expiry=95_000,
            )
        )


def test_renewed_approval_counts_again_and_longer(runner: BlockRunner) -> None:
    runner.run(*runner.remove(FOUR[3].id))
    runner.run(*runner.add(FOUR[3]))
    operation = change.remove(FOUR[0].id, FOUR[3].id, nonce=99)
    later = [
        change.approve(one.id, operation, NETWORK, since=runner.height, expiry=runner.height + 50)
        for one in FOUR[:3]
    ]
    assert runner.run(*later, operation).next_set is not None


def test_approval_counts_up_to_its_expiry_and_is_forgotten_after_it(runner: BlockRunner) -> None:
    bodies = runner.add(NEW)
    short = [dataclasses.replace(each, expiry=runner.height + 2) for each in approvals_in(bodies)]
    runner.run(*short)
    assert any(key.startswith(b"approval/") for key, _ in runner.state.scan(b""))
    runner.run(make.request(runner.members[2], lock="third"))
    kept = [key for key, _ in runner.state.scan(b"") if b"appro" in key or b"expiring" in key]
    assert kept == []
    with pytest.raises(NotYetValidError, match="has 0 of 3"):
        runner.run(bodies[-1])


def test_approval_still_counts_in_the_block_of_its_expiry(runner: BlockRunner) -> None:
    bodies = runner.add(NEW)
    runner.run(
        *(dataclasses.replace(each, expiry=runner.height + 2) for each in approvals_in(bodies))
    )
    assert runner.run(bodies[-1]).next_set is not None


def test_approvals_of_those_who_left_do_not_count(runner: BlockRunner) -> None:
    bodies = runner.add(NEW)
    runner.run(*bodies[2:4])  # of the third and the fourth
    runner.run(*runner.remove(FOUR[3].id))
    # Three are left, and need all three.
    with pytest.raises(NotYetValidError, match="has 1 of 3 approvals"):
        runner.run(bodies[-1])
    runner.run(*bodies[:2], bodies[-1])
    assert NEW.id in runner.members


def test_member_has_a_bounded_number_of_approvals(runner: BlockRunner) -> None:
    by = runner.members[0]
    many = [
        Approve(
            by,
            APPROVED_OPERATIONS[n % len(APPROVED_OPERATIONS)],
            sha256_of(bytes([n])),
            since=runner.height,
            expiry=runner.height + 1 + 5 * (n % 2),
        )
        for n in range(APPROVALS_MAX + 1)
    ]
    with pytest.raises(NotYetValidError, match="has 64 approvals that are not expired"):
        runner.run(*many)
    runner.run(*many[:-1])
    # Half of them expired with that block.
    runner.run(*(dataclasses.replace(each, expiry=99) for each in many[::2][:32]))
    with pytest.raises(NotYetValidError, match="has 64"):
        runner.run(dataclasses.replace(many[-1], expiry=99, subject=sha256_of(b"another")))
