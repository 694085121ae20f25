"""Sources from a real git server with TLS and from archives, on 127.0.0.1."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from buildpipelines.errors import BuildFailure
from buildpipelines.inputs import git, outward
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.git import GitOrigin
from buildpipelines.inputs.sources import FetchedSource, SourceFetcher
from pyrsia_node.devnet.git_server import GitServer, serve_git
from tests.fakes.git_server import COMMIT_TIME_S, commit_object, make_commit, repository_url

T = TypeVar("T")
FILES = {
    "pom.xml": b"<project/>\n",
    "mvnw": b"#!/bin/sh\n",
    "docs": b"src/docs",
    "src/A.java": b"class A {}\r\n",
    "src/docs/a-b.txt": b"",
    f"src/{'long/' * 25}name.txt": b"deep",
    "src/über.txt": "ü".encode(),
}
MODES = {"mvnw": "100755", "docs": "120000"}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "RETRY_SECONDS", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    repositories = tmp_path / "repositories"
    repositories.mkdir()
    with serve_git(repositories, work=tmp_path) as server:
        yield server


def fetching(
    server: GitServer,
    folder: Path,
    use: Callable[[SourceFetcher, Path], Awaitable[T]],
    *,
    is_private: bool = True,
) -> T:
    async def run() -> T:
        hosts = [server.host] if is_private else []
        async with SourceFetcher(
            InputsCache(folder / "cache"), private_hosts=hosts, certificates=server.ca_file
        ) as fetcher:
            job = folder / "job"
            job.mkdir(exist_ok=True)
            return await use(fetcher, job)

    return asyncio.run(run())


def tree(
    server: GitServer, folder: Path, *, name: str = "a.git", tag: str = "rel/1.0", commit: str = ""
) -> FetchedSource:
    url = repository_url(server, name)
    return fetching(server, folder, lambda f, job: f.tree(url, folder=job, tag=tag, commit=commit))


def refusal(server: GitServer, folder: Path, **wanted: str) -> BuildFailure:
    with pytest.raises(BuildFailure) as caught:
        tree(server, folder, **wanted)
    assert [each.name for each in (folder / "job").glob("git-*")] == []
    return caught.value


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_tree_of_a_tag_becomes_the_same_tar_wherever_it_is_fetched(
    server: GitServer, tmp_path: Path
) -> None:
    commit = make_commit(server.folder / "a.git", FILES, "rel/1.0", modes=MODES)
    other = make_commit(
        server.folder / "b.git", FILES, "v1", modes=MODES, time_s=5, is_annotated=True
    )
    assert commit != other
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = tree(server, tmp_path / "1")
    second = tree(server, tmp_path / "2", name="b.git", tag="v1")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (first.commit, second.commit) == (commit, other)
    assert (first.time, second.time) == (COMMIT_TIME_S, 5)
    assert first.file == f"source-{hashlib.sha256(first.path.read_bytes()).hexdigest()[:16]}.tar"
    with tarfile.open(first.tar) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == sorted(m.name for m in members)
        assert {m.name: tar.extractfile(m).read() for m in members if m.isfile()} == {  # type: ignore[union-attr] # they are files
            name: content for name, content in FILES.items() if name != "docs"
        }
        assert {m.mode for m in members if m.isfile() and m.name != "mvnw"} == {0o644}
        assert tar.getmember("mvnw").mode == 0o755
        assert tar.getmember("docs").linkname == "src/docs"
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(0, 0, 0, "")}


def test_bytes_of_a_canonical_tar_never_change(server: GitServer, tmp_path: Path) -> None:
    make_commit(server.folder / "a.git", FILES, "rel/1.0", modes=MODES)
    found = tree(server, tmp_path)
    assert found.sha256 == "7ab0a50a679ff20561d044d347f32e3c69776d0d50a1a25e992135679979a61a"


def test_commit_alone_is_enough_and_history_is_not_fetched(
    server: GitServer, tmp_path: Path
) -> None:
    commit = make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")
    make_commit(server.folder / "a.git", {"b": b"2"}, "rel/2.0")
    found = tree(server, tmp_path, tag="", commit=commit)
    assert names(found.tar) == ["a"]
    assert (found.commit, found.tag) == (commit, "")


def test_tag_that_moved_is_refused_with_both_commits(server: GitServer, tmp_path: Path) -> None:
    before = make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")
    after = make_commit(server.folder / "a.git", {"a": b"2"}, "rel/1.0")
    found = refusal(server, tmp_path, commit=before)
    assert (found.outcome, found.cause) == ("REFUSED", "tag moved")
    assert before in found.detail
    assert after in found.detail


def test_what_is_not_there_is_named(server: GitServer, tmp_path: Path) -> None:
    make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")
    assert refusal(server, tmp_path, tag="rel/9").cause == "no such tag"
    assert refusal(server, tmp_path, tag="", commit="1" * 40).cause == "no such commit"
    assert refusal(server, tmp_path, name="b.git").cause == "no such repository"


def test_submodule_and_lfs_pointer_are_refused_by_name(server: GitServer, tmp_path: Path) -> None:
    files = {"a": b"1", "vendor/lib": b"1" * 40}
    make_commit(server.folder / "a.git", files, "rel/1.0", modes={"vendor/lib": "160000"})
    found = refusal(server, tmp_path)
    assert (found.outcome, found.cause) == ("REFUSED", "submodule")
    assert "vendor/lib" in found.detail
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    make_commit(server.folder / "b.git", {"big.bin": pointer}, "rel/1.0")
    found = refusal(server, tmp_path, name="b.git")
    assert (found.outcome, found.cause) == ("REFUSED", "git lfs")
    assert "big.bin" in found.detail


def test_link_that_leaves_the_tree_is_refused(server: GitServer, tmp_path: Path) -> None:
    files = {"f": b"", "l": b"../x"}
    make_commit(server.folder / "a.git", files, "rel/1.0", modes={"l": "120000"})
    found = refusal(server, tmp_path)
    assert (found.outcome, found.cause) == ("REFUSED", "link escapes")


def test_name_that_no_archive_may_have_is_refused(server: GitServer, tmp_path: Path) -> None:
    make_commit(server.folder / "a.git", {"new\nline": b""}, "rel/1.0")
    assert refusal(server, tmp_path).cause == "entry name"


def test_hand_made_tree_is_refused_or_cannot_be_had(server: GitServer, tmp_path: Path) -> None:
    target = server.folder / "a.git"
    make_commit(target, {"empty": b""}, "other")
    empty = bytes.fromhex("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    commit_object(target, b"100644 .GIT\0" + empty, "rel/1.0")
    assert refusal(server, tmp_path).cause in ("entry name", "source host")


def test_redirect_stays_at_the_host_and_is_followed_there(
    server: GitServer, tmp_path: Path
) -> None:
    make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")
    server.redirects["/old.git"] = "/a.git"
    assert names(tree(server, tmp_path, name="old.git").tar) == ["a"]
    port = server.host.rpartition(":")[2]
    server.redirects["/away.git"] = f"https://localhost:{port}/a.git"
    found = refusal(server, tmp_path, name="away.git")
    assert found.outcome == "SOURCE_UNAVAILABLE"
    assert "localhost" in found.detail
    server.redirects["/plain.git"] = f"http://{server.host}/a.git"
    assert "http://" in refusal(server, tmp_path, name="plain.git").detail


def test_private_address_is_never_asked_unless_the_operator_allows_it(
    server: GitServer, tmp_path: Path
) -> None:
    make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")
    port = server.host.rpartition(":")[2]
    for url in (repository_url(server, "a.git"), f"git+https://localhost:{port}/a.git"):
        with pytest.raises(BuildFailure) as caught:
            fetching(
                server,
                tmp_path,
                lambda f, job, url=url: f.tree(url, folder=job, tag="rel/1.0"),  # type: ignore[misc] # url is bound at once
                is_private=False,
            )
        assert (caught.value.outcome, caught.value.cause) == ("REFUSED", "private address")
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "git+http://127.0.0.1/a.git",
        "git+ssh://127.0.0.1/a.git",
        "git+file:///a.git",
        "https://127.0.0.1/a.git",
        "git+https://user:secret@127.0.0.1/a.git",
        "git+https://127.0.0.1/a/../b.git",
        "git+https://127.0.0.1/a.git?x=1",
        "git+https://-oProxyCommand=x/a.git",
        "git+https://127.0.0.1:99999/a.git",
        "git+https://127.0.0.1/",
        "ext::sh -c id",
    ],
)
def test_other_addresses_than_https_are_refused_unasked(
    server: GitServer, tmp_path: Path, url: str
) -> None:
    with pytest.raises(BuildFailure) as caught:
        fetching(server, tmp_path, lambda f, job: f.tree(url, folder=job, tag="rel/1.0"))
    assert (caught.value.outcome, caught.value.cause) == ("REFUSED", "source address")


@pytest.mark.parametrize(
    "tag", ["-x", "a..b", "a b", "a~1", "a^{}", "a:b", "*", "a/", "a.lock", ""]
)
def test_tag_that_is_no_name_is_refused_unasked(
    server: GitServer, tmp_path: Path, tag: str
) -> None:
    assert refusal(server, tmp_path, tag=tag).cause == "source address"
    assert server.requests == []


def test_server_that_says_nothing_is_left_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "FETCH_SECONDS", 0.3)

    async def use(port: int) -> None:
        origin = GitOrigin(f"https://127.0.0.1:{port}/a.git", "127.0.0.1", port, (), None)
        async with git.opened(tmp_path) as repository:
            await repository.fetch(origin, tag="rel/1.0", commit="")

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BuildFailure) as caught:
        asyncio.run(use(silent.getsockname()[1]))
    assert (caught.value.outcome, caught.value.cause) == ("SOURCE_UNAVAILABLE", "source host")
    assert "not done after" in caught.value.detail


def test_job_that_is_cancelled_leaves_no_git_behind(tmp_path: Path) -> None:
    async def use(silent: socket.socket) -> None:
        port = silent.getsockname()[1]
        origin = GitOrigin(f"https://127.0.0.1:{port}/a.git", "127.0.0.1", port, (), None)
        async with git.opened(tmp_path) as repository:
            work = asyncio.create_task(repository.fetch(origin, tag="rel/1.0", commit=""))
            connection, _ = await asyncio.to_thread(silent.accept)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            # Git and its helper held the other end; now nobody does.
            connection.settimeout(5)
            while await asyncio.to_thread(connection.recv, 4096):
                pass
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)  # that git does not come at all is told, not waited for
        asyncio.run(use(silent))
    assert list(tmp_path.iterdir()) == []


def test_git_connects_to_the_addresses_that_were_judged(server: GitServer, tmp_path: Path) -> None:
    make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")
    port = int(server.host.rpartition(":")[2])

    def fetch(host: str) -> str:
        async def use() -> str:
            url = f"https://{host}:{port}/a.git"
            origin = GitOrigin(url, host, port, ("127.0.0.1",), server.ca_file)
            async with git.opened(tmp_path) as repository:
                return await repository.fetch(origin, tag="rel/1.0", commit="")

        return asyncio.run(use())

    assert len(fetch("localhost")) == 40
    # Nobody resolves this name; it is reached, and its certificate is another's.
    with pytest.raises(BuildFailure, match="certificate"):
        fetch("nowhere.invalid")


def test_repository_that_is_too_large_is_refused(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = hashlib.shake_256(b"noise").digest(200_000)
    make_commit(server.folder / "a.git", {"noise": noise}, "rel/1.0")
    monkeypatch.setattr(git, "PACK_BYTES_MAX", 100_000)
    found = refusal(server, tmp_path)
    assert (found.outcome, found.cause) == ("REFUSED", "source too large")


def test_certificate_of_somebody_else_is_not_trusted(server: GitServer, tmp_path: Path) -> None:
    make_commit(server.folder / "a.git", {"a": b"1"}, "rel/1.0")

    async def use() -> FetchedSource:
        async with SourceFetcher(
            InputsCache(tmp_path / "cache"), private_hosts=[server.host]
        ) as fetcher:
            return await fetcher.tree(
                repository_url(server, "a.git"), folder=tmp_path, tag="rel/1.0"
            )

    with pytest.raises(BuildFailure) as caught:
        asyncio.run(use())
    assert caught.value.outcome == "SOURCE_UNAVAILABLE"
    assert "certificate" in caught.value.detail.lower()


# ------------------------------------------------------------------ archives


def tar_gz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 99
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def archive(server: GitServer, folder: Path, name: str) -> FetchedSource:
    url = f"{server.url}/{name}"
    return fetching(server, folder, lambda f, job: f.archive(url, folder=job))


def test_archive_is_kept_as_it_came_and_unpacked_without_its_top(
    server: GitServer, tmp_path: Path
) -> None:
    data = tar_gz({"a-1.0/pom.xml": b"<project/>", "a-1.0/src/A.java": b""})
    (server.folder / "a-1.0-src.tgz").write_bytes(data)
    found = archive(server, tmp_path, "a-1.0-src.tgz")
    assert found.path.read_bytes() == data
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert (found.kind, found.file) == ("archive", f"source-{found.sha256[:16]}.tar.gz")
    assert (found.time, found.entries) == (99, 2)
    assert names(found.tar) == ["pom.xml", "src/A.java"]
    assert found.locked().sha256 == found.described().sha256 == found.sha256


@pytest.mark.parametrize(
    ("name", "outcome", "cause"),
    [
        ("absent.tar.gz", "SOURCE_UNAVAILABLE", "no such archive"),
        ("broken.tar.gz", "REFUSED", "not gzip"),
        ("climbs.tar.gz", "REFUSED", "path traversal"),
        ("flat.tar.gz", "REFUSED", "source layout"),
        ("a.rar", "REFUSED", "source address"),
    ],
)
def test_archive_that_will_not_do_is_named(
    server: GitServer, tmp_path: Path, name: str, outcome: str, cause: str
) -> None:
    (server.folder / "broken.tar.gz").write_bytes(b"no archive")
    (server.folder / "climbs.tar.gz").write_bytes(tar_gz({"a/../../x": b""}))
    (server.folder / "flat.tar.gz").write_bytes(tar_gz({"pom.xml": b""}))
    with pytest.raises(BuildFailure) as caught:
        archive(server, tmp_path, name)
    assert (caught.value.outcome, caught.value.cause) == (outcome, cause)


def test_archive_never_comes_over_plain_http(server: GitServer, tmp_path: Path) -> None:
    server.redirects["/a.tar.gz"] = f"http://{server.host}/b.tar.gz"
    with pytest.raises(BuildFailure, match="redirects to 'http://"):
        archive(server, tmp_path, "a.tar.gz")
    with pytest.raises(BuildFailure) as caught:
        fetching(server, tmp_path, lambda f, job: f.archive("http://x/a.zip", folder=job))
    assert caught.value.cause == "source address"


def test_archive_of_a_private_host_is_refused_unasked(server: GitServer, tmp_path: Path) -> None:
    url = f"{server.url}/a.tar.gz"
    with pytest.raises(BuildFailure) as caught:
        fetching(server, tmp_path, lambda f, job: f.archive(url, folder=job), is_private=False)
    assert (caught.value.outcome, caught.value.cause) == ("REFUSED", "private address")
    assert server.requests == []
