"""The one network that the end-to-end tests share: to start it costs more than any test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.walking import Walking, make_walking, start_walking
from tests.integration.network.evidence import processes_of


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
