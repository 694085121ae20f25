"""Slow, half-open, greedy and endless clients are cut; everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer

IMPATIENT = HttpLimits(
    header_seconds=0.1,
    header_bytes_max=2000,
    url_bytes_max=500,
    body_check_seconds=0.1,
    write_stall_seconds=0.1,
    keep_alive_seconds=1,
    connections_per_address=3,
    write_buffer_bytes=1000,
)


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the whole body, then answer with as many bytes as the path says."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    count = int(scope["path"].strip("/") or "2")
    if count < 1000:
        await answer(scope, send, 200, b"x" * count, media="text/plain")
        return
    head = [(b"content-length", str(count).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for _ in range(count // 1000):
        await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})


@asynccontextmanager
async def _server() -> AsyncIterator[HttpServer]:
    server = HttpServer(_app, limits=IMPATIENT)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop(grace_seconds=0)


@asynccontextmanager
async def _client(
    server: HttpServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    """Return everything until the server closes."""
    data = bytearray()
    try:
        while chunk := await reader.read(65536):
            data += chunk
    except ConnectionError:
        pass
    return bytes(data)


def _scenario(act: Callable[[HttpServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), _server() as server:
            await act(server)

    asyncio.run(run())


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA"])
def test_client_that_does_not_finish_its_head_is_cut(sent: bytes) -> None:
    async def act(server: HttpServer) -> None:
        async with _client(server) as (reader, writer):
            writer.write(sent)
            assert await _until_closed(reader) == b""
            assert server.gatekeeper.cut == {"request head too slow": 1}

    _scenario(act)


def test_head_that_trickles_is_cut_however_busy_it_looks() -> None:
    async def act(server: HttpServer) -> None:
        async with _client(server) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nx: ")
            closed = asyncio.ensure_future(_until_closed(reader))
            while not closed.done():
                writer.write(b"y")
                await asyncio.wait([closed], timeout=0.02)
            assert server.gatekeeper.cut.total() == 1

    _scenario(act)


def test_body_that_trickles_is_cut() -> None:
    async def act(server: HttpServer) -> None:
        async with _client(server) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nab")
            assert await _until_closed(reader) == b""
            assert server.gatekeeper.cut == {"body too slow": 1}

    _scenario(act)


def test_client_that_does_not_read_is_cut() -> None:
    async def act(server: HttpServer) -> None:
        async with _client(server) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
            writer.write(b"GET /50000000 HTTP/1.1\r\nhost: x\r\n\r\n")
            while not server.gatekeeper.cut:
                await asyncio.sleep(0.02)
            assert server.gatekeeper.cut == {"does not read": 1}

    _scenario(act)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncookie: " + b"a" * 3000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n", b"431"),
        (b"\x16\x03\x01 a TLS hello", b"400"),
    ],
)
def test_oversized_or_foreign_head_is_refused_with_a_status(head: bytes, status: bytes) -> None:
    async def act(server: HttpServer) -> None:
        async with _client(server) as (reader, writer):
            writer.write(head)
            assert (await _until_closed(reader)).startswith(b"HTTP/1.1 " + status)

    _scenario(act)


def test_address_with_too_many_connections_is_refused_and_admitted_again() -> None:
    async def act(server: HttpServer) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(_client(server))
            async with _client(server) as (reader, _writer):
                assert (await _until_closed(reader)).startswith(b"HTTP/1.1 503")
        async with _client(server) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await _until_closed(reader)).endswith(b"xx")

    _scenario(act)


def test_patient_requests_on_one_connection_are_all_served_with_a_date() -> None:
    async def act(server: HttpServer) -> None:
        async with _client(server) as (reader, writer):
            for _ in range(3):
                writer.write(b"POST /5 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert b"date: " in head
                assert await reader.readexactly(5) == b"xxxxx"
            assert not server.gatekeeper.cut

    _scenario(act)


def test_taken_port_is_named() -> None:
    async def act(server: HttpServer) -> None:
        other = HttpServer(_app, limits=IMPATIENT)
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}"):
            await other.start("127.0.0.1", server.port)

    _scenario(act)
