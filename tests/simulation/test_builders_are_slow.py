"""Slow builders: a leader that is still building when patience ends loses its view, and no more."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from consensus.sim.batch import Job, run_job
from consensus.sim.clock import MILLISECOND
from consensus.sim.cluster import Cluster
from consensus.sim.machine import (
    BUSY_US_MAX,
    JUDGE_US,
    SLOW_US,
    SLOWNESS_MAX,
    TRANSACTIONS_MAX,
    TransactionKind,
    transaction,
)
from consensus.sim.network import Network
from consensus.sim.plan import IMPATIENT
from consensus.sim.schedule import Submission
from consensus.timing import Timing

JOBS = (Job(164, 4), Job(168, 4), Job(285, 4), Job(68, 7))
"""Seeds in which somebody leads a view and builds for it until it is over."""

BUILDS = re.compile(r"(\S+) +builds for (\d+/\d+) longer than its own patience: (\d+) ms")


def _lost_views(lines: list[str]) -> list[str]:
    """Return the views that others nullified while their leader was building."""
    told = [line.split(maxsplit=1)[1] for line in lines]
    found = []
    for at, line in enumerate(told):
        begun = BUILDS.match(line)
        if begun is None:
            continue
        node, view = begun[1], begun[2]
        too_late = re.compile(rf"{node} +has built for {view}, which is over")
        end = next((n for n in range(at, len(told)) if too_late.match(told[n])), None)
        if end is not None and any(f"NULLIFY {view}" in one for one in told[at:end]):
            found.append(view)
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_view_is_lost_to_a_slow_builder_and_the_log_goes_on(job: Job) -> None:
    lines: list[str] = []
    outcome = run_job(job, lines.append)
    assert outcome.violation is None
    lost = _lost_views(lines)
    assert lost, "nobody built for too long"
    for view in lost:
        assert any(f"COMMITS {view.partition('/')[0]} " in line for line in lines)


def test_the_slowest_builder_outlasts_any_patience_with_a_first_view() -> None:
    assert 3 * Timing().delta_start_ms * MILLISECOND < BUSY_US_MAX


@pytest.mark.timeout(240)
@pytest.mark.parametrize("n", [4, 7])
def test_a_block_full_of_slow_transactions_is_built_and_decided_by_the_least_patient(
    n: int,
) -> None:
    for seed in range(4, 10):
        drawn = Job(seed, n).schedule()
        asked = tuple(
            Submission(drawn.gst_us, drawn.sets[0][0], transaction(TransactionKind.SLOW, number))
            for number in range(TRANSACTIONS_MAX)
        )
        outcome = Cluster(replace(drawn, timing=IMPATIENT, work=asked)).run()
        assert outcome.violation is None, f"seed {seed}: {outcome.violation}"
        assert outcome.recovery_us > 2 * TRANSACTIONS_MAX * SLOW_US


def test_a_settled_leader_builds_and_is_judged_within_the_shortest_patience() -> None:
    # Else a block of slow transactions would be beyond every leader, and no stall would mean much.
    work_us = BUSY_US_MAX // SLOWNESS_MAX + JUDGE_US + TRANSACTIONS_MAX * SLOW_US
    fast_timer_us = IMPATIENT.view_max_ms * MILLISECOND * 9 // 10
    assert work_us + 4 * Network.SETTLED_US_MAX < fast_timer_us
