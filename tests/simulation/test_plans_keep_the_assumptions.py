"""What a seed may decide: never more than the protocol promises to bear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES
from consensus.sim.schedule import Schedule

SEEDS = st.integers(0, 2**40)
SIZES = st.integers(1, 10)


def _plan(seed: int, n: int) -> Schedule:
    return plan(seed, n=n, actors=ACTOR_NAMES)


@given(seed=SEEDS, n=SIZES)
def test_traitors_are_at_most_f_in_every_set_and_stay_in_it(seed: int, n: int) -> None:
    drawn = _plan(seed, n)
    for members in drawn.sets:
        assert len(drawn.traitors) <= (len(members) - 1) // 3
        assert set(drawn.traitors) <= set(members)
        assert len(set(members)) == len(members)


@given(seed=SEEDS, n=SIZES)
def test_everything_that_goes_wrong_ends_before_the_network_settles(seed: int, n: int) -> None:
    drawn = _plan(seed, n)
    assert all(0 <= cut.start_us < cut.end_us <= drawn.gst_us for cut in drawn.cuts)
    assert all(outage.armed_us < drawn.gst_us for outage in drawn.outages)
    assert all(blackout.at_us < drawn.gst_us for blackout in drawn.blackouts)
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
    assert any(len(one.sets) > 1 for one in plans)
