"""The data listener: blobs and piece lists for other nodes, as a raw ASGI application.

``GET|HEAD /blobs/{sha256}`` with ranges, ``GET|HEAD /blobs/{sha256}/pieces``. A download that is
still in progress is offered, too: ``X-Pyrsia-Have`` shows its bitmap of checked pieces (base64),
and ranges that lie within checked pieces are answered. That is what helps when many nodes fetch a
new artifact at once. Only shared blobs are here: what was logged or published, and whoever knows a
digest may have the bytes. A blob that is merely local (pushed, or fetched with credentials) is not
found, its piece list neither. Contract: docs/spec/http-api.md.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyrsia_node.artifacts.reading import BlobReader, read_file
from pyrsia_node.model.errors import NotFoundError, PyrsiaError
from pyrsia_node.ports import BlobStore
from pyrsia_node.store.partial import Partial
from pyrsia_node.transfer.asgi import (
    Receive,
    Scope,
    Send,
    answer,
    answer_text,
    header,
    may_read,
    start,
)
from pyrsia_node.transfer.body import send_reader
from pyrsia_node.transfer.conditions import Span, parse_range
from pyrsia_node.transfer.pacing import Pacer

_PATH: Final = re.compile(rb"/blobs/([0-9a-f]{64})(/pieces)?")
_BITMAP_BYTES_MAX: Final = 8 * 1024
"""Downloads with larger bitmaps (over 256 GiB) are offered only once complete."""
_MEDIA: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """Whether and how fast this node gives bytes to others; 0 means no limit."""

    enabled: bool = True
    bytes_per_s: int = 0


class BlobListener:
    """The ASGI application behind the data port."""

    def __init__(
        self,
        store: BlobStore,
        partial: Callable[[str], Partial | None],
        policy: UploadPolicy,
    ) -> None:
        """Serve from ``store``; ``partial`` finds the download in progress of a digest."""
        self._store = store
        self._partial = partial
        self._policy = policy
        self._pacer = Pacer(policy.bytes_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        # The raw path: percent-encoding has no business here, so nothing is decoded.
        match = _PATH.fullmatch(scope["raw_path"])
        if match is None:
            await answer_text(scope, send, 404, "not found: /blobs/{sha256}")
        elif not may_read(scope):
            await answer_text(scope, send, 405, "use GET or HEAD", [("allow", "GET, HEAD")])
        elif not self._policy.enabled:
            await answer_text(scope, send, 403, "this node does not upload")
        else:
            sha256 = match[1].decode("ascii")
            try:
                if match[2]:
                    await self._pieces(scope, send, sha256)
                else:
                    await self._blob(scope, receive, send, sha256)
            except NotFoundError as error:
                await answer_text(scope, send, 404, str(error))
            except PyrsiaError as error:
                await answer_text(scope, send, 503, str(error), [("retry-after", "1")])

    async def _pieces(self, scope: Scope, send: Send, sha256: str) -> None:
        partial = self._partial(sha256)
        if partial is not None and partial.pieces.hashes is not None:
            hashes = partial.pieces.hashes
        else:
            self._check_shared(sha256)
            hashes = self._store.piece_hashes(sha256)
        await answer(scope, send, 200, hashes, media=_MEDIA)

    async def _blob(self, scope: Scope, receive: Receive, send: Send, sha256: str) -> None:
        partial = self._partial(sha256)
        if partial is not None:
            await self._send_partial(scope, receive, send, partial)
            return
        self._check_shared(sha256)
        reader = BlobReader(self._store, sha256)
        try:
            await send_reader(
                scope, receive, send, reader, etag=f'"{sha256}"', media=_MEDIA, pacer=self._pacer
            )
        finally:
            reader.close()

    def _check_shared(self, sha256: str) -> None:
        # The same words as for a blob that is absent: nobody learns what was pushed here.
        if not self._store.is_shared(sha256):
            raise NotFoundError(f"blob {sha256} is not stored here")

    async def _send_partial(
        self, scope: Scope, receive: Receive, send: Send, partial: Partial
    ) -> None:
        size = partial.pieces.size
        bitmap = bytes(partial.have)
        if len(bitmap) > _BITMAP_BYTES_MAX:
            raise NotFoundError(f"blob {partial.sha256} is not complete here")
        have = [("x-pyrsia-have", base64.b64encode(bitmap).decode("ascii"))]
        span = parse_range(header(scope, b"range"), size=size)
        if scope["method"] == "HEAD":
            await start(send, 200, [("content-length", str(size)), *have])
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif not isinstance(span, Span) or not partial.has_range(span.start, span.length):
            await answer_text(scope, send, 404, "these pieces are not here yet", have)
        else:
            etag = f'"{partial.sha256}"'
            reader = _PartialReader(partial)
            try:
                await send_reader(
                    scope,
                    receive,
                    send,
                    reader,
                    etag=etag,
                    media=_MEDIA,
                    headers=have,
                    pacer=self._pacer,
                )
            finally:
                reader.close()


class _PartialReader:
    """Reads checked pieces of a download in progress, which may end meanwhile."""

    def __init__(self, partial: Partial) -> None:
        self.size = partial.pieces.size
        self._handle = partial.duplicate()

    async def read(self, position: int, length: int) -> bytes | bytearray:
        return await read_file(self._handle, position, length)

    async def ready(self, _position: int, length: int) -> tuple[int, int]:
        return self._handle, length

    def close(self) -> None:
        os.close(self._handle)
