"""Large answers take the short way to the socket, and slow clients hold up nobody."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pyrsia_node.artifacts.reading import BlobReader
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.transfer.asgi import Receive, Scope, Send
from pyrsia_node.transfer.body import SENDFILE, SendFile, send_reader

DATA = random.Random(2).randbytes(6 * 1024 * 1024 + 17)
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Counted:
    """An application that sends one blob, and counts what went the short way."""

    store: FileBlobStore
    short: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        short_way: SendFile = scope["extensions"][SENDFILE]

        async def counted(source: int, position: int, count: int) -> int:
            sent = await short_way(source, position, count)
            self.short += sent
            return sent

        scope["extensions"] = {SENDFILE: counted}
        reader = BlobReader(self.store, SHA256)
        try:
            await send_reader(scope, receive, send, reader, etag='"x"', media="text/plain")
        finally:
            reader.close()


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[tuple[HttpServer, Counted]]:
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    (folder / "source").write_bytes(DATA)
    store.adopt(str(folder / "source"), SHA256)
    app = Counted(store)
    server = HttpServer(app, limits=HttpLimits())
    await server.start("127.0.0.1", 0)
    try:
        yield server, app
    finally:
        await server.stop(grace_seconds=0)


@asynccontextmanager
async def _asking(server: HttpServer, extra: str = "") -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
    writer.write(f"GET / HTTP/1.1\r\nhost: x\r\n{extra}\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader
    finally:
        writer.transport.abort()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])


def test_whole_file_and_range_arrive_and_mostly_the_short_way(tmp_path: Path) -> None:
    async def run() -> None:
        async with _server(tmp_path) as (server, app):
            async with _asking(server) as reader:
                assert await reader.readexactly(len(DATA)) == DATA
            assert app.short > len(DATA) / 2
            span = (1_000_001, 5_000_003)
            async with _asking(server, f"range: bytes={span[0]}-{span[1] - 1}\r\n") as reader:
                assert await reader.readexactly(span[1] - span[0]) == DATA[slice(*span)]

    asyncio.run(run())


def test_client_that_reads_in_bursts_gets_every_byte_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with _server(tmp_path) as (server, _), _asking(server) as reader:
            received = bytearray()
            while len(received) < len(DATA):
                received += await reader.readexactly(min(700_001, len(DATA) - len(received)))
                await asyncio.sleep(0.03)
            assert received == DATA

    asyncio.run(run())


def test_clients_that_do_not_read_hold_up_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with _server(tmp_path) as (server, _), AsyncExitStack() as stack:
            for _ in range(20):
                await stack.enter_async_context(_asking(server))
            async with asyncio.timeout(10), _asking(server) as reader:
                assert await reader.readexactly(len(DATA)) == DATA

    asyncio.run(run())


def test_client_that_leaves_ends_its_answer(tmp_path: Path) -> None:
    async def run() -> None:
        async with _server(tmp_path) as (server, app):
            async with _asking(server) as reader:
                await reader.readexactly(10)
            async with asyncio.timeout(5):
                await server.gatekeeper.is_empty.wait()
            await server.stop(grace_seconds=5)
            app.store.remove(SHA256)  # the lease was given back

    asyncio.run(run())
