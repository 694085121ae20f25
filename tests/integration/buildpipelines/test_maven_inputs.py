"""Upstream repositories, recording and replay of Maven builds, with real sockets on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs import maven_upstream, outward
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.maven_proxy import (
    RecordingRepository,
    ReplayRepository,
    RepositoryInputs,
    serving_repository,
)
from buildpipelines.inputs.maven_upstream import (
    MavenRepository,
    MavenUpstream,
    parse_maven_repository,
)
from buildpipelines.inputs.verify import fetch_maven
from buildpipelines.sandbox.run import Progress
from buildpipelines.spec.lock import Lock, LockedFile, make_lock
from pyrsia_node.devnet import maven_repository as stand_in

T = TypeVar("T")
JAR = "org/x/a/1.0/a-1.0.jar"
POM = "org/x/a/1.0/a-1.0.pom"
DATA = b"jar of a" * 100


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "RETRY_SECONDS", 0.01)


@pytest.fixture
def central() -> Iterator[stand_in.MavenRepository]:
    files = {JAR: DATA, POM: b"<project/>"}
    with stand_in.serve_repository(stand_in.MavenRepository([], extra=files)) as repository:
        yield repository


def using(
    folder: Path,
    repositories: list[stand_in.MavenRepository],
    use: Callable[[MavenUpstream], Awaitable[T]],
    *,
    is_private: bool = True,
) -> T:
    asked = [
        MavenRepository(f"r{number}", each.url, is_private)
        for number, each in enumerate(repositories)
    ]

    async def run() -> T:
        async with MavenUpstream(asked, InputsCache(folder / "cache")) as upstream:
            return await use(upstream)

    return asyncio.run(run())


async def fetched(upstream: MavenUpstream, path: str = JAR) -> Path | None:
    found = await upstream.find(path)
    return None if found is None else await upstream.fetch(found)


def failure(
    folder: Path,
    repositories: list[stand_in.MavenRepository],
    use: Callable[[MavenUpstream], Awaitable[object]] = fetched,
    *,
    is_private: bool = True,
) -> BuildFailure:
    with pytest.raises(BuildFailure) as caught:
        using(folder, repositories, use, is_private=is_private)
    return caught.value


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("cache/*/*"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------ upstream


def test_file_is_kept_under_its_digest_and_fetched_once(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    async def use(upstream: MavenUpstream) -> list[Path | None]:
        return await asyncio.gather(*(fetched(upstream) for _ in range(8)))

    paths = using(tmp_path, [central], use)
    assert {path.name for path in paths if path} == {sha256(DATA)} == set(cached(tmp_path))
    assert central.paths().count(JAR) == 1


@pytest.mark.parametrize("only", ["sha256", "sha512", "sha1", "md5"])
def test_any_one_checksum_is_enough(
    central: stand_in.MavenRepository, tmp_path: Path, only: str
) -> None:
    central.absent |= {f"{JAR}.{each}" for each in ("sha256", "sha512", "sha1", "md5")}
    central.absent.discard(f"{JAR}.{only}")
    assert using(tmp_path, [central], fetched) is not None
    central.extra[JAR] = DATA + b"!"
    central.extra[f"{JAR}.{only}"] = hashlib.new(only, DATA).hexdigest().encode()
    found = failure(tmp_path / "other", [central])
    assert (found.outcome, found.cause) == ("SOURCE_UNAVAILABLE", "input has another hash")
    assert cached(tmp_path / "other") == []


def test_best_checksum_counts_and_not_the_easiest(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    central.extra[f"{JAR}.sha256"] = sha256(b"other").encode()
    assert failure(tmp_path, [central]).cause == "input has another hash"


@pytest.mark.parametrize("text", ["{}\n", "{}  a-1.0.jar\n", "SHA1(a-1.0.jar)= {}", "\n{} "])
def test_checksum_files_of_the_wild_are_read(
    central: stand_in.MavenRepository, tmp_path: Path, text: str
) -> None:
    central.absent.add(f"{JAR}.sha256")
    hexes = hashlib.sha1(DATA, usedforsecurity=False).hexdigest().upper()
    central.extra[f"{JAR}.sha1"] = text.format(hexes).encode()
    assert using(tmp_path, [central], fetched) is not None


@pytest.mark.parametrize(
    "text", [b"", b"<html>not found</html>", b"0" * 39, b"g" * 40, b"\xff" * 40]
)
def test_checksum_that_is_none_stops_the_build(
    central: stand_in.MavenRepository, tmp_path: Path, text: bytes
) -> None:
    central.extra[f"{JAR}.sha1"] = text
    central.absent.add(f"{JAR}.sha256")
    found = failure(tmp_path, [central])
    assert (found.outcome, found.cause) == ("SOURCE_UNAVAILABLE", "upstream")


def test_file_without_any_checksum_is_not_taken(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    central.absent |= {f"{JAR}.{each}" for each in ("sha256", "sha512", "sha1", "md5")}
    found = failure(tmp_path, [central])
    assert (found.outcome, found.cause) == ("SOURCE_UNAVAILABLE", "no checksum")
    central.absent.add(JAR)
    assert using(tmp_path, [central], fetched) is None


def test_first_repository_that_has_a_path_is_believed(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    own = stand_in.MavenRepository([], extra={JAR: b"own", "org/x/b/1/b-1.jar": b"b"})
    with stand_in.serve_repository(own):
        path = using(tmp_path, [own, central], fetched)
        assert path is not None
        assert path.read_bytes() == b"own"
        assert using(tmp_path, [own, central], lambda u: fetched(u, POM)) is not None
        own.status = 503
        found = failure(tmp_path / "other", [own, central])
        assert (found.outcome, found.cause) == ("SOURCE_UNAVAILABLE", "upstream")


def test_private_repository_is_never_asked_unless_the_operator_allows_it(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    assert failure(tmp_path, [central], is_private=False).cause == "upstream"
    central.url = central.url.replace("127.0.0.1", "localhost")
    assert failure(tmp_path, [central], is_private=False).cause == "upstream"
    assert central.asked == []


@pytest.mark.parametrize(
    "text", ["central", "=http://x", "a b=http://x", "c=ftp://x", "c=http://u:p@x", "c=http://x?y"]
)
def test_option_that_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_maven_repository(text)


def test_option_names_a_repository() -> None:
    found = parse_maven_repository("central=http://x.example/maven2/", is_private=True)
    assert found == MavenRepository("central", "http://x.example/maven2", is_private=True)


# ------------------------------------------------------------------ locked files


def lock_of(*files: tuple[str, bytes]) -> Lock:
    entries = []
    for path, data in files:
        folder, _, name = path.rpartition("/")
        entries.append(LockedFile("maven", folder, name, sha256(data), len(data)))
    return make_lock(entries)


def test_locked_files_are_those_of_the_own_upstream(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    lock = lock_of((JAR, DATA), (POM, b"<project/>"))
    paths = using(tmp_path, [central], lambda u: fetch_maven(lock, u))
    assert {name: path.read_bytes() for name, path in paths.items()} == {
        sha256(DATA): DATA,
        sha256(b"<project/>"): b"<project/>",
    }
    assert using(tmp_path, [central], lambda u: fetch_maven(lock, u)) == paths
    assert central.paths().count(JAR) == 1  # the second time its bytes were there, only checked


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_poisoned_lock_is_refused_even_where_the_bytes_are_in_the_cache(
    central: stand_in.MavenRepository, tmp_path: Path, algorithm: str
) -> None:
    if algorithm == "sha1":
        central.absent.add(f"{JAR}.sha256")
    other = stand_in.MavenRepository([], extra={JAR: b"poison"})
    with stand_in.serve_repository(other):
        using(tmp_path, [other], fetched)
    lock = lock_of((JAR, b"poison"))
    found = failure(tmp_path, [central], lambda u: fetch_maven(lock, u))
    assert (found.outcome, found.cause) == ("REFUSED", "lock hash")
    assert JAR in found.detail


def test_lock_that_names_what_is_not_there_is_refused(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    unknown = lock_of(("org/x/a/2.0/a-2.0.jar", b""))
    found = failure(tmp_path, [central], lambda u: fetch_maven(unknown, u))
    assert (found.outcome, found.cause) == ("REFUSED", "lock unknown file")
    size = make_lock([LockedFile("maven", "org/x/a/1.0", "a-1.0.jar", sha256(DATA), 1)])
    found = failure(tmp_path, [central], lambda u: fetch_maven(size, u))
    assert (found.outcome, found.cause) == ("REFUSED", "lock size")
    pypi = make_lock([LockedFile("pypi", "a", "a-1.0.jar", sha256(DATA), 1)])
    found = failure(tmp_path, [central], lambda u: fetch_maven(pypi, u))
    assert (found.outcome, found.cause) == ("REFUSED", "lock ecosystem")


# ------------------------------------------------------------------ the build's repository


async def ask(socket: Path, path: str, method: str = "GET") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), b"" if method == "HEAD" else await reader.readexactly(length)
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxy(inputs: RepositoryInputs, folder: Path) -> AsyncIterator[tuple[Path, Progress]]:
    watcher = Progress()
    path = folder / "proxy.sock"
    async with serving_repository(inputs, path, uid=None, watcher=watcher):
        yield path, watcher


def test_what_was_recorded_is_replayed_and_nothing_else(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    central.extra["org/x/b/1.0/b-1.0.jar"] = b"b"

    async def use(upstream: MavenUpstream) -> None:
        recording = RecordingRepository(upstream)
        async with proxy(recording, tmp_path) as (socket, _):
            assert await ask(socket, f"/maven2/{JAR}") == (200, DATA)
            assert await ask(socket, f"/maven2/{POM}", "HEAD") == (200, b"")
            assert (await ask(socket, "/maven2/org/x/c/1.0/c-1.0.pom"))[0] == 404
        assert recording.missed == ["org/x/c/1.0/c-1.0.pom"]
        lock = recording.lock([])
        assert lock == lock_of((JAR, DATA), (POM, b"<project/>"))
        central.stop()
        paths = {f.sha256: path for f in lock.files if (path := upstream._cache.find(f.sha256))}
        replay = ReplayRepository(lock, paths)
        async with proxy(replay, tmp_path) as (socket, _):
            assert await ask(socket, f"/maven2/{JAR}") == (200, DATA)
            for algorithm in ("sha1", "md5", "sha256", "sha512"):
                expected = hashlib.new(algorithm, DATA).hexdigest().encode()
                assert await ask(socket, f"/maven2/{JAR}.{algorithm}") == (200, expected)
            for missing in ("org/x/b/1.0/b-1.0.jar", f"{JAR}.asc", "org/x/b/1.0/b-1.0.jar.sha1"):
                assert (await ask(socket, f"/maven2/{missing}"))[0] == 404
        assert replay.missed == ["org/x/b/1.0/b-1.0.jar", "org/x/b/1.0/b-1.0.jar"]

    using(tmp_path, [central], use)


def plugin(prefix: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        text = f"<plugin><name>x</name><goalPrefix>{prefix}</goalPrefix></plugin>"
        archive.writestr("META-INF/maven/plugin.xml", text)
    return out.getvalue()


def test_metadata_of_a_replay_lists_what_is_locked(tmp_path: Path) -> None:
    files = {
        "org/x/a/1.10/a-1.10.pom": b"1",
        "org/x/a/1.9/a-1.9.pom": b"2",
        "org/p/maven-foo-plugin/1.0/maven-foo-plugin-1.0.jar": plugin("bar"),
        "org/p/maven-jar-plugin/1.0/maven-jar-plugin-1.0.jar": b"no jar",
        "org/p/helper/1.0/helper-1.0.jar": b"no plugin",
    }
    paths = {sha256(data): tmp_path / sha256(data) for data in files.values()}
    for data in files.values():
        paths[sha256(data)].write_bytes(data)
    replay = ReplayRepository(lock_of(*files.items()), paths)

    async def run() -> None:
        async with proxy(replay, tmp_path) as (socket, _):
            status, artifact = await ask(socket, "/maven2/org/x/a/maven-metadata.xml")
            assert status == 200
            assert b"<release>1.10</release>" in artifact
            assert artifact.index(b"<version>1.9<") < artifact.index(b"<version>1.10<")
            digest = hashlib.sha1(artifact, usedforsecurity=False).hexdigest().encode()
            assert await ask(socket, "/maven2/org/x/a/maven-metadata.xml.sha1") == (200, digest)
            _, group = await ask(socket, "/maven2/org/p/maven-metadata.xml")
            assert b"<prefix>bar</prefix>\n      <artifactId>maven-foo-plugin<" in group
            assert b"<prefix>jar</prefix>\n      <artifactId>maven-jar-plugin<" in group
            assert b"helper" not in group
            assert (await ask(socket, "/maven2/org/x/maven-metadata.xml"))[0] == 404
            assert (await ask(socket, "/maven2/org/maven-metadata.xml"))[0] == 404

    asyncio.run(run())


def test_recording_gives_the_metadata_of_the_upstream(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    central.extra["org/x/a/maven-metadata.xml"] = b"<metadata/>"

    async def use(upstream: MavenUpstream) -> None:
        recording = RecordingRepository(upstream)
        async with proxy(recording, tmp_path) as (socket, _):
            found = await ask(socket, "/maven2/org/x/a/maven-metadata.xml")
            assert found == (200, b"<metadata/>")
            assert (await ask(socket, "/maven2/org/maven-metadata.xml"))[0] == 404
        assert recording.taken() == ()

    using(tmp_path, [central], use)


@pytest.mark.parametrize(
    "path",
    [
        "/maven2/../etc/passwd",
        "/maven2/org/x/a/1.0/%2e%2e/a-1.0.jar",
        "/maven2/org%2Fx/a/1.0/..%2f..%2fa",
        "/maven2//org/x/a/1.0/a-1.0.jar",
        "/maven2/org/x/a/1.0/a-1.0.jar%00",
        "/maven2/org/x/a/1.0/a\\b",
        "/maven2/org/x/a/1.0/",
        "/maven2/",
        "/",
        f"/{JAR}",
        "/maven2/" + "a/" * 300 + "x",
        f"/maven2/{JAR}.sha1.sha1",
        "/maven2/org/x/a/1.0/%FF",
        "/maven2/org/x/a/2-SNAPSHOT/a-2-20260101.000000-1.jar",
        "/maven2/org/x/a/2-SNAPSHOT/maven-metadata.xml",
    ],
)
def test_path_that_is_none_is_not_found_and_asks_nobody(
    central: stand_in.MavenRepository, tmp_path: Path, path: str
) -> None:
    async def use(upstream: MavenUpstream) -> None:
        async with proxy(RecordingRepository(upstream), tmp_path) as (socket, watcher):
            assert (await ask(socket, path))[0] == 404
            assert watcher.input_failure is None

    using(tmp_path, [central], use)
    assert central.paths() == []


def test_repository_of_somebody_else_is_refused_and_remembered(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    async def use(upstream: MavenUpstream) -> None:
        async with proxy(RecordingRepository(upstream), tmp_path) as (socket, watcher):
            assert (await ask(socket, "http://evil.example/maven2/x"))[0] == 403
            assert (await ask(socket, "phone.example:443", "CONNECT"))[0] == 403
            assert watcher.refused_hosts == ["evil.example", "phone.example"]

    using(tmp_path, [central], use)


def test_wrong_bytes_of_the_upstream_end_the_recording(
    central: stand_in.MavenRepository, tmp_path: Path
) -> None:
    central.extra[f"{JAR}.sha256"] = sha256(b"other").encode()

    async def use(upstream: MavenUpstream) -> None:
        recording = RecordingRepository(upstream)
        async with proxy(recording, tmp_path) as (socket, watcher):
            assert (await ask(socket, f"/maven2/{JAR}"))[0] == 502
            assert watcher.input_failure is not None
            assert watcher.input_failure.cause == "input has another hash"
        assert recording.taken() == ()

    using(tmp_path, [central], use)


def test_file_that_changes_while_it_is_read_fits_no_lock(
    central: stand_in.MavenRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maven_upstream, "KEPT_SECONDS", 0.0)

    async def use(upstream: MavenUpstream) -> None:
        recording = RecordingRepository(upstream)
        async with proxy(recording, tmp_path) as (socket, watcher):
            assert await ask(socket, f"/maven2/{JAR}") == (200, DATA)
            central.extra[JAR] = b"another jar"
            assert (await ask(socket, f"/maven2/{JAR}"))[0] == 502
            assert watcher.input_failure is not None
            assert watcher.input_failure.cause == "input has another hash"
        assert recording.lock([]) == lock_of((JAR, DATA))

    using(tmp_path, [central], use)
