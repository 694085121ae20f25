"""Digests of the log's files, for Maven's checksum files: the log itself has SHA-256 alone.

Those of a small file are computed, from bytes that are here or are fetched for it; those of a large
file are computed once and remembered on disk.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.maven.checksums import compute_digests, read_digest
from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.ports import BlobStore
from pyrsia_node.ports.maven import MavenDb

SMALL_BYTES_MAX: Final = 256 * 1024
"""Up to this size, reading a file takes no longer than asking a database about it."""

DIGESTS_KEPT: Final = 20_000
"""Digests that are kept in memory: some 8 MB at most."""


class LoggedDigests:
    """Tells digests of artifacts, the last ones asked for from memory."""

    def __init__(self, fetcher: Fetcher, store: BlobStore, db: MavenDb) -> None:
        """Fetch with ``fetcher`` what is not in ``store``; remember in ``db``."""
        self._fetcher = fetcher
        self._store = store
        self._db = db
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def digest(self, artifact: Artifact, kind: str) -> str:
        """Return a digest of an artifact, in hex.

        Raises:
            UnavailableError: The bytes that must be read for it cannot be had now.
            CorruptStateError: They are not those of its name.
        """
        key = artifact.sha256, kind
        known = self._known.get(key)
        if known is None:
            is_small = artifact.size <= SMALL_BYTES_MAX
            known = await (
                self._read(artifact, kind) if is_small else self._look_up(artifact, kind)
            )
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > DIGESTS_KEPT:
            self._known.popitem(last=False)
        return known

    async def _read(self, artifact: Artifact, kind: str) -> str:
        reader = await self._fetcher.open(artifact)
        try:
            return await read_digest(reader, artifact.sha256, kind)
        finally:
            reader.close()

    async def _look_up(self, artifact: Artifact, kind: str) -> str:
        known = await asyncio.to_thread(self._db.digests, artifact.sha256)
        if known is None:
            info = await self._fetcher.ensure(artifact)
            known = await asyncio.to_thread(compute_digests, self._store, info)
            await asyncio.to_thread(self._db.note_digests, known)
        return known.of(kind)
