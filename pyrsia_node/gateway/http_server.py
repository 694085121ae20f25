"""Runs an ASGI application on a port with uvicorn's protocol, in a loop that somebody else owns.

uvicorn's own server takes the signals and cannot share a loop in peace (two of them: one SIGTERM
ends the process before both have closed), so the gateway runs the protocol itself: listen, limit,
close in order. HTTP/1.1 by httptools; TLS 1.3 if a context is given.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from pyrsia_node.gateway.http_guard import Gatekeeper, GuardedProtocol, HttpLimits
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.transfer.asgi import App, Headers

HANDSHAKE_SECONDS_MAX: Final = 10.0
BACKLOG: Final = 1024


class HttpServer:
    """One listening port."""

    def __init__(
        self,
        app: App,
        *,
        limits: HttpLimits,
        tls: ssl.SSLContext | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Prepare to serve ``app``; nothing listens yet. ``headers`` go with every answer."""
        self._config = Config(
            cast("Any", app),
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.keep_alive_seconds),
        )
        self._config.load()
        self._tls = tls
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self.gatekeeper = Gatekeeper(limits, headers or [])

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        assert self._server is not None
        return cast("int", self._server.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 means any.

        Raises:
            UnavailableError: The port is taken or not ours to take.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: GuardedProtocol(self._config, self._state, self.gatekeeper),
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX if self._tls else None,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise UnavailableError(f"cannot listen on {host}:{port}: {error.strerror}") from error

    async def stop(self, *, grace_seconds: float) -> None:
        """Accept nothing more, let answers under way end, then cut what is left."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = list(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await self.gatekeeper.is_empty.wait()
        await self._server.wait_closed()
