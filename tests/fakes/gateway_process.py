"""A real gateway process over a real data directory, and a core that says what the test wants."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyrsia_node.gateway.link import LinkClient, LinkServer
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports import Holder
from pyrsia_node.schema.config import Config, parse_config, render_config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import create_keys
from tests.fakes.published_log import PublishedLog

START_SECONDS_MAX = 20
TOKEN = "a token that only the test knows"

CONFIG = parse_config(
    """
[node]
label = "node-9"
role = "regular"
[http]
port = 0
[data]
host = "127.0.0.1"
port = 0
[pypi]
policy = "deny"
"""
)


def make_data_directory(root: Path, config: Config = CONFIG) -> Layout:
    """Make what ``pyrsia-node init`` and ``join`` make, as far as the gateway needs it."""
    layout = Layout(root)
    for folder, mode in layout.folders():
        folder.mkdir(exist_ok=True, mode=mode)
    create_keys(layout.node_key)
    layout.config.write_text(render_config(config))
    token = root / config.http.admin_token_file
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    return layout


@dataclass
class FakeCore:
    """Answers the core's methods; keeps what it was told."""

    holders: list[Holder] = field(default_factory=list)
    announced: list[dict[str, object]] = field(default_factory=list)
    builds: list[dict[str, object]] = field(default_factory=list)
    sources: list[dict[str, object]] = field(default_factory=list)
    asked: int = 0

    @asynccontextmanager
    async def serve(self, path: Path) -> AsyncIterator[None]:
        """Listen at ``path`` while the context lives."""
        table = {
            "status": self._status,
            "peers": self._peers,
            "holders": self._holders,
            "announce": self._announce,
            "build": self._build,
            "builds": self._builds,
            "build_status": self._build_status,
            "sources": self._sources,
            "explained": self._explained,
            "explanation": self._explanation,
        }
        started = asyncio.Event()
        task = asyncio.ensure_future(LinkServer(path, table).serve(started))
        await started.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _status(self, _params: dict[str, object]) -> dict[str, object]:
        peer = "12D3KooWAnVtrAjbTfJAUDcjb3w6QmRv8Ux2GwGwgpYzCgNDivq1"
        counts = dict.fromkeys(
            ("height", "size", "published_size", "view", "n", "f", "q", "peers_count"), 4
        )
        return {
            "peer_id": peer,
            "label": "node-9",
            "role": "regular",
            "network": "0" * 64,
            "network_name": "testnet",
            "root": "0" * 64,
            "leader": peer,
            "leader_label": "node-1",
            "set": [{"id": peer, "label": "node-1", "connected": True}],
            "note": "",
            "open_requests": 0,
            "pending_transactions": 0,
            "addresses": ["/ip4/127.0.0.1/tcp/1"],
            "version": "0",
            **counts,
        }

    async def _peers(self, _params: dict[str, object]) -> dict[str, object]:
        return {"peers": []}

    async def _holders(self, _params: dict[str, object]) -> dict[str, object]:
        self.asked += 1
        return {
            "holders": [
                {
                    "peer": each.peer,
                    "data_url": each.data_url,
                    "fingerprint": each.fingerprint,
                    "complete": each.complete,
                }
                for each in self.holders
            ]
        }

    async def _announce(self, params: dict[str, object]) -> dict[str, object]:
        self.announced.append(params)
        return {}

    async def _build(self, params: dict[str, object]) -> dict[str, object]:
        self.builds.append(params)
        return {"build_id": "b1", "state": "queued"}

    async def _builds(self, _params: dict[str, object]) -> dict[str, object]:
        return {"builds": []}

    async def _build_status(self, params: dict[str, object]) -> dict[str, object]:
        return {
            "build_id": params["build_id"],
            "purl": "pkg:pypi/six@1.17.0",
            "state": "queued",
            "stage": "",
            "detail": "",
            "started_ms": 1,
            "updated_ms": 1,
        }

    async def _sources(self, _params: dict[str, object]) -> dict[str, object]:
        return {"sources": self.sources, "is_last": True}

    async def _explained(self, params: dict[str, object]) -> dict[str, object]:
        """Tell of two members that said the same, one that said else, and one that said nothing."""
        names = ("1" * 64, "2" * 64, "2" * 64, None)
        members = [
            {
                "id": PEER_ID,
                "label": f"node-{number}",
                "level": 2,
                "leaf": number,
                "number": 0,
                **({"explained": name} if name else {}),
            }
            for number, name in enumerate(names)
        ]
        request = {"request": "0" * 64, "purl": "pkg:maven/a/b@1"}
        return {"leaf": params["leaf"], **request, "members": members}

    async def _explanation(self, params: dict[str, object]) -> dict[str, object]:
        if params["sha256"] == "1" * 64:
            return {"sha256": params["sha256"], "problem": "nobody has it"}
        return {"sha256": params["sha256"], "document": {"t": "explanation", "é": [1, "\n"]}}


PEER_ID = "12D3KooWFoHgxkMvhZLuMiNWRAuAKb51Gxe9v98YBjKb2iNcpLUM"


def as_peer(holder: Holder, number: int = 0) -> Holder:
    """Return the holder under an id that the control link's schema takes."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    return replace(holder, peer=type(holder.peer)(PEER_ID[:-1] + letters[number]))


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers."""

    url: str
    layout: Layout
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@asynccontextmanager
async def run_gateway(
    layout: Layout, environment: dict[str, str] | None = None
) -> AsyncIterator[RunningGateway]:
    """Start a gateway, wait until it answers, stop it in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyrsia_node.gateway", "--data", str(layout.root)],
        env=os.environ | (environment or {}),
        stdout=subprocess.DEVNULL,
    )
    try:
        url = await _ready(layout, process)
        yield RunningGateway(url, layout, process)
    finally:
        if process.poll() is None:
            process.terminate()
        assert await asyncio.to_thread(process.wait, 15) in {0, -signal.SIGKILL}


async def _ready(layout: Layout, process: subprocess.Popen[bytes]) -> str:
    client = LinkClient(layout.gateway_socket)
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                try:
                    return str((await client.call("ping", {}))["http_url"])
                except UnavailableError:
                    assert process.poll() is None, "the gateway ended"
                    await asyncio.sleep(0.02)
    finally:
        client.close()


@dataclass(frozen=True)
class Node:
    """A data directory with its log, for tests that start and stop processes on it."""

    layout: Layout
    log: PublishedLog
    core: FakeCore


@asynccontextmanager
async def node(root: Path, config: Config = CONFIG) -> AsyncIterator[Node]:
    """Make a data directory with an empty log and run a fake core on it."""
    layout = make_data_directory(root, config)
    log = PublishedLog(root)
    core = FakeCore()
    try:
        async with core.serve(layout.core_socket):
            yield Node(layout, log, core)
    finally:
        log.close()
