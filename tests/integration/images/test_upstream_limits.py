"""What an upstream, or who asks for things of it, may cost this node."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrsia_node.artifacts.images import registry_client
from pyrsia_node.artifacts.images.intakes import RUNNING_PER_UPSTREAM_MAX
from pyrsia_node.model.errors import PyrsiaError, UnavailableError
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.schema.upstreams import RegistryUpstream
from tests.fakes.proxy_site import NAME, proxy_site
from tests.fakes.raw_server import raw_server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "PAUSE_SECONDS", 0.001)


def blob(number: int) -> OciDigest:
    return OciDigest("sha256", f"{number:064x}")


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


def test_clients_that_ask_and_go_leave_nothing_running(tmp_path: Path) -> None:
    async def act() -> None:
        async with (
            raw_server(silent) as port,
            proxy_site(tmp_path, f"http://127.0.0.1:{port}") as it,
        ):
            before = open_files()
            clients = [
                asyncio.create_task(it.proxy.open(NAME, blob(number))) for number in range(100)
            ]
            await asyncio.sleep(0.05)
            intakes = it.proxy._intakes
            assert intakes._by_upstream.total() == RUNNING_PER_UPSTREAM_MAX
            assert list((tmp_path / "partial").iterdir()) == []
            for client in clients:
                client.cancel()
            gone = await asyncio.gather(*clients, return_exceptions=True)
            refused = [each for each in gone if isinstance(each, UnavailableError)]
            assert len(refused) == 100 - RUNNING_PER_UPSTREAM_MAX
            async with asyncio.timeout(5):
                while intakes._by_upstream.total() or open_files() > before:
                    await asyncio.sleep(0.01)

    asyncio.run(act())


def test_upstream_that_always_cuts_fills_no_disk(tmp_path: Path) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 1_000_000)
        await writer.drain()

    async def act() -> None:
        async with (
            raw_server(cut) as port,
            proxy_site(tmp_path, f"http://127.0.0.1:{port}", left_bytes_max=1_500_000) as it,
        ):
            for number in range(4):
                with pytest.raises(PyrsiaError):
                    await it.read(str(blob(number)))
        left = [path.stat().st_size for path in (tmp_path / "partial").iterdir()]
        assert 0 < sum(left) <= 1_500_000

    asyncio.run(act())


def test_list_of_tags_without_end_is_given_up(tmp_path: Path) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        body = b'{"tags":["t%d"]}' % asked
        head = f"HTTP/1.1 200 OK\r\nLink: </v2/>; rel=next\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()

    async def act() -> None:
        async with (
            raw_server(serve) as port,
            proxy_site(tmp_path, f"http://127.0.0.1:{port}") as it,
        ):
            assert len(await it.proxy.tags(NAME)) == registry_client.TAGS_PAGES_MAX
        assert asked == registry_client.TAGS_PAGES_MAX

    asyncio.run(act())


def test_name_server_that_does_not_answer_keeps_nothing_else_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    real: Callable[..., object] = socket.getaddrinfo

    def stalling(host: str, *args: object, **more: object) -> object:
        if host.endswith(".test"):
            go.wait(30)
            raise socket.gaierror("no such name")
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", stalling)

    async def act() -> None:
        async with proxy_site(tmp_path, "", upstreams=(RegistryUpstream("*", ""),)) as it:
            names = [ImageName(f"h{number}.test", "team/app") for number in range(40)]
            pulls = [asyncio.create_task(it.proxy.manifest(name, "1")) for name in names]
            await asyncio.sleep(0.05)
            async with asyncio.timeout(2):
                await asyncio.to_thread(lambda: None)
            go.set()
            for pull in pulls:
                pull.cancel()
            await asyncio.gather(*pulls, return_exceptions=True)

    try:
        asyncio.run(act())
    finally:
        go.set()
