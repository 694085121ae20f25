"""The network that the end-to-end tests share, and stories, which are told in their own order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.walking import Walking, make_walking, start_walking
from tests.integration.network.evidence import processes_of


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell each story in its own order: pytest-randomly has shuffled the tests of every module."""
    stories: dict[Path, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if item.get_closest_marker("story"):
            stories[item.path].append(place)
    for places in stories.values():
        told = sorted((items[place] for place in places), key=lambda item: item.location[1] or 0)
        for place, item in zip(places, told, strict=True):
            items[place] = item


@pytest.fixture(scope="session")
def walking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    folder = tmp_path_factory.mktemp("walking")
    made = make_walking(folder)
    with made.cluster:
        built = start_walking(made)
        assert [each["state"] for each in built] == ["accepted"], built
        # No pause: who waited for the build may install at once.
        assert made.get("/pypi/simple/six/").status_code == 200
        yield made
    assert processes_of(folder) == {}
