"""The core's end of a local link that others call: a unix socket, a table of methods (trio).

It knows no method itself. A client of another user is turned away, one that breaks the format is
cut off, one that does not read its answers loses its connection: none of them can stop the others.
Format: docs/spec/links.md. The gateway's twin is gateway/link.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from buildpipelines.spec.framing import (
    Answer,
    Failure,
    FrameError,
    Request,
    Result,
    encode_answer,
    parse_request,
)
from pyrsia_node.core.link_stream import FrameReader, Outbox
from pyrsia_node.model.errors import CorruptStateError, PyrsiaError
from pyrsia_node.schema.link_terms import (
    CALL_TIMEOUT_S,
    CALLS_PER_CONNECTION_MAX,
    CONNECTIONS_MAX,
    INTERNAL_ERROR,
    STALL_TIMEOUT_S,
    Handler,
    kind_of,
)
from pyrsia_node.store.sockets import listen_unix, peer_uid

_telemetry = logging.getLogger("pyrsia.core.link")

_CONNECTION_ENDS: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class LinkServer:
    """Answers calls on one unix socket.

    A handler's PyrsiaError becomes an error answer. CorruptStateError and AssertionError do so
    too, and then leave :meth:`serve` (inside exception groups, as trio's nurseries make them): our
    state or our code is wrong, and the process must stop. Any other exception is written to
    telemetry and answered as "internal".
    """

    def __init__(
        self,
        path: Path,
        methods: Mapping[str, Handler],
        *,
        uids: frozenset[int] | None = None,
        timeouts_s: Mapping[str, float] | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        others: str = "",
    ) -> None:
        """Prepare to serve; nothing is bound yet.

        Args:
            path: where the socket goes; a stale one is replaced. Any length.
            methods: what can be called.
            uids: users that may call; by default this process's own.
            timeouts_s: how long single methods may take; CALL_TIMEOUT_S for the others.
            stall_timeout_s: how long a client may take to finish a frame or to read its answers.
            others: why the methods that are not here cannot be called for the time being; empty
                if they never can.
        """
        self._path = path
        self._methods = methods
        self._uids = frozenset({os.geteuid()}) if uids is None else uids
        self._timeouts_s = timeouts_s or {}
        self._stall_timeout_s = stall_timeout_s
        self._others = others
        self._connections = 0

    async def serve(self, started: trio.Event | None = None) -> None:
        """Listen until cancelled. ``started`` is set when clients can connect.

        Raises:
            UnavailableError: the socket cannot be bound.
        """
        with listen_unix(self._path) as listening:
            # trio's listener closes its own duplicate; the context closes the original.
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._admit, [listener])
                if started is not None:
                    started.set()

    async def answer(self, request: Request) -> tuple[bytes, Exception | None]:
        """Call the method; return the answer's frame, and the error that must stop the process."""
        answer, fatal = await self._call(request)
        try:
            return encode_answer(answer), fatal
        except FrameError as error:
            _telemetry.error("%s: answer of %s: %s", self._path.name, request.method, error)
            return encode_answer(Failure(request.id, "internal", INTERNAL_ERROR)), fatal

    async def _call(self, request: Request) -> tuple[Answer, Exception | None]:
        handler = self._methods.get(request.method)
        if handler is None and self._others:
            return Failure(request.id, "unavailable", self._others), None
        if handler is None:
            known = ", ".join(sorted(self._methods))
            message = f"unknown method {request.method!r}; allowed: {known}"
            return Failure(request.id, "invalid", message), None
        timeout_s = self._timeouts_s.get(request.method, CALL_TIMEOUT_S)
        try:
            with trio.fail_after(timeout_s):
                return Result(request.id, await handler(dict(request.params))), None
        except trio.TooSlowError:
            message = f"{request.method} took longer than {timeout_s:g} s"
            return Failure(request.id, "unavailable", message), None
        except (CorruptStateError, AssertionError) as error:
            return Failure(request.id, kind_of(error), str(error)), error
        except PyrsiaError as error:
            return Failure(request.id, kind_of(error), str(error)), None
        except Exception:  # noqa: BLE001 - a handler's defect costs its call, not the node
            _telemetry.exception("%s: %s failed", self._path.name, request.method)
            return Failure(request.id, "internal", INTERNAL_ERROR), None

    async def _admit(self, stream: trio.SocketStream) -> None:
        async with stream:
            uid = peer_uid(stream.socket.fileno())
            if uid not in self._uids:
                _telemetry.warning("%s: user %d may not call", self._path.name, uid)
                return
            if self._connections >= CONNECTIONS_MAX:
                _telemetry.warning("%s: more than %d clients", self._path.name, CONNECTIONS_MAX)
                return
            self._connections += 1
            try:
                await _Connection(self, stream, self._stall_timeout_s).run()
            finally:
                self._connections -= 1


class _Connection:
    """One client: a task that reads, one for each open call, and one that writes."""

    def __init__(
        self, server: LinkServer, stream: trio.SocketStream, stall_timeout_s: float
    ) -> None:
        self._server = server
        self._stream = stream
        self._stall_timeout_s = stall_timeout_s
        self._open_calls = trio.Semaphore(CALLS_PER_CONNECTION_MAX)
        self._outbox = Outbox()
        self._fatal: Exception | None = None

    async def run(self) -> None:
        """Serve the client until it goes, breaks the format or stalls."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            try:
                await self._read(nursery)
            except (FrameError, trio.TooSlowError) as error:
                _telemetry.warning("client cut off: %s", str(error) or "half a frame")
            except _CONNECTION_ENDS:
                pass
            # A client that wants its last answers keeps its end open; these calls have no reader.
            nursery.cancel_scope.cancel()
        if self._fatal is not None:
            raise self._fatal

    async def _read(self, nursery: trio.Nursery) -> None:
        reader = FrameReader(self._stream, self._stall_timeout_s)
        while (payloads := await reader.read()) is not None:
            for payload in payloads:
                request = parse_request(payload)
                await self._open_calls.acquire()
                nursery.start_soon(self._call, request)

    async def _call(self, request: Request) -> None:
        frame, fatal = await self._server.answer(request)
        self._fatal = self._fatal or fatal
        self._outbox.put(frame)

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            while self._fatal is None:
                written = await self._outbox.write_next(self._stream, self._stall_timeout_s)
                for _ in range(written):
                    self._open_calls.release()
        except trio.TooSlowError:
            _telemetry.warning("client cut off: it does not read its answers")
        except _CONNECTION_ENDS:
            pass
        # The client is gone, or it has just been told why this process stops now.
        scope.cancel()
