"""``pyrsia gc`` at a running node: collect, look, explain."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.image_node import PYRSIA, ImageNode, image_node


@dataclass
class Operator:
    node: ImageNode

    def gc(self, *words: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        settings = self.node.settings.with_name("admin.toml")
        text = f"port = {self.node.url.rpartition(':')[2]}\n"
        if token:
            text += f'token_file = "{self.node.layout.root / "admin.token"}"\n'
        settings.write_text(text)
        return subprocess.run(
            [PYRSIA, "gc", *words],
            env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "PYRSIA_CONFIG": str(settings)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def json(self, *words: str) -> Any:
        done = self.gc(*words, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def push(self, repository: str, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        url = f"{self.node.url}/v2/{repository}/blobs/uploads/?digest={digest}"
        answer = httpx.post(url, content=data, headers={"content-type": "application/octet-stream"})
        assert answer.status_code == 201, answer.text
        return digest

    def lay_orphan(self, data: bytes) -> str:
        """Put a local blob on the disk that no row names, as after a crash long ago."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.node.layout.blobs / "local" / sha256[:2] / sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1000, 1000))
        return sha256


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with image_node(tmp_path / "node") as node:
        yield Operator(node)


def test_collection_removes_what_nothing_needs_and_tells_it(operator: Operator) -> None:
    operator.node.stop()
    orphan = operator.lay_orphan(b"nobody knows it")
    # Beside the orphan there must be a database: without one, nothing that was pushed is safe.
    operator.node.start()
    pushed = operator.push("team/app", b"just pushed")
    assert operator.json("status")["number"] == 0
    would = operator.json("run", "--dry-run")
    assert (would["dry_run"], would["digests"], would["bytes"]) == (True, [orphan], 15)
    found = operator.json("explain", f"sha256:{orphan}")
    assert [each["kind"] for each in found["reasons"]] == ["orphan"]
    done = operator.json("run")
    assert (done["dry_run"], done["digests"], done["orphans"]) == (False, [orphan], 1)
    status = operator.json("status")
    assert (status["number"], status["stage"]) == (2, "idle")
    assert status["last"]["blobs"] == 1
    assert status["next_ms"] > done["ended_ms"]
    found = operator.json("explain", f"sha256:{orphan}")
    assert (found["present"], found["reasons"]) == (False, [])
    assert httpx.head(f"{operator.node.url}/v2/team/app/blobs/{pushed}").status_code == 200


def test_explanation_says_when_something_goes(operator: Operator) -> None:
    digest = operator.push("team/app", b"just pushed")
    done = operator.gc("explain", digest)
    assert done.returncode == 0, done.stderr
    assert "pushed to team/app" in done.stdout
    assert "nothing keeps it: it goes after 20" in done.stdout
    assert "60 minutes after its last use" in done.stdout


def test_only_who_has_the_token_learns_names_or_collects(operator: Operator) -> None:
    for words in (["run"], ["status"], ["explain", "sha256:" + "0" * 64]):
        done = operator.gc(*words, token=False)
        assert done.returncode == 2
        assert "admin token" in done.stderr
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/explain?digest=sha256:0")):
        answer = httpx.request(method, f"{operator.node.url}/api/v1/gc{path}", json={})
        assert answer.status_code in {401, 403}, answer.text


@pytest.mark.parametrize("digest", ["latest", "sha256:12", "md5:" + "0" * 32])
def test_what_is_no_digest_is_a_clear_error(operator: Operator, digest: str) -> None:
    done = operator.gc("explain", digest)
    assert done.returncode == 2
    assert digest in done.stderr


def test_unfinished_push_of_a_killed_node_leaves_nothing_in_the_end(operator: Operator) -> None:
    url = f"{operator.node.url}/v2/team/app/blobs/uploads/"
    begun = httpx.post(url)
    location = f"{operator.node.url}{begun.headers['location']}"
    assert httpx.patch(location, content=b"x" * 100_000).status_code == 202
    operator.node.kill()
    (upload,) = operator.node.layout.uploads.iterdir()
    operator.node.start()
    assert operator.json("run")["uploads"] == 0
    assert httpx.get(location).status_code == 204
    assert httpx.delete(location).status_code == 204
    assert not upload.exists()
