"""Pieces from peers that only libp2p can reach, by way of the core.

Implements ``ports.PieceSource`` over ``run/relay.sock``: one exchange a connection, a frame each
way and then raw bytes (docs/spec/links.md). Slower than a data listener by far, so
:class:`FallbackPieceSource` takes it only for holders without a data listener that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from buildpipelines.spec.framing import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    FrameError,
    JsonObject,
    encode_object,
    parse_object,
)
from pyrsia_node.model.errors import PeerMisbehaviorError, UnavailableError
from pyrsia_node.ports import Holder, PieceSource
from pyrsia_node.schema.links import error_of
from pyrsia_node.store.pieces import PIECE_HASH_BYTES
from pyrsia_node.store.sockets import short_address

EXCHANGE_SECONDS_MAX: Final = 120.0
UNREACHABLE_SECONDS: Final = 60.0
"""How long a holder's data listener is left alone after it could not be reached."""

_STREAM_BYTES: Final = 1024 * 1024
_T = TypeVar("_T")


class RelayPieceSource:
    """Reads through the core of this node."""

    def __init__(self, socket_path: Path) -> None:
        """Use the core's relay socket; it may come and go with the core."""
        self._path = socket_path

    async def read_into(self, holder: Holder, sha256: str, start: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``start``; see ``ports.PieceSource``."""
        request: JsonObject = {
            "peer": holder.peer,
            "sha256": sha256,
            "start": start,
            "length": len(buffer),
        }
        await self._exchange(holder, request, buffer)

    async def piece_hashes(self, holder: Holder, sha256: str, *, count: int) -> bytes:
        """Return the holder's piece list, unchecked."""
        buffer = bytearray(count * PIECE_HASH_BYTES)
        request: JsonObject = {"peer": holder.peer, "sha256": sha256, "hashes": True}
        await self._exchange(holder, request, memoryview(buffer))
        return bytes(buffer)

    async def have(self, holder: Holder, sha256: str) -> bytes | None:
        """Return None: this way a holder does not say; what it lacks shows when asked for."""
        del holder, sha256
        return None

    async def _exchange(self, holder: Holder, request: JsonObject, buffer: memoryview) -> None:
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS_MAX):
                with short_address(self._path) as address:
                    reader, writer = await asyncio.open_unix_connection(
                        address, limit=_STREAM_BYTES
                    )
                try:
                    writer.write(encode_object(request))
                    await self._receive(holder, reader, buffer)
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except TimeoutError as error:
            raise UnavailableError(f"relay to peer {holder.peer}: no answer in time") from error
        except (OSError, EOFError) as error:
            raise UnavailableError(f"relay to peer {holder.peer}: {error}") from error
        except FrameError as error:
            raise UnavailableError(f"relay socket speaks another language: {error}") from error

    @staticmethod
    async def _receive(holder: Holder, reader: asyncio.StreamReader, buffer: memoryview) -> None:
        length = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
        if not 1 <= length <= FRAME_BYTES_MAX:
            raise FrameError(f"frame of {length} bytes")
        answer = parse_object(await reader.readexactly(length))
        error = answer.get("error")
        if isinstance(error, dict):
            raise error_of(str(error.get("kind")), str(error.get("message")))
        if answer.get("length") != len(buffer):
            raise PeerMisbehaviorError(
                holder.peer, f"{answer.get('length')} bytes instead of {len(buffer)}"
            )
        received = 0
        while received < len(buffer):
            chunk = await reader.read(min(_STREAM_BYTES, len(buffer) - received))
            if not chunk:
                raise EOFError("bytes end early")
            buffer[received : received + len(chunk)] = chunk
            received += len(chunk)


class FallbackPieceSource:
    """Asks the data listener first, and the relay if that cannot be reached."""

    def __init__(self, direct: PieceSource, relay: PieceSource) -> None:
        """Combine two sources."""
        self._direct = direct
        self._relay = relay
        self._unreachable_until: dict[str, float] = {}

    async def read_into(self, holder: Holder, sha256: str, start: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``start``; see ``ports.PieceSource``."""
        await self._either(holder, lambda source: source.read_into(holder, sha256, start, buffer))

    async def piece_hashes(self, holder: Holder, sha256: str, *, count: int) -> bytes:
        """Return the holder's piece list, unchecked."""
        return await self._either(
            holder, lambda source: source.piece_hashes(holder, sha256, count=count)
        )

    async def have(self, holder: Holder, sha256: str) -> bytes | None:
        """Return the holder's bitmap, or None for all pieces."""
        return await self._either(holder, lambda source: source.have(holder, sha256))

    async def _either(self, holder: Holder, ask: Callable[[PieceSource], Awaitable[_T]]) -> _T:
        now = asyncio.get_running_loop().time()
        if holder.data_url is None or self._unreachable_until.get(holder.peer, 0.0) > now:
            return await ask(self._relay)
        try:
            return await ask(self._direct)
        except UnavailableError as first:
            # Bounded by the number of peers that the standing of holders remembers.
            if len(self._unreachable_until) > 1024:
                self._unreachable_until.clear()
            try:
                result = await ask(self._relay)
            except UnavailableError as second:
                raise UnavailableError(f"{first}; {second}") from second
            self._unreachable_until[holder.peer] = now + UNREACHABLE_SECONDS
            return result
