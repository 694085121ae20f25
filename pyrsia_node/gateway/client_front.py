"""What stands before every service of the client port: names, origins, and TLS where configured."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from pyrsia_node.gateway.app import BodyLimits, GatewayApp, HostCheck
from pyrsia_node.gateway.client_tls import ClientTls
from pyrsia_node.gateway.cors import CorsApp, CorsPolicy
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.transfer.asgi import App, Headers

BODY_LIMITS: Final[BodyLimits] = MappingProxyType(
    {b"v2": None, b"maven2": None, b"validate-image": 4 * 1024 * 1024}
)
"""The registry takes layers of any size; an admission review carries a whole workload. The Maven
repository reads no body: who deploys to it is to see why that is not possible."""

CLIENT_HEADERS: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"default-src 'none'; frame-ancestors 'none'; sandbox allow-downloads",
    ),
]
"""With every answer on the client port. Much of what is served was written by others, with types
of their choice; were it shown in a browser, its scripts would speak as this node."""

_log = logging.getLogger("pyrsia.gateway")


@dataclass(frozen=True, slots=True)
class ClientFront:
    """What the client listener runs, and how it speaks: ``http`` or ``https``."""

    app: App
    scheme: str
    tls: ssl.SSLContext | None


def make_client_front(
    layout: Layout,
    config: Config,
    services: Mapping[bytes, App],
    fallback: App,
    monotonic_s: Callable[[], float],
) -> ClientFront:
    """Put names, origins and TLS before the services.

    Raises:
        InvalidInputError: Certificate or key cannot be used; the text names the file.
    """
    tls = _tls(layout, config, monotonic_s)
    policy = CorsPolicy(config.http.cors_origins)
    names = {config.http.host, config.node.label, socket.gethostname()}
    known = frozenset(name.lower() for name in names) | (tls.names if tls else frozenset())
    if config.http.public_url:
        known |= {urlsplit(config.http.public_url).hostname or ""}
    hosts = HostCheck(known, policy, config.http.public_url)
    app: App = GatewayApp(hosts, services, fallback, BODY_LIMITS)
    if policy:
        app = CorsApp(policy, hosts.is_own_origin, app)
    return ClientFront(app, "https" if tls else "http", tls.context if tls else None)


def _tls(layout: Layout, config: Config, monotonic_s: Callable[[], float]) -> ClientTls | None:
    if not config.http.tls_certificate:
        return None
    certificate = layout.root / config.http.tls_certificate
    key = layout.root / config.http.tls_key
    if key.is_file() and key.stat().st_mode & 0o007:
        _log.warning("http.tls_key: %s can be read by every user of this machine", key)
    return ClientTls(certificate, key, monotonic_s)
