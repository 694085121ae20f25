"""The core's end of a local link on which it calls: connects when needed, pipelines (trio).

Calls fail at once while nobody listens, and the next call connects again: who restarts what, and
what to do meanwhile, is the caller's business. Format: docs/spec/links.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import trio

from buildpipelines.spec.framing import (
    Answer,
    Failure,
    FrameError,
    JsonObject,
    Request,
    encode_request,
    parse_answer,
)
from pyrsia_node.core.link_stream import FrameReader, Outbox
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.schema.link_terms import CALL_TIMEOUT_S, STALL_TIMEOUT_S, error_of
from pyrsia_node.store.sockets import require_peer, short_address


async def call_once(
    path: Path, method: str, params: Mapping[str, object], *, timeout_s: float = CALL_TIMEOUT_S
) -> JsonObject:
    """Connect, call one method, and close: for commands; a process keeps a :class:`LinkClient`.

    Raises:
        PyrsiaError: as :meth:`LinkClient.call`.
    """
    frame = _request_frame(0, method, params)
    try:
        with trio.fail_after(timeout_s):
            async with await _connect(path, None) as stream:
                await stream.send_all(frame)
                reader = FrameReader(stream, timeout_s)
                while (payloads := await reader.read()) is not None:
                    for payload in payloads:
                        return _result_of(parse_answer(payload))
    except (trio.TooSlowError, trio.BrokenResourceError, FrameError) as error:
        raise UnavailableError(f"{path.name}: no answer to {method}: {error!r}") from None
    raise UnavailableError(f"{path.name}: connection lost before the answer to {method}")


class LinkClient:
    """Calls methods on one unix socket; any number of tasks may call at the same time."""

    def __init__(self, path: Path, nursery: trio.Nursery, *, server_uid: int | None = None) -> None:
        """Make a client; nothing is connected before the first call.

        Args:
            path: the server's socket, of any length; it need not exist yet.
            nursery: runs the connection; cancelling it closes the link.
            server_uid: when given, a server of another user is refused.
        """
        self._path = path
        self._nursery = nursery
        self._server_uid = server_uid
        self._connecting = trio.Lock()
        self._session: _Session | None = None

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
            with trio.fail_after(timeout_s):
                session = await self._connected()
                return await session.call(method, params)
        except trio.TooSlowError:
            raise UnavailableError(
                f"{self._path.name}: no answer to {method} in {timeout_s:g} s"
            ) from None

    async def _connected(self) -> _Session:
        if self._session is not None and not self._session.is_closed:
            return self._session
        async with self._connecting:
            if self._session is None or self._session.is_closed:
                stream = await _connect(self._path, self._server_uid)
                self._session = _Session(self._path.name, stream)
                self._nursery.start_soon(self._session.run)
            return self._session


class _Slot:
    """Where a call waits for its answer."""

    __slots__ = ("answer", "arrived")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.answer: Answer | None = None


class _Session:
    """One connection, from connecting until it is lost. A lost session is never used again."""

    def __init__(self, name: str, stream: trio.SocketStream) -> None:
        self.is_closed = False
        self._reason = "it was closed"
        self._name = name
        self._stream = stream
        self._outbox = Outbox()
        self._waiting: dict[int, _Slot] = {}
        self._next_id = 0

    async def run(self) -> None:
        """Carry frames both ways until the connection ends, then fail the calls still open."""
        try:
            async with self._stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                try:
                    await self._read()
                except (FrameError, trio.TooSlowError) as error:
                    self._reason = f"its answer is out of form: {str(error) or 'half a frame'}"
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()
        finally:
            self.is_closed = True
            for slot in self._waiting.values():
                slot.arrived.set()

    async def call(self, method: str, params: Mapping[str, object]) -> JsonObject:
        """Send one request and wait for its answer."""
        request_id = self._next_id
        self._next_id += 1
        frame = _request_frame(request_id, method, params)
        if self.is_closed:
            raise UnavailableError(f"connection to {self._name} lost: {self._reason}")
        slot = self._waiting[request_id] = _Slot()
        try:
            self._outbox.put(frame)
            await slot.arrived.wait()
        finally:
            del self._waiting[request_id]
        if slot.answer is None:
            raise UnavailableError(f"connection to {self._name} lost: {self._reason}")
        return _result_of(slot.answer)

    async def _read(self) -> None:
        reader = FrameReader(self._stream, STALL_TIMEOUT_S)
        while (payloads := await reader.read()) is not None:
            for payload in payloads:
                answer = parse_answer(payload)
                slot = self._waiting.get(answer.id)
                if slot is not None:  # Otherwise its caller gave up.
                    slot.answer = answer
                    slot.arrived.set()

    async def _write(self, scope: trio.CancelScope) -> None:
        with contextlib.suppress(
            trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError
        ):
            while True:
                await self._outbox.write_next(self._stream, STALL_TIMEOUT_S)
        scope.cancel()


def _request_frame(request_id: int, method: str, params: Mapping[str, object]) -> bytes:
    try:
        return encode_request(Request(request_id, method, params))
    except FrameError as error:
        raise InvalidInputError(f"{method}: {error}") from None


def _result_of(answer: Answer) -> JsonObject:
    if isinstance(answer, Failure):
        raise error_of(answer.kind, answer.message)
    return dict(answer.result)


async def _connect(path: Path, server_uid: int | None) -> trio.SocketStream:
    connecting = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with short_address(path) as address:
            await connecting.connect(address)
        if server_uid is not None:
            require_peer(connecting.fileno(), server_uid, path)
    except OSError as error:
        connecting.close()
        raise UnavailableError(f"nobody listens on {path}: {error.strerror}") from None
    except BaseException:
        connecting.close()
        raise
    return trio.SocketStream(connecting)
