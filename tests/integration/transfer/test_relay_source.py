"""Bytes by way of the core's relay socket, and when that way is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buildpipelines.spec.framing import FrameDecoder, JsonObject, encode_object, parse_object
from pyrsia_node.model.errors import NotFoundError, PeerMisbehaviorError, UnavailableError
from pyrsia_node.ports import Holder, PeerId
from pyrsia_node.transfer.client import HttpsPieceSource
from pyrsia_node.transfer.relay import FallbackPieceSource, RelayPieceSource
from tests.fakes.data_peers import data_peer
from tests.fakes.raw_server import raw_server

HIDDEN = Holder(PeerId("hidden"), None, None, complete=True)
DATA = bytes(range(256))


@asynccontextmanager
async def relay(folder: Path, answer: JsonObject, raw: bytes) -> AsyncIterator[list[JsonObject]]:
    """Run a relay socket that gives one answer to everybody; yields what was asked."""
    asked: list[JsonObject] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder()
        while (payload := decoder.next(await reader.read(1000))) is None:
            pass
        asked.append(parse_object(payload))
        writer.write(encode_object(answer) + raw)

    async with raw_server(serve, folder / "relay.sock"):
        yield asked


def read(folder: Path, answer: JsonObject, raw: bytes) -> tuple[bytes, list[JsonObject]]:
    async def scenario() -> tuple[bytes, list[JsonObject]]:
        async with relay(folder, answer, raw) as asked:
            buffer = bytearray(100)
            source = RelayPieceSource(folder / "relay.sock")
            await source.read_into(HIDDEN, "0" * 64, 7, memoryview(buffer))
            return bytes(buffer), asked

    return asyncio.run(scenario())


def test_range_comes_through_the_relay(tmp_path: Path) -> None:
    data, asked = read(tmp_path, {"length": 100}, DATA[:100])
    assert data == DATA[:100]
    assert asked == [{"peer": "hidden", "sha256": "0" * 64, "start": 7, "length": 100}]


@pytest.mark.parametrize(
    ("answer", "raw", "error"),
    [
        ({"error": {"kind": "not_found", "message": "no"}}, b"", NotFoundError),
        ({"error": {"kind": "unavailable", "message": "no"}}, b"", UnavailableError),
        ({"length": 99}, DATA[:99], PeerMisbehaviorError),
        ({"length": 100}, DATA[:50], UnavailableError),
    ],
)
def test_relay_errors_are_typed(
    tmp_path: Path, answer: JsonObject, raw: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read(tmp_path, answer, raw)


def test_core_that_is_away_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = RelayPieceSource(tmp_path / "relay.sock")
        with pytest.raises(UnavailableError):
            await source.piece_hashes(HIDDEN, "0" * 64, count=1)

    asyncio.run(scenario())


def test_piece_list_comes_through_the_relay(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with relay(tmp_path, {"length": 32}, DATA[:32]) as asked:
            source = RelayPieceSource(tmp_path / "relay.sock")
            assert await source.piece_hashes(HIDDEN, "0" * 64, count=1) == DATA[:32]
            assert asked == [{"peer": "hidden", "sha256": "0" * 64, "hashes": True}]

    asyncio.run(scenario())


def test_relay_is_taken_only_when_the_data_listener_cannot_be_reached(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            data_peer(tmp_path, "peer") as peer,
            relay(tmp_path, {"length": 256}, DATA) as asked,
        ):
            sha256 = peer.put(tmp_path, DATA).sha256
            direct = HttpsPieceSource()
            both = FallbackPieceSource(direct, RelayPieceSource(tmp_path / "relay.sock"))
            buffer = memoryview(bytearray(256))
            await both.read_into(peer.holder, sha256, 0, buffer)
            assert not asked
            await direct.close()
            await peer.server.stop(grace_seconds=0)
            for _ in range(2):
                await both.read_into(peer.holder, sha256, 0, buffer)
            assert len(asked) == 2

    asyncio.run(scenario())
