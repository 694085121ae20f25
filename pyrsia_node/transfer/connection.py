"""One HTTP/1.1 connection to another node's data listener, reading straight into our memory.

A piece is decrypted into the very buffer that is then hashed and written: no copy in between, and
a bound on memory that holds whatever the peer sends. (Measured with four holders on two cores:
650-890 MB/s against 420-560 MB/s for aiohttp; docs/design/artifacts.md.) One request at a time;
the pool above opens more connections for more. Knows nothing of pieces or of who deserves trust.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from typing import Final

from pyrsia_node.model.errors import (
    InvalidInputError,
    PeerMisbehaviorError,
    UnavailableError,
)
from pyrsia_node.transfer.address import DataAddress
from pyrsia_node.transfer.response import HEAD_BYTES_MAX, ResponseHead, parse_head

CONNECT_SECONDS_MAX: Final = 10.0
STALL_SECONDS_MAX: Final = 10.0
"""A peer that sends no byte for this long is given up, however large the file."""

RATE_MIN_BYTES_PER_S: Final = 32 * 1024
"""Slower peers are given up when their answer is due, so that trickling bytes gains nothing."""

REFUSAL_BYTES_MAX: Final = 64 * 1024
"""Bodies of answers that are no success are read and dropped up to this size."""


def pinned_context() -> ssl.SSLContext:
    """Return the client side of TLS 1.3 that checks no authority: the caller pins the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class PeerConnection(asyncio.BufferedProtocol):
    """A connection that :func:`connect` made. Not for several tasks at once."""

    def __init__(self, peer: str) -> None:
        """Prepare for the peer whose id errors shall name."""
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._head = memoryview(bytearray(HEAD_BYTES_MAX))
        self._head_length = 0
        self._into: memoryview | None = None
        self._expected = 0
        self._received = 0
        self._in_body = False
        self._answer: ResponseHead | None = None
        self._waiter: asyncio.Future[ResponseHead] | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_head_request = False
        self._progress = 0
        self._progress_before = 0
        self.was_closed_unanswered = False

    # ------------------------------------------------------------ for the caller

    @property
    def is_open(self) -> bool:
        """Whether another request may be tried here."""
        return self._transport is not None and not self._transport.is_closing()

    async def request(
        self, method: str, target: str, buffer: memoryview, *, start: int | None = None
    ) -> ResponseHead:
        """Send a request and read its answer.

        Args:
            method: ``GET`` or ``HEAD``.
            target: Path of the resource, ASCII.
            buffer: Takes the body of a success; all of it is filled when ``start`` is given.
            start: First byte wanted; the length of ``buffer`` says how many.

        Returns:
            The head. Its ``length`` bytes of body are in ``buffer`` if the status is a success.

        Raises:
            UnavailableError: Closed, stalled or too slow. The connection is closed then.
            PeerMisbehaviorError: The answer is not what was asked for. It is closed, too.
        """
        assert self._waiter is None
        assert self._transport is not None
        lines = [f"{method} {target} HTTP/1.1", "host: data"]
        if start is not None:
            lines.append(f"range: bytes={start}-{start + len(buffer) - 1}")
        self._into = buffer
        self._expected = len(buffer) if start is not None else -1
        self._head_length = self._received = 0
        self._progress_before = self._progress
        self._in_body, self._answer = False, None
        self._is_head_request = method == "HEAD"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
            head = await self._guarded(self._waiter, len(buffer))
        except BaseException:
            # Bytes still on their way must never land in a buffer that somebody uses again.
            self.abort()
            raise
        finally:
            self._waiter = self._into = None
        if not head.keeps_alive:
            self.abort()
        return head

    def abort(self) -> None:
        """Close at once."""
        self._into = None
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Close at once and wait until the socket is gone."""
        self.abort()
        if self._transport is not None:
            await self._lost

    async def _guarded(self, waiter: asyncio.Future[ResponseHead], length: int) -> ResponseHead:
        """Wait for the answer while bytes keep coming at a decent rate."""
        loop = asyncio.get_running_loop()
        due = loop.time() + STALL_SECONDS_MAX + length / RATE_MIN_BYTES_PER_S
        while True:
            before = self._progress
            await asyncio.wait([waiter], timeout=STALL_SECONDS_MAX)
            if waiter.done():
                return waiter.result()
            if self._progress == before:
                raise UnavailableError(
                    f"peer {self._peer} sent nothing for {STALL_SECONDS_MAX:.0f} s"
                )
            if loop.time() > due:
                raise UnavailableError(f"peer {self._peer} is slower than we wait for")

    # ------------------------------------------------------------ asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport always

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: into the body while one is being read."""
        del sizehint
        if self._in_body and self._into is not None:
            return self._into[self._received :]
        return self._head[self._head_length :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes that arrived where :meth:`get_buffer` said."""
        self._progress += nbytes
        if self._in_body and self._into is not None:
            self._received += nbytes
        else:
            self._head_length += nbytes
            try:
                self._read_head()
            except InvalidInputError as error:
                self._fail(PeerMisbehaviorError(self._peer, str(error)))
                return
        if self._in_body and self._answer and self._received == self._answer.length:
            self._finish()

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that was under way."""
        what = f": {exc}" if exc else ""
        self._lost.set_result(None)
        self.was_closed_unanswered = self._progress == self._progress_before
        self._fail(UnavailableError(f"peer {self._peer} closed the connection{what}"))

    # ------------------------------------------------------------ inside

    def _read_head(self) -> None:
        if self._waiter is None or self._waiter.done():
            raise InvalidInputError("bytes that nobody asked for")
        if self._in_body:
            return
        seen = bytes(self._head[: self._head_length])
        end = seen.find(b"\r\n\r\n")
        if end < 0:
            if self._head_length == HEAD_BYTES_MAX:
                raise InvalidInputError(f"head of more than {HEAD_BYTES_MAX} bytes")
            return
        head = parse_head(seen[: end + 4])
        if self._is_head_request or head.status == 304:
            head = ResponseHead(head.status, 0, head.fields)
        self._choose_buffer(head)
        rest = self._head_length - end - 4
        if rest > head.length:
            raise InvalidInputError("more bytes than content-length")
        if rest and self._into is not None:
            self._into[:rest] = self._head[end + 4 : self._head_length]
        self._answer, self._received, self._in_body = head, rest, True

    def _choose_buffer(self, head: ResponseHead) -> None:
        """Shrink the buffer to the body, or replace it if the body is a refusal's."""
        assert self._into is not None
        if head.status not in {200, 206}:
            if head.length > REFUSAL_BYTES_MAX:
                raise InvalidInputError(f"refusal of {head.length} bytes")
            self._into = memoryview(bytearray(head.length))
            return
        if self._expected >= 0 and (head.status, head.length) != (206, self._expected):
            raise InvalidInputError(
                f"answer {head.status} with {head.length} bytes instead of 206 with "
                f"{self._expected}"
            )
        if head.length > len(self._into):
            raise InvalidInputError(f"body of {head.length} bytes exceeds {len(self._into)}")
        self._into = self._into[: head.length]

    def _finish(self) -> None:
        assert self._answer is not None
        self._in_body, self._head_length = False, 0
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()


async def connect(peer: str, address: DataAddress, context: ssl.SSLContext) -> PeerConnection:
    """Return a connection to a data listener whose certificate is the expected one.

    Raises:
        UnavailableError: Not reachable in time, or somebody else answers; both fingerprints are
            named then. No request was sent to the wrong one.
    """
    loop = asyncio.get_running_loop()
    tls = context if address.is_tls else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            transport, connection = await loop.create_connection(
                lambda: PeerConnection(peer), address.host, address.port, ssl=tls
            )
    except (OSError, ssl.SSLError) as error:
        reason = str(error) or type(error).__name__
        raise UnavailableError(f"peer {peer} at {address}: {reason}") from error
    if address.is_tls:
        session = transport.get_extra_info("ssl_object")
        certificate = session.getpeercert(binary_form=True) or b""
        found = hashlib.sha256(certificate).hexdigest()
        if found != address.fingerprint:
            connection.abort()
            raise UnavailableError(
                f"peer {peer} at {address}: certificate {found}, its record says "
                f"{address.fingerprint}"
            )
    return connection
