"""Bytes reach clients while the upstream still sends them, and never unchecked to their end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyrsia_node.artifacts.images import registry_client
from pyrsia_node.artifacts.images.intake import HELD_BACK_BYTES
from pyrsia_node.model.errors import UnavailableError, VerificationError
from pyrsia_node.model.oci import OciDigest
from tests.fakes.proxy_site import NAME, ProxySite, proxy_site, read_all
from tests.fakes.raw_server import raw_server

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DATA = bytes(range(256)) * 8192
DIGEST = OciDigest("sha256", hashlib.sha256(DATA).hexdigest())


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "PAUSE_SECONDS", 0.001)


@asynccontextmanager
async def site(folder: Path, serve: Serve) -> AsyncIterator[ProxySite]:
    async with (
        raw_server(serve) as port,
        proxy_site(folder, f"http://127.0.0.1:{port}") as it,
    ):
        yield it


async def request(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "Connection: close", "", ""]).encode()


def test_client_reads_ahead_of_the_end_and_a_late_range_waits_for_its_bytes(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        go = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(head(f"Content-Length: {len(DATA)}"))
            writer.write(DATA[: len(DATA) // 2])
            await go.wait()
            writer.write(DATA[len(DATA) // 2 :])
            await writer.drain()

        async with site(tmp_path, serve) as it:
            reader, sha256 = await it.proxy.open(NAME, DIGEST)
            assert (reader.size, sha256) == (len(DATA), DIGEST.hex)
            assert await reader.read(0, 1000) == DATA[:1000]
            assert await reader.read(300_000, 10) == DATA[300_000:300_010]
            handle, count = await reader.ready(1000, 2000)
            assert (handle > 0, count) == (True, 2000)
            late = asyncio.ensure_future(reader.read(len(DATA) - 5, 5))
            await asyncio.sleep(0)
            assert not late.done()
            go.set()
            assert await late == DATA[-5:]
            assert await read_all(reader) == DATA
            reader.close()
            reader.close()

    asyncio.run(act())


def test_end_is_held_back_until_the_whole_was_checked(tmp_path: Path) -> None:
    async def act() -> None:
        wrong = DATA[:-1] + b"!"
        go = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(head(f"Content-Length: {len(wrong)}"))
            writer.write(wrong[:-1])
            await go.wait()
            writer.write(wrong[-1:])
            await writer.drain()

        async with site(tmp_path, serve) as it:
            reader, _ = await it.proxy.open(NAME, DIGEST)
            free = len(DATA) - HELD_BACK_BYTES
            got = 0
            while got < free:
                got += len(await reader.read(got, 1 << 20))
            assert got == free
            last = asyncio.ensure_future(reader.read(got, 1))
            await asyncio.sleep(0)
            assert not last.done()
            go.set()
            with pytest.raises(VerificationError):
                await last
            reader.close()
            assert it.store.usage().blobs == 0

    asyncio.run(act())


@pytest.mark.parametrize("size", [0, 1, 1000, HELD_BACK_BYTES, HELD_BACK_BYTES + 1])
def test_blobs_of_any_size_come_through_with_and_without_a_length(
    tmp_path: Path, size: int
) -> None:
    data = DATA[:size]
    digest = OciDigest("sha256", hashlib.sha256(data).hexdigest())

    async def act(*, is_chunked: bool) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            if is_chunked:
                writer.write(head("Transfer-Encoding: chunked"))
                chunk = b"%x\r\n" % len(data) + data + b"\r\n" if data else b""
                writer.write(chunk + b"0\r\n\r\n")
            else:
                writer.write(head(f"Content-Length: {len(data)}") + data)
            await writer.drain()

        async with site(tmp_path / str(is_chunked), serve) as it:
            assert await it.read(str(digest)) == data

    asyncio.run(act(is_chunked=False))
    asyncio.run(act(is_chunked=True))


def test_sha512_name_is_checked_and_found_again(tmp_path: Path) -> None:
    digest = OciDigest("sha512", hashlib.sha512(DATA).hexdigest())

    async def act() -> None:
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            assert digest.hex in await request(reader)
            asked += 1
            writer.write(head(f"Content-Length: {len(DATA)}") + DATA)
            await writer.drain()

        async with site(tmp_path, serve) as it:
            for _ in range(2):
                reader, sha256 = await it.proxy.open(NAME, digest)
                assert sha256 == DIGEST.hex
                assert await read_all(reader) == DATA
                reader.close()
            assert asked == 1

    asyncio.run(act())


def test_upstream_without_ranges_is_read_again_from_the_beginning(tmp_path: Path) -> None:
    async def act() -> None:
        asked: list[bool] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append("bytes=" in await request(reader))
            end = 1_000_000 if len(asked) == 1 else len(DATA)
            writer.write(head(f"Content-Length: {len(DATA)}") + DATA[:end])
            await writer.drain()

        async with site(tmp_path, serve) as it:
            assert await it.read(str(DIGEST)) == DATA
        assert asked == [False, True]

    asyncio.run(act())


def test_upstream_that_answers_another_range_is_not_believed(tmp_path: Path) -> None:
    async def act() -> None:
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await request(reader)
            asked += 1
            if asked == 1:
                writer.write(head(f"Content-Length: {len(DATA)}") + DATA[:1_000_000])
            else:
                span = f"Content-Range: bytes 0-9/{len(DATA)}"
                writer.write(head(span, "Content-Length: 10", status="206 Partial Content"))
                writer.write(DATA[:10])
            await writer.drain()

        async with site(tmp_path, serve) as it:
            with pytest.raises(UnavailableError):
                await it.read(str(DIGEST))
            assert it.store.usage().blobs == 0

    asyncio.run(act())


def test_upstream_that_tells_another_size_later_is_refused(tmp_path: Path) -> None:
    async def act() -> None:
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await request(reader)
            asked += 1
            size = len(DATA) if asked == 1 else len(DATA) + 1
            writer.write(head(f"Content-Length: {size}") + DATA[:1_000_000])
            await writer.drain()

        async with site(tmp_path, serve) as it:
            with pytest.raises(VerificationError, match="bytes, not"):
                await it.read(str(DIGEST))

    asyncio.run(act())


def test_fetch_goes_on_when_its_first_client_leaves(tmp_path: Path) -> None:
    async def act() -> None:
        go = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(head(f"Content-Length: {len(DATA)}") + DATA[:1_000_000])
            await go.wait()
            writer.write(DATA[1_000_000:])
            await writer.drain()

        async with site(tmp_path, serve) as it:
            reader, _ = await it.proxy.open(NAME, DIGEST)
            reader.close()
            second, _ = await it.proxy.open(NAME, DIGEST)
            go.set()
            assert await read_all(second) == DATA
            second.close()

    asyncio.run(act())


def test_blob_that_no_disk_here_has_room_for_is_not_begun(tmp_path: Path) -> None:
    async def act() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(head(f"Content-Length: {1 << 39}") + DATA)
            await writer.drain()

        async with site(tmp_path, serve) as it:
            with pytest.raises(UnavailableError, match="bytes needed"):
                await it.proxy.open(NAME, DIGEST)
            assert list((tmp_path / "partial").iterdir()) == []

    asyncio.run(act())
