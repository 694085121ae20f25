"""``/v2`` as a raw ASGI application: reads the request's line, finds the handler, words errors.

OCI distribution specification 1.1; docs/spec/registry-api.md. What a path means is
``gateway.images.routes``; whose a name is, ``gateway.images.names``; who asks, the access gate.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pyrsia_node.gateway.images.access import Rights
from pyrsia_node.gateway.images.calls import Call
from pyrsia_node.gateway.images.errors import answer_error
from pyrsia_node.gateway.images.lists import Lists
from pyrsia_node.gateway.images.pulls import Pulls
from pyrsia_node.gateway.images.pushes import Pushes
from pyrsia_node.gateway.images.routes import Kind, RouteError, parse_query, parse_route
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.registry.errors import InterruptedBodyError
from pyrsia_node.transfer.asgi import App, Message, Receive, Scope, Send

TOKEN_PATH: Final = b"/v2/token"
_log = logging.getLogger("pyrsia.gateway.images")

Handler = Callable[[Call], Awaitable[None]]
Identify = Callable[[Scope], Awaitable[Rights]]


class ImagesApp:
    """The distribution interface."""

    def __init__(
        self, pulls: Pulls, pushes: Pushes, lists: Lists, *, identify: Identify, token: App
    ) -> None:
        """Dispatch to these handlers.

        Args:
            pulls: Manifests and blobs.
            pushes: Uploads, manifests, deletions.
            lists: Tags, repositories, referrers, histories.
            identify: Tells who asks.
            token: Answers ``/v2/token``.
        """
        self._identify = identify
        self._token = token
        self._handlers: Mapping[Kind, Mapping[str, Handler]] = {
            Kind.PING: _reading(lists.ping),
            Kind.CATALOG: _reading(lists.catalog),
            Kind.DISCOVER: _reading(lists.discover),
            Kind.TAGS: _reading(lists.tags),
            Kind.REFERRERS: _reading(lists.referrers),
            Kind.HISTORY: _reading(lists.history),
            Kind.MANIFEST: {
                **_reading(pulls.manifest),
                "PUT": pushes.put_manifest,
                "DELETE": pushes.remove_manifest,
            },
            Kind.BLOB: {**_reading(pulls.blob), "DELETE": pushes.remove_blob},
            Kind.UPLOADS: {"POST": pushes.begin},
            Kind.UPLOAD: {
                **_reading(pushes.status),
                "PATCH": pushes.append,
                "PUT": pushes.finish,
                "DELETE": pushes.cancel,
            },
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors in the form of the specification."""
        if scope["raw_path"] == TOKEN_PATH:
            await self._token(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._handle(scope, receive, watched)
        except InterruptedBodyError:
            # Nobody is there to be answered.
            _log.debug("%s: the client left", scope["raw_path"])
        except PyrsiaError as error:
            if started:
                # The server cuts the connection: the client sees fewer bytes than announced.
                raise
            await answer_error(scope, send, error)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_query(scope["query_string"])
        namespace = next((value for key, value in query if key == "ns"), "") if query else ""
        route = parse_route(scope["raw_path"], namespace)
        handlers = self._handlers[route.kind]
        handler = handlers.get(scope["method"])
        if handler is None:
            raise MethodError(tuple(handlers))
        rights = await self._identify(scope)
        call = Call(scope, receive, send, route, query, rights)
        if namespace:
            call.fields.append(("oci-namespace", route.host))
        await handler(call)


class MethodError(RouteError):
    """The endpoint does not know the method; ``allowed`` are those it knows."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        """Say which methods there are."""
        super().__init__(405, "UNSUPPORTED", f"use {', '.join(allowed)}")
        self.fields.append(("allow", ", ".join(allowed)))


def _reading(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}
