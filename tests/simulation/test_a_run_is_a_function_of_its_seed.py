"""A seed is a bug report: the same seed must tell the same story everywhere."""

from __future__ import annotations

import os
import subprocess
import sys

from consensus.sim.batch import Job, run_job
from consensus.sim.schedule import Signatures

SEEDS = ((3, 4), (22, 4), (5, 7), (24, 7), (31, 7), (37, 7))

_SCRIPT = f"""
from consensus.sim.batch import Job, run_job
from consensus.sim.cluster import Cluster
from consensus.sim.conspiracy import conspiracy
from consensus.sim.stage import Stage
from consensus.sim.twins import Cast
for seed, n in {SEEDS}:
    outcome = run_job(Job(seed, n))
    print(seed, n, outcome.digest, outcome.events, outcome.heights, outcome.violation)
cast = Cast(n=4, pairs=1, rounds=3)
for number in cast.walk(5_000, 5_010):
    print("twins", number, Stage(cast, number).play())
for seed in range(3):
    print("conspiracy", Cluster(conspiracy(seed, n=4, traitors=2)).run())
"""


def _digests(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return done.stdout


def test_every_frame_is_the_same_under_two_hash_seeds() -> None:
    first = _digests("1")
    assert first == _digests("4242")
    told = first.splitlines()
    assert all(line.endswith("None") for line in told[: len(SEEDS)])
    assert sum(line.startswith("twins") for line in told) > 0
    assert sum(line.startswith("conspiracy") for line in told) == 3


def test_the_seeds_compared_show_every_kind_of_run() -> None:
    drawn = [Job(seed, n).schedule() for seed, n in SEEDS]
    assert any(one.has_changes for one in drawn)
    assert any(one.lost_logs for one in drawn)
    assert any(one.traitors for one in drawn)
    assert any(one.blackouts for one in drawn)
    assert any(one.sick_disks for one in drawn)
    assert any(one.clock_jumps for one in drawn)


def test_telling_the_story_changes_nothing() -> None:
    lines: list[str] = []
    told = run_job(Job(5, 4), lines.append)
    assert told == run_job(Job(5, 4))
    assert any("COMMITS 1" in line for line in lines)


def test_different_seeds_differ() -> None:
    assert run_job(Job(1, 4)).digest != run_job(Job(2, 4)).digest


def test_real_signatures_follow_the_same_plan() -> None:
    job = Job(6, 4, signatures=Signatures.REAL)
    assert job.schedule().cuts == Job(6, 4).schedule().cuts
    outcome = run_job(job)
    assert outcome.violation is None
    assert outcome.heights == run_job(Job(6, 4)).heights


def test_the_command_line_of_a_job_names_everything_that_matters() -> None:
    job = Job(9, 7, signatures=Signatures.REAL, traitors_max=1, mutant="no-retry", sees_disks=False)
    assert job.command() == (
        "python -m consensus.sim --seed 9 --n 7 --signatures real --byzantine 1"
        " --mutant no-retry --blind --trace"
    )
