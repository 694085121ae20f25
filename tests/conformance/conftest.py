"""The registry databases that every conformance test of the port runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.ports.registry import RegistryDb
from pyrsia_node.store.registry_db import SqliteRegistryDb
from tests.fakes.memory_registry import MemoryRegistryDb


@pytest.fixture(params=["memory", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryDb]:
    if request.param == "memory":
        yield MemoryRegistryDb()
        return
    opened = SqliteRegistryDb(tmp_path / "registry.sqlite", create=True)
    yield opened
    opened.close()
