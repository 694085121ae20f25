"""The Docker engine at a node: by names that say the node, and by a mirror."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.registry.stage import ALPINE
from tests.fakes.engines import DockerEngine, docker_engine
from tests.fakes.faulty_front import FaultyFront, faulty_front
from tests.fakes.image_node import ImageNode
from tests.fakes.outside import Outside, outside

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("registry")]
QUIET = ("--rm", "--network", "none")


@pytest.fixture(scope="module")
def engine_before_a_front(node: ImageNode) -> Iterator[tuple[DockerEngine, FaultyFront, Outside]]:
    """Run an engine that ``pyrsia configure docker`` has pointed at the node, by way of a front."""
    with faulty_front(node.url) as front, outside() as watched:

        def configure(path: Path) -> None:
            node.configure("docker", "--file", path)
            settings = json.loads(path.read_text())
            assert settings["registry-mirrors"] == [node.url]
            settings["registry-mirrors"] = [front.url]
            path.write_text(json.dumps(settings))

        with docker_engine(configure=configure, environment=watched.environment) as engine:
            yield engine, front, watched


@pytest.fixture
def docker(
    engine_before_a_front: tuple[DockerEngine, FaultyFront, Outside],
) -> Iterator[DockerEngine]:
    """Give the engine without images, and nothing spoiled or asked yet."""
    engine, front, watched = engine_before_a_front
    front.forgive()
    front.asked.clear()
    watched.forget()
    yield engine
    engine.run("image", "prune", "--all", "--force").ok()


@pytest.fixture
def front(engine_before_a_front: tuple[DockerEngine, FaultyFront, Outside]) -> FaultyFront:
    return engine_before_a_front[1]


@pytest.fixture
def way_out(engine_before_a_front: tuple[DockerEngine, FaultyFront, Outside]) -> Outside:
    return engine_before_a_front[2]


def test_pulls_through_its_mirror_and_runs_what_the_log_vouches_for(
    docker: DockerEngine, front: FaultyFront, way_out: Outside
) -> None:
    pulled = docker.run("pull", "alpine:3.20").ok()
    assert ALPINE.digest in pulled.out
    ran = docker.run("run", *QUIET, "alpine:3.20").ok()
    assert ran.out == "alpine of the log\n"
    assert way_out.asked == []
    asked = next(each for each in front.asked if each.method == "HEAD")
    # Six lines in random order: who reads the first or the last alone serves the wrong type.
    assert len(asked.all("accept")) == 6


def test_asks_its_hub_by_itself_when_the_mirror_denies_but_not_by_the_nodes_name(
    docker: DockerEngine, front: FaultyFront, way_out: Outside
) -> None:
    denied = docker.run("pull", "nobody/vouches:1")
    assert denied.code != 0
    assert any("/v2/nobody/vouches/manifests/1" in each.target for each in front.asked)
    assert way_out.asked != []
    way_out.forget()
    refused = docker.run("pull", f"{front.host}/nobody/vouches:1")
    assert refused.code != 0
    assert "manifest unknown" in refused.err.lower() or "not found" in refused.err
    assert way_out.asked == []


def test_pulls_by_the_nodes_name_from_any_registry_of_the_log(
    docker: DockerEngine, front: FaultyFront, way_out: Outside
) -> None:
    for host, name, said in (
        (front.host, "alpine:3.20", "alpine of the log\n"),
        (front.host, "library/alpine:3.20", "alpine of the log\n"),
        (front.host, f"alpine@{ALPINE.digest}", "alpine of the log\n"),
        (f"localhost:{front.port}", "alpine:3.20", "alpine of the log\n"),
        (front.host, "f/registry.example/team/tool:1", "a tool of another registry\n"),
    ):
        docker.run("pull", f"{host}/{name}").ok()
        assert docker.run("run", *QUIET, f"{host}/{name}").ok().out == said
    assert way_out.asked == []
    # The engine says hello in TLS first; the node's answer on a plain port sends it to HTTP.
    assert front.hellos > 0


def test_pushes_and_pulls_again(docker: DockerEngine, front: FaultyFront, node: ImageNode) -> None:
    docker.run("pull", f"{front.host}/alpine:3.20").ok()
    for place in (front.host, node.host):
        name = f"{place}/docker/pushed:1"
        docker.run("tag", f"{front.host}/alpine:3.20", name).ok()
        docker.run("push", name).ok()
        docker.run("rmi", name).ok()
        docker.run("pull", name).ok()
        assert docker.run("run", *QUIET, name).ok().out == "alpine of the log\n"


def test_cannot_push_over_a_name_of_the_log(docker: DockerEngine, node: ImageNode) -> None:
    docker.run("pull", f"{node.host}/alpine:3.20").ok()
    docker.run("tag", f"{node.host}/alpine:3.20", f"{node.host}/library/alpine:mine").ok()
    refused = docker.run("push", f"{node.host}/library/alpine:mine")
    assert refused.code != 0
    assert "denied" in refused.err


@pytest.mark.parametrize(
    "fault",
    [
        {"target": "/blobs/", "status": 503},
        {"target": "/blobs/", "resets": True},
        {"target": "/manifests/", "method": "HEAD", "status": 405},
    ],
    ids=["a 503 for a blob", "a reset in place of a blob", "a 405 for HEAD"],
)
def test_one_fault_on_the_way_costs_a_second_try(
    docker: DockerEngine, front: FaultyFront, way_out: Outside, fault: dict[str, object]
) -> None:
    front.spoil(**fault)  # type: ignore[arg-type]  # the options of spoil, by name
    docker.run("pull", "alpine:3.20").ok()
    assert front.is_all_spoiled
    assert way_out.asked == []


def test_a_blob_that_was_cut_is_resumed_by_a_range(
    docker: DockerEngine, front: FaultyFront, way_out: Outside
) -> None:
    layer = max(ALPINE.blobs, key=lambda digest: len(ALPINE.blobs[digest]))
    front.spoil(f"/blobs/{layer}", cut_after=500_000)
    docker.run("pull", "alpine:3.20").ok()
    ranges = [each.all("range") for each in front.asked if layer in each.target]
    assert ranges == [[], ["bytes=500000-"]]
    assert way_out.asked == []


def test_a_corrupted_blob_is_never_taken(
    docker: DockerEngine, front: FaultyFront, way_out: Outside
) -> None:
    layer = max(ALPINE.blobs, key=lambda digest: len(ALPINE.blobs[digest]))
    front.spoil(f"/blobs/{layer}", corrupts=True, times=5)
    assert docker.run("pull", "alpine:3.20").code != 0
    assert docker.run("images", "--quiet").ok().out == ""
    assert way_out.asked != []


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("methods", "target", "status"),
    [
        (("GET",), "/v2/$", 401),
        (("HEAD", "GET"), "/manifests/", 404),
        (("HEAD", "GET"), "/manifests/", 429),
        (("HEAD", "GET"), "/manifests/", 503),
        (("GET",), "/blobs/", 404),
    ],
)
def test_what_sends_the_engine_from_the_mirror_to_its_hub(
    engine_before_a_front: tuple[DockerEngine, FaultyFront, Outside],
    docker: DockerEngine,
    methods: tuple[str, ...],
    target: str,
    status: int,
) -> None:
    """Each of these a node must avoid for an image that it has: the hub's bytes are unproved."""
    _, front, way_out = engine_before_a_front
    for method in methods:
        front.spoil(target, method=method, status=status, times=50)
    assert docker.run("pull", "alpine:3.20").code != 0
    assert way_out.asked != []
