"""Collects what the library left open while the test that did it still runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    # The library leaves a socket to the collector when a connection breaks under it. Collected
    # later, it would fail another test, or the run as a whole.
    yield
    gc.collect()
