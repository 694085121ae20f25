"""A hostile or broken peer costs one request, and never a byte outside the buffer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pyrsia_node.model.errors import NotFoundError, PeerMisbehaviorError, UnavailableError
from pyrsia_node.ports import Holder, PeerId
from pyrsia_node.transfer.client import HttpsPieceSource
from tests.fakes.raw_server import raw_server

SHA256 = "0" * 64


@asynccontextmanager
async def raw_peer(answers: list[bytes], *, close: bool = False) -> AsyncIterator[Holder]:
    """Answer each request with the next of ``answers``, byte for byte."""
    waiting = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(next(waiting, b""))
            await writer.drain()
            if close:
                break

    async with raw_server(serve) as port:
        yield Holder(PeerId("peer"), f"http://127.0.0.1:{port}", None, complete=True)


def read(answers: list[bytes], *, close: bool = False, times: int = 1) -> bytes:
    """Read four bytes from such a peer."""

    async def scenario() -> bytes:
        async with raw_peer(answers, close=close) as holder:
            source = HttpsPieceSource(allow_plain=True)
            whole = bytearray(b"....guard")
            try:
                for _ in range(times):
                    await source.read_into(holder, SHA256, 0, memoryview(whole)[:4])
            finally:
                await source.close()
                assert whole[4:] == b"guard"
            return bytes(whole[:4])

    return asyncio.run(scenario())


def body(data: bytes, *, length: int | None = None, status: str = "206 Partial Content") -> bytes:
    announced = len(data) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {announced}\r\n\r\n".encode() + data


def test_bytes_that_were_asked_for_arrive() -> None:
    assert read([body(b"abcd"), body(b"efgh")], times=2) == b"efgh"


def test_connection_that_the_peer_closed_while_idle_is_replaced() -> None:
    assert read([body(b"abcd"), body(b"efgh")], times=2, close=True) == b"efgh"


@pytest.mark.parametrize(
    "answer",
    [
        body(b"abcde"),
        body(b"abc"),
        body(b"abcd", status="200 OK"),
        body(b"abcd") + b"more",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 206 x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"x" * 70_000,
        body(b"", length=1 << 40, status="503 no"),
    ],
)
def test_answer_that_is_not_what_was_asked_for_is_misbehaviour(answer: bytes) -> None:
    with pytest.raises((PeerMisbehaviorError, UnavailableError)):
        read([answer, answer, answer], times=2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (body(b"gone", status="404 Not Found"), NotFoundError),
        (body(b"later", status="503 Busy"), UnavailableError),
        (body(b"", status="403 Forbidden"), UnavailableError),
    ],
)
def test_refusal_is_read_and_typed(answer: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read([answer])


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 206", body(b"ab", length=4)], ids=["nothing", "half", "body"]
)
def test_peer_that_closes_early_is_unavailable(answer: bytes) -> None:
    with pytest.raises(UnavailableError, match="closed"):
        read([answer, answer], close=True)


@pytest.mark.parametrize("answer", [b"", body(b"ab", length=4)], ids=["nothing", "body"])
def test_peer_that_goes_silent_is_given_up(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrsia_node.transfer.connection.STALL_SECONDS_MAX", 0.05)
    with pytest.raises(UnavailableError, match=r"sent nothing|slower"):
        read([answer])


def test_peer_that_trickles_is_given_up_when_the_answer_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyrsia_node.transfer.connection.STALL_SECONDS_MAX", 0.05)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(body(b"", length=100))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with raw_server(trickle) as port:
            holder = Holder(PeerId("peer"), f"http://127.0.0.1:{port}", None, complete=True)
            source = HttpsPieceSource(allow_plain=True)
            with pytest.raises(UnavailableError, match="slower"):
                await source.read_into(holder, SHA256, 0, memoryview(bytearray(100)))
            await source.close()

    asyncio.run(scenario())


def test_cancelled_read_never_writes_into_the_buffer_again() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(body(b"ab", length=4))
            await release.wait()
            writer.write(b"cd")

        async with raw_server(serve) as port:
            holder = Holder(PeerId("peer"), f"http://127.0.0.1:{port}", None, complete=True)
            source = HttpsPieceSource(allow_plain=True)
            buffer = bytearray(4)
            view = memoryview(buffer)
            reading = asyncio.ensure_future(source.read_into(holder, SHA256, 0, view))
            while buffer[:2] != b"ab":
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            view[:] = b"used"
            release.set()
            await source.close()
            assert buffer == b"used"

    asyncio.run(scenario())


def test_plain_url_is_refused_unless_the_network_allows_it() -> None:
    holder = Holder(PeerId("peer"), "http://127.0.0.1:1", None, complete=True)

    async def scenario() -> None:
        with pytest.raises(PeerMisbehaviorError, match="not encrypted"):
            await HttpsPieceSource().read_into(holder, SHA256, 0, memoryview(bytearray(1)))

    asyncio.run(scenario())
