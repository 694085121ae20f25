"""Security and muxing: Noise with a gate by peer id, yamux with bounds [M1 F1].

See the package's docstring for the names in brackets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import trio
from libp2p.abc import IMuxedConn, INetStream, IRawConnection, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, GO_AWAY_NORMAL, Yamux, YamuxStream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID

from pyrsia_node.p2p.hardening.measures import Guard, Measure
from pyrsia_node.p2p.pacing import TokenBucket

_CREDIT_BYTES: Final = DEFAULT_WINDOW_SIZE // 2


class GatedNoise(NoiseTransport):
    """Noise that closes a connection as soon as it knows that the peer is not welcome.

    The library's own gate knows addresses only.
    """

    def __init__(self, key_pair: KeyPair, guard: Guard) -> None:
        super().__init__(key_pair, noise_privkey=create_noise_key_pair().private_key)
        self._guard = guard

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        """Finish the handshake, then keep or close the connection by the proven peer id."""
        secured = await super().secure_inbound(conn)
        peer = secured.get_remote_peer()
        if peer == self.local_peer or not self._guard.is_welcome(peer.to_base58()):
            self._guard.refuse("peer not welcome", peer)
            await secured.close()
            raise HandshakeFailure(f"peer {peer} is not welcome")
        return secured


class _UnreadCapReachedError(trio.TooSlowError):
    """Ends a connection by the one way in which the muxer's reading loop ends cleanly."""


class BoundedYamux(Yamux):
    """Yamux with a bound on unread bytes [M1] and whole frames [F1]."""

    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        guard: Guard,
        on_close: Callable[[], Awaitable[Any]],
    ) -> None:
        super().__init__(
            secured_conn, peer_id, is_initiator=secured_conn.is_initiator, on_close=on_close
        )
        self._guard = guard
        self.inbound_streams = 0
        self._refused_streams = 0
        rate = guard.limits.streams_per_s
        self._stream_bucket = TokenBucket(
            rate_per_s=rate, burst=4 * rate, now_s=trio.current_time()
        )
        guard.muxers.add(self)

    @property
    def unread_bytes(self) -> int:
        """Bytes received that no reader has taken yet."""
        return sum(map(len, self.stream_buffers.values()))

    def why_refuse_stream(self) -> str:
        """Return why the peer's newest stream is not served, or an empty text; counts both.

        Serving a stream costs a hundred times what opening one does: without a bound one peer
        could keep the node from its votes.
        """
        limits = self._guard.limits
        if len(self.streams) > limits.streams_per_connection:
            why = "too many half-closed streams"
        elif self.inbound_streams >= limits.inbound_streams_per_connection:
            why = "too many streams on one connection"
        elif not self._stream_bucket.take(1, trio.current_time()):
            why = "too many streams a second"
        else:
            return ""
        self._refused_streams += 1
        return why

    def is_beyond_patience(self) -> bool:
        """Return whether the peer ignored refusals for so long that the connection should end."""
        limits = self._guard.limits
        is_littered = len(self.streams) > limits.streams_per_connection
        return is_littered or self._refused_streams > limits.refused_streams

    async def _read_data_body(self, length: int) -> bytes:
        # M1: yamux.py warns when a peer exceeds its window, sets the window to 0 and goes on.
        if self._guard.has(Measure.CAP_UNREAD) and self._is_over(length):
            self._guard.refuse("unread data beyond the cap", self.peer_id)
            raise _UnreadCapReachedError
        return await super()._read_data_body(length)

    def _is_over(self, length: int) -> bool:
        limits = self._guard.limits
        unread = self.unread_bytes + length
        if unread > limits.unread_bytes_per_connection:
            return True
        if unread <= 1024 * 1024:
            return False
        return sum(muxer.unread_bytes for muxer in self._guard.muxers) > limits.unread_bytes

    async def _write_frame(self, data: bytes) -> None:
        # F1: a writer that is cancelled (every deadline does it) in the middle of a write leaves
        # half an encrypted message on the wire, which ends the connection of everybody else.
        # So a write that has begun is finished, or the connection is closed.
        if not self._guard.has(Measure.WHOLE_FRAMES):
            await super()._write_frame(data)
            return
        async with self._write_lock:
            with trio.CancelScope(
                shield=True, deadline=trio.current_time() + self._guard.limits.write_s
            ) as scope:
                await self.secured_conn.write(data)
        if scope.cancelled_caught:
            self._guard.refuse("writing stalled", self.peer_id)
            await self._cleanup_on_error()
            raise SwarmException(f"writing to peer {self.peer_id} stalled")

    async def close(self, error_code: int = GO_AWAY_NORMAL) -> None:
        """Say goodbye if that takes at most a second, and close in any case [F1]."""
        self._guard.muxers.discard(self)
        if not self._guard.has(Measure.WHOLE_FRAMES):
            await super().close(error_code)
            return
        try:
            with trio.move_on_after(1.0):
                await super().close(error_code)
        finally:  # also when the closing one is cancelled, as everything is when a node stops
            if not self.event_closed.is_set():
                await self._cleanup_on_error()

    async def _cleanup_on_error(self) -> None:
        # Shielded: cancelled at its first wait it would leave the socket open.
        self._guard.muxers.discard(self)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await super()._cleanup_on_error()


class BoundedMuxers(MuxerMultistream):
    """Negotiates yamux and nothing else, and makes it bounded."""

    def __init__(self, guard: Guard) -> None:
        super().__init__({TProtocol(YAMUX_ID): Yamux}, int(guard.limits.upgrade_s))
        self._guard = guard

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Return the muxed form of a secured connection."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)

        async def ignore_close() -> None:
            """Stand in until the swarm sets its own hook."""

        muxer = BoundedYamux(conn, peer_id, self._guard, ignore_close)
        return self._annotate_connection(muxer, conn, protocol)


class BatchedReader:
    """Reads a stream and gives the sender credit by half windows [P1].

    The library answers every single read with a window update: for small messages that doubles
    the frames, encryptions and system calls of the side that only listens. The window does not
    grow here, so for bulk over long distances the library's own read is better.
    """

    def __init__(self, stream: INetStream) -> None:
        self._muxed = cast("YamuxStream", stream.muxed_stream)  # type: ignore[attr-defined]
        self._unreleased = 0

    async def read(self, bytes_max: int) -> bytes:
        """Return at least one byte; raises the muxer's errors, MuxedStreamEOF at the end."""
        data = await self._muxed.conn.read_stream(self._muxed.stream_id, bytes_max)
        self._unreleased += len(data)
        if self._unreleased >= _CREDIT_BYTES:
            credit, self._unreleased = self._unreleased, 0
            self._muxed.recv_window += credit
            await self._muxed.send_window_update(credit)
        return data
