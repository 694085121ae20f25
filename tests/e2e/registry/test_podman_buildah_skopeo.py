"""Podman, Buildah and Skopeo at a node: by a drop-in file, and by names that say the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_cli.clients_images import podman_with
from tests.e2e.registry.stage import ALPINE, TOOL
from tests.fakes.engines import Containers, container_tools
from tests.fakes.faulty_front import faulty_front
from tests.fakes.image_node import ImageNode
from tests.fakes.images import Recipe, digest_of, two_platforms, write_layout
from tests.fakes.outside import Outside

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("registry")]
QUIET = ("--rm", "--network", "none")
ALPINE_NAME = "docker.io/library/alpine:3.20"
TOOL_NAME = "registry.example/team/tool:1"
BOTH = ("--registry", "docker.io", "--registry", "registry.example")


@pytest.fixture
def tools(way_out: Outside) -> Iterator[Containers]:
    with container_tools(way_out.environment) as tools:
        yield tools


def test_podman_pulls_through_its_mirrors_and_runs(
    tools: Containers, node: ImageNode, way_out: Outside
) -> None:
    node.configure("podman", *BOTH, "--file", tools.drop_in / "900-pyrsia.conf")
    for name, said in (
        (ALPINE_NAME, "alpine of the log\n"),
        (TOOL_NAME, "a tool of another registry\n"),
    ):
        tools.podman("pull", name).ok()
        assert tools.podman("run", *QUIET, name).ok().out == said
    assert way_out.asked == []
    # Not enforced, what the node denies is asked of the registry itself.
    assert tools.podman("pull", "docker.io/nobody/vouches:1").code != 0
    assert way_out.asked != []


def test_enforced_podman_asks_nobody_but_the_node(
    tools: Containers, node: ImageNode, way_out: Outside
) -> None:
    node.configure("podman", "--enforce", *BOTH, "--file", tools.drop_in / "900-pyrsia.conf")
    tools.podman("pull", TOOL_NAME).ok()
    denied = tools.podman("pull", "docker.io/nobody/vouches:1")
    assert denied.code != 0
    assert "manifest unknown" in denied.err
    assert way_out.asked == []


def test_podman_pushes_and_pulls_again(tools: Containers, node: ImageNode) -> None:
    node.configure("podman", "--file", tools.drop_in / "900-pyrsia.conf")
    name = f"{node.host}/podman/pushed:1"
    tools.podman("pull", ALPINE_NAME).ok()
    tools.podman("push", "--tls-verify=false", ALPINE_NAME, name).ok()
    tools.podman("rmi", "--all", "--force").ok()
    tools.podman("pull", "--tls-verify=false", name).ok()
    assert tools.podman("run", *QUIET, name).ok().out == "alpine of the log\n"


def test_buildah_builds_on_an_image_of_the_log_and_pushes_the_result(
    tools: Containers, node: ImageNode, tmp_path: Path
) -> None:
    node.configure("podman", "--enforce", "--file", tools.drop_in / "900-pyrsia.conf")
    (tmp_path / "said").write_text("built on it\n")
    (tmp_path / "Dockerfile").write_text(f"FROM {ALPINE_NAME}\nCOPY said /said\n")
    name = f"{node.host}/buildah/built:1"
    tools.buildah("bud", "--tag", name, tmp_path).ok()
    tools.buildah("push", "--tls-verify=false", name).ok()
    tools.buildah("rmi", "--all", "--force").ok()
    tools.podman("pull", "--tls-verify=false", name).ok()
    assert tools.podman("run", *QUIET, name).ok().out == "built on it\n"


def test_skopeo_copies_out_of_the_log_and_every_byte_is_the_same(
    tools: Containers, node: ImageNode, tmp_path: Path
) -> None:
    out = tmp_path / "copied"
    source = f"docker://{node.host}/f/registry.example/team/tool:1"
    copying = ("copy", "--all", "--preserve-digests", "--src-tls-verify=false")
    tools.skopeo(*copying, source, f"oci:{out}:1").ok()
    for data in (TOOL.root.data, *(each.data for each in TOOL.children), *TOOL.blobs.values()):
        digest = digest_of(data).removeprefix("sha256:")
        assert (out / "blobs" / "sha256" / digest).read_bytes() == data


def test_skopeo_copies_in_between_and_lists(
    tools: Containers, node: ImageNode, tmp_path: Path
) -> None:
    image = two_platforms(Recipe("copied in"))
    layout = write_layout(tmp_path / "layout", image, "1")
    first = f"docker://{node.host}/skopeo/first:1"
    second = f"docker://{node.host}/skopeo/second:2"
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    copying = ("copy", "--all", "--preserve-digests", *plain)
    tools.skopeo(*copying, f"oci:{layout}:1", first).ok()
    tools.skopeo(*copying, first, second).ok()
    for place in (first, second):
        raw = tools.skopeo("inspect", "--raw", "--tls-verify=false", place).ok()
        assert raw.out.encode() == image.root.data
    listed = tools.skopeo("list-tags", "--tls-verify=false", second.rpartition(":")[0]).ok()
    assert json.loads(listed.out)["Tags"] == ["2"]
    tools.skopeo("delete", "--tls-verify=false", second).ok()
    assert tools.skopeo("inspect", "--tls-verify=false", second).code != 0
    tools.skopeo("inspect", "--tls-verify=false", first).ok()


def test_skopeo_cannot_push_over_a_name_of_the_log(
    tools: Containers, node: ImageNode, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "layout", two_platforms(Recipe("a shadow")), "1")
    for name in ("library/alpine:3.20", "alpine:mine", "f/registry.example/team/tool:1"):
        copying = ("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:1")
        refused = tools.skopeo(*copying, f"docker://{node.host}/{name}")
        assert refused.code != 0
        assert "denied" in refused.err
    raw = tools.skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{node.host}/alpine:3.20"
    ).ok()
    assert raw.out.encode() == ALPINE.root.data


@pytest.mark.nightly
@pytest.mark.parametrize("fault", ["503", "a reset", "a cut", "wrong bytes"])
def test_podman_tries_again_after_a_reset_alone_and_never_takes_wrong_bytes(
    tools: Containers, node: ImageNode, way_out: Outside, fault: str
) -> None:
    with faulty_front(node.url) as front:
        drop_in = podman_with("", front.url, ["docker.io"], enforce=True)
        (tools.drop_in / "900-pyrsia.conf").write_text(drop_in)
        front.spoil(
            "/blobs/",
            status=503 if fault == "503" else 0,
            resets=fault == "a reset",
            cut_after=100 if fault == "a cut" else None,
            corrupts=fault == "wrong bytes",
        )
        pulled = tools.podman("pull", ALPINE_NAME)
    assert (pulled.code == 0) == (fault == "a reset"), pulled.err
    assert bool(tools.podman("images", "--quiet").ok().out) == (fault == "a reset")
    assert way_out.asked == []
