"""The audit counts approvals by itself: each for the next time that its operation happens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pyrsia_node.audit.approvals import ApprovalAudit
from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.model.digest import ZERO_SHA256, Sha256
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.transactions import Transaction
from tests.fakes.block_runner import NETWORK
from tests.strategies import member_bodies as change
from tests.strategies.identities import identities

FOUR = identities(4)
VOTERS = SetLeaf(0, ZERO_SHA256, tuple(one.member.record for one in FOUR))
D = Sha256("ab" * 32)


def block(height: int, bodies: Sequence[Transaction]) -> Block:
    header = Header(
        network=D, height=height, parent=D, prev_size=2, prev_root=D, view=0, proposer=FOUR[0].id,
        time_ms=height, n_leaves=len(bodies), body_root=D, state_root=D, set=D, next_set=D,
        prev_epoch_height=0, parent_cert=D,
    )  # fmt: skip
    values = tuple(body.to_json() for body in bodies)
    return Block(header, 2, (b"",) * (1 + len(bodies)), values, len(bodies), VOTERS, VOTERS)


def carried(height: int, *, since: int, value: int) -> Block:
    """Return a block that holds a quorum's approvals and the operation."""
    operation = change.set_param(FOUR[0].id, "burst", value, nonce=height)
    yes = [
        change.approve(one.id, operation, NETWORK, since=since, expiry=50 + height)
        for one in FOUR[:3]
    ]
    return block(height, [*yes, operation])


@pytest.fixture
def report() -> Report:
    return Report("a log")


def test_approvals_from_before_the_last_time_count_no_more(report: Report) -> None:
    audit = ApprovalAudit(NETWORK, report)
    audit.check(carried(4, since=3, value=5))
    audit.check(carried(9, since=3, value=5))
    (found,) = report.contradictions
    assert "block 9" in str(found)
    assert "set_param has the approvals of 0 members of its set, needs 3" in str(found)


def test_approvals_that_knew_the_last_time_carry_it_again(report: Report) -> None:
    audit = ApprovalAudit(NETWORK, report)
    audit.check(carried(4, since=3, value=5))
    audit.check(carried(9, since=4, value=5))
    assert report.holds
    assert report.counted["sets"] == 2
