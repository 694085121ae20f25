"""Sending stored bytes over ASGI: status, range, conditions, then chunks as they are read.

The one implementation of ranges, HEAD, ETag and 304 for the data listener and for clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pyrsia_node.artifacts.reading import CHUNK_BYTES, Reader
from pyrsia_node.transfer.asgi import (
    Receive,
    Scope,
    Send,
    answer_at_once,
    answer_empty,
    answer_text,
    encoded,
    header,
    start,
)
from pyrsia_node.transfer.conditions import (
    Span,
    Unsatisfiable,
    http_date,
    is_known,
    parse_range,
    range_applies,
)
from pyrsia_node.transfer.pacing import Pacer


def wanted_span(scope: Scope, *, size: int, etag: str) -> Span | Unsatisfiable | None:
    """Return the range that a request asks for, None for the whole file."""
    # No other method has ranges (RFC 9110 14.2).
    if scope["method"] != "GET" or not range_applies(header(scope, b"if-range"), etag):
        return None
    return parse_range(header(scope, b"range"), size=size)


SENDFILE: Final = "pyrsia.sendfile"
"""ASGI extension: a coroutine (file descriptor, position, count) that returns the bytes sent."""

ZERO_COPY_BYTES_MIN: Final = 64 * 1024
SendFile = Callable[[int, int, int], Awaitable[int]]


async def send_reader(
    scope: Scope,
    receive: Receive,
    send: Send,
    reader: Reader,
    *,
    etag: str,
    media: str,
    headers: Sequence[tuple[str, str]] = (),
    pacer: Pacer | None = None,
    modified_s: int | None = None,
) -> None:
    """Answer a GET or HEAD with the artifact or the range of it that was asked for.

    ``modified_s`` is the time that the artifact has for clients, in Unix seconds, if it has one.

    Raises:
        UnavailableError: The first bytes cannot be had; nothing was sent yet. If later bytes fail
            the error leaves here too, and the server cuts the connection: every client sees that,
            because the length was announced.
    """
    common = [("etag", etag), ("accept-ranges", "bytes"), *headers]
    if modified_s is not None:
        common.append(("last-modified", http_date(modified_s)))
    conditions = header(scope, b"if-none-match"), header(scope, b"if-modified-since")
    if is_known(*conditions, etag=etag, modified_s=modified_s):
        await answer_empty(scope, send, 304, common)
        return
    span = wanted_span(scope, size=reader.size, etag=etag)
    if isinstance(span, Unsatisfiable):
        extra = [*common, ("content-range", f"bytes */{reader.size}")]
        await answer_text(scope, send, 416, f"the file has {reader.size} bytes", extra)
        return
    status = 200 if span is None else 206
    if span is None:
        span = Span(0, reader.size)
    else:
        common.append(("content-range", f"bytes {span.start}-{span.end - 1}/{reader.size}"))
    common += [("content-type", media), ("content-length", str(span.length))]
    if scope["method"] == "HEAD":
        await start(send, status, common)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    # The first bytes come before the head: what cannot be had is then an honest error answer.
    first = await _next(reader, span.start, span.end, pacer)
    if len(first) == span.length:
        await answer_at_once(scope, send, status, encoded(common), first)
        return
    await start(send, status, common)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        chunks = _Chunks(send, reader, pacer, gone, _zero_copy(scope, pacer))
        await chunks.send(first, span)
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    """Return when the client has left: what is sent after that is thrown away silently."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _zero_copy(scope: Scope, pacer: Pacer | None) -> SendFile | None:
    if pacer is not None and not pacer.is_unlimited:
        return None
    extension: SendFile | None = (scope.get("extensions") or {}).get(SENDFILE)
    return extension


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The body of one answer. ``gone`` is done when the client has left."""

    to_client: Send
    reader: Reader
    pacer: Pacer | None
    gone: asyncio.Future[None]
    zero_copy: SendFile | None

    async def send(self, first: bytes | bytearray, span: Span) -> None:
        """Send ``first``, which was read already, and the rest of the span."""
        chunk, position = first, span.start + len(first)
        while position < span.end:
            if self.gone.done():
                return
            await self.to_client({"type": "http.response.body", "body": chunk, "more_body": True})
            position += await self._send_file(position, span.end)
            chunk = await _next(self.reader, position, span.end, self.pacer)
            position += len(chunk)
        await self.to_client({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _send_file(self, position: int, end: int) -> int:
        """Send as much as the client takes at once by the short way; return how much."""
        if self.zero_copy is None:
            return 0
        sent = 0
        while end - position - sent >= ZERO_COPY_BYTES_MIN and not self.gone.done():
            source, ready = await self.reader.ready(position + sent, end - position - sent)
            done = await self.zero_copy(source, position + sent, ready)
            sent += done
            if done < ready:
                break
        return sent


async def _next(reader: Reader, position: int, end: int, pacer: Pacer | None) -> bytes | bytearray:
    if position >= end:
        return b""
    chunk = await reader.read(position, min(CHUNK_BYTES, end - position))
    if pacer is not None:
        await pacer.spend(len(chunk))
    return chunk
