"""A reduced set of schedules: no violation, no stall. ``make sim`` runs ten thousand."""

from __future__ import annotations

import pytest

from consensus.sim.batch import Job, run_job
from consensus.sim.schedule import Signatures

_BLOCK = 20


def _run(jobs: list[Job]) -> None:
    for job in jobs:
        outcome = run_job(job)
        assert outcome.violation is None, f"{outcome.violation}\n{job.command()}"
        assert outcome.heights > 0, job.command()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", range(0, 200, _BLOCK))
def test_four_nodes_agree_and_finish(first: int) -> None:
    _run([Job(seed, 4) for seed in range(first, first + _BLOCK)])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", range(0, 80, _BLOCK))
def test_seven_nodes_agree_and_finish(first: int) -> None:
    _run([Job(seed, 7) for seed in range(first, first + _BLOCK)])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_every_small_size_agrees_and_finishes(n: int) -> None:
    _run([Job(seed, n) for seed in range(8)])


@pytest.mark.timeout(240)
def test_a_set_too_large_to_relay_to_all_agrees_and_finishes() -> None:
    _run([Job(seed, 19) for seed in range(2)])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("n", [4, 7])
def test_real_signatures_change_nothing(n: int) -> None:
    _run([Job(seed, n, signatures=Signatures.REAL) for seed in range(500, 508)])
