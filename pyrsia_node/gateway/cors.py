"""CORS: which web pages may use the client port, by ``http.cors_origins``. Fetch standard, 3.2.

Pages of a named origin may do what a client may do, also with credentials. ``*`` lets every page
read what anonymous clients may read: no credentials, no other methods than GET and HEAD, whatever
a browser would send without asking. A page of an origin that is not listed is refused by the
``Origin`` check (gateway/app.py); requests without ``Origin`` are no business of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pyrsia_node.transfer.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    answer_empty,
    answer_text,
    encoded,
    header,
)

ANY: Final = "*"
PREFLIGHT_SECONDS: Final = 600
EXPOSED: Final = (
    "Docker-Content-Digest, Docker-Distribution-Api-Version, Docker-Upload-Uuid, Link, Location,"
    " OCI-Filters-Applied, OCI-Subject, OCI-Tag, Range, Retry-After, WWW-Authenticate,"
    " X-Pyrsia-Verified"
)

_READING: Final = "GET, HEAD"
_ALL: Final = "DELETE, GET, HEAD, PATCH, POST, PUT"
_READING_HEADERS: Final = "Accept, Range, If-None-Match"
_ALL_HEADERS: Final = f"{_READING_HEADERS}, Authorization, Content-Type, Content-Range"


class CorsPolicy:
    """The configured origins."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Admit pages of ``origins``; ``*`` is every page."""
        listed = {each.lower().rstrip("/") for each in origins}
        self.is_open = ANY in listed
        self._named = frozenset(listed - {ANY})

    def __bool__(self) -> bool:
        """Tell whether any page of another site may do anything."""
        return self.is_open or bool(self._named)

    def names(self, origin: str) -> bool:
        """Tell whether the operator listed this origin by name."""
        return origin.lower() in self._named

    def admits(self, origin: str) -> bool:
        """Tell whether pages of this origin may do something."""
        return self.is_open or self.names(origin)


class CorsApp:
    """Answers what browsers ask first, and adds to answers what they want to see."""

    def __init__(self, policy: CorsPolicy, is_own: Callable[[Scope], bool], app: App) -> None:
        """Wrap ``app``, which refuses origins that are neither the node's own nor listed.

        ``*`` takes nothing from pages of the node's own origins, which ``is_own`` tells.
        """
        self._policy = policy
        self._is_own = is_own
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        origin = header(scope, b"origin")
        if origin is None or not self._policy.admits(origin):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):
            await self._preflight(scope, send, origin)
            return
        headers = self._headers(origin)
        is_trusted = self._policy.names(origin) or self._is_own(scope)
        if not is_trusted and not _may_be_asked_by_all(scope):
            text = "pages of this origin may read only: http.cors_origins does not name it"
            await answer_text(scope, send, 403, text, headers)
            return
        headers.append(("access-control-expose-headers", EXPOSED))
        added = encoded(headers)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, with_headers)

    async def _preflight(self, scope: Scope, send: Send, origin: str) -> None:
        is_named = self._policy.names(origin)
        headers = [
            *self._headers(origin),
            ("access-control-allow-methods", _ALL if is_named else _READING),
            ("access-control-allow-headers", _ALL_HEADERS if is_named else _READING_HEADERS),
            ("access-control-max-age", str(PREFLIGHT_SECONDS)),
        ]
        if is_named and header(scope, b"access-control-request-private-network"):
            headers.append(("access-control-allow-private-network", "true"))
        await answer_empty(scope, send, 204, headers)

    def _headers(self, origin: str) -> list[tuple[str, str]]:
        if self._policy.names(origin):
            return [
                ("access-control-allow-origin", origin),
                ("access-control-allow-credentials", "true"),
                ("vary", "Origin"),
            ]
        return [("access-control-allow-origin", ANY), ("vary", "Origin")]


def _may_be_asked_by_all(scope: Scope) -> bool:
    return scope["method"] in {"GET", "HEAD", "OPTIONS"} and not header(scope, b"authorization")
