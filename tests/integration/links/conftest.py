"""A link's server in a process of its own, and a client under any event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
import trio
import uvloop

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.core.link_client import LinkClient as TrioClient
from pyrsia_node.gateway.link import LinkClient as AsyncioClient

PROGRAM = Path(__file__).with_name("serve_link.py")
REPOSITORY = Path(__file__).parents[3]


class Client(Protocol):
    """What both clients have in common."""

    async def call(
        self, method: str, params: JsonObject, *, timeout_s: float = 30
    ) -> JsonObject: ...


Scenario = Callable[[Client], Awaitable[None]]
RunScenario = Callable[[Scenario], None]


class Gather(Protocol):
    async def __call__(self, calls: Sequence[Callable[[], Awaitable[JsonObject]]]) -> None: ...


class ServerProcess:
    """A running serve_link.py."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, self.kind, self.path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def wait(self) -> tuple[int, str]:
        """Wait for the process to end by itself; return its code and its last words."""
        assert self._process is not None
        _, errors = self._process.communicate(timeout=10)
        return self._process.returncode, errors


@pytest.fixture(params=["trio", "asyncio", "uvloop"], scope="module")
def server_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def shared_server(
    server_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Serve for every test of the module that leaves the server as it was."""
    server = ServerProcess(server_kind, tmp_path_factory.mktemp("link") / "a.sock")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_server(server_kind: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """Serve for a test that stops or starts the server."""
    # Longer than the 107 bytes that a socket's address holds.
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    server = ServerProcess(server_kind, folder / "a.sock")
    server.start()
    yield server
    server.kill()


def run_scenario(client_kind: str, path: Path, scenario: Scenario) -> None:
    async def under_trio() -> None:
        async with trio.open_nursery() as nursery:
            await scenario(TrioClient(path, nursery))
            nursery.cancel_scope.cancel()

    async def under_asyncio() -> None:
        client = AsyncioClient(path)
        await scenario(client)
        client.close()

    match client_kind:
        case "trio":
            trio.run(under_trio)
        case "asyncio":
            asyncio.run(under_asyncio())
        case _:
            uvloop.run(under_asyncio())
