"""One long-lived stream per ordered pair of members, for votes and what belongs to them.

Whoever wants to send opens the stream; the other side only reads, and echoes heartbeats, so that
both notice silence. Five silent seconds end the connection and the dialler builds a new one.
Queues are bounded and give up the oldest frame, because consensus resends what still matters; one
member's flood never drops another member's frame. Order holds within a stream, loss is legal.
Specification: docs/spec/peer-protocols.md "member", CONSENSUS 3.13.
"""

from __future__ import annotations

import logging
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

import trio

from pyrsia_node.model.errors import (
    InvalidInputError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.p2p.doors import Doors
from pyrsia_node.p2p.frames import MEMBER_FRAME_BYTES_MAX, FrameDecoder, encode_frame
from pyrsia_node.p2p.pacing import backoff_s
from pyrsia_node.p2p.stats import Counters
from pyrsia_node.p2p.streams import PeerStream
from pyrsia_node.ports import PeerId

HEARTBEAT_TYPE: Final = 0
"""First byte of a heartbeat; every other first byte is the driver's."""

HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 5.0
QUEUE_FRAMES_MAX: Final = 1024
QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Per member and direction; at least a few of the largest frames."""

_WRITE_BYTES: Final = 128 * 1024
_READ_BYTES: Final = 256 * 1024
_OPEN_S: Final = 5.0
_ECHO: Final = struct.Struct(">Bd")
_LOG: Final = logging.getLogger("pyrsia.p2p")


class BoundedFrames:
    """A queue of frames that gives up its oldest when it is full."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: bytes) -> int:
        """Append a frame; return how many old ones that cost."""
        self._frames.append(frame)
        self._bytes += len(frame)
        dropped = 0
        while len(self._frames) > QUEUE_FRAMES_MAX or self._bytes > QUEUE_BYTES_MAX:
            self.pop()
            dropped += 1
        return dropped

    def pop(self) -> bytes:
        """Remove and return the oldest frame."""
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame


class Wake:
    """Lets one task wait until others have something for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Wake the waiter, now or at its next wait."""
        self._event.set()

    async def wait(self) -> None:
        """Return once ``set`` was called since the last return."""
        await self._event.wait()
        self._event = trio.Event()


class Inbox:
    """Frames received, taken from senders in turn by one consumer."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._queues: OrderedDict[PeerId, BoundedFrames] = OrderedDict()
        self._wake = Wake()
        self._is_closed = False

    def put(self, sender: PeerId, frame: bytes) -> None:
        """Add a frame; the sender's own oldest goes if the sender's queue is full."""
        queue = self._queues.setdefault(sender, BoundedFrames())
        self._counters.frames_received += 1
        self._counters.frames_dropped_in += queue.push(frame)
        self._wake.set()

    def close(self) -> None:
        """End the iteration after what is queued."""
        self._is_closed = True
        self._wake.set()

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> tuple[PeerId, bytes]:
        while not self._queues:
            if self._is_closed:
                raise StopAsyncIteration
            await self._wake.wait()
        sender, queue = self._queues.popitem(last=False)
        frame = queue.pop()
        if queue:
            self._queues[sender] = queue
        return sender, frame


class _Link:
    """What is kept for one member, connected or not."""

    def __init__(self) -> None:
        self.outbox = BoundedFrames()
        self.wake = Wake()
        self.scope = trio.CancelScope()
        self.inbound: trio.CancelScope | None = None
        self.is_up = False
        self.rtt_s: float | None = None


class MemberStreams:
    """Links with the current members."""

    def __init__(self, doors: Doors, protocol: str) -> None:
        self._doors = doors
        self._protocol = protocol
        self._counters = doors.counters
        self._links: dict[PeerId, _Link] = {}
        self.inbox = Inbox(doors.counters)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._links

    @property
    def members(self) -> set[PeerId]:
        """The current members but this node."""
        return set(self._links)

    def up(self) -> dict[PeerId, float | None]:
        """Return the members whose link answers, with its last round trip in seconds."""
        return {peer: link.rtt_s for peer, link in self._links.items() if link.is_up}

    def set_members(self, peers: Iterable[PeerId]) -> None:
        """Replace the members; links of those that left end now."""
        wanted = set(peers)
        for peer in self._links.keys() - wanted:
            link = self._links.pop(peer)
            link.scope.cancel()
            if link.inbound is not None:
                link.inbound.cancel()
        for peer in wanted - self._links.keys():
            self._links[peer] = link = _Link()
            self._doors.spawn(self._feed, peer, link)

    def send(self, to: PeerId, frame: bytes) -> bool:
        """Queue a frame for a member.

        Returns:
            False if ``to`` is no member, or an older frame had to be given up for this one.

        Raises:
            InvalidInputError: Empty, over 2 MiB, or with a heartbeat's type byte.
        """
        if not frame or frame[0] == HEARTBEAT_TYPE or len(frame) > MEMBER_FRAME_BYTES_MAX:
            raise InvalidInputError("a member frame has 1 byte to 2 MiB and a type above 0")
        link = self._links.get(to)
        if link is None:
            return False
        dropped = link.outbox.push(frame)
        self._counters.frames_dropped_out += dropped
        link.wake.set()
        return not dropped

    # ------------------------------------------------------------------------------ sending

    async def _feed(self, peer: PeerId, link: _Link) -> None:
        """Keep a stream to one member open for as long as it is a member."""
        failures = 0
        with link.scope:
            while True:
                await self._doors.until_welcome(peer)
                try:
                    with trio.fail_after(_OPEN_S):
                        stream = await self._doors.open_stream(peer, self._protocol)
                except (trio.TooSlowError, PyrsiaError) as error:
                    _LOG.debug("no member stream to %s: %r", peer, error)
                    failures += 1
                else:
                    await self._pump(peer, link, stream)
                    # A stream that never came up counts as a failure to open one.
                    failures = 1 if link.is_up else failures + 1
                    link.is_up = False
                await trio.sleep(
                    backoff_s(failures, first_s=0.2, last_s=5.0, chance=self._doors.chance())
                )

    async def _pump(self, peer: PeerId, link: _Link, stream: PeerStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_echoes, peer, link, stream, nursery.cancel_scope)
                await self._write_frames(link, stream)
                nursery.cancel_scope.cancel()
        finally:
            await stream.reset()

    async def _write_frames(self, link: _Link, stream: PeerStream) -> None:
        next_beat = trio.current_time()
        while True:
            if not link.outbox:
                with trio.move_on_at(next_beat):
                    await link.wake.wait()
            batch = self._batch(link)
            now = trio.current_time()
            if now >= next_beat:
                batch += encode_frame(_ECHO.pack(HEARTBEAT_TYPE, now))
                next_beat = now + HEARTBEAT_S
            try:
                await stream.write(bytes(batch))
            except UnavailableError as error:
                _LOG.debug("member stream: %s", error)
                return

    def _batch(self, link: _Link) -> bytearray:
        batch = bytearray()
        while link.outbox and len(batch) < _WRITE_BYTES:
            batch += encode_frame(link.outbox.pop())
            self._counters.frames_sent += 1
        return batch

    async def _watch_echoes(
        self, peer: PeerId, link: _Link, stream: PeerStream, pump: trio.CancelScope
    ) -> None:
        decoder = FrameDecoder(bytes_max=_ECHO.size)
        try:
            while True:
                with trio.move_on_after(SILENCE_S) as patience:
                    data = await stream.read_some(_ECHO.size * 16)
                if patience.cancelled_caught:
                    await self._give_up(peer)
                    return
                if not data:
                    return
                for frame in decoder.feed(data):
                    _, sent_at = _ECHO.unpack(frame)
                    link.rtt_s = trio.current_time() - sent_at
                    link.is_up = True
        except (PyrsiaError, struct.error) as error:
            _LOG.debug("echoes of %s: %s", peer, error)
        finally:
            pump.cancel()

    # ---------------------------------------------------------------------------- receiving

    async def accept(self, stream: PeerStream) -> None:
        """Serve a member's stream; the newest of a member replaces an older one."""
        link = self._links.get(stream.peer)
        if link is None:
            self._doors.refuse("member stream of no member", stream.peer)
            await stream.reset()
            return
        if link.inbound is not None:
            link.inbound.cancel()
        with trio.CancelScope() as scope:
            link.inbound = scope
            try:
                await self._receive(stream)
            except PeerMisbehaviorError:
                self._doors.refuse("malformed member frame", stream.peer)
                raise
            finally:
                if link.inbound is scope:
                    link.inbound = None
                await stream.reset()

    async def _receive(self, stream: PeerStream) -> None:
        decoder = FrameDecoder(bytes_max=MEMBER_FRAME_BYTES_MAX)
        next_echo = 0.0
        while True:
            with trio.move_on_after(SILENCE_S) as patience:
                data = await stream.read_some(_READ_BYTES)
            if patience.cancelled_caught:
                await self._give_up(stream.peer)
                return
            if not data:
                return
            for frame in _checked(decoder, data, stream.peer):
                if frame[0] != HEARTBEAT_TYPE:
                    self.inbox.put(stream.peer, frame)
                elif trio.current_time() >= next_echo:
                    # Not every heartbeat: a flood of them would make us write as much.
                    next_echo = trio.current_time() + HEARTBEAT_S / 4
                    await stream.write_frame(frame[: _ECHO.size])

    async def _give_up(self, peer: PeerId) -> None:
        _LOG.info("member %s has been silent for %.0f s: reconnecting", peer, SILENCE_S)
        self._counters.links_reset += 1
        await self._doors.disconnect(peer)


def _checked(decoder: FrameDecoder, data: bytes, peer: PeerId) -> list[bytes]:
    try:
        frames = decoder.feed(data)
    except InvalidInputError as error:
        raise PeerMisbehaviorError(peer, str(error)) from error
    if not all(frames):
        raise PeerMisbehaviorError(peer, "an empty member frame")
    return frames
