"""``/v2`` on a real port of 127.0.0.1, over a real database and real files; what the log and
upstreams know is what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyrsia_node.artifacts.images.found import FoundBlob, FoundManifest, LoggedChange
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.gateway.client_front import CLIENT_HEADERS, make_client_front
from pyrsia_node.gateway.clock import SystemClock
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.gateway.images.wiring import RegistryParts, open_registry
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer_text
from tests.fakes.gateway_process import CONFIG


@dataclass
class NetworkStandIn:
    """Images of the log and of upstreams, as a dictionary has them."""

    logged: dict[str, FoundManifest] = field(default_factory=dict)
    """By ``HOST/REPOSITORY:TAG`` or ``HOST/REPOSITORY@DIGEST``."""
    upstream: dict[str, FoundManifest] = field(default_factory=dict)
    changes: dict[str, list[LoggedChange]] = field(default_factory=dict)
    is_down: bool = False
    credentialed: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    """What an upstream was asked whether it knows it."""

    async def manifest(
        self, name: ImageName, reference: str, *, upstream: bool = True
    ) -> FoundManifest:
        key = f"{name}@{reference}" if ":" in reference else f"{name}:{reference}"
        found = self.logged.get(key) or (self.upstream.get(key) if upstream else None)
        if found is None:
            raise NotFoundError(f"nobody knows {key}")
        return found

    async def stat(self, name: ImageName, digest: OciDigest, *, upstream: bool = True) -> FoundBlob:
        raise NotFoundError(f"nobody knows {name}@{digest}")

    async def open(self, name: ImageName, digest: OciDigest, *, upstream: bool = True) -> Reader:
        raise NotFoundError(f"nobody knows {name}@{digest}")

    async def tags(self, name: ImageName, *, upstream: bool = True) -> list[str] | None:
        keys = [*self.logged, *(self.upstream if upstream else {})]
        prefix = f"{name}:"
        return sorted(key.removeprefix(prefix) for key in keys if key.startswith(prefix)) or None

    async def history(self, name: ImageName, tag: str) -> list[LoggedChange]:
        return self.changes.get(f"{name}:{tag}", [])

    async def logs(self, name: ImageName) -> bool:
        return any(key.startswith((f"{name}:", f"{name}@")) for key in self.logged)

    async def knows(self, name: ImageName) -> bool:
        self.asked.append(str(name))
        if await self.logs(name):
            return True
        if self.is_down:
            raise UnavailableError("the upstream does not answer")
        return any(key.startswith((f"{name}:", f"{name}@")) for key in self.upstream)

    def is_private(self, name: ImageName) -> bool:
        return str(name) in self.credentialed


@dataclass
class RegistrySite:
    """A running registry."""

    url: str
    parts: RegistryParts
    network: NetworkStandIn
    root: Path
    server: HttpServer


@asynccontextmanager
async def registry_site(
    root: Path,
    *,
    change: Callable[[Config], Config] = lambda config: config,
    network: NetworkStandIn | None = None,
    limits: HttpLimits | None = None,
) -> AsyncIterator[RegistrySite]:
    """Serve ``/v2`` over the folder, which may hold what an earlier one left."""
    network = network or NetworkStandIn()
    config = change(CONFIG)
    (root / "blobs").mkdir(exist_ok=True)
    store = FileBlobStore(root / "blobs", cached_bytes_max=1 << 30)
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        parts = open_registry(
            stack,
            Layout(root),
            config,
            store=store,
            images=network,
            token_key=bytes(32),
            clock=clock,
        )
        front = make_client_front(
            Layout(root), config, {b"v2": parts.app}, _nothing, clock.monotonic_s
        )
        server = HttpServer(front.app, limits=limits or HttpLimits(), headers=CLIENT_HEADERS)
        await server.start("127.0.0.1", 0)
        try:
            yield RegistrySite(f"http://127.0.0.1:{server.port}", parts, network, root, server)
        finally:
            await server.stop(grace_seconds=5.0)


async def _nothing(scope: Scope, _receive: Receive, send: Send) -> None:
    await answer_text(scope, send, 404, "nothing here")
