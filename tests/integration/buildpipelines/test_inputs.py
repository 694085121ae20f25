"""Upstream, cache and proxy with real sockets on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from buildpipelines.errors import BuildFailure
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.pages import IndexFile, parse_page
from buildpipelines.inputs.pipconf import IndexSettings
from buildpipelines.inputs.proxy import (
    Inputs,
    RecordingInputs,
    ReplayInputs,
    locked_file,
    record_lock,
    serving,
)
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.sandbox.run import Progress
from buildpipelines.spec.lock import LockedFile, make_lock
from tests.hostile.index import Index, serving_index

T = TypeVar("T")
DATA = b"x" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def index() -> Iterator[Index]:
    with serving_index() as index:
        yield index


def with_upstream(
    index: Index, folder: Path, use: Callable[[Upstream], Awaitable[T]], *, bytes_max: int = 10**6
) -> T:
    async def run() -> T:
        cache = InputsCache(folder, bytes_max=bytes_max)
        async with Upstream(IndexSettings(index.url, None), cache) as upstream:
            return await use(upstream)

    return asyncio.run(run())


async def only_file(upstream: Upstream, project: str) -> IndexFile:
    [file] = await upstream.project(project)
    return file


def test_one_download_however_many_jobs_ask(index: Index, tmp_path: Path) -> None:
    index.add("p", "p-1.0.tar.gz", DATA)

    async def use(upstream: Upstream) -> list[Path]:
        file = await only_file(upstream, "P")
        return await asyncio.gather(*(upstream.fetch(file) for _ in range(16)))

    paths = with_upstream(index, tmp_path, use)
    assert {path.read_bytes() for path in paths} == {DATA}
    assert index.requests == ["/simple/p/", "/files/p-1.0.tar.gz"]
    assert with_upstream(index, tmp_path, use) == paths
    assert index.requests.count("/files/p-1.0.tar.gz") == 1


def test_file_with_other_bytes_never_enters_the_cache(index: Index, tmp_path: Path) -> None:
    index.add("p", "p-1.0.tar.gz", DATA)
    index.corrupt.add("p-1.0.tar.gz")

    async def use(upstream: Upstream) -> Path:
        return await upstream.fetch(await only_file(upstream, "p"))

    with pytest.raises(BuildFailure, match="another hash"):
        with_upstream(index, tmp_path, use)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_file_that_is_larger_than_announced_is_cut_off(index: Index, tmp_path: Path) -> None:
    index.add("p", "p-1.0.tar.gz", DATA)

    async def use(upstream: Upstream) -> Path:
        file = await only_file(upstream, "p")
        return await upstream.fetch(IndexFile(file.file, file.url, file.sha256, size=10))

    with pytest.raises(BuildFailure, match="too large"):
        with_upstream(index, tmp_path, use)


def test_unknown_project_has_no_files_and_a_broken_index_is_unavailable(
    index: Index, tmp_path: Path
) -> None:
    async def use(upstream: Upstream) -> tuple[IndexFile, ...]:
        return await upstream.project("absent")

    assert with_upstream(index, tmp_path, use) == ()
    index.broken = True
    with pytest.raises(BuildFailure) as caught:
        with_upstream(index, tmp_path, use)
    assert (caught.value.outcome, caught.value.cause) == ("SOURCE_UNAVAILABLE", "upstream")
    assert index.requests.count("/simple/absent/") == 1 + 3  # it was asked again


def test_credentials_of_the_index_stand_in_no_failure(index: Index, tmp_path: Path) -> None:
    index.broken = True
    index.url = index.url.replace("http://", "http://user:secret@")

    async def use(upstream: Upstream) -> object:
        return await upstream.project("p")

    with pytest.raises(BuildFailure) as caught:
        with_upstream(index, tmp_path, use)
    assert "secret" not in str(caught.value)


def test_least_recently_used_files_leave_a_full_cache(index: Index, tmp_path: Path) -> None:
    for number in range(4):
        index.add("p", f"p-{number}.tar.gz", bytes([number]) * 1000)

    async def use(upstream: Upstream) -> list[bool]:
        files = await upstream.project("p")
        for file in (*files[:3], files[0], files[3]):
            await upstream.fetch(file)
            await asyncio.sleep(0.01)  # so that file times differ
        cache = InputsCache(tmp_path)
        return [cache.find(file.sha256) is not None for file in files]

    assert with_upstream(index, tmp_path, use, bytes_max=3000) == [True, False, True, True]


def test_after_a_download_that_failed_there_is_one_other_for_all(tmp_path: Path) -> None:
    async def run() -> tuple[Path, Path]:
        cache = InputsCache(tmp_path)
        may_fail, is_half_done, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def failing() -> AsyncIterator[bytes]:
            yield DATA[:1]
            await may_fail.wait()
            raise ConnectionError

        async def slow() -> AsyncIterator[bytes]:
            yield DATA[:500]
            is_half_done.set()
            await may_end.wait()
            yield DATA[500:]

        first = asyncio.create_task(cache.get(DIGEST, 1000, failing))
        second = asyncio.create_task(cache.get(DIGEST, 1000, slow))
        await asyncio.sleep(0)  # the second waits for the first now
        may_fail.set()
        with pytest.raises(ConnectionError):
            await first
        await is_half_done.wait()
        third = asyncio.create_task(cache.get(DIGEST, 1000, failing))
        await asyncio.sleep(0)  # the third waits for the second now, though the first has left
        may_end.set()
        return await asyncio.gather(second, third)

    assert {path.read_bytes() for path in asyncio.run(run())} == {DATA}
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [DATA]


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    part = tmp_path / "ab" / "abcd.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    InputsCache(tmp_path)
    assert not part.exists()


async def ask(socket: Path, request: bytes) -> tuple[int, bytes]:
    """Return status and body of one answer."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = b"" if request.startswith(b"HEAD") else await reader.readexactly(length)
        return int(head.split()[1]), body
    finally:
        writer.close()
        await writer.wait_closed()


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def proxy(inputs: Inputs, folder: Path) -> AsyncIterator[tuple[Path, Progress]]:
    watcher = Progress()
    path = folder / "proxy.sock"
    async with serving(inputs, path, uid=None, watcher=watcher):
        yield path, watcher


def replay(folder: Path) -> ReplayInputs:
    path = folder / "locked"
    path.write_bytes(DATA)
    locked = LockedFile("pypi", "p", "p-1.0.tar.gz", DIGEST, len(DATA))
    return ReplayInputs(make_lock([locked]), {DIGEST: path})


def test_replay_shows_the_locked_files_and_nothing_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with proxy(replay(tmp_path), tmp_path) as (socket, _):
            status, page = await ask(socket, get("/simple/P/"))
            assert status == 200
            [file] = parse_page(page, content_type="text/html", url="http://x/simple/p/")
            assert await ask(socket, get(file.url.removeprefix("http://x"))) == (200, DATA)
            assert await ask(socket, get(f"/files/{DIGEST}/p-1.0.tar.gz", "HEAD")) == (200, b"")
            for path in ("/simple/q/", f"/files/{'0' * 64}/p-1.0.tar.gz", "/", "/simple/../x/"):
                assert (await ask(socket, get(path)))[0] == 404

    asyncio.run(run())


def test_connection_serves_one_request_after_another(tmp_path: Path) -> None:
    async def run() -> None:
        async with proxy(replay(tmp_path), tmp_path) as (socket, _):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(get("/simple/p/") * 3)
            for _ in range(3):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].split()[0])
                assert b"p-1.0.tar.gz" in await reader.readexactly(length)
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "host"),
    [
        (b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n", "evil.example"),
        (b"GET http://evil.example/x?secret HTTP/1.1\r\n\r\n", "evil.example"),
        (b"POST /simple/p/ HTTP/1.1\r\n\r\n", "/simple/p/"),
    ],
)
def test_request_that_leads_elsewhere_is_refused_and_remembered(
    tmp_path: Path, request_: bytes, host: str
) -> None:
    async def run() -> None:
        async with proxy(replay(tmp_path), tmp_path) as (socket, watcher):
            assert (await ask(socket, request_))[0] == 403
            assert watcher.refused_hosts == [host]
            for _ in range(100):
                await ask(socket, request_)
            assert len(watcher.refused_hosts) == 32

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"A" * 99999,
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"GET //[ HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_ends_its_connection_alone(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with proxy(replay(tmp_path), tmp_path) as (socket, _):
            reader, writer = await asyncio.open_unix_connection(socket)
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                await reader.read()
            writer.close()
            assert (await ask(socket, get("/simple/p/")))[0] == 200

    asyncio.run(run())
    assert not caplog.records, "a build fills nobody's log"


def test_recording_shows_what_was_there_at_the_cutoff_and_locks_what_was_taken(
    index: Index, tmp_path: Path
) -> None:
    for version, time in (("1.0", "2024-01-01T00:00:00Z"), ("2.0", "2025-01-01T00:00:00Z")):
        index.add("p", f"p-{version}.tar.gz", version.encode(), time)
    index.add("p", "p-0.9.tar.gz", b"0.9")  # no time is known: shown

    async def use(upstream: Upstream) -> None:
        inputs = RecordingInputs(upstream, cutoff="2024-06-01T00:00:00Z")
        async with proxy(inputs, tmp_path) as (socket, _):
            _, page = await ask(socket, get("/simple/p/"))
            found = parse_page(page, content_type="text/html", url="http://x/simple/p/")
            assert [f.file for f in found] == ["p-0.9.tar.gz", "p-1.0.tar.gz"]
            path = found[1].url.removeprefix("http://x")
            assert await ask(socket, get(path)) == (200, b"1.0")
        source = locked_file("s", found[0], Path(__file__))
        lock = record_lock(inputs, (source,))
        assert [(f.file, f.uploaded) for f in lock.files] == [
            ("p-1.0.tar.gz", "2024-01-01T00:00:00Z"),
            ("p-0.9.tar.gz", "unknown"),
        ]

    with_upstream(index, tmp_path / "cache", use)


def test_failure_of_the_upstream_is_remembered_for_the_build(index: Index, tmp_path: Path) -> None:
    index.broken = True

    async def use(upstream: Upstream) -> None:
        async with proxy(RecordingInputs(upstream, cutoff="none"), tmp_path) as (socket, watcher):
            assert (await ask(socket, get("/simple/p/")))[0] == 502
            assert watcher.input_failure is not None
            assert watcher.input_failure.outcome == "SOURCE_UNAVAILABLE"

    with_upstream(index, tmp_path / "cache", use)
