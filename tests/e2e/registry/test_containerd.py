"""containerd at a node: one ``hosts.toml`` for the names of every registry."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from pyrsia_cli.clients_images import containerd_with
from tests.e2e.registry.stage import ALPINE
from tests.fakes.engines import Containerd, containerd
from tests.fakes.faulty_front import FaultyFront, faulty_front
from tests.fakes.image_node import ImageNode
from tests.fakes.outside import Outside

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("registry")]
ALPINE_NAME = "docker.io/library/alpine:3.20"
TOOL_NAME = "registry.example/team/tool:1"
UNKNOWN = "registry.example/nobody/vouches:1"


@pytest.fixture
def engine(way_out: Outside) -> Iterator[Containerd]:
    with containerd(way_out.environment) as engine:
        yield engine


def test_pulls_images_of_all_registries_through_one_file_and_runs_them(
    engine: Containerd, node: ImageNode, way_out: Outside
) -> None:
    hosts = engine.hosts / "_default" / "hosts.toml"
    said = node.configure("containerd", "--file", hosts)
    assert f"--hosts-dir {engine.hosts}" in said
    for number, (name, text) in enumerate(
        ((ALPINE_NAME, "alpine of the log\n"), (TOOL_NAME, "a tool of another registry\n"))
    ):
        engine.pull(name).ok()
        assert engine.ctr("run", "--rm", name, f"run-{number}").ok().out == text
    assert way_out.asked == []
    # Not enforced, what the node denies is asked of the registry itself.
    assert engine.pull(UNKNOWN).code != 0
    assert any("registry.example" in each for each in way_out.asked)


def test_enforced_asks_nobody_but_the_node(
    engine: Containerd, node: ImageNode, way_out: Outside
) -> None:
    node.configure("containerd", "--enforce", "--file", engine.hosts / "_default" / "hosts.toml")
    for name in (ALPINE_NAME, TOOL_NAME):
        engine.pull(name).ok()
    denied = engine.pull(UNKNOWN)
    assert denied.code != 0
    assert "not found" in denied.err
    assert way_out.asked == []


def test_pushes_by_the_nodes_name_and_pulls_again(engine: Containerd, node: ImageNode) -> None:
    node.configure("containerd", "--file", engine.hosts / "_default" / "hosts.toml")
    engine.pull(ALPINE_NAME, "--all-platforms").ok()
    name = f"{node.host}/containerd/pushed:1"
    engine.ctr("images", "tag", ALPINE_NAME, name).ok()
    engine.ctr("images", "push", "--plain-http", name).ok()
    engine.ctr("images", "remove", ALPINE_NAME, name).ok()
    shutil.rmtree(engine.hosts / "_default")
    engine.ctr("images", "pull", "--plain-http", name).ok()
    assert engine.ctr("run", "--rm", name, "one").ok().out == "alpine of the log\n"


@pytest.mark.nightly
@pytest.mark.parametrize("fault", ["503", "a reset", "a cut"])
def test_a_fault_at_a_blob_costs_a_second_try_and_a_cut_one_is_resumed(
    engine: Containerd, node: ImageNode, way_out: Outside, fault: str
) -> None:
    layer = max(ALPINE.blobs, key=lambda digest: len(ALPINE.blobs[digest]))
    with faulty_front(node.url) as front:
        _enforce(engine, front)
        front.spoil(
            f"/blobs/{layer}",
            status=503 if fault == "503" else 0,
            resets=fault == "a reset",
            cut_after=500_000 if fault == "a cut" else None,
        )
        engine.pull(ALPINE_NAME).ok()
        asked = [each.all("range") for each in front.asked if layer in each.target]
    assert asked == [[], ["bytes=500000-"] if fault == "a cut" else []]
    assert way_out.asked == []


@pytest.mark.nightly
def test_wrong_bytes_are_never_taken(engine: Containerd, node: ImageNode) -> None:
    with faulty_front(node.url) as front:
        _enforce(engine, front)
        front.spoil("/blobs/", corrupts=True, times=20)
        refused = engine.pull(ALPINE_NAME)
    assert refused.code != 0
    assert "unexpected commit digest" in refused.err
    assert ALPINE_NAME not in engine.ctr("images", "list", "--quiet").ok().out


def _enforce(engine: Containerd, front: FaultyFront) -> None:
    """Point the engine at the front as ``pyrsia configure containerd --enforce`` does at a node."""
    hosts = engine.hosts / "_default" / "hosts.toml"
    hosts.parent.mkdir()
    hosts.write_text(containerd_with("", front.url, enforce=True))
