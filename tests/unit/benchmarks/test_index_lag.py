"""The lag that the benchmark tells is that of the oldest leaf lacking, and never too low."""

from __future__ import annotations

from benchmarks.macro.index_lag import Lag


def test_lag_counts_from_the_look_before_a_leaf_was_seen_until_the_look_that_finds_it() -> None:
    lag = Lag()
    lag.look(10.0, committed=5, derived=5)
    lag.look(11.0, committed=9, derived=5)
    lag.look(12.0, committed=9, derived=8)
    assert lag.worst_s == 2.0
    lag.look(13.5, committed=9, derived=9)
    assert lag.worst_s == 3.5
    lag.look(20.0, committed=9, derived=9)
    assert lag.worst_s == 3.5


def test_what_came_and_was_derived_between_two_looks_lagged_no_longer_than_between_them() -> None:
    lag = Lag()
    lag.look(1.0, committed=5, derived=5)
    lag.look(1.25, committed=7, derived=7)
    assert lag.worst_s == 0.25


def test_a_reader_that_never_gets_on_lags_by_the_age_of_the_first_leaf_it_lacks() -> None:
    lag = Lag()
    for second in range(8):
        lag.look(float(second), committed=second, derived=0)
    assert lag.worst_s == 7.0
