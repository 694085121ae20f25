"""Who is ahead in the registry's benchmark: by the interval of the rounds' ratios, not by luck."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.macro.bench_registry import (
    Row,
    Taken,
    failures,
    goals_missed,
    judge,
    rows,
    table,
)
from benchmarks.macro.registry_load import Load


def nothing(_seconds: float) -> Load:
    raise AssertionError


def row(name: str = "manifest GET, 1 client", unit: str = "requests") -> Row:
    return Row(name, unit, lambda _server: nothing)


def taken(rates: list[float]) -> Taken:
    return Taken(rates, operations=2000, body_bytes=1024**3, cpu_s=3.0, client_share=[0.5])


THEIRS = [100.0, 104.0, 96.0, 101.0, 99.0, 103.0, 97.0, 100.0, 102.0, 98.0, 100.0]


def test_twice_as_fast_in_every_round_is_ahead_and_half_as_fast_behind() -> None:
    ahead = judge(row(), taken([2 * rate for rate in THEIRS]), taken(THEIRS))
    assert (ahead.word, ahead.ratio, ahead.low, ahead.high) == ("ahead", 2, 2, 2)
    assert judge(row(), taken([rate / 2 for rate in THEIRS]), taken(THEIRS)).word == "behind"


def test_an_interval_that_holds_one_says_that_nobody_is_ahead() -> None:
    even = judge(row(), taken(THEIRS[::-1]), taken(THEIRS))
    assert even.low <= 1 <= even.high
    assert even.word == "level"


def test_a_ratio_counts_within_its_round_so_a_busy_minute_changes_nothing() -> None:
    slow = [0.1 if number % 3 == 0 else 1.0 for number in range(len(THEIRS))]
    theirs = [rate * share for rate, share in zip(THEIRS, slow, strict=True)]
    ours = [1.5 * rate for rate in theirs]
    found = judge(row(), taken(ours), taken(theirs))
    assert round(found.low, 6) == round(found.high, 6) == 1.5


def test_processor_time_is_told_by_a_gibibyte_or_a_thousand_requests() -> None:
    assert judge(row(), taken(THEIRS), taken(THEIRS)).cpu_ours == 1.5
    assert judge(row(unit="MB"), taken(THEIRS), taken(THEIRS)).cpu_ours == 3.0


def test_behind_is_a_missed_target_and_less_than_five_times_a_missed_goal() -> None:
    verdicts = [
        judge(row(), taken([4 * rate for rate in THEIRS]), taken(THEIRS)),
        judge(row("push 1 MB", "MB"), taken([rate / 2 for rate in THEIRS]), taken(THEIRS)),
    ]
    measured: dict[str, object] = {
        "rows": [asdict(each) | {"word": each.word} for each in verdicts]
    }
    assert failures(measured) == ["push 1 MB"]
    assert goals_missed(measured) == [
        "push 1 MB: behind",
        "manifest GET, 1 client: 4.0, the goal is 5.0",
    ]
    assert "| 4.00 (4.00-4.00) | ahead | 1.50/1,000 |" in table(verdicts)


def test_every_load_of_the_comparison_has_its_row() -> None:
    names = [each.name for each in rows()]
    assert len(names) == len(set(names))
    for part in ("GET, 64", "HEAD, 64", "1 kB", "1 MB", "10 MB", "1 GB", "monolithic", "chunks"):
        assert any(part in name for name in names)
    assert any("mixed" in name for name in names)
