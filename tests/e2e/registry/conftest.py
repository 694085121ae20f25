"""One node with images of the log for all tests with real clients, and the closed way out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.registry.stage import ALPINE, TOOL
from tests.fakes.image_node import ImageNode, image_node
from tests.fakes.outside import Outside, outside


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageNode]:
    """Run a node; tests push to repositories of their own."""
    images = {
        "docker.io/library/alpine:3.20": ALPINE,
        "registry.example/team/tool:1": TOOL,
    }
    with image_node(tmp_path_factory.mktemp("registry") / "node", images) as running:
        yield running


@pytest.fixture
def way_out() -> Iterator[Outside]:
    """Watch who is asked outside this machine; nobody is reached."""
    with outside() as watched:
        yield watched
