"""Artifact bytes over libp2p, for holders whose data listener cannot be reached.

The gateway asks on ``run/relay.sock`` (docs/spec/links.md); the core fetches from the peer and
passes the bytes on as they come. The other way round the core answers the ``pieces`` protocol from
the blob folder, which the gateway owns and the core only reads. Nothing is verified here: the
gateway checks every piece before it uses it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from buildpipelines.spec.framing import FrameError, JsonObject, encode_object, parse_object
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.p2p.network import Network
from pyrsia_node.p2p.pieces import FileRange, PieceRequest
from pyrsia_node.ports import PeerId
from pyrsia_node.schema.links import RelayParams, kind_of
from pyrsia_node.store.sockets import listen_unix, peer_uid

_LOG = logging.getLogger("pyrsia.core.relay")

REQUEST_BYTES_MAX: Final = 64 * 1024
READ_TIMEOUT_S: Final = 30.0
CONNECTIONS_MAX: Final = 64

StatBlob = Callable[[str], Awaitable[JsonObject]]
"""Asks the gateway's ``stat``: {present, size, pieces, path}."""


class RelayServer:
    """Serves ``run/relay.sock``."""

    def __init__(self, path: Path, network: Network) -> None:
        """Serve on ``path``, fetching over ``network``."""
        self._path = path
        self._network = network
        self._slots = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def serve(self) -> None:
        """Listen until cancelled."""
        with listen_unix(self._path) as listening:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
            await trio.serve_listeners(self._admit, [listener])

    async def _admit(self, stream: trio.SocketStream) -> None:
        async with stream, self._slots:
            try:
                if peer_uid(stream.socket.fileno()) != os.geteuid():
                    return
                with trio.fail_after(READ_TIMEOUT_S):
                    params = RelayParams.parse(await _read_frame(stream))
                await self._relay(stream, params)
            except PyrsiaError as error:
                await _send_error(stream, error)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                return

    async def _relay(self, stream: trio.SocketStream, params: RelayParams) -> None:
        peer = PeerId(params.peer)
        if params.hashes:
            hashes = await self._network.piece_hashes(peer, params.sha256, timeout_s=READ_TIMEOUT_S)
            await _send_frame(stream, {"length": len(hashes)})
            await _send_bytes(stream, hashes)
            return
        async with self._network.read_piece(
            peer,
            params.sha256,
            start=params.start,
            length=params.length,
            timeout_s=READ_TIMEOUT_S,
        ) as chunks:
            await _send_frame(stream, {"length": params.length})
            try:
                async for chunk in chunks:
                    await _send_bytes(stream, chunk)
            except PyrsiaError as error:
                # The length is out already: a short stream is how the gateway learns of it.
                _LOG.info("relay of %s from %s broke off: %s", params.sha256, peer, error)


class BlobServer:
    """Answers the ``pieces`` protocol of other nodes from the gateway's blob folder."""

    def __init__(self, stat: StatBlob) -> None:
        """Find blobs through the gateway's ``stat``."""
        self._stat = stat

    async def answer(self, _peer: PeerId, request: PieceRequest) -> FileRange | bytes:
        """Return the file range asked for, or the list of piece hashes.

        Raises:
            NotFoundError: the blob is not here.
            UnavailableError: the gateway is being restarted.
            InvalidInputError: the range is outside the file.
        """
        found = await self._stat(request.sha256)
        path, size = found.get("path"), found.get("size")
        if not found.get("present") or not isinstance(path, str) or type(size) is not int:
            raise NotFoundError(f"artifact {request.sha256} is not here")
        if request.length is None:
            return await _read_hashes(path)
        if request.start + request.length > size:
            raise InvalidInputError(
                f"range {request.start}+{request.length} is outside {size} bytes"
            )
        return FileRange(path, request.start, request.length)


async def _read_hashes(path: str) -> bytes:
    """Return the piece hashes of a blob; the blob store keeps them in a folder beside the blobs."""
    blob = Path(path)
    hashes = blob.parents[2] / "pieces" / blob.parent.name / blob.name
    try:
        return await trio.Path(hashes).read_bytes()
    except OSError as error:
        raise UnavailableError(f"piece hashes cannot be read: {error.strerror}") from error


async def _read_exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = await stream.receive_some(count - len(data))
        if not chunk:
            raise InvalidInputError("relay request is cut short")
        data += chunk
    return bytes(data)


async def _read_frame(stream: trio.SocketStream) -> JsonObject:
    length = int.from_bytes(await _read_exactly(stream, 4), "big")
    if length > REQUEST_BYTES_MAX:
        raise InvalidInputError(f"relay request of {length} bytes exceeds {REQUEST_BYTES_MAX}")
    try:
        return parse_object(await _read_exactly(stream, length))
    except FrameError as error:
        raise InvalidInputError(f"relay request: {error}") from error


async def _send_frame(stream: trio.SocketStream, value: dict[str, object]) -> None:
    await _send_bytes(stream, encode_object(value))


async def _send_bytes(stream: trio.SocketStream, data: bytes) -> None:
    """Send, or raise TooSlowError: a reader that hangs must not hold its place for ever."""
    with trio.fail_after(READ_TIMEOUT_S):
        await stream.send_all(data)


async def _send_error(stream: trio.SocketStream, error: PyrsiaError) -> None:
    try:
        await _send_frame(stream, {"error": {"kind": kind_of(error), "message": str(error)}})
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        return
