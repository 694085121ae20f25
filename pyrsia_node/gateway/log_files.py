"""The log's own files: ``/log/checkpoint``, ``/log/tile/…`` (C2SP) and ``/log/certs/…`` (ours).

Tiles and bundles are immutable, so caches may keep them for ever; the checkpoint and the newest
certificate move. An address is parsed to numbers before it becomes a path. Bytes are those of the
core's files, which clients verify by themselves. C2SP tlog-tiles, docs/spec/log-formats.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.gateway.errors import headers_of, status_of, text_of
from pyrsia_node.ledger import certificates
from pyrsia_node.ledger.certificates import CertificateFiles, parse_bundle_path
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, PyrsiaError
from pyrsia_node.tlog.tile import Tile
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer, answer_text, may_read

PREFIX: Final = b"/log"
_BINARY: Final = "application/octet-stream"
_KEEP: Final = (("cache-control", "public, max-age=31536000, immutable"),)
_FRESH: Final = (("cache-control", "no-cache"),)


class LogFiles:
    """Serves a verified checkpoint and the tiles of a folder."""

    def __init__(self, folder: Path, log: VerifiedLog) -> None:
        """Serve tiles from ``folder`` and the checkpoint that ``log`` believes."""
        self._tiles = TileFiles(folder)
        self._certificates = CertificateFiles(folder)
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive
        if not may_read(scope):
            await answer_text(scope, send, 405, "use GET or HEAD", [("allow", "GET, HEAD")])
            return
        try:
            path = scope["raw_path"].removeprefix(PREFIX + b"/").decode("ascii")
            if path == "checkpoint":
                text = self._log.head().data
                media = "text/plain; charset=utf-8"
                await answer(scope, send, 200, text, media=media, headers=_FRESH)
            elif path == certificates.NEWEST:
                data = self._certificates.newest()
                await answer(scope, send, 200, data, media=_BINARY, headers=_FRESH)
            else:
                await answer(scope, send, 200, self._read(path), media=_BINARY, headers=_KEEP)
        except UnicodeDecodeError:
            await answer_text(scope, send, 404, "no such tile")
        except PyrsiaError as error:
            await answer_text(scope, send, status_of(error), text_of(error), headers_of(error))

    def _read(self, path: str) -> bytes:
        """Return what never changes: a tile, or a bundle of entries or certificates."""
        try:
            if path.startswith(f"{certificates.FOLDER}/"):
                number, width = parse_bundle_path(path)
                return self._certificates.bundle(number, width)
            return self._tiles.read(Tile.parse(path))
        except InvalidInputError as error:
            raise NotFoundError(str(error)) from error
