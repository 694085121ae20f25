"""A minute of the soak; half an hour is ``python -m benchmarks.macro.registry_soak``."""

from __future__ import annotations

import pytest

from benchmarks.macro.registry_soak import GROWTH_MAX, measured


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_minute_of_everything_leaves_the_memory_level() -> None:
    found = measured(60)
    growth = found["memory_growth_bytes"]
    assert isinstance(growth, float)
    assert growth < GROWTH_MAX, found
