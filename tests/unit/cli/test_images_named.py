"""Images as people type them become what a node is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.errors import InvalidInputError
from tests.fakes.node_that_answers import Said, node_that_answers, said

DIGEST = "sha256:" + "0" * 64
PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


def status(default_registry: str) -> Said:
    """Return the answer of a node, with its default registry."""
    texts = ("label", "network_name", "leader", "leader_label", "note")
    counts = ("height", "size", "published_size", "view", "n", "f", "q", "peers_count")
    known: dict[str, object] = dict.fromkeys(texts, "x") | dict.fromkeys(counts, 1)
    known |= {"open_requests": 0, "pending_transactions": 0, "addresses": [], "set": []}
    known |= {
        "network": "0" * 64,
        "root": "0" * 64,
        "peer_id": PEER,
        "role": "regular",
        "version": "1",
        "core": "up",
    }
    return said({**known, "default_registry": default_registry})


class Node:
    """What a node was asked, and how it answers."""

    def __init__(self, default_registry: str = "docker.io") -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.default_registry = default_registry

    def answer(self, method: str, path: str, body: bytes) -> Said:
        if path == "/api/v1/status":
            return status(self.default_registry)
        self.asked.append((f"{method} {path}", json.loads(body or b"{}")))
        if method == "POST":
            return said({"build_id": "b-1", "state": "queued"}, code=202)
        return said({"as_of": 0, "complete": True, "entries": []})


def run(folder: Path, node: Node, *arguments: str) -> Result:
    token = folder / "token"
    token.write_text("0" * 32)
    with node_that_answers(folder, node.answer) as settings:
        settings.write_text(settings.read_text() + f'token_file = "{token}"\n')
        return CliRunner().invoke(cli, arguments, env={"PYRSIA_CONFIG": str(settings)})


@pytest.mark.parametrize(
    ("image", "body"),
    [
        ("alpine", {"name": "alpine", "version": "latest"}),
        ("alpine:3.20", {"name": "alpine", "version": "3.20"}),
        ("ghcr.io:443/a/b", {"name": "ghcr.io:443/a/b", "version": "latest"}),
        (f"a/b@{DIGEST}", {"name": "a/b", "version": DIGEST}),
        (f"a/b:1@{DIGEST}", {"name": "a/b", "version": "1", "pinned": DIGEST}),
    ],
)
def test_image_is_asked_for_as_it_was_named(
    tmp_path: Path, image: str, body: dict[str, object]
) -> None:
    node = Node()
    result = run(tmp_path, node, "build", "docker", "--image", image, "--no-wait")
    assert result.exit_code == 0, result.output
    assert node.asked == [("POST /api/v1/builds", {"ecosystem": "docker", **body})]
    assert "b-1" in result.output


def test_platforms_and_deadline_go_with_every_image(tmp_path: Path) -> None:
    node = Node()
    run(
        *(tmp_path, node, "build", "docker", "a", "b", "--no-wait", "--class", "L"),
        *("--platform", "linux/amd64", "--platform", "linux/arm64"),
    )
    assert [body["name"] for _, body in node.asked] == ["a", "b"]
    for _, body in node.asked:
        assert (body["class"], body["platforms"]) == ("L", ["linux/amd64", "linux/arm64"])


@pytest.mark.parametrize("command", ["build docker --no-wait", "follow"])
@pytest.mark.parametrize("platform", ["", "foo", "linux/", "Linux/amd64", "a/b/c/d"])
def test_platform_that_is_none_is_refused_with_an_example(
    tmp_path: Path, command: str, platform: str
) -> None:
    words = (*command.split(), "alpine:3.20", "--platform", platform)
    result = run(tmp_path, Node(), *words)
    assert isinstance(result.exception, InvalidInputError)
    assert "such as linux/amd64" in str(result.exception)


def test_rebuild_names_its_context_and_the_rest(tmp_path: Path) -> None:
    node, context = Node(), f"registry.example/team/context@{DIGEST}"
    words = ("--context", context, "--target", "last", "--build-arg", "A=1", "--no-wait")
    result = run(tmp_path, node, "build", "docker", "alpine:3.20", *words)
    assert result.exit_code == 0, result.output
    [(_, body)] = node.asked
    assert body["rebuild"] == {"context": context, "target": "last", "args": ["A=1"]}
    alone = run(tmp_path, Node(), "build", "docker", "alpine", "--target", "last")
    assert isinstance(alone.exception, InvalidInputError)
    assert "give --context as well" in str(alone.exception)


def test_build_without_an_image_says_what_to_write(tmp_path: Path) -> None:
    result = run(tmp_path, Node(), "build", "docker")
    assert isinstance(result.exception, InvalidInputError)
    assert "--image alpine:3.20" in str(result.exception)


@pytest.mark.parametrize(
    ("image", "purl"),
    [
        ("alpine:3.20", "pkg:docker/registry.example/library/alpine@3.20"),
        ("alpine", "pkg:docker/registry.example/library/alpine"),
        ("ghcr.io/a/b:1", "pkg:docker/ghcr.io/a/b@1"),
        (f"a/b@{DIGEST}", f"pkg:docker/registry.example/a/b@{DIGEST}"),
    ],
)
def test_inspect_log_means_the_registry_that_the_node_means(
    tmp_path: Path, image: str, purl: str
) -> None:
    node = Node("registry.example")
    trust = tmp_path / "trust"
    result = run(tmp_path, node, "inspect-log", "docker", "--image", image, "--trust", str(trust))
    [(asked, _)] = node.asked or [(str(result.exception), {})]
    assert (
        asked.replace("%3A", ":")
        .replace("%2F", "/")
        .replace("%40", "@")
        .startswith(f"GET /api/v1/inspect-log?purl={purl}")
    )


def test_node_that_tells_no_registry_needs_it_named(tmp_path: Path) -> None:
    result = run(tmp_path, Node(""), "inspect-log", "docker", "alpine")
    assert isinstance(result.exception, InvalidInputError)
    assert "write HOST/alpine" in str(result.exception)
