"""Sending stored bytes over ASGI: status, range, conditions, then chunks as they are read.

The one implementation of ranges, HEAD, ETag and 304 for the data listener and for clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pyrsia_node.artifacts.reading import CHUNK_BYTES, Reader
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer_empty, answer_text, header, start
from pyrsia_node.transfer.conditions import (
    Span,
    Unsatisfiable,
    matches_etag,
    parse_range,
    range_applies,
)
from pyrsia_node.transfer.pacing import Pacer


def wanted_span(scope: Scope, *, size: int, etag: str) -> Span | Unsatisfiable | None:
    """Return the range that a request asks for, None for the whole file."""
    if not range_applies(header(scope, b"if-range"), etag):
        return None
    return parse_range(header(scope, b"range"), size=size)


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
) -> None:
    """Answer a GET or HEAD with the artifact or the range of it that was asked for.

    Raises:
        UnavailableError: The first bytes cannot be had; nothing was sent yet. If later bytes fail
            the error leaves here too, and the server cuts the connection: every client sees that,
            because the length was announced.
    """
    common = [("etag", etag), ("accept-ranges", "bytes"), *headers]
    if matches_etag(header(scope, b"if-none-match"), etag):
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
    await start(send, status, common)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await _send_chunks(send, reader, span, first=first, pacer=pacer, gone=gone)
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    """Return when the client has left: what is sent after that is thrown away silently."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_chunks(
    send: Send,
    reader: Reader,
    span: Span,
    *,
    first: bytes | bytearray,
    pacer: Pacer | None,
    gone: asyncio.Future[None],
) -> None:
    chunk, position = first, span.start + len(first)
    while position < span.end:
        if gone.done():
            return
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        chunk = await _next(reader, position, span.end, pacer)
        position += len(chunk)
    await send({"type": "http.response.body", "body": chunk, "more_body": False})


async def _next(reader: Reader, position: int, end: int, pacer: Pacer | None) -> bytes | bytearray:
    if position >= end:
        return b""
    chunk = await reader.read(position, min(CHUNK_BYTES, end - position))
    if pacer is not None:
        await pacer.spend(len(chunk))
    return chunk
