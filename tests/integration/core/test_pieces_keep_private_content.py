"""A peer that asks by libp2p gets shared blobs alone: what was pushed here is not there for it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trio

from buildpipelines.spec.framing import JsonObject, encode_object, parse_object
from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.core.relay import BlobServer, RelayServer
from pyrsia_node.gateway.socket_methods import Addresses, SocketMethods
from pyrsia_node.store.blobs import FileBlobStore
from tests.integration.p2p.nodes import nodes

SECRET = b"a layer of team/private"
SHA256 = hashlib.sha256(SECRET).hexdigest()


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    # The library leaves a socket to the collector; it must not fail another test.
    yield
    gc.collect()


def _pushed(folder: Path) -> FileBlobStore:
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    path = folder / "upload"
    path.write_bytes(SECRET)
    store.adopt(str(path), SHA256, local=True)
    return store


async def _ask(relay: Path, request: JsonObject) -> tuple[JsonObject, bytes]:
    async with await trio.open_unix_socket(str(relay)) as stream:
        await stream.send_all(encode_object(request))
        received = b"".join([chunk async for chunk in stream])
    length = int.from_bytes(received[:4], "big")
    return parse_object(received[4 : 4 + length]), received[4 + length :]


async def test_peer_gets_no_byte_and_no_hash_of_what_was_pushed(tmp_path: Path) -> None:
    store = _pushed(tmp_path)
    # Neither is asked for here.
    methods = SocketMethods(store, cast("Fetcher", None), cast("Addresses", None)).table()

    async def stat(sha256: str) -> dict[str, object]:
        def call() -> dict[str, object]:
            async def ask() -> dict[str, object]:
                return dict(await methods["stat"]({"sha256": sha256}))

            return asyncio.run(ask())

        return await trio.to_thread.run_sync(call)

    with trio.fail_after(30):
        async with nodes(2) as (holder, asker), trio.open_nursery() as nursery:
            holder.serve_pieces(BlobServer(stat).answer)
            path = tmp_path / "relay.sock"
            nursery.start_soon(RelayServer(path, asker).serve)
            while not path.exists():
                await trio.sleep(0.01)
            wanted: JsonObject = {
                "peer": holder.peer_id,
                "sha256": SHA256,
                "start": 0,
                "length": len(SECRET),
            }
            hashes: JsonObject = {"peer": holder.peer_id, "sha256": SHA256, "hashes": True}
            for request in (wanted, hashes):
                answer, data = await _ask(path, request)
                assert "not_found" in str(answer["error"])
                assert data == b""
            store.share(SHA256)
            assert await _ask(path, wanted) == ({"length": len(SECRET)}, SECRET)
            store.remove(SHA256)
            answer, data = await _ask(path, wanted)
            assert ("not_found" in str(answer["error"]), data) == (True, b"")
            nursery.cancel_scope.cancel()
