"""The application on the client port: who may speak to it, and which service answers.

Checks ``Host`` and ``Origin`` first: a page in a browser can make any name resolve to this port
(DNS rebinding), and no page of another site has business here: not one of another port of this
machine either. Then routes by the first segment;
each service owns what follows.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pyrsia_node.gateway.cors import CorsPolicy
from pyrsia_node.gateway.errors import headers_of, status_of, text_of
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.transfer.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    answer_empty,
    answer_text,
    header,
)

BODY_BYTES_MAX: Final = 64 * 1024
"""Largest request body, where a service does not set a limit of its own."""

BodyLimits = Mapping[bytes, int | None]
"""Bytes by first segment of the path; None: the service bounds its bodies by itself."""

_HOST: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?"
)
NO_PAGES: Final = CorsPolicy(())
NO_LIMITS: Final[BodyLimits] = MappingProxyType({})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ELSEWHERE: Final = frozenset({"cross-site", "same-site"})
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_log = logging.getLogger("pyrsia.gateway")


class HostCheck:
    """Which names a client may call this node by."""

    def __init__(
        self,
        names: frozenset[str],
        origins: CorsPolicy = NO_PAGES,
        public_url: str = "",
    ) -> None:
        """Accept ``names`` (lower case), ``localhost``, and any address written as numbers.

        A number cannot be rebound: only names can be made to point elsewhere. Pages of ``origins``
        may call by these names, and pages of ``public_url``, where a proxy stands before the node.
        """
        self._names = names | {"localhost"}
        self._origins = origins
        self._public = public_url.lower()

    def admits(self, scope: Scope) -> bool:
        """Tell whether a request may be answered, by its ``Host`` and where its page came from."""
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if host is None or not self._is_ours(host):
            return False
        if origin is not None:
            return self.is_own_origin(scope) or self._origins.admits(origin)
        return header(scope, b"sec-fetch-site") not in _ELSEWHERE or _is_visit(scope)

    def is_own_origin(self, scope: Scope) -> bool:
        """Tell whether a request's page came from this very port: scheme, host and port agree.

        A page of another port, or of any address written as numbers, is somebody else's.
        """
        origin = (header(scope, b"origin") or "").lower()
        own = f"{scope.get('scheme', 'http')}://{header(scope, b'host')}".lower()
        return origin in {own, self._public} - {""}

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = (match["six"] or match["name"]).lower().rstrip(".")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_visit(scope: Scope) -> bool:
    """Tell whether a browser asks because a person follows a link, and not because a page does.

    A picture or a frame in a page of another site has no Origin. To ask for it may still do
    something: have an upstream asked, or an image imported.
    """
    return (
        scope["method"] in _SAFE
        and header(scope, b"sec-fetch-mode") == "navigate"
        and header(scope, b"sec-fetch-dest") == "document"
    )


class GatewayApp:
    """Dispatches to services by the first segment of the path."""

    def __init__(
        self,
        hosts: HostCheck,
        services: Mapping[bytes, App],
        fallback: App,
        body_limits: BodyLimits = NO_LIMITS,
    ) -> None:
        """Give ``/NAME`` and all below to ``services[NAME]``, everything else to ``fallback``."""
        self._hosts = hosts
        self._services = services
        self._fallback = fallback
        self._body_limits = body_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        if not self._hosts.admits(scope):
            await answer_text(
                scope, send, 403, "this node is not to be reached by that name (Host or Origin)"
            )
            return
        first = b"".join(scope["raw_path"].split(b"/", 2)[1:2])
        limit = self._body_limits.get(first, BODY_BYTES_MAX)
        length = header(scope, b"content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            await answer_text(scope, send, 400, "Content-Length is no number of bytes")
            return
        if limit is not None and length is not None and int(length) > limit:
            await answer_text(scope, send, 413, f"bodies are limited to {limit} bytes")
            return
        if not first:
            await answer_empty(scope, send, 302, [("location", "/status")])
            return
        service = self._services.get(first, self._fallback)
        bounded = receive if limit is None else _limited(receive, limit)
        await self._guarded(service, scope, bounded, send)

    async def _guarded(self, service: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn an error that comes too late for an answer into a cut connection."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await service(scope, receive, watched)
        except PyrsiaError as error:
            _log.warning("%s: %s", scope["raw_path"].decode("latin-1")[:200], error)
            if not started:
                await answer_text(scope, send, status_of(error), text_of(error), headers_of(error))
            # Otherwise nothing more is sent: the client sees fewer bytes than were announced.


def _limited(receive: Receive, limit: int) -> Receive:
    """Stop reading a body without a length once it is too long."""
    taken = 0

    async def read() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > limit else message

    return read
