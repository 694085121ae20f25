"""Fetched inputs by digest, on disk, bounded. Every file in it was hashed while it was written.

Layout: ``<folder>/<first two digits>/<sha256>``. A file appears by rename and is never changed,
so a reader sees all of it or nothing; a crash leaves at most a temporary file, which the next
start removes. The least recently used files go when the folder grows over its bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildFailure

BYTES_MAX: Final = 4 * 1024**3
_TEMPORARY = ".part"


class InputsCache:
    """Files by SHA-256. One worker process owns a folder."""

    def __init__(self, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        """Open (and create) the folder; leftovers of a crash are removed."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._locks: dict[str, asyncio.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"*/*{_TEMPORARY}"):
            path.unlink(missing_ok=True)

    def find(self, sha256: str) -> Path | None:
        """Return the file, marked as used now, or None."""
        path = self._path(sha256)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    async def get(
        self, sha256: str, size_max: int, open_stream: Callable[[], AsyncIterator[bytes]]
    ) -> Path:
        """Return the file, fetching it once however many ask.

        Args:
            sha256: What the bytes must hash to.
            size_max: Most bytes that are taken from the stream.
            open_stream: Starts a download; called only when the file is absent.

        Raises:
            BuildFailure: the stream has other bytes or too many.
        """
        lock = self._locks.setdefault(sha256, asyncio.Lock())
        try:
            async with lock:
                return self.find(sha256) or await self._fetch(sha256, size_max, open_stream())
        finally:
            if not lock.locked():
                self._locks.pop(sha256, None)

    async def _fetch(self, sha256: str, size_max: int, stream: AsyncIterator[bytes]) -> Path:
        path = self._path(sha256)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(path.name + _TEMPORARY)
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("wb") as file:
                async for data in stream:
                    size += len(data)
                    if size > size_max:
                        raise BuildFailure(
                            "SOURCE_UNAVAILABLE", "input too large", f"more than {size_max} bytes"
                        )
                    digest.update(data)
                    await asyncio.to_thread(file.write, data)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            if digest.hexdigest() != sha256:
                raise BuildFailure(
                    "SOURCE_UNAVAILABLE",
                    "input has another hash",
                    f"{digest.hexdigest()} came, {sha256} was due",
                )
            # Whole and checked on disk first, then visible under its name.
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        await asyncio.to_thread(self._shrink, keep=path)
        return path

    def _shrink(self, *, keep: Path) -> None:
        found = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        excess = sum(size for _, size, _ in found) - self._bytes_max
        for _, size, path in sorted(found):
            if excess <= 0:
                return
            if path != keep and path.suffix != _TEMPORARY:
                path.unlink(missing_ok=True)
                excess -= size

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256
