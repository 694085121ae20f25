"""A seed is a bug report: the same seed must tell the same story everywhere."""

from __future__ import annotations

import os
import subprocess
import sys

from consensus.sim.batch import Job, run_job
from consensus.sim.schedule import Signatures

_SCRIPT = """
from consensus.sim.batch import Job, run_job
for seed, n in ((3, 4), (5, 7), (11, 4), (24, 7)):
    outcome = run_job(Job(seed, n))
    print(seed, n, outcome.digest, outcome.events, outcome.heights, outcome.violation)
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
    assert first.count("None") == 4


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
