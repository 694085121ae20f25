"""What both ends of a trio link share: reading frames with patience, and writing in batches."""

from __future__ import annotations

from typing import Final

import trio

from buildpipelines.spec.framing import FrameDecoder

_READ_BYTES: Final = 64 * 1024


class FrameReader:
    """Reads frames from a stream. Silence between frames is fine for ever, half a frame is not."""

    def __init__(self, stream: trio.SocketStream, stall_timeout_s: float) -> None:
        """Read ``stream``; a frame that is begun must be whole ``stall_timeout_s`` s later."""
        self._stream = stream
        self._stall_timeout_s = stall_timeout_s
        self._decoder = FrameDecoder()

    async def read(self) -> list[bytes] | None:
        """Return the frames that the next read completes, or None once the other side closed.

        Raises:
            FrameError: the other side broke the format.
            trio.TooSlowError: it stalled in the middle of a frame.
            trio.BrokenResourceError: the connection broke.
        """
        if self._decoder.is_between_frames:
            data = await self._stream.receive_some(_READ_BYTES)
        else:
            with trio.fail_after(self._stall_timeout_s):
                data = await self._stream.receive_some(_READ_BYTES)
        return self._decoder.feed(data) if data else None


class Outbox:
    """Frames waiting to be written by one task, all that wait in one write.

    One writer keeps frames whole when the tasks that put them are cancelled, and batching is what
    carries pipelined calls.
    """

    def __init__(self) -> None:
        """Make an empty outbox."""
        self._waiting = bytearray()
        self._count = 0
        self._filled = trio.Event()

    def put(self, frame: bytes) -> None:
        """Queue a frame; never waits. The caller bounds how many are unwritten."""
        self._waiting += frame
        self._count += 1
        self._filled.set()

    async def write_next(self, stream: trio.SocketStream, stall_timeout_s: float) -> int:
        """Wait for frames, write all that wait, and return how many these were.

        Raises:
            trio.TooSlowError: the other side did not read them in ``stall_timeout_s`` seconds.
            trio.BrokenResourceError: the connection broke.
        """
        await self._filled.wait()
        self._filled = trio.Event()
        waiting, self._waiting = self._waiting, bytearray()
        count, self._count = self._count, 0
        with trio.fail_after(stall_timeout_s):
            await stream.send_all(memoryview(waiting))
        return count
