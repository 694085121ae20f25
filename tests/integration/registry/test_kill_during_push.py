"""A gateway process is killed in the middle of pushes: what it told is kept, the client goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from pyrsia_node.registry.sessions import DURABLE_BYTES
from tests.fakes.gateway_process import node, run_gateway
from tests.fakes.registry_client import EMPTY, digest, manifest

LAYER = bytes(range(256)) * (DURABLE_BYTES // 256) * 2 + b"the end"


async def _status(http: httpx.AsyncClient, location: str) -> int:
    """Return how many bytes the registry says are durable."""
    answer = await http.get(location)
    assert answer.status_code == 204
    last = int(answer.headers["range"].removeprefix("0-"))
    return last + 1 if last else 0


async def _begin_and_send(http: httpx.AsyncClient, repository: str) -> str:
    """Send most of the layer in one streamed request that never ends; return its location."""
    begun = await http.post(f"/v2/{repository}/blobs/uploads/")
    location = str(begun.headers["location"])
    address = urlsplit(str(http.base_url))
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"PATCH {location} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(LAYER)}\r\n\r\n"
    writer.write(head.encode() + LAYER[: -len(b"the end")])
    while await _status(http, location) < DURABLE_BYTES:
        await asyncio.sleep(0.01)
    writer.transport.abort()
    return location


def test_killed_push_goes_on_where_the_registry_says(tmp_path: Path) -> None:
    async def run() -> None:
        async with node(tmp_path) as setting:
            async with run_gateway(setting.layout) as gateway:
                async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
                    location = await _begin_and_send(http, "team/app")
                gateway.kill()
            async with (
                run_gateway(setting.layout) as gateway,
                httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
            ):
                offset = await _status(http, location)
                assert DURABLE_BYTES <= offset < len(LAYER)
                await _finish(http, location, offset)

    asyncio.run(run())


async def _finish(http: httpx.AsyncClient, location: str, offset: int) -> None:
    rest = await http.patch(
        location,
        content=LAYER[offset:],
        headers={"content-range": f"{offset}-{len(LAYER) - 1}"},
    )
    assert rest.status_code == 202, rest.text
    done = await http.put(location, params={"digest": digest(LAYER)})
    assert done.status_code == 201, done.text
    whole = await http.get(done.headers["location"])
    assert whole.content == LAYER


def test_acknowledged_image_is_there_after_a_kill(tmp_path: Path) -> None:
    layer = b"a small layer"
    data = manifest([layer])

    async def run() -> None:
        async with node(tmp_path) as setting:
            async with run_gateway(setting.layout) as gateway:
                async with httpx.AsyncClient(base_url=gateway.url) as http:
                    for blob in (EMPTY, layer):
                        await http.post(
                            "/v2/a/blobs/uploads/", params={"digest": digest(blob)}, content=blob
                        )
                    put = await http.put("/v2/a/manifests/1", content=data)
                    assert put.status_code == 201
                gateway.kill()
            async with (
                run_gateway(setting.layout) as gateway,
                httpx.AsyncClient(base_url=gateway.url) as http,
            ):
                assert (await http.get("/v2/a/manifests/1")).content == data
                assert (await http.get(f"/v2/a/blobs/{digest(layer)}")).content == layer
                history = (await http.get("/v2/a/_oci/tag-history/1")).json()
                assert [step["digest"] for step in history] == [digest(data)]

    asyncio.run(run())
