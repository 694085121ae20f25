"""A gateway with a log that knows Maven artifacts, and upstream repositories of the test's own."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pyrsia_node.devnet.maven_repository import MavenRepository, serve_repository
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import MavenSection
from tests.fakes.data_peers import DataPeer, data_peer
from tests.fakes.gateway_process import CONFIG, Node, RunningGateway, as_peer, node, run_gateway
from tests.fakes.published_log import document, file_entry


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
    gateway: RunningGateway
    peer: DataPeer
    upstream: MavenRepository
    folder: Path
    tmp: Path
    http: httpx.AsyncClient

    def accept(
        self, gav: str, *files: tuple[str, bytes], claim: str = "rebuilt", origin: str = "built"
    ) -> int:
        """Put an entry into the log, whose files a peer has; return its leaf."""
        group, artifact, version = gav.split(":")
        for _, content in files:
            self.peer.put(self.tmp, content)
        entries = [file_entry(name, data, claim=claim, origin=origin) for name, data in files]
        return self.node.log.accept(document(f"pkg:maven/{group}/{artifact}@{version}", *entries))


@asynccontextmanager
async def maven_node(folder: Path, section: MavenSection) -> AsyncIterator[MavenNode]:
    """Run a gateway; where ``section`` names no upstream there is one, "central"."""
    async with AsyncExitStack() as stack:
        repository = folder / "upstream"
        repository.mkdir(exist_ok=True)
        upstream = stack.enter_context(serve_repository(MavenRepository([repository])))
        config = config_for(upstream.url, section)
        own = await stack.enter_async_context(node(folder / "node", config))
        peer = await stack.enter_async_context(data_peer(folder, "peer"))
        own.core.holders = [as_peer(peer.holder)]
        gateway = await stack.enter_async_context(run_gateway(own.layout))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=20))
        yield MavenNode(own, gateway, peer, upstream, repository, folder, http)


def config_for(url: str, section: MavenSection) -> Config:
    """Return a configuration whose upstream, if the section names none, is at ``url``."""
    if not section.upstreams:
        central = MavenUpstream("central", url, allow_private=True)
        section = dataclasses.replace(section, upstreams=(central,))
    return dataclasses.replace(CONFIG, maven=section)


UPSTREAM = MavenSection(policy="upstream")


def scenario(
    folder: Path, act: Callable[[MavenNode], Awaitable[None]], section: MavenSection = UPSTREAM
) -> None:
    """Run ``act`` with a node."""

    async def run() -> None:
        async with maven_node(folder, section) as it:
            await act(it)

    asyncio.run(run())
