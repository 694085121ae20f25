"""The case that asks for a durable body: a shared power cut, and a traitor that keeps the block.

The first leader shows its block to some nodes, which notarize it; nobody hears a finalization
before the power of all honest nodes fails. The notarization is on their disks, so no other block
may be proposed; if the block itself were in memory only, no view could ever propose again.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.sim.clock import MILLISECOND, SECOND
from consensus.sim.cluster import Cluster, Outcome
from consensus.sim.machine import TransactionKind, transaction
from consensus.sim.mutants import planted
from consensus.sim.network import Weather
from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES
from consensus.sim.schedule import Blackout, Schedule, Submission
from consensus.timing import Timing
from consensus.types import NodeId, VoteKind
from consensus.wire import MessageKind

LEADER = NodeId("n1")
"""Leads view 0 of height 1 in a set of four."""


def _schedule(seed: int) -> Schedule:
    drawn = plan(seed, n=4, actors=ACTOR_NAMES)
    return replace(
        drawn.without_trouble().with_one_set(),
        traitors=(LEADER,),
        actors=(("WithholdingLeader",),),
        gst_us=2 * SECOND,
        weather=Weather(
            delay_us_min=1_000,
            delay_us_mean=5_000,
            loss=0,
            duplicate=0,
            straggle=0,
            straggle_us_max=0,
            jammed=(bytes([MessageKind.VOTE, VoteKind.FINALIZE]),),
        ),
        blackouts=(Blackout(at_us=500 * MILLISECOND, down_us=SECOND),),
        timing=Timing(),
        work=(
            Submission(0, NodeId("n0"), transaction(TransactionKind.PLAIN, 1)),
            Submission(3 * SECOND, NodeId("n2"), transaction(TransactionKind.PLAIN, 2)),
        ),
    )


def _run(seed: int, lines: list[str] | None = None) -> Outcome:
    tell = None if lines is None else lines.append
    return Cluster(_schedule(seed), tell, sees_disks=False).run()


@pytest.mark.parametrize("seed", range(6))
def test_a_notarized_block_outlives_the_power_cut(seed: int) -> None:
    assert _run(seed).violation is None


def test_without_the_body_on_disk_no_view_proposes_again() -> None:
    with planted("body-not-durable"):
        broken = [violation for seed in range(6) if (violation := _run(seed).violation)]
    assert broken
    assert {violation.rule for violation in broken} == {"stall"}


def test_the_scenario_is_what_it_says() -> None:
    told: list[list[str]] = []
    for seed in range(6):
        lines: list[str] = []
        _run(seed, lines)
        told.append([line.split(maxsplit=1)[1] for line in lines])
    notarized = [
        any("passes on the notarization of 1/0" in line for line in lines) for lines in told
    ]
    assert any(notarized)
    assert all(any("BLACKOUT" in line for line in lines) for lines in told)
