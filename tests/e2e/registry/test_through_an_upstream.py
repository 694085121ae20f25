"""Images of another registry through a node that may ask it, by clients of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.schema.config import Config
from pyrsia_node.schema.upstreams import RegistryUpstream
from tests.fakes.engines import container_tools, containerd, docker_engine
from tests.fakes.image_node import ImageNode, image_node
from tests.fakes.images import Recipe, two_platforms
from tests.fakes.outside import Outside
from tests.fakes.registries import DebianRegistry, debian_registry

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("registry"),
]
IMAGE = two_platforms(Recipe("from another registry"))
NAME = "registry.example/team/app:1"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path / "registry") as registry:
        registry.push(IMAGE, "team/app", "1")
        yield registry


@pytest.fixture
def open_node(tmp_path: Path, registry: DebianRegistry) -> Iterator[ImageNode]:
    """Run a node that may ask the registry, which images name ``registry.example``."""
    upstream = RegistryUpstream("registry.example", registry.url, allow_private=True)

    def configure(config: Config) -> Config:
        section = replace(config.docker, policy="upstream", upstreams=(upstream,))
        return replace(config, docker=section)

    with image_node(tmp_path / "open-node", config=configure) as node:
        yield node


def test_one_client_brings_it_in_and_the_others_have_it_while_the_registry_is_down(
    open_node: ImageNode, registry: DebianRegistry, way_out: Outside
) -> None:
    by_the_node = f"{open_node.host}/f/{NAME}"
    with docker_engine(environment=way_out.environment) as docker:
        docker.run("pull", by_the_node).ok()
        ran = docker.run("run", "--rm", "--network", "none", by_the_node).ok()
        assert ran.out == "from another registry\n"
    registry.stop()
    with container_tools(way_out.environment) as tools:
        tools.podman("pull", "--tls-verify=false", by_the_node).ok()
        ran = tools.podman("run", "--rm", "--network", "none", by_the_node).ok()
        assert ran.out == "from another registry\n"
    with containerd(way_out.environment) as engine:
        hosts = engine.hosts / "_default" / "hosts.toml"
        open_node.configure("containerd", "--enforce", "--file", hosts)
        engine.pull(NAME).ok()
        assert engine.ctr("run", "--rm", NAME, "one").ok().out == "from another registry\n"
    assert way_out.asked == []
