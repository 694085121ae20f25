"""A node with a log that knows Maven artifacts, and upstream repositories of the test's own."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.devnet.maven_repository import MavenRepository, serve_repository
from pyrsia_node.gateway import wiring
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.gateway.maven.wiring import open_maven
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.config import Config, parse_config, render_config
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import MavenSection
from pyrsia_node.store.registry_db import open_registry_db
from tests.fakes.data_peers import DataPeer, data_peer
from tests.fakes.gateway_process import CONFIG, Node, RunningGateway, as_peer, node, run_gateway
from tests.fakes.published_log import document, file_entry

UPSTREAM = MavenSection(policy="upstream")
NOW = MavenSection(policy="upstream", fresh_seconds=0, negative_seconds=0)
"""With an upstream that is asked each time: nothing it said is believed for a while."""


def jar(text: str = "class") -> bytes:
    """Return a small archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("org/example/Tool.class"), text)
    return buffer.getvalue()


def pom(group: str, artifact: str, version: str) -> bytes:
    """Return a project's least description."""
    return (
        f"<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>"
        f"<artifactId>{artifact}</artifactId><version>{version}</version></project>\n"
    ).encode()


def put(folder: Path, path: str, content: bytes) -> None:
    """Write a file of a repository that lies in a folder."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@dataclass
class MavenNode:
    """What a test works with. ``upstream`` serves ``folder`` and whatever the test adds."""

    node: Node
    url: str
    peer: DataPeer
    upstream: MavenRepository
    folder: Path
    tmp: Path
    http: httpx.AsyncClient
    gateway: RunningGateway | None = None

    @property
    def process(self) -> RunningGateway:
        """The process that answers, where it is one of its own."""
        assert self.gateway is not None
        return self.gateway

    def accept(
        self,
        gav: str,
        *files: tuple[str, bytes],
        claim: str = "rebuilt",
        origin: str = "built",
        requires: tuple[str, ...] = (),
    ) -> int:
        """Put an entry into the log, whose files a peer has; return its leaf."""
        group, artifact, version = gav.split(":")
        for _, content in files:
            self.peer.put(self.tmp, content)
        entries = [file_entry(name, data, claim=claim, origin=origin) for name, data in files]
        purl = Purl.maven(group, artifact, version)
        return self.node.log.accept(document(str(purl), *entries, requires=requires))


async def get(it: MavenNode, path: str, status: int = 200) -> bytes:
    """Ask for a path of the repository; return what is answered with that status."""
    answer = await it.http.get(f"/maven2/{path}")
    assert answer.status_code == status, answer.text
    return answer.content


@asynccontextmanager
async def _around(folder: Path, section: MavenSection) -> AsyncIterator[MavenNode]:
    """Prepare everything but the gateway."""
    async with AsyncExitStack() as stack:
        repository = folder / "upstream"
        repository.mkdir(exist_ok=True)
        upstream = stack.enter_context(serve_repository(MavenRepository([repository])))
        config = config_for(upstream.url, section)
        own = await stack.enter_async_context(node(folder / "node", config))
        peer = await stack.enter_async_context(data_peer(folder, "peer"))
        own.core.holders = [as_peer(peer.holder)]
        unused = httpx.AsyncClient()
        yield MavenNode(own, "", peer, upstream, repository, folder, unused)


@asynccontextmanager
async def maven_node(folder: Path, section: MavenSection) -> AsyncIterator[MavenNode]:
    """Run a gateway process; where ``section`` names no upstream there is one, "central"."""
    async with (
        _around(folder, section) as it,
        run_gateway(it.node.layout) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
    ):
        it.gateway, it.url, it.http = gateway, gateway.url, http
        yield it


@asynccontextmanager
async def maven_app(folder: Path, section: MavenSection) -> AsyncIterator[MavenNode]:
    """Wire the repository as a gateway does, in this process: a second less for each test."""
    async with _around(folder, section) as it, _service(it) as http:
        it.url, it.http = "http://node", http
        yield it


@asynccontextmanager
async def _service(it: MavenNode) -> AsyncIterator[httpx.AsyncClient]:
    layout, log = it.node.layout, VerifiedLog(it.node.layout.log, it.node.log.trust)
    config = parse_config(layout.config.read_text())
    async with AsyncExitStack() as stack:
        client = LinkClient(layout.core_socket)
        stack.callback(client.close)
        parts = wiring._open_storage(stack, layout, config, CoreLink(client))
        db = open_registry_db(layout.registry, layout.blobs / "local")
        stack.callback(db.close)
        around = wiring._around_maven(layout, parts, log, db)
        app = open_maven(stack, layout, config, around)
        transport = httpx.ASGITransport(app=cast("Any", app))
        yield await stack.enter_async_context(
            httpx.AsyncClient(base_url="http://node", transport=transport, timeout=20)
        )


@asynccontextmanager
async def rewired(it: MavenNode, section: MavenSection = UPSTREAM) -> AsyncIterator[MavenNode]:
    """Wire the repository of a node anew, under another configuration."""
    it.node.layout.config.write_text(render_config(config_for(it.upstream.url, section)))
    async with _service(it) as http:
        yield dataclasses.replace(it, http=http)


@asynccontextmanager
async def evicted(it: MavenNode, content: bytes) -> AsyncIterator[MavenNode]:
    """Wire it anew over a store that lost the bytes."""
    where = blob_of(it, content)
    assert where is not None
    where.unlink()
    async with rewired(it) as again:
        yield again


def blob_of(it: MavenNode, content: bytes) -> Path | None:
    """Return where the store has these bytes; "sha256" in it is what peers may have."""
    sha256 = sha256_of(content)
    return next(it.node.layout.blobs.glob(f"[sl]*/{sha256[:2]}/{sha256}"), None)


def config_for(url: str, section: MavenSection) -> Config:
    """Return a configuration whose upstream, if the section names none, is at ``url``."""
    if not section.upstreams:
        central = MavenUpstream("central", url, allow_private=True, importable=True)
        section = dataclasses.replace(section, upstreams=(central,))
    return dataclasses.replace(CONFIG, maven=section)


def scenario(
    folder: Path, act: Callable[[MavenNode], Awaitable[None]], section: MavenSection = UPSTREAM
) -> None:
    """Run ``act`` with a repository in this process."""

    async def run() -> None:
        async with maven_app(folder, section) as it:
            await act(it)

    asyncio.run(run())
