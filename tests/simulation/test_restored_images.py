"""One member comes back from an older image of its disk, traitors deny what it has voted.

And the other side of the same rule: a network that lost power as a whole comes back by itself, and
one that has a dead member besides comes back once people vouch for the disks.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.sim import images, memory
from consensus.sim.batch import Job, run_job
from consensus.sim.clock import SECOND
from consensus.sim.cluster import Cluster, Outcome
from consensus.sim.machine import TransactionKind, transaction
from consensus.sim.network import Weather
from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES
from consensus.sim.schedule import Blackout, Schedule, Submission

SEEDS = range(images.REMAINDER, 10 * images.EVERY, images.EVERY)

CALM = Weather(1_000, 5_000, loss=0, duplicate=0, straggle=0, straggle_us_max=0)


def _is_outrun(schedule: Schedule) -> bool:
    return schedule.cuts[0].is_delay


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_restored_member_never_contradicts_what_it_has_forgotten(seed: int, n: int) -> None:
    lines: list[str] = []
    outcome = run_job(Job(seed, n), lines.append)
    assert outcome.violation is None
    assert any("gets its copy back" in line for line in lines)


def test_certificate_may_hold_a_vote_of_a_height_that_was_committed_before_the_copy_came_back() -> (
    None
):
    """The member had votes at two heights above its copy: the judge forgot them at the commits."""
    assert run_job(Job(2603, 7)).violation is None


def test_both_stories_are_told_and_end_in_noticing() -> None:
    told: dict[bool, list[bool]] = {False: [], True: []}
    for seed in SEEDS:
        for n in (4, 7):
            lines: list[str] = []
            run_job(Job(seed, n), lines.append)
            noticed = any("has forgotten votes" in line for line in lines)
            told[_is_outrun(Job(seed, n).schedule())].append(noticed)
    assert all(any(noticed) for noticed in told.values())


@pytest.mark.parametrize(
    ("mutant", "is_outrun"),
    [("recollections-one-too-few", False), ("recollections-outrun", True)],
)
def test_weaker_rule_lets_the_restored_member_contradict_itself(
    mutant: str, *, is_outrun: bool
) -> None:
    broken = [
        outcome.violation.rule
        for seed in SEEDS
        for n in (4, 7)
        if _is_outrun(Job(seed, n).schedule()) is is_outrun
        and (outcome := run_job(Job(seed, n, mutant=mutant))).violation is not None
    ]
    assert set(broken) & {"nullify and finalize", "two proposals", "two notarize votes"}


def _after_a_blackout(n: int, *, dead: int, seed: int = 1, at_us: int = SECOND) -> Outcome:
    """Let everybody lose power at once, and ``dead`` members never say a word."""
    drawn = plan(seed, n=n, actors=ACTOR_NAMES).without_trouble().with_one_set()
    nodes = drawn.nodes
    schedule = replace(
        drawn,
        traitors=nodes[:dead],
        actors=(("Silent",),) * dead,
        gst_us=2 * SECOND,
        weather=CALM,
        blackouts=(Blackout(at_us=at_us, down_us=SECOND // 2),),
        work=(
            Submission(0, nodes[-1], transaction(TransactionKind.PLAIN, 1)),
            Submission(3 * SECOND, nodes[-1], transaction(TransactionKind.PLAIN, 2)),
        ),
    )
    return Cluster(schedule).run()


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10])
def test_network_that_lost_power_comes_back_by_itself(
    n: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "OPERATOR_US", 10_000 * SECOND)
    # Before anything is voted, among the first votes and commits, and long after the first block.
    outcomes = [
        _after_a_blackout(n, dead=0, seed=seed, at_us=at_us) for at_us in (5_000, 40_000, SECOND)
    ]
    assert [(one.violation, one.heights) for one in outcomes] == [(None, 2)] * 3


@pytest.mark.parametrize(("n", "dead"), [(5, 1), (6, 1), (9, 2)])
def test_dead_members_keep_nobody_silent_where_others_make_up_for_them(
    n: int, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "OPERATOR_US", 10_000 * SECOND)
    assert _after_a_blackout(n, dead=dead).violation is None


@pytest.mark.parametrize(("n", "dead"), [(4, 1), (7, 2)])
def test_network_of_3f_and_1_with_f_dead_waits_for_somebody_who_knows(
    n: int, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _after_a_blackout(n, dead=dead).violation is None
    monkeypatch.setattr(memory, "OPERATOR_US", 10_000 * SECOND)
    alone = _after_a_blackout(n, dead=dead).violation
    assert alone is not None
    assert alone.rule == "stall"
