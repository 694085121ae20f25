"""One libp2p stream with the rules that every protocol of ours keeps.

Whole frames, bounded before a byte is stored; a deadline on every wait of the caller; one kind of
error for everything that can go wrong below; closing and resetting never raise and never hang.
No libp2p type leaves this module but the one it is made from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from pyrsia_node.model.errors import InvalidInputError, PeerMisbehaviorError, UnavailableError
from pyrsia_node.p2p.frames import LENGTH_BYTES, decode_length, encode_frame
from pyrsia_node.p2p.hardening.transport import BatchedReader
from pyrsia_node.ports import PeerId

_CLOSE_S: Final = 1.0
_SETTLE_S: Final = 5.0


class PeerStream:
    """A stream to an authenticated peer."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._reader = BatchedReader(stream)
        self.peer = PeerId(stream.muxed_conn.peer_id.to_base58())

    async def read_some(self, bytes_max: int) -> bytes:
        """Return what is there, at least one byte; ``b""`` at the end of the stream.

        Raises:
            UnavailableError: The stream was reset or its connection ended.
        """
        return await self._read(self._reader.read, bytes_max)

    async def read_bulk(self, bytes_max: int) -> bytes:
        """Do as ``read_some``, with a window that grows: for megabytes over long distances."""
        return await self._read(self._stream.read, bytes_max)

    async def _read(self, how: Callable[[int], Awaitable[bytes]], bytes_max: int) -> bytes:
        try:
            return await how(bytes_max)
        except (StreamEOF, MuxedStreamEOF):
            # Also what the muxer says when the connection breaks: only a length tells them apart.
            return b""
        except Exception as error:
            raise self._ended(error) from error

    async def read_exactly(self, length: int) -> bytes:
        """Return exactly ``length`` bytes.

        Raises:
            UnavailableError: The stream ended before.
        """
        data = bytearray()
        while len(data) < length:
            more = await self.read_some(length - len(data))
            if not more:
                raise UnavailableError(
                    f"peer {self.peer} ended the stream after {len(data)} of {length} bytes"
                )
            data += more
        return bytes(data)

    async def read_frame(self, *, bytes_max: int) -> bytes:
        """Return the next frame.

        Raises:
            PeerMisbehaviorError: It announces more than ``bytes_max``.
            UnavailableError: The stream ended before its end.
        """
        head = await self.read_exactly(LENGTH_BYTES)
        try:
            length = decode_length(head, bytes_max=bytes_max)
        except InvalidInputError as error:
            raise PeerMisbehaviorError(self.peer, str(error)) from error
        return await self.read_exactly(length)

    async def write(self, data: bytes) -> None:
        """Write all of ``data``.

        Raises:
            UnavailableError: The stream or its connection ended, or the peer does not read.
        """
        try:
            await self._stream.write(data)
        except Exception as error:
            raise self._ended(error) from error

    async def write_frame(self, payload: bytes) -> None:
        """Write one frame; raises as ``write``."""
        await self.write(encode_frame(payload))

    async def close(self) -> None:
        """End our direction; what was written still arrives. Never raises, takes a second."""
        await self._finish(self._stream.close)

    async def reset(self) -> None:
        """End both directions at once. Never raises, takes a second."""
        await self._finish(self._stream.reset)

    async def _finish(self, how: Callable[[], Awaitable[None]]) -> None:
        # Shielded: a stream that a deadline ended must still be told to the peer.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
            try:
                await how()
            except Exception:  # noqa: BLE001  a stream that cannot be closed is closed
                return

    def _ended(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"stream with peer {self.peer} ended: {type(error).__name__}")

    async def settle(self) -> None:
        """End our direction and give the peer five seconds to end its own; then reset.

        Without it a peer that never ends its direction would leave an entry per stream behind.
        """
        await self.close()
        with trio.move_on_after(_SETTLE_S):
            try:
                if not await self.read_some(1):
                    return
            except UnavailableError:
                return
        await self.reset()


@asynccontextmanager
async def asking(stream: PeerStream) -> AsyncIterator[PeerStream]:
    """End a stream that we opened: when we have what we came for nothing more can come."""
    try:
        yield stream
    finally:
        await stream.reset()


@asynccontextmanager
async def answering(stream: PeerStream) -> AsyncIterator[PeerStream]:
    """End a stream that we serve: settled after a normal exit, reset after every other one."""
    try:
        yield stream
    except BaseException:
        await stream.reset()
        raise
    await stream.settle()
