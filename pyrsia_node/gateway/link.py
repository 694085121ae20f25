"""The gateway's ends of the local links: a server and a client of framed calls (asyncio).

The same behaviour as the core's twins (core/link_server.py, core/link_client.py): peer credentials,
a deadline on every call, pipelining, bounded frames, and no client that can stop the others.
Format: docs/spec/links.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from buildpipelines.spec.framing import (
    Answer,
    Failure,
    FrameDecoder,
    FrameError,
    JsonObject,
    Request,
    Result,
    encode_answer,
    encode_request,
    parse_answer,
    parse_request,
)
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.schema.link_terms import (
    CALL_TIMEOUT_S,
    CALLS_PER_CONNECTION_MAX,
    CONNECTIONS_MAX,
    INTERNAL_ERROR,
    STALL_TIMEOUT_S,
    Handler,
    error_of,
    kind_of,
)
from pyrsia_node.store.sockets import listen_unix, peer_uid, require_peer, short_address

_telemetry = logging.getLogger("pyrsia.gateway.link")


class _FrameProtocol(asyncio.Protocol):
    """One end of a connection: cuts frames, watches for stalls, closes on a broken format."""

    def __init__(self, stall_timeout_s: float) -> None:
        self._decoder = FrameDecoder()
        self._stall_timeout_s = stall_timeout_s
        self._reading_stalled: asyncio.TimerHandle | None = None
        self._writing_stalled: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.is_writable = True
        self.close_reason = "it was closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, but not its class.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.close_reason = str(exc)
        _cancel(self._reading_stalled)
        _cancel(self._writing_stalled)
        self.transport = None

    def data_received(self, data: bytes) -> None:
        _cancel(self._reading_stalled)
        self._reading_stalled = None
        try:
            for payload in self._decoder.feed(data):
                self.payload_received(payload)
        except FrameError as error:
            self.cut_off(str(error))
            return
        if not self._decoder.is_between_frames:
            self._reading_stalled = self._call_later(self.cut_off, "a frame was not finished")

    def pause_writing(self) -> None:
        self.is_writable = False
        self._writing_stalled = self._call_later(self.cut_off, "nobody reads what is sent")

    def resume_writing(self) -> None:
        self.is_writable = True
        _cancel(self._writing_stalled)
        self._writing_stalled = None

    def payload_received(self, payload: bytes) -> None:
        """Take one frame; a FrameError closes the connection."""
        raise NotImplementedError

    def cut_off(self, reason: str) -> None:
        """Close at once, without waiting for what is still to be written."""
        if self.transport is not None:
            self.close_reason = reason
            self.transport.abort()

    def _call_later(self, what: Callable[[str], None], reason: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._stall_timeout_s, what, reason)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class LinkServer:
    """Answers calls on one unix socket.

    A handler's PyrsiaError becomes an error answer. CorruptStateError and AssertionError do so
    too, and then leave :meth:`serve`: our state or our code is wrong, and the process must stop.
    Any other exception is written to telemetry and answered as "internal".
    """

    def __init__(
        self,
        path: Path,
        methods: Mapping[str, Handler],
        *,
        uids: frozenset[int] | None = None,
        timeouts_s: Mapping[str, float] | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        """Prepare to serve; nothing is bound yet.

        Args:
            path: where the socket goes; a stale one is replaced. Any length.
            methods: what can be called.
            uids: users that may call; by default this process's own.
            timeouts_s: how long single methods may take; CALL_TIMEOUT_S for the others.
            stall_timeout_s: how long a client may take to finish a frame or to read its answers.
        """
        self._path = path
        self._methods = methods
        self._uids = frozenset({os.geteuid()}) if uids is None else uids
        self._timeouts_s = timeouts_s or {}
        self._stall_timeout_s = stall_timeout_s
        self._connections: set[_ServerConnection] = set()
        self._fatal: asyncio.Future[None] | None = None

    async def serve(self, started: asyncio.Event | None = None) -> None:
        """Listen until cancelled; ``started`` is set when clients can connect.

        Raises:
            UnavailableError: the socket cannot be bound.
            CorruptStateError, AssertionError: a handler raised it.
        """
        loop = asyncio.get_running_loop()
        self._fatal = loop.create_future()
        with listen_unix(self._path) as listening:
            server = await loop.create_unix_server(self._new_connection, sock=listening.dup())
            try:
                if started is not None:
                    started.set()
                await self._fatal
            finally:
                server.close()
                for connection in list(self._connections):
                    connection.cut_off("the server stopped")

    def admits(self, connection: _ServerConnection, descriptor: int) -> bool:
        """Count a new client in, or say in telemetry why not."""
        uid = peer_uid(descriptor)
        if uid not in self._uids:
            _telemetry.warning("%s: user %d may not call", self._path.name, uid)
            return False
        if len(self._connections) >= CONNECTIONS_MAX:
            _telemetry.warning("%s: more than %d clients", self._path.name, CONNECTIONS_MAX)
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _ServerConnection) -> None:
        """Count a client out."""
        self._connections.discard(connection)

    def stop(self, error: Exception) -> None:
        """Let :meth:`serve` raise ``error``."""
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_exception(error)

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
        if handler is None:
            known = ", ".join(sorted(self._methods))
            message = f"unknown method {request.method!r}; allowed: {known}"
            return Failure(request.id, "invalid", message), None
        timeout_s = self._timeouts_s.get(request.method, CALL_TIMEOUT_S)
        try:
            async with asyncio.timeout(timeout_s):
                return Result(request.id, await handler(dict(request.params))), None
        except TimeoutError:
            message = f"{request.method} took longer than {timeout_s:g} s"
            return Failure(request.id, "unavailable", message), None
        except (CorruptStateError, AssertionError) as error:
            return Failure(request.id, kind_of(error), str(error)), error
        except PyrsiaError as error:
            return Failure(request.id, kind_of(error), str(error)), None
        except Exception:  # noqa: BLE001 - a handler's defect costs its call, not the node
            _telemetry.exception("%s: %s failed", self._path.name, request.method)
            return Failure(request.id, "internal", INTERNAL_ERROR), None

    def _new_connection(self) -> _ServerConnection:
        return _ServerConnection(self, self._stall_timeout_s)


class _ServerConnection(_FrameProtocol):
    """One client: a task for each open call; reading stops while too many are open."""

    def __init__(self, server: LinkServer, stall_timeout_s: float) -> None:
        super().__init__(stall_timeout_s)
        self._server = server
        self._calls: set[asyncio.Task[None]] = set()
        self._backlog: deque[bytes] = deque()
        """Frames of the last read that wait for a free call; reading is paused meanwhile."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._server.admits(self, transport.get_extra_info("socket").fileno()):
            self.cut_off("it may not call")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server.forget(self)
        self._backlog.clear()
        for call in self._calls:
            call.cancel()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._start_calls()

    def payload_received(self, payload: bytes) -> None:
        self._backlog.append(payload)
        self._start_calls()

    def cut_off(self, reason: str) -> None:
        if self.transport is not None:
            _telemetry.warning("client cut off: %s", reason)
        super().cut_off(reason)

    def _start_calls(self) -> None:
        while self._backlog and self.is_writable and len(self._calls) < CALLS_PER_CONNECTION_MAX:
            call = asyncio.create_task(self._call(parse_request(self._backlog.popleft())))
            self._calls.add(call)
            call.add_done_callback(self._call_ended)
        if self.transport is not None:
            # Both are idempotent in every event loop (asyncio.ReadTransport).
            if self._backlog:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _call_ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        try:
            self._start_calls()
        except FrameError as error:
            self.cut_off(str(error))

    async def _call(self, request: Request) -> None:
        frame, fatal = await self._server.answer(request)
        if self.transport is not None:
            self.transport.write(frame)
        if fatal is not None:
            self._server.stop(fatal)


class LinkClient:
    """Calls methods on one unix socket; any number of tasks may call at the same time.

    Calls fail at once while nobody listens, and the next call connects again.
    """

    def __init__(self, path: Path, *, server_uid: int | None = None) -> None:
        """Make a client; nothing is connected before the first call.

        Args:
            path: the server's socket, of any length; it need not exist yet.
            server_uid: when given, a server of another user is refused.
        """
        self._path = path
        self._server_uid = server_uid
        self._connecting = asyncio.Lock()
        self._session: _ClientConnection | None = None

    async def call(
        self, method: str, params: Mapping[str, object], *, timeout_s: float = CALL_TIMEOUT_S
    ) -> JsonObject:
        """Call ``method`` and return its result.

        Cancelling a call forgets it; the server may still carry it out.

        Raises:
            PyrsiaError: what the server answered, as the class that its kind names.
            UnavailableError: nobody listens, the connection was lost before the answer (the
                method may have run), or ``timeout_s`` seconds have passed.
            InvalidInputError: the parameters do not fit a frame.
        """
        try:
            async with asyncio.timeout(timeout_s):
                session = await self._connected()
                answer = await session.call(method, params)
        except TimeoutError:
            message = f"{self._path.name}: no answer to {method} in {timeout_s:g} s"
            raise UnavailableError(message) from None
        if isinstance(answer, Failure):
            raise error_of(answer.kind, answer.message)
        return dict(answer.result)

    def close(self) -> None:
        """Close the connection; calls still open fail, and a later call connects again."""
        if self._session is not None:
            self._session.cut_off("it was closed")

    async def _connected(self) -> _ClientConnection:
        if self._session is not None and self._session.transport is not None:
            return self._session
        async with self._connecting:
            if self._session is None or self._session.transport is None:
                self._session = await self._connect()
            return self._session

    async def _connect(self) -> _ClientConnection:
        loop = asyncio.get_running_loop()
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with short_address(self._path) as address:
                await loop.sock_connect(connecting, address)
            if self._server_uid is not None:
                require_peer(connecting.fileno(), self._server_uid, self._path)
            _, session = await loop.create_unix_connection(
                lambda: _ClientConnection(self._path.name), sock=connecting
            )
        except OSError as error:
            connecting.close()
            message = f"nobody listens on {self._path}: {error.strerror}"
            raise UnavailableError(message) from None
        except BaseException:
            connecting.close()
            raise
        return session


class _ClientConnection(_FrameProtocol):
    """One connection, from connecting until it is lost. A lost one is never used again."""

    def __init__(self, name: str) -> None:
        super().__init__(STALL_TIMEOUT_S)
        self._name = name
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 0

    async def call(self, method: str, params: Mapping[str, object]) -> Answer:
        """Send one request and wait for its answer."""
        request_id = self._next_id
        self._next_id += 1
        try:
            frame = encode_request(Request(request_id, method, params))
        except FrameError as error:
            raise InvalidInputError(f"{method}: {error}") from None
        if self.transport is None:
            raise self._lost()
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answered
        try:
            self.transport.write(frame)
            return await answered
        finally:
            del self._waiting[request_id]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(self._lost())

    def payload_received(self, payload: bytes) -> None:
        answer = parse_answer(payload)
        answered = self._waiting.get(answer.id)
        if answered is not None and not answered.done():
            answered.set_result(answer)

    def _lost(self) -> UnavailableError:
        return UnavailableError(f"connection to {self._name} lost: {self.close_reason}")
