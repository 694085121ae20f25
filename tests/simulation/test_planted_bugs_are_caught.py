"""The gate: every planted bug is found, by the oracle, within its budget of schedules."""

from __future__ import annotations

import pytest

from consensus import rules
from consensus.sim.gate import hunt
from consensus.sim.mutants import MUTANTS, planted

BUDGET = 800
"""Schedules for one bug. The rarest takes some hundred, most are caught by the first twenty."""

RARE = {"bad-body-poisons-hash": 193, "time-rule-on-reproposals": 136, "old-epoch-certificates": 33}
"""Where to begin for those that the first seeds do not show; the long run begins at 0 for all."""

NAMED = (
    "stale-timer-nullify",
    "finalize-after-nullify",
    "no-skip-check",
    "double-notarize",
    "quorum-minus-one",
    "certificate-not-in-wal",
    "body-not-durable",
)
"""The seven without which the gate would not deserve its name."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_bug_is_caught(name: str) -> None:
    first = RARE.get(name, 0)
    caught = hunt(name, (4, 7), first=first, budget=BUDGET, processes=1)
    assert caught is not None, f"{name} survived {BUDGET} schedules: {MUTANTS[name].about}"


def test_the_named_bugs_are_among_the_planted() -> None:
    assert set(NAMED) <= set(MUTANTS)
    assert len(MUTANTS) >= 30


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["vote-not-in-wal", "write-after-send", "proposal-not-in-wal"])
def test_a_log_that_forgets_is_found_by_what_becomes_of_it(name: str) -> None:
    caught = hunt(name, (4, 7), first=0, budget=200, processes=1, sees_disks=False)
    assert caught is not None
    assert caught.result.rule in {
        "two proposals",
        "two notarize votes",
        "nullify and finalize",
        "notarize one block, finalize another",
    }


def test_a_planted_bug_is_gone_after_the_run() -> None:
    before = rules.finalize
    with planted("finalize-after-nullify"):
        assert rules.finalize is not before
    assert rules.finalize is before
