"""What a seed may decide: never more than the protocol promises to bear."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consensus.sim.machine import TransactionKind
from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES
from consensus.sim.schedule import Schedule
from consensus.types import NodeId

SEEDS = st.integers(0, 2**40)
SIZES = st.integers(1, 10)


def _plan(seed: int, n: int) -> Schedule:
    return plan(seed, n=n, actors=ACTOR_NAMES)


@given(seed=SEEDS, n=SIZES)
def test_traitors_are_at_most_f_in_every_set(seed: int, n: int) -> None:
    drawn = _plan(seed, n)
    assert not drawn.has_too_many_traitors
    for members in drawn.sets:
        assert len(set(drawn.traitors) & set(members)) <= (len(members) - 1) // 3
        assert len(set(members)) == len(members)


@given(seed=SEEDS, n=SIZES)
def test_every_set_that_is_planned_for_comes_about(seed: int, n: int) -> None:
    drawn = _plan(seed, n)
    changes = [one for one in drawn.work if one.transaction[0] == TransactionKind.NEW_SET]
    assert bool(changes) == drawn.has_changes
    assert len(drawn.rotations) == len(drawn.sets)
    for node, members in zip(drawn.rotations, drawn.sets, strict=True):
        assert node is None or node in members


def test_a_rotation_counts_from_its_set_on() -> None:
    node = NodeId("n1")
    drawn = replace(_plan(1, 4), sets=((node,),) * 3, rotations=(None, node, None))
    found = [drawn.generations(epoch).get(node, 0) for epoch in range(6)]
    assert found == [0, 1, 1, 1, 2, 2]


@given(seed=SEEDS, n=SIZES)
def test_everything_that_goes_wrong_ends_before_the_network_settles(seed: int, n: int) -> None:
    drawn = _plan(seed, n)
    assert all(0 <= cut.start_us < cut.end_us <= drawn.gst_us for cut in drawn.cuts)
    assert all(outage.armed_us < drawn.gst_us for outage in drawn.outages)
    assert all(blackout.at_us < drawn.gst_us for blackout in drawn.blackouts)
    assert all(0 <= sick.start_us < sick.end_us <= drawn.gst_us for sick in drawn.sick_disks)
    assert all(jump.at_us < drawn.gst_us for jump in drawn.clock_jumps)
    assert all(0 <= arrival_us <= drawn.gst_us for arrival_us in drawn.arrivals_us)
    assert all(abs(wrong.settled_offset_ms) <= 2_000 for wrong in drawn.clocks)


@given(seed=SEEDS, n=SIZES)
def test_a_plan_is_complete_and_repeats(seed: int, n: int) -> None:
    drawn = _plan(seed, n)
    assert drawn == _plan(seed, n)
    assert drawn.sets[0] == drawn.nodes[:n]
    assert {node for members in drawn.sets for node in members} == set(drawn.nodes)
    assert len(drawn.clocks) == len(drawn.nodes)
    assert len(drawn.actors) == len(drawn.traitors)
    assert any(one.at_us >= drawn.gst_us for one in drawn.work), "something to do at the end"


def test_a_hundred_seeds_use_every_kind_of_fault() -> None:
    plans = [_plan(seed, 7) for seed in range(100)]
    assert {name for one in plans for names in one.actors for name in names} == set(ACTOR_NAMES)
    assert any(len(one.traitors) == 2 for one in plans)
    assert any(not one.traitors for one in plans)
    assert any(one.weather.jammed for one in plans)
    assert any(cut.period_us for one in plans for cut in one.cuts)
    assert any(cut.is_delay for one in plans for cut in one.cuts)
    assert any(outage.in_write for one in plans for outage in one.outages)
    assert any(one.blackouts for one in plans)
    assert any(one.sick_disks for one in plans)
    assert any(one.clock_jumps for one in plans)
    assert any(one.lost_logs for one in plans)
    kinds = {submission.transaction[0] for one in plans for submission in one.work}
    assert kinds == {TransactionKind.PLAIN, TransactionKind.SLOW, TransactionKind.NEW_SET}


def test_half_of_all_plans_change_the_set_in_every_way() -> None:
    plans = [_plan(seed, n) for seed in range(300) for n in (4, 7)]
    changing = [one for one in plans if one.has_changes]
    assert len(changing) >= len(plans) // 2
    assert any(node for one in changing for node in one.rotations)
    steps = [pair for one in changing for pair in _steps(one)]
    assert {(len(old - new), len(new - old)) for old, new in steps} == {
        (0, 0), (0, 1), (1, 0), (1, 1)
    }  # fmt: skip
    assert any(set(one.traitors) & (old - new) for one in changing for old, new in _steps(one))
    assert any(set(one.traitors) & (new - old) for one in changing for old, new in _steps(one))
    assert any(at_us > 0 for one in changing for at_us in one.arrivals_us), "some start late"


def _steps(drawn: Schedule) -> list[tuple[set[NodeId], set[NodeId]]]:
    return list(pairwise(map(set, drawn.sets)))
