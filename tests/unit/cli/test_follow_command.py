"""``follow`` and ``unfollow``: what is asked of a node, and what is shown of its answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from tests.fakes.node_that_answers import Said, node_that_answers, said

DIGEST = "sha256:" + "ab" * 32
FOLLOWED: dict[str, object] = {
    "purl": "pkg:docker/docker.io/library/alpine@3.20",
    "platforms": [],
    "every_s": 3600,
    "node": "auth-1",
    "by": "",
    "looked_ms": 1_700_000_000_000,
    "seen": DIGEST,
    "seen_ms": 1_700_000_000_000,
    "logged": "",
    "build_id": "",
    "problem": "",
}


class Node:
    """A node that follows one tag."""

    def __init__(self, **change: object) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.followed = {**FOLLOWED, **change}

    def answer(self, method: str, path: str, body: bytes) -> Said:
        self.asked.append((f"{method} {path}", json.loads(body or b"{}")))
        if method == "GET":
            return said({"follows": [self.followed], "away": ["auth-2"]})
        if path.endswith("/end") and self.asked[-1][1]["version"] == "unknown":
            return said({"error": {"kind": "not_found", "message": "is not followed"}}, code=404)
        return said({} if path.endswith("/end") else self.followed)


def run(folder: Path, node: Node, *arguments: str) -> Result:
    token = folder / "token"
    token.write_text("0" * 32)
    with node_that_answers(folder, node.answer) as settings:
        settings.write_text(settings.read_text() + f'token_file = "{token}"\n')
        return CliRunner().invoke(cli, arguments, env={"PYRSIA_CONFIG": str(settings)})


@pytest.mark.parametrize(
    ("image", "name", "version"),
    [
        ("alpine:3.20", "alpine", "3.20"),
        ("alpine", "alpine", "latest"),
        ("pkg:docker/ghcr.io/a/b@1", "ghcr.io/a/b", "1"),
        (f"a@{DIGEST}", "a", DIGEST),
    ],
)
def test_tag_is_asked_for_as_it_was_named(
    tmp_path: Path, image: str, name: str, version: str
) -> None:
    node = Node()
    result = run(tmp_path, node, "follow", image, "--every", "90m", "--platform", "linux/amd64")
    assert result.exit_code == 0, result.output
    [(asked, body)] = node.asked
    assert asked == "POST /api/v1/follows"
    assert (body["name"], body["version"], body["every_s"]) == (name, version, 5400)
    assert body["platforms"] == ["linux/amd64"]
    assert "followed by auth-1, every 1h" in result.output


@pytest.mark.parametrize("every", ["", "1", "5s", "31d", "1w", "-1h", "1.5h", "99999999s"])
def test_pause_that_is_none_is_refused_with_the_bounds(tmp_path: Path, every: str) -> None:
    result = run(tmp_path, Node(), "follow", "alpine", "--every", every)
    assert isinstance(result.exception, InvalidInputError)
    assert "from 10s to 30d" in str(result.exception)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "new"),
        ({"build_id": "b-1"}, "importing"),
        ({"logged": DIGEST}, "up to date"),
        ({"seen": "", "looked_ms": 0}, "not seen yet"),
    ],
)
def test_list_says_how_each_tag_stands(
    tmp_path: Path, change: dict[str, object], state: str
) -> None:
    result = run(tmp_path, Node(**change), "follow", "--list", "--format", "csv")
    assert result.exit_code == 0, result.output
    assert state in result.output
    assert "auth-2" in result.output, "who was not asked is named"


def test_without_an_image_what_is_followed_is_shown(tmp_path: Path) -> None:
    node = Node()
    assert run(tmp_path, node, "follow").exit_code == 0
    assert node.asked[0][0] == "GET /api/v1/follows"


def test_unfollow_ends_it_and_says_so(tmp_path: Path) -> None:
    node = Node()
    result = run(tmp_path, node, "unfollow", "alpine:3.20")
    assert result.exit_code == 0, result.output
    assert node.asked == [
        (
            "POST /api/v1/follows/end",
            {"ecosystem": "docker", "name": "alpine", "version": "3.20"},
        )
    ]
    refused = run(tmp_path, Node(), "unfollow", "alpine:unknown")
    assert isinstance(refused.exception, NotFoundError)


@pytest.mark.parametrize(
    ("image", "why"),
    [("pkg:maven/a/b@1", "only tags of images"), ("pkg:docker/ghcr.io/a/b", "names no tag")],
)
def test_what_cannot_be_followed_is_refused_here(tmp_path: Path, image: str, why: str) -> None:
    result = run(tmp_path, Node(), "follow", image)
    assert isinstance(result.exception, InvalidInputError)
    assert why in str(result.exception)
