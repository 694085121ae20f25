"""The search benchmark is judged by how a node follows, and by the wall's clock."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.macro.bench_search import TARGETS, judged


def report(**following: float) -> dict[str, Any]:
    """Return figures that meet every target; ``following`` changes those of the offered blocks."""
    quick = {"p99 ms": 1.0, "processor_p99 ms": 1.0}
    kinds = ("exact purl", "exact hash", "reverse dependencies", "full text in log order")
    wall = {"entries/s": 3_990, "lag worst ms": 150.0} | following
    return {
        "bulk": {"entries/s": 13_000, "entries a processor second": 14_000},
        "queries": dict.fromkeys(kinds, quick),
        "proofs": {"proof": {"p99": 4.0, "processor_p99": 3.0}},
        "following": {
            "a transaction a block": {"entries/s": 2_500, "entries a processor second": 3_000},
            "offered, processor": {"entries/s": 3_995, "lag worst ms": 100.0},
            "offered, wall": wall,
        },
    }


def test_a_transaction_for_each_block_is_reported_and_not_judged() -> None:
    found = judged(report())
    assert found.keys() == TARGETS.keys()
    assert all(each["met"] for each in found.values())
    assert found["following entries/s"]["value"] == 3_990


@pytest.mark.parametrize(
    ("missed", "following"),
    [
        ("following entries/s", {"entries/s": 2_999}),
        ("lag at 4,000 entries/s, worst ms", {"lag worst ms": 1_000.0}),
    ],
)
def test_blocks_that_wait_too_long_on_the_wall_clock_miss_the_target(
    missed: str, following: dict[str, float]
) -> None:
    found = judged(report(**following))
    assert [name for name, each in found.items() if not each["met"]] == [missed]
