"""What was pushed here stays here: peers that know its digest get nothing, none is told of it."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path

import httpx
import pytest

from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.ports import Holder, PeerId
from pyrsia_node.store.pieces import PieceHasher, piece_root
from tests.fakes.gateway_process import PEER_ID, RunningGateway, node, run_gateway

DATA = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(DATA).hexdigest()


async def _push(gateway: RunningGateway, repository: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        path = f"/v2/{repository}/blobs/uploads/"
        done = await http.post(path, params={"digest": f"sha256:{SHA256}"}, content=DATA)
        assert done.status_code == 201, done.text
        assert (await http.get(f"/v2/{repository}/blobs/sha256:{SHA256}")).content == DATA


async def _data_url(gateway: RunningGateway) -> str:
    client = LinkClient(gateway.layout.gateway_socket)
    try:
        return str((await client.call("ping", {}))["data_url"])
    finally:
        client.close()


async def _listener(gateway: RunningGateway) -> Holder:
    client = LinkClient(gateway.layout.gateway_socket)
    try:
        told = await client.call("data_listener", {})
    finally:
        client.close()
    return Holder(PeerId(PEER_ID), str(told["url"]), str(told["fingerprint"]), complete=True)


async def _stat(gateway: RunningGateway) -> object:
    client = LinkClient(gateway.layout.gateway_socket)
    try:
        return await client.call("stat", {"sha256": SHA256})
    finally:
        client.close()


def test_data_port_knows_nothing_of_what_was_pushed_and_nobody_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, run_gateway(it.layout) as gateway:
            await _push(gateway, "team/secret")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            async with httpx.AsyncClient(
                base_url=await _data_url(gateway), verify=context
            ) as stranger:
                for path in (f"/blobs/{SHA256}", f"/blobs/{SHA256}/pieces"):
                    for method in ("GET", "HEAD"):
                        answer = await stranger.request(method, path)
                        assert answer.status_code == 404, (method, path)
                        assert "x-pyrsia-have" not in answer.headers
                ranged = {"range": "bytes=0-9"}
                assert (await stranger.get(f"/blobs/{SHA256}", headers=ranged)).status_code == 404
            # What the core asks before it gives pieces to peers that cannot reach the data port.
            assert await _stat(gateway) == {"present": False}
            assert not [each for each in it.core.announced if SHA256 in str(each)]

    asyncio.run(story())


def test_another_gateways_fetcher_gets_nothing_even_with_digest_size_and_pieces(
    tmp_path: Path,
) -> None:
    hasher = PieceHasher()
    hasher.update(memoryview(DATA))
    wanted = {"sha256": SHA256, "size": len(DATA), "pieces": piece_root(hasher.finish())}

    async def story() -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        ours.mkdir()
        theirs.mkdir()
        async with (
            node(ours) as it,
            run_gateway(it.layout) as gateway,
            node(theirs) as other,
            run_gateway(other.layout) as asking,
        ):
            await _push(gateway, "team/secret")
            # Their core believes that we hold it: the worst that a lying peer could bring about.
            other.core.holders = [await _listener(gateway)]
            client = LinkClient(asking.layout.gateway_socket)
            try:
                with pytest.raises((UnavailableError, NotFoundError)):
                    await client.call("fetch", {**wanted, "pin": False})
            finally:
                client.close()
            assert other.core.asked > 0

    asyncio.run(story())
