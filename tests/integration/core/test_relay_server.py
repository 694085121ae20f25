"""Bytes from one real network through the core's relay socket, and what its clients can break."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from buildpipelines.spec.framing import JsonObject, encode_object, parse_object
from pyrsia_node.core.relay import BlobServer, RelayServer
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.p2p.pieces import PieceRequest
from pyrsia_node.ports import PeerId
from tests.integration.p2p.nodes import nodes

SHA256 = "ab" * 32
DATA = bytes(range(256)) * 4_096
HASHES = bytes(32)


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    # The library leaves a socket to the collector; it must not fail another test.
    yield
    gc.collect()


@dataclass(frozen=True, slots=True)
class Relayed:
    """A relay socket and the holder behind it; ``blob`` is what the holder's gateway says."""

    path: Path
    holder: PeerId
    blob: dict[str, object]

    async def ask(self, request: JsonObject) -> tuple[JsonObject, bytes]:
        """Return the answer frame and the bytes after it."""
        async with await trio.open_unix_socket(str(self.path)) as stream:
            await stream.send_all(encode_object(request))
            received = b"".join([chunk async for chunk in stream])
        length = int.from_bytes(received[:4], "big")
        return parse_object(received[4 : 4 + length]), received[4 + length :]


def blob_in(folder: Path) -> dict[str, object]:
    blob = folder / "blobs" / "sha256" / SHA256[:2] / SHA256
    hashes = folder / "blobs" / "pieces" / SHA256[:2] / SHA256
    for path, content in ((blob, DATA), (hashes, HASHES)):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return {"present": True, "size": len(DATA), "path": str(blob)}


@asynccontextmanager
async def relayed(folder: Path) -> AsyncIterator[Relayed]:
    blob = blob_in(folder)

    async def stat(sha256: str) -> dict[str, object]:
        return blob if sha256 == SHA256 else {"present": False}

    with trio.fail_after(30):
        async with nodes(2) as (holder, asker), trio.open_nursery() as nursery:
            holder.serve_pieces(BlobServer(stat).answer)
            path = folder / "relay.sock"
            nursery.start_soon(RelayServer(path, asker).serve)
            while not path.exists():
                await trio.sleep(0.01)
            yield Relayed(path, holder.peer_id, blob)
            nursery.cancel_scope.cancel()


async def test_a_range_and_the_piece_hashes_come_through(tmp_path: Path) -> None:
    async with relayed(tmp_path) as relay:
        wanted = {"peer": relay.holder, "sha256": SHA256, "start": 1_000, "length": 500_000}
        answer, data = await relay.ask(wanted)
        assert answer == {"length": 500_000}
        assert data == DATA[1_000:501_000]
        answer, data = await relay.ask({"peer": relay.holder, "sha256": SHA256, "hashes": True})
        assert (answer, data) == ({"length": 32}, HASHES)


async def test_what_cannot_be_had_is_an_error_frame_of_its_kind(tmp_path: Path) -> None:
    async with relayed(tmp_path) as relay:
        absent = {"peer": relay.holder, "sha256": "cd" * 32, "start": 0, "length": 10}
        answer, data = await relay.ask(absent)
        assert "not_found" in str(answer["error"])
        assert data == b""
        outside = {"peer": relay.holder, "sha256": SHA256, "start": len(DATA), "length": 10}
        answer, _ = await relay.ask(outside)
        assert "outside" in str(answer["error"])
        answer, _ = await relay.ask({"peer": "nobody"})
        assert "invalid" in str(answer["error"])


async def test_clients_that_break_the_form_or_leave_cost_only_their_connection(
    tmp_path: Path,
) -> None:
    async with relayed(tmp_path) as relay:
        for junk in (b"", b"\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x04"):
            async with await trio.open_unix_socket(str(relay.path)) as stream:
                await stream.send_all(junk)
        wanted = {"peer": relay.holder, "sha256": SHA256, "start": 0, "length": len(DATA)}
        async with await trio.open_unix_socket(str(relay.path)) as stream:
            await stream.send_all(encode_object(wanted))
            await stream.receive_some(1)  # and away in the middle
        _, data = await relay.ask(wanted)
        assert data == DATA


async def test_a_file_that_ends_early_shows_as_a_short_stream(tmp_path: Path) -> None:
    async with relayed(tmp_path) as relay:
        relay.blob["size"] = 2 * len(DATA)
        wanted = {"peer": relay.holder, "sha256": SHA256, "start": 0, "length": 2 * len(DATA)}
        answer, data = await relay.ask(wanted)
        assert answer == {"length": 2 * len(DATA)}
        assert len(data) < 2 * len(DATA)


async def test_hashes_that_cannot_be_read_are_unavailable(tmp_path: Path) -> None:
    blob = blob_in(tmp_path)
    (tmp_path / "blobs" / "pieces" / SHA256[:2] / SHA256).unlink()

    async def stat(_sha256: str) -> dict[str, object]:
        return blob

    with pytest.raises(UnavailableError, match="piece hashes"):
        await BlobServer(stat).answer(PeerId("x"), PieceRequest(SHA256, 0, None))
    blob["present"] = False
    with pytest.raises(NotFoundError):
        await BlobServer(stat).answer(PeerId("x"), PieceRequest(SHA256, 0, None))
