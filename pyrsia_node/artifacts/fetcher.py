"""Artifacts by digest: from the store if present, else from peers, one download per digest.

However many clients ask for a digest at once, it is downloaded once; all of them read what that
download has checked. Knows digests, not names: who may ask for what is decided before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.artifacts.buffers import BufferPool
from pyrsia_node.artifacts.download import Download
from pyrsia_node.artifacts.reading import BlobReader, Reader
from pyrsia_node.artifacts.standing import HolderMemory, Standing
from pyrsia_node.artifacts.values import Artifact, Surroundings, Tally
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import BlobInfo, BlobStore, PieceSource, Router
from pyrsia_node.store.partial import Partial
from pyrsia_node.store.pieces import ARTIFACT_BYTES_MAX, piece_root

BUFFERS: Final = 8
"""Pieces in memory at once, of all downloads together: 32 MiB."""

HISTORY: Final = 256
"""Finished downloads that are remembered for ``GET /api/v1/transfers``."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A download; ``error`` is empty unless it failed."""

    sha256: str
    size: int
    tally: Tally
    is_running: bool
    error: str


class Fetcher:
    """Brings artifacts of the log into the blob store."""

    def __init__(self, store: BlobStore, folder: Path, router: Router, source: PieceSource) -> None:
        """Wire a fetcher; make it inside a running event loop.

        Args:
            store: Where complete artifacts are kept.
            folder: For downloads in progress; on the same file system as the store.
            router: Says who has what.
            source: Gets bytes from one holder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._executor = ThreadPoolExecutor(3, thread_name_prefix="pieces")
        self._around = Surroundings(
            store=store,
            folder=folder,
            router=router,
            source=source,
            memory=HolderMemory(),
            buffers=BufferPool(BUFFERS),
            executor=self._executor,
        )
        self._running: dict[str, Download] = {}
        self._history: deque[Transfer] = deque(maxlen=HISTORY)

    async def ensure(self, artifact: Artifact, *, pin: bool = False) -> BlobInfo:
        """Return when the artifact is in the store, complete.

        Args:
            artifact: What the log says about it.
            pin: Never evict it.

        Raises:
            UnavailableError: Nobody who can be reached has it, or the disk is full.
            VerificationError: The store has another size under this digest than the log says.
        """
        info = await self._stored(artifact)
        if info is None:
            info = await asyncio.shield(self._download(artifact).finished)
        if pin:
            self._store.pin(artifact.sha256)
        return info

    async def open(self, artifact: Artifact) -> Reader:
        """Return a reader, which may be ahead of the download; the caller closes it.

        Raises:
            UnavailableError: as :meth:`ensure`, as far as it is known at once.
        """
        for _ in range(3):
            # Blobs are evicted and downloads end between two calls: then ask the other one.
            with contextlib.suppress(NotFoundError, FileNotFoundError):
                if await self._stored(artifact) is not None:
                    return BlobReader(self._store, artifact.sha256)
                return await self._download(artifact).open()
        raise UnavailableError(f"artifact {artifact.sha256} comes and goes; try again")

    def partial(self, sha256: str) -> Partial | None:
        """Return the download in progress of a digest, for the data listener."""
        download = self._running.get(sha256)
        return None if download is None else download.partial

    def transfers(self) -> list[Transfer]:
        """Return the last downloads that ended, oldest first, then those under way."""
        running = [
            Transfer(
                each.artifact.sha256, each.artifact.size, each.tally, is_running=True, error=""
            )
            for each in self._running.values()
        ]
        return [*self._history, *running]

    def standings(self) -> list[Standing]:
        """Return what is remembered of holders."""
        return self._around.memory.standings()

    async def close(self) -> None:
        """Stop all downloads; what was checked stays for a later resume."""
        for download in list(self._running.values()):
            await download.cancel()
        self._executor.shutdown(wait=True)

    async def _stored(self, artifact: Artifact) -> BlobInfo | None:
        info = self._store.stat(artifact.sha256)
        if info is None:
            return None
        if self._store.is_shared(artifact.sha256):
            _check(artifact, info.size, info.pieces)
            return info
        # It was pushed here before; now the log vouches for it, and peers may have it. Only after
        # everything that the entry says was compared: a wrong entry must not publish anything.
        hashes = await asyncio.to_thread(self._store.piece_hashes, artifact.sha256)
        _check(artifact, info.size, piece_root(hashes))
        await asyncio.to_thread(self._store.share, artifact.sha256)
        return self._store.stat(artifact.sha256)

    def _download(self, artifact: Artifact) -> Download:
        if artifact.size > ARTIFACT_BYTES_MAX:
            raise InvalidInputError(
                f"artifact of {artifact.size} bytes exceeds the limit of {ARTIFACT_BYTES_MAX}"
            )
        download = self._running.get(artifact.sha256)
        if download is not None and not download.finished.done():
            if download.artifact != artifact:
                raise CorruptStateError(f"two entries disagree about artifact {artifact.sha256}")
            return download
        download = Download(artifact, self._around)
        self._running[artifact.sha256] = download
        download.finished.add_done_callback(lambda _: self._ended(download))
        download.start()
        return download

    def _ended(self, download: Download) -> None:
        artifact = download.artifact
        if self._running.get(artifact.sha256) is download:
            del self._running[artifact.sha256]
        error = download.finished.exception()
        self._history.append(
            Transfer(
                artifact.sha256,
                artifact.size,
                download.tally,
                is_running=False,
                error=str(error or ""),
            )
        )
        if not self._running:
            self._around.buffers.release_memory()


def _check(artifact: Artifact, size: int, pieces: str | None) -> None:
    """Hold a stored blob against what the log says; raises VerificationError."""
    if (size, pieces) != (artifact.size, artifact.pieces):
        raise VerificationError(
            f"blob {artifact.sha256} has {size} bytes and piece root {pieces}; "
            f"the log says {artifact.size} and {artifact.pieces}"
        )
