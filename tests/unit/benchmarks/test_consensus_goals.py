"""What is wished for of commits and attestations is told as met or not, with the index's lag."""

from __future__ import annotations

import pytest

from benchmarks.macro.bench_consensus import goals


@pytest.mark.parametrize(
    ("p50_ms", "items_per_s", "index_s", "published_s", "met"),
    [
        (49.9, 10_000.0, 0.3, 0.9, [True, True, True]),
        (50.0, 9_999.0, 0.3, 0.9, [False, True, False]),
        (40.0, 10_000.0, 0.3, 1.0, [True, False, True]),
        (40.0, 10_000.0, 60.0, 0.3, [True, False, False]),
        (40.0, 3_999.0, 0.3, 0.3, [True, False, False]),
    ],
)
def test_a_rate_counts_only_while_index_and_published_head_keep_up(
    p50_ms: float, items_per_s: float, index_s: float, published_s: float, met: list[bool]
) -> None:
    told = {
        "commit_ms": {"p50": p50_ms},
        "items_per_s": items_per_s,
        "index_lag_worst_s": index_s,
        "published_lag_worst_s": published_s,
    }
    assert [each["met"] for each in goals(told)] == met
