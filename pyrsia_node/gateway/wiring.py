"""Puts the gateway's parts together; the only place where implementations meet their ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.artifacts.catalog import Catalog, UpstreamPolicy
from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.images.images import Images
from pyrsia_node.artifacts.images.log_side import LoggedImages
from pyrsia_node.artifacts.joining_log import JoiningLog
from pyrsia_node.artifacts.resolver import Resolver
from pyrsia_node.artifacts.upstream_values import UpstreamIndex
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.gateway.client_front import CLIENT_HEADERS, make_client_front
from pyrsia_node.gateway.clock import SystemClock
from pyrsia_node.gateway.collection import open_collection
from pyrsia_node.gateway.control import ControlParts, make_control_app
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.gateway.health import add_health_routes
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.gateway.images.sources import MIRROR_TIMEOUTS_S, ImageSources, import_requests
from pyrsia_node.gateway.images.wiring import open_registry
from pyrsia_node.gateway.link import LinkClient, LinkServer
from pyrsia_node.gateway.log_answers import LogAnswers
from pyrsia_node.gateway.log_files import LogFiles
from pyrsia_node.gateway.maven.wiring import MavenSurroundings, open_maven
from pyrsia_node.gateway.pypi import PypiService
from pyrsia_node.gateway.registry_routes import RegistryAdmin, add_registry_routes
from pyrsia_node.gateway.socket_methods import TIMEOUTS_S, Addresses, SocketMethods
from pyrsia_node.gateway.validation import WEBHOOK, add_validation_routes, open_validator
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.model.oci import PURL_TYPE
from pyrsia_node.ports.registry import RegistryDb
from pyrsia_node.registry.collector import CollectedPorts
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.http import GatewayStatus
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import DataListener
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.keys import load_keys
from pyrsia_node.store.partial import remove_stale
from pyrsia_node.tlog.trust import Trust, TrustFile
from pyrsia_node.transfer.asgi import App
from pyrsia_node.transfer.client import HttpsPieceSource
from pyrsia_node.transfer.listener import BlobListener, UploadPolicy
from pyrsia_node.transfer.relay import FallbackPieceSource, RelayPieceSource

GRACE_SECONDS: Final = 5.0
PARTIAL_DAYS_KEPT: Final = 7
_DAY_SECONDS: Final = 86_400
_CLIENT_LIMITS: Final = HttpLimits()
_PEER_LIMITS: Final = HttpLimits(connections_per_address=64, write_stall_seconds=30.0)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens; ``serve_socket`` tells the core so."""

    http_url: str
    data_url: str
    link: LinkServer

    async def serve_socket(self) -> None:
        """Answer ``run/gateway.sock`` until cancelled."""
        await self.link.serve()


@dataclass(frozen=True, slots=True)
class _Storage:
    store: FileBlobStore
    fetcher: Fetcher
    core: CoreLink


async def open_gateway(
    stack: AsyncExitStack, layout: Layout, config: Config, *, version: str
) -> Gateway:
    """Open everything on ``stack``, which closes it in order.

    Raises:
        NotFoundError: A part of the data directory is missing; names the command that makes it.
        UnavailableError: A port is taken.
    """
    trust_file = TrustFile(_genesis(layout))
    log = VerifiedLog(layout.log, Trust.establish(trust_file))
    client = LinkClient(layout.core_socket)
    stack.callback(client.close)
    core = CoreLink(client)
    parts = _open_storage(stack, layout, config, core)
    listener = await _open_data_listener(stack, layout, config, parts)
    answers = LogAnswers(layout.root, log)
    stack.push_async_callback(answers.close)
    catalog = _make_catalog(stack, layout, config, parts, log)
    sources = ImageSources(stack, layout, config, parts.store, SystemClock())
    images = _make_images(stack, layout, config, parts, log)
    registry = open_registry(
        stack,
        layout,
        config,
        store=parts.store,
        images=images,
        token_key=load_keys(layout.node_key).token_key(),
        clock=SystemClock(),
    )
    images.pull_through(sources.source(registry.db))
    gate = AdminGate(layout.root / config.http.admin_token_file)
    admin = RegistryAdmin(registry.accounts, registry.db, registry.signer, SystemClock().now_ms)
    validator = open_validator(layout, config, images.word)
    collected = CollectedPorts(registry.db, registry.uploads, parts.store, parts.store)
    control = ControlParts(
        core=core,
        log=answers,
        proof_of=log.proof,
        trust_text=log.trust_text,
        fetcher=parts.fetcher,
        gate=gate,
        gateway_status=_status_of(parts.store),
        version=version,
        more=(
            lambda app: add_health_routes(app, log.head),
            lambda app: add_registry_routes(app, admin, gate),
            lambda app: add_validation_routes(app, validator),
            open_collection(stack, config, collected, SystemClock(), gate),
        ),
    )
    services: dict[bytes, App] = {
        b"pypi": PypiService(catalog, log, parts.store),
        b"log": LogFiles(layout.log, log),
        b"v2": registry.app,
        b"maven2": open_maven(
            stack, layout, config, _around_maven(layout, parts, log, registry.db)
        ),
        WEBHOOK: validator.webhook,
    }
    clock = asyncio.get_running_loop().time
    front = make_client_front(layout, config, services, make_control_app(control), clock)
    server = HttpServer(front.app, limits=_CLIENT_LIMITS, tls=front.tls, headers=CLIENT_HEADERS)
    await server.start(config.http.host, config.http.port)
    stack.push_async_callback(server.stop, grace_seconds=GRACE_SECONDS)
    http_url = f"{front.scheme}://{_reachable(config.http.host)}:{server.port}"
    methods = SocketMethods(parts.store, parts.fetcher, Addresses(http_url, listener))
    table = methods.table() | sources.mirror_table()
    timeouts_s = {**TIMEOUTS_S, **MIRROR_TIMEOUTS_S}
    link = LinkServer(layout.gateway_socket, table, timeouts_s=timeouts_s)
    return Gateway(http_url, listener.url, link)


def _status_of(store: FileBlobStore) -> Callable[[], GatewayStatus]:
    started = asyncio.get_running_loop().time()

    def status() -> GatewayStatus:
        usage = store.usage()
        return GatewayStatus(
            uptime_s=round(asyncio.get_running_loop().time() - started, 3),
            cache_bytes=usage.cached_bytes,
            cache_bytes_max=usage.cached_bytes_max,
            blobs=usage.blobs,
        )

    return status


def _open_storage(
    stack: AsyncExitStack, layout: Layout, config: Config, core: CoreLink
) -> _Storage:
    for folder in (layout.blobs, layout.partial, layout.run):
        if not folder.is_dir():
            raise NotFoundError(f"{folder} is missing; `pyrsia-node init` makes it")
    _clean_partial(layout.partial)
    store = FileBlobStore(
        layout.blobs,
        cached_bytes_max=config.cache.bytes_max,
        low_percent=config.cache.low_percent,
    )
    direct = HttpsPieceSource(allow_plain=not config.data.tls)
    stack.push_async_callback(direct.close)
    source = FallbackPieceSource(direct, RelayPieceSource(layout.relay_socket))
    fetcher = Fetcher(store, layout.partial, core, source)
    stack.push_async_callback(fetcher.close)
    return _Storage(store, fetcher, core)


def _clean_partial(folder: Path) -> None:
    """Delete what no download will resume: half upstream files, and what is a week old."""
    for leftover in folder.glob("upstream-*"):
        leftover.unlink()
    newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    # Measured against the newest of them, so that a wrong clock deletes nothing in use.
    remove_stale(folder, before_s=newest - PARTIAL_DAYS_KEPT * _DAY_SECONDS)


async def _open_data_listener(
    stack: AsyncExitStack, layout: Layout, config: Config, parts: _Storage
) -> DataListener:
    policy = UploadPolicy(config.data.upload, config.data.bandwidth_bytes_per_s)
    app = BlobListener(parts.store, parts.fetcher.partial, policy)
    context, fingerprint = None, ""
    if config.data.tls:
        identity = load_keys(layout.node_key).tls()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        identity.load_into(context)
        fingerprint = identity.fingerprint
    server = HttpServer(app, limits=_PEER_LIMITS, tls=context)
    await server.start(config.data.host, config.data.port)
    stack.push_async_callback(server.stop, grace_seconds=GRACE_SECONDS)
    scheme = "https" if config.data.tls else "http"
    url = config.data.url or f"{scheme}://{_reachable(config.data.host)}:{server.port}"
    return DataListener(url=url, fingerprint=fingerprint)


def _make_catalog(
    stack: AsyncExitStack, layout: Layout, config: Config, parts: _Storage, log: VerifiedLog
) -> Catalog:
    index = IndexReader(layout.root)
    stack.callback(index.close)
    resolver = Resolver(
        log,
        index,
        ecosystem="pypi",
        serve_contradicting=config.pypi.serve_contradicting,
        serve_revoked=config.pypi.serve_revoked,
    )
    upstream = None
    if config.pypi.policy == "upstream":
        upstream = _open_upstream(stack, layout, config, parts)
    policy = UpstreamPolicy(config.pypi.strict, config.pypi.reserved)
    joining = JoiningLog(
        parts.core,
        layout.trust,
        genesis=_genesis(layout),
        ecosystem="pypi",
        serve_contradicting=config.pypi.serve_contradicting,
        serve_revoked=config.pypi.serve_revoked,
    )
    return Catalog(
        resolver, parts.fetcher, parts.store, upstream=upstream, policy=policy, joining=joining
    )


def _around_maven(
    layout: Layout, parts: _Storage, log: VerifiedLog, registry_db: RegistryDb
) -> MavenSurroundings:
    return MavenSurroundings(
        genesis=_genesis(layout),
        log=log,
        store=parts.store,
        fetcher=parts.fetcher,
        core=parts.core,
        clock=SystemClock(),
        registry_db=registry_db,
    )


def _make_images(
    stack: AsyncExitStack, layout: Layout, config: Config, parts: _Storage, log: VerifiedLog
) -> Images:
    index = IndexReader(layout.root)
    stack.callback(index.close)
    logged = LoggedImages(log, index, serve_revoked=config.docker.serve_revoked)
    joining = JoiningLog(
        parts.core,
        layout.trust,
        genesis=_genesis(layout),
        ecosystem=PURL_TYPE,
        serve_revoked=config.docker.serve_revoked,
    )
    return Images(
        logged,
        parts.fetcher,
        parts.store,
        strict=config.docker.strict,
        joining=joining,
        requests=import_requests(stack, config, parts.core),
    )


def _open_upstream(
    stack: AsyncExitStack, layout: Layout, config: Config, parts: _Storage
) -> UpstreamIndex:
    # Imported only here: most nodes have no upstream (see artifacts.upstream_values).
    from pyrsia_node.artifacts.safe_http import SafeHttp  # noqa: PLC0415
    from pyrsia_node.artifacts.upstream import Upstream  # noqa: PLC0415
    from pyrsia_node.gateway.pip_config import pip_index_url  # noqa: PLC0415

    url = config.pypi.upstream or pip_index_url(os.environ, Path.home())
    http = SafeHttp(url, allow_private=config.pypi.allow_private)
    upstream = Upstream(http, url, parts.store, layout.partial)
    stack.push_async_callback(upstream.close)
    return upstream


def _genesis(layout: Layout) -> bytes:
    try:
        return layout.genesis.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"{layout.genesis} cannot be read ({error.strerror}); `pyrsia-node join` brings it"
        ) from error


def _reachable(host: str) -> str:
    """Return the address that others call a listener by; brackets for IPv6."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - a comparison
        host = _own_address()
    return f"[{host}]" if ":" in host else host


def _own_address() -> str:
    """Return the address that this machine would use to reach others; nothing is sent."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
    ):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"
