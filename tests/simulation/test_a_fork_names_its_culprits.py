"""More than f traitors can fork the log, and are named by the certificates that they needed."""

from __future__ import annotations

import pytest

from consensus.sim.cluster import Cluster, Outcome
from consensus.sim.conspiracy import conspiracy


def _run(seed: int, *, n: int, traitors: int) -> Outcome:
    return Cluster(conspiracy(seed, n=n, traitors=traitors)).run()


@pytest.mark.parametrize(("n", "traitors"), [(4, 2), (7, 3)])
def test_every_fork_convicts_more_than_f_members_and_no_honest_one(n: int, traitors: int) -> None:
    forks = 0
    for seed in range(10):
        outcome = _run(seed, n=n, traitors=traitors)
        assert outcome.violation is None, f"n {n}, seed {seed}: {outcome.violation}"
        if outcome.culprits:
            forks += 1
            assert len(outcome.culprits) > (n - 1) // 3
    assert forks >= 5, "otherwise nothing was tested"


def test_f_conspirators_fork_nothing() -> None:
    for seed in range(10):
        outcome = _run(seed, n=4, traitors=1)
        assert outcome.violation is None
        assert not outcome.culprits
