"""The table of thresholds, time-outs, and evidence: small pure parts by example."""

from __future__ import annotations

import pytest

from consensus.effects import ReportEvidence
from consensus.evidence import VoteBook, contradicts
from consensus.quorum import faults, quorum
from consensus.timing import Pace, Timing
from consensus.types import ZERO_DIGEST, Digest, Height, NodeId, View, VoteKind
from tests.unit.consensus.committee import (
    F,
    N,
    X,
    alone,
    certificate_of,
    of_type,
    proposal_of,
    vote_of,
)
from tests.unit.consensus.first_height import B0, H0, H_OTHER, OTHER, SET, finalized


@pytest.mark.parametrize(
    ("n", "f", "q"),
    [
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 3),
        (4, 1, 3),
        (5, 1, 4),
        (6, 1, 5),
        (7, 2, 5),
        (10, 3, 7),
        (100, 33, 67),
    ],
)
def test_thresholds_are_those_of_the_table(n: int, f: int, q: int) -> None:
    assert (faults(n), quorum(n)) == (f, q)


# -- pace ----------------------------------------------------------------------------------------

ME = NodeId("m000")


def test_patience_starts_at_three_delta_and_grows_by_half_to_its_bound() -> None:
    pace = Pace(ME, Timing())
    assert [pace.view_ms(View(view)) for view in (0, 1, 2)] == [3_000, 4_500, 6_750]
    assert pace.view_ms(View(8)) == 60_000
    assert pace.view_ms(View(2**32 - 1)) == 60_000


def test_patience_adapts_between_its_bounds() -> None:
    pace = Pace(ME, Timing())
    for _ in range(100):
        pace.measured(20)
    assert pace.delta_ms == 300
    for _ in range(100):
        pace.measured(500)
    assert 1_900 <= pace.delta_ms <= 2_000
    for _ in range(100):
        pace.measured(10**9)
    assert pace.delta_ms == 10_000


def test_retries_are_spread_by_a_fifth_and_repeat_exactly() -> None:
    pace = Pace(ME, Timing())
    delays = [pace.retry_ms(Height(1), View(0), attempt) for attempt in range(200)]
    assert delays == [pace.retry_ms(Height(1), View(0), attempt) for attempt in range(200)]
    assert 2_400 <= min(delays) < 2_500
    assert 3_500 < max(delays) <= 3_600


# -- evidence ------------------------------------------------------------------------------------

A, B = Digest(b"a" * 32), Digest(b"b" * 32)


@pytest.mark.parametrize(
    ("one", "two", "is_proof"),
    [
        ((N, A), (N, B), True),
        ((F, A), (F, B), True),
        ((N, A), (F, B), True),
        ((X, ZERO_DIGEST), (F, A), True),
        ((N, A), (F, A), False),
        ((X, ZERO_DIGEST), (N, A), False),
        ((N, A), (N, A), False),
    ],
)
def test_contradictions_are_exactly_those_no_honest_member_signs(
    *, one: tuple[VoteKind, Digest], two: tuple[VoteKind, Digest], is_proof: bool
) -> None:
    first = vote_of("m001", SET, one[0], view=0, block_hash=one[1])
    second = vote_of("m001", SET, two[0], view=0, block_hash=two[1])
    assert contradicts(first, second) is contradicts(second, first) is is_proof
    elsewhere = vote_of("m001", SET, two[0], view=1, block_hash=two[1])
    another = vote_of("m002", SET, two[0], view=0, block_hash=two[1])
    assert not contradicts(first, elsewhere)
    assert not contradicts(first, another)


def test_book_reports_a_contradiction_once_and_stays_small() -> None:
    book = VoteBook()
    reports = 0
    for number in range(100):
        name = Digest(bytes([number + 1]) * 32)
        reports += len(book.add(vote_of("m001", SET, N, view=0, block_hash=name)))
    assert reports == 1
    assert sum(len(votes) for votes in book._votes.values()) == 2


def test_equivocating_voter_is_reported_with_both_votes() -> None:
    node = alone(4, 0)
    one = vote_of("m002", SET, N, view=0, block_hash=H0)
    two = vote_of("m002", SET, N, view=0, block_hash=H_OTHER)
    node.tell("m002", one)
    effects = node.tell("m002", two)
    assert of_type(effects, ReportEvidence) == [ReportEvidence(NodeId("m002"), one, two)]
    assert of_type(node.tell("m002", two), ReportEvidence) == []


def test_vote_inside_a_certificate_convicts_too() -> None:
    node = alone(4, 0)
    node.tell("m002", vote_of("m002", SET, X, view=0))
    effects = node.tell("m001", certificate_of(SET, F, view=0, block_hash=H0, signers=(1, 2, 3)))
    assert [report.culprit for report in of_type(effects, ReportEvidence)] == ["m002"]


def test_leader_of_two_blocks_is_reported_with_both_proposals() -> None:
    node = alone(4, 0)
    one, two = proposal_of("m001", SET, B0, view=0), proposal_of("m001", SET, OTHER, view=0)
    node.tell("m001", one)
    effects = node.tell("m001", two)
    assert of_type(effects, ReportEvidence) == [ReportEvidence(NodeId("m001"), one, two)]
    assert of_type(node.tell("m001", two), ReportEvidence) == []


def test_two_final_blocks_of_one_height_halt_the_node_and_name_the_culprits() -> None:
    node = alone(4, 0)
    node.tell("m001", certificate_of(SET, F, view=0, block_hash=H0, signers=(0, 1, 2)))
    effects = node.tell(
        "m001", certificate_of(SET, F, view=0, block_hash=H_OTHER, signers=(1, 2, 3))
    )
    assert node.replica.is_halted
    assert [report.culprit for report in of_type(effects, ReportEvidence)] == ["m001", "m002"]
    assert node.tell("m001", finalized(3)) == []
    assert node.work() == []
