"""The git server of demonstrations and tests, asked by a real git."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pyrsia_node.devnet.git_server import (
    GitServer,
    make_repository,
    make_repository_from,
    run_git,
    serve_git,
)

FILES = {"pom.xml": b"<project/>\r\n", "src/A.java": b"class A {}\n", ".gitattributes": b"* text\n"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    folder = tmp_path / "repositories"
    folder.mkdir()
    with serve_git(folder, work=tmp_path) as running:
        yield running


def git(server: GitServer, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_SSL_CAINFO": str(server.ca_file),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    return subprocess.run(
        ["git", *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_tag_of_a_repository_is_fetched_with_the_bytes_that_went_in(
    server: GitServer, tmp_path: Path
) -> None:
    commit = make_repository(server.folder / "hello.git", files=FILES, tag="v1")
    listed = git(server, "ls-remote", "--tags", f"{server.url}/hello.git")
    assert listed.stdout.split() == [commit, "refs/tags/v1"]
    target = tmp_path / "clone.git"
    done = git(server, "clone", "--bare", "--quiet", f"{server.url}/hello.git", str(target))
    assert done.returncode == 0, done.stderr
    for name, data in FILES.items():
        shown = run_git("--git-dir", str(target), "cat-file", "blob", f"v1:{name}")
        assert shown.replace("\n", "") == data.decode().replace("\r\n", "\n").replace("\n", "")
        size = run_git("--git-dir", str(target), "cat-file", "-s", f"v1:{name}")
        assert int(size) == len(data)
    assert server.requests[0] == "/hello.git/info/refs?service=git-upload-pack"


def test_same_files_give_the_same_commit_and_a_tag_can_move(
    server: GitServer, tmp_path: Path
) -> None:
    first = make_repository(server.folder / "a.git", files=FILES, tag="v1")
    assert make_repository(server.folder / "b.git", files=FILES, tag="v1") == first
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pom.xml").write_bytes(b"<other/>\n")
    moved = make_repository_from(tmp_path / "other", server.folder / "a.git", tag="v1")
    assert moved != first
    assert git(server, "ls-remote", "--tags", f"{server.url}/a.git").stdout.split()[0] == moved


def test_archive_beside_the_repositories_is_served_and_nothing_outside_of_them(
    server: GitServer,
) -> None:
    (server.folder / "hello-1.0.tar.gz").write_bytes(b"an archive")
    (server.folder.parent / "secret.txt").write_bytes(b"not yours")
    trusting = ssl.create_default_context(cafile=str(server.ca_file))
    with httpx.Client(verify=trusting, base_url=server.url) as client:
        assert client.get("/hello-1.0.tar.gz").content == b"an archive"
        assert client.get("/%2e%2e/secret.txt").status_code == 404
        assert client.get("/missing.git/info/refs?service=git-upload-pack").status_code == 404


def test_stopped_server_refuses_and_comes_back_at_its_port(server: GitServer) -> None:
    make_repository(server.folder / "hello.git", files=FILES, tag="v1")
    address = f"{server.url}/hello.git"
    server.stop()
    assert git(server, "ls-remote", address).returncode != 0
    server.start()
    assert git(server, "ls-remote", address).returncode == 0
