"""A log of votes that comes back cut short: its node is silent for a while, and nobody is hurt."""

from __future__ import annotations

import re

import pytest

from consensus.sim.batch import Job, run_job
from consensus.sim.mutants import planted

JOB = Job(31, 7)
"""One member loses what it voted at height 1, and the work goes on to height 3."""

VOTE = re.compile(r"(\S+) +votes to \w+ (\d+)/(\d+)")


def _story(job: Job) -> tuple[str, list[str]]:
    (lost,) = job.schedule().lost_logs
    lines: list[str] = []
    outcome = run_job(job, lines.append)
    assert outcome.violation is None
    told = [line.split(maxsplit=1)[1] for line in lines]
    return lost.node, [line for line in told if line.startswith(f"{lost.node} ")]


def _heights(lines: list[str]) -> list[int]:
    return [int(found[2]) for line in lines if (found := VOTE.match(line))]


def test_who_lost_its_log_is_silent_where_it_may_have_voted_and_votes_again() -> None:
    node, lines = _story(JOB)
    damaged = next(at for at, line in enumerate(lines) if "has a damaged log" in line)
    assert _heights(lines[:damaged]) == [1]
    later = _heights(lines[damaged:])
    assert later, f"{node} never votes again"
    assert min(later) == 3


@pytest.mark.parametrize(("seed", "n"), [(145, 4), (37, 7)])
def test_a_lost_log_is_borne_among_other_troubles(seed: int, n: int) -> None:
    _node, lines = _story(Job(seed, n))
    assert any("has a damaged log" in line for line in lines)


def test_what_was_forgotten_is_not_missed_again_by_a_later_restart() -> None:
    # The log is lost at 7.4 s; two blackouts follow while the node still works at that height.
    outcome = run_job(Job(1_000_143, 7))
    assert outcome.violation is None


def test_who_votes_on_at_once_is_caught() -> None:
    with planted("amnesia-shrugged-off"):
        outcome = run_job(Job(145, 4))
    assert outcome.violation is not None
