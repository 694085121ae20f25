"""Fetched inputs by digest, on disk, bounded. Every file in it was hashed while it was written.

Layout: ``<folder>/<first two digits>/<sha256>``. A file appears by rename and is never changed,
so a reader sees all of it or nothing; a crash leaves at most a temporary file, which the next
start removes. The least recently used files go when the folder grows over its bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from buildpipelines.errors import BuildFailure
from buildpipelines.inputs.keyed_locks import KeyedLocks

BYTES_MAX: Final = 4 * 1024**3
ALGORITHMS: Final = ("sha256", "sha512", "sha1", "md5")
"""What repositories give checksums in, the best first."""

_TEMPORARY = ".part"


class InputsCache:
    """Files by SHA-256. One worker process owns a folder."""

    def __init__(self, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        """Open (and create) the folder; leftovers of a crash are removed."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._locks = KeyedLocks()
        self._numbers = itertools.count()
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
        async with self._locks.hold(sha256):
            return self.find(sha256) or await self._fetch(sha256, size_max, open_stream())

    async def adopt(
        self,
        size_max: int,
        stream: AsyncIterator[bytes],
        check: Callable[[Mapping[str, str]], None],
    ) -> Path:
        """Take a file whose SHA-256 nobody has told; return it under that name.

        Args:
            size_max: Most bytes that are taken from the stream.
            stream: The download.
            check: Called with all hex digests by name (:data:`ALGORITHMS`) before the file appears;
                raises to refuse it.

        Raises:
            BuildFailure: too many bytes, or what ``check`` raises.
        """

        def place(digests: Mapping[str, str]) -> Path:
            check(digests)
            return self._path(digests["sha256"])

        return await self._take(size_max, stream, ALGORITHMS, place)

    async def _fetch(self, sha256: str, size_max: int, stream: AsyncIterator[bytes]) -> Path:
        path = self._path(sha256)

        def place(digests: Mapping[str, str]) -> Path:
            if digests["sha256"] != sha256:
                raise BuildFailure(
                    "SOURCE_UNAVAILABLE",
                    "input has another hash",
                    f"{digests['sha256']} came, {sha256} was due",
                )
            return path

        return await self._take(size_max, stream, ("sha256",), place)

    async def _take(
        self,
        size_max: int,
        stream: AsyncIterator[bytes],
        algorithms: Sequence[str],
        place: Callable[[Mapping[str, str]], Path],
    ) -> Path:
        digests, size = [hashlib.new(each) for each in algorithms], 0
        # A name of its own: what is adopted may have the digest of another that is on its way.
        temporary = self._folder / "new" / f"{next(self._numbers)}{_TEMPORARY}"
        with _part(temporary) as file:
            async for data in stream:
                size += len(data)
                if size > size_max:
                    raise BuildFailure(
                        "SOURCE_UNAVAILABLE", "input too large", f"more than {size_max} bytes"
                    )
                for digest in digests:
                    digest.update(data)
                await asyncio.to_thread(file.write, data)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
            path = place({each.name: each.hexdigest() for each in digests})
            # Whole and checked on disk first, then visible under its name.
            _show(temporary, path)
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


@contextlib.contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is gone at the end, unless it was renamed."""
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("wb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _show(temporary: Path, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary.replace(path)
