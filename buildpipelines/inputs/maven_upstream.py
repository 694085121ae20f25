"""Maven repositories as a source of build inputs: files by path, checked and kept by digest.

A repository is trusted for nothing but what it alone can say: which file lies at a path, with
which checksum. Maven itself only warns at a wrong checksum, so the worker checks, before anything
reads the bytes; a file without any checksum is not taken. Several repositories are asked in the
operator's order, and the first that has a path is believed for it. Failures of the network are
``SOURCE_UNAVAILABLE``; they say nothing about the artifact. Not read here: what poms say.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.keyed_locks import KeyedLocks
from buildpipelines.inputs.outward import CHUNK_BYTES, Asking, check_busy, retry, unavailable
from buildpipelines.spec.coordinates import METADATA, parse_file_path
from buildpipelines.spec.lock import FILE_BYTES_MAX

CHECKSUM_BYTES_MAX: Final = 4096
METADATA_BYTES_MAX: Final = 4 * 1024 * 1024
DOCUMENT_SECONDS: Final = 60.0
FILE_SECONDS: Final = 900.0
KEPT_SECONDS: Final = 120.0
KEPT_MAX: Final = 4096

CHECKSUMS: Final = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32}
"""What repositories give checksums in, with the number of hexadecimal digits."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ABSENT: Final = (404, 410)


@dataclass(frozen=True, slots=True)
class MavenRepository:
    """One repository; ``url`` ends without a slash."""

    id: str
    url: str
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class MavenFile:
    """A file as a repository announces it."""

    repository: MavenRepository
    path: str
    algorithm: str
    checksum: str

    @property
    def url(self) -> str:
        """Return where it lies."""
        return _url(self.repository, self.path)


def parse_maven_repository(text: str, *, is_private: bool = False) -> MavenRepository:
    """Read ``ID=URL`` as the command line gives it.

    Raises:
        FormatError: no ``=``, an id of other characters, or an address that is not http or https.
    """
    name, equals, url = text.partition("=")
    parts = urlsplit(url)
    if not (equals and _ID.match(name) and parts.hostname and parts.scheme in ("http", "https")):
        raise FormatError(f"repository {text!r:.200} is not ID=http(s)://…")
    if parts.username or parts.query or parts.fragment:
        raise FormatError(f"repository {name!r} has more than host and path in its address")
    return MavenRepository(name, url.rstrip("/"), is_private)


class MavenUpstream(Asking):
    """The repositories of one worker. Use as an async context manager; safe for many jobs."""

    def __init__(
        self,
        repositories: Sequence[MavenRepository],
        cache: InputsCache,
        *,
        certificates: Path | None = None,
    ) -> None:
        """Ask these in this order; files go to ``cache``."""
        self._repositories = tuple(repositories)
        self._cache = cache
        super().__init__(certificates=certificates)
        self._found: dict[str, tuple[float, MavenFile | None]] = {}
        self._sha256: dict[tuple[str, str], str] = {}
        self._locks = KeyedLocks()

    async def find(self, path: str) -> MavenFile | None:
        """Return what lies at a path, or None if no repository has it. Kept for a while.

        Raises:
            FormatError: no path of a repository.
            BuildFailure: SOURCE_UNAVAILABLE: no answer, or a file without a checksum.
        """
        parse_file_path(path)
        now = asyncio.get_running_loop().time()
        async with self._locks.hold(path):
            kept = self._found.get(path)
            if kept is not None and now - kept[0] < KEPT_SECONDS:
                return kept[1]
            found = await self._ask_all(path)
            while len(self._found) >= KEPT_MAX:
                self._found.pop(next(iter(self._found)))
            self._found[path] = (now, found)
            return found

    async def fetch(self, file: MavenFile) -> Path:
        """Return the file, checked; its name in the cache is its SHA-256.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE: gone, too large, or other bytes came.
        """
        key = (file.algorithm, file.checksum)
        async with self._locks.hold(file.url):
            sha256 = file.checksum if file.algorithm == "sha256" else self._sha256.get(key)
            kept = self._cache.find(sha256) if sha256 else None
            if kept is not None:
                return kept
            path = await retry(lambda: self._download(file), file.url)
            while len(self._sha256) >= KEPT_MAX:
                self._sha256.pop(next(iter(self._sha256)))
            self._sha256[key] = path.name
            return path

    async def fetch_locked(self, file: MavenFile, sha256: str) -> Path:
        """Return a file that must have this SHA-256 and the checksum of the repository.

        A file of that digest that is here already is not fetched again, only hashed.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE as in :meth:`fetch`; REFUSED (``lock hash``): the
                repository has other bytes under this path than are locked.
        """
        kept = self._cache.find(sha256)
        if kept is not None and await asyncio.to_thread(_has, kept, file.algorithm, file.checksum):
            return kept
        path = await self.fetch(file)
        if path.name != sha256:
            detail = f"{file.path}: {sha256} is locked, {file.repository.id} has {path.name}"
            raise BuildFailure("REFUSED", "lock hash", detail)
        return path

    async def metadata(self, path: str) -> bytes | None:
        """Return a ``maven-metadata.xml`` as the first repository has it, or None.

        Raises:
            FormatError: not the path of one.
            BuildFailure: SOURCE_UNAVAILABLE: no answer, or too large.
        """
        if path.rpartition("/")[2] != METADATA:
            raise FormatError(f"{path!r:.200} is no {METADATA}")
        parse_file_path(f"x/{path}")
        for repository in self._repositories:
            found = await self._small(repository, path, METADATA_BYTES_MAX)
            if found is not None:
                return found
        return None

    async def _ask_all(self, path: str) -> MavenFile | None:
        for repository in self._repositories:
            found = await self._ask(repository, path)
            if found is not None:
                return found
        return None

    async def _ask(self, repository: MavenRepository, path: str) -> MavenFile | None:
        """Look for checksums, of which the best counts; ask for the file if there is none."""
        # Nearly every repository has the third; the best is asked for beside it, to save time.
        for algorithms in (("sha256", "sha1"), ("sha512", "md5")):
            found = await asyncio.gather(
                *(self._checksum(repository, path, each) for each in algorithms)
            )
            for algorithm, checksum in zip(algorithms, found, strict=True):
                if checksum is not None:
                    return MavenFile(repository, path, algorithm, checksum)
        if await self._is_there(repository, path):
            detail = f"{repository.id} has {path} without any checksum"
            raise BuildFailure("SOURCE_UNAVAILABLE", "no checksum", detail)
        return None

    async def _checksum(self, repository: MavenRepository, path: str, algorithm: str) -> str | None:
        text = await self._small(repository, f"{path}.{algorithm}", CHECKSUM_BYTES_MAX)
        if text is None:
            return None
        checksum = read_checksum(text, CHECKSUMS[algorithm])
        if checksum is None:
            where = _url(repository, f"{path}.{algorithm}")
            raise unavailable(where, "holds no checksum")
        return checksum

    async def _is_there(self, repository: MavenRepository, path: str) -> bool:
        url = _url(repository, path)

        async def look() -> bool:
            async with self._get(repository, url, DOCUMENT_SECONDS) as answer:
                return _is_present(answer, url)

        return await retry(look, url)

    async def _small(self, repository: MavenRepository, path: str, size_max: int) -> bytes | None:
        url = _url(repository, path)

        async def read() -> bytes | None:
            async with self._get(repository, url, DOCUMENT_SECONDS) as answer:
                if not _is_present(answer, url):
                    return None
                body = bytearray()
                async for data in answer.content.iter_chunked(CHUNK_BYTES):
                    body += data
                    if len(body) > size_max:
                        raise unavailable(url, f"more than {size_max} bytes")
                return bytes(body)

        return await retry(read, url)

    async def _download(self, file: MavenFile) -> Path:
        def check(digests: Mapping[str, str]) -> None:
            if digests[file.algorithm] != file.checksum:
                came = f"{file.algorithm} {digests[file.algorithm]} came, {file.checksum} was due"
                detail = f"{file.repository.id}: {file.path}: {came}"
                raise BuildFailure("SOURCE_UNAVAILABLE", "input has another hash", detail)

        return await self._cache.adopt(FILE_BYTES_MAX, self._stream(file), check)

    async def _stream(self, file: MavenFile) -> AsyncIterator[bytes]:
        async with self._get(file.repository, file.url, FILE_SECONDS) as answer:
            if not _is_present(answer, file.url):
                raise unavailable(file.url, "is gone, its checksum is there")
            async for data in answer.content.iter_chunked(CHUNK_BYTES):
                yield data

    def _get(
        self, repository: MavenRepository, url: str, seconds: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._outward.get(url, is_private=repository.is_private, seconds=seconds)


def read_checksum(text: bytes, digits: int) -> str | None:
    """Return the checksum in a checksum file, in small letters, or None if there is none.

    Files in the wild say ``HEX``, ``HEX  FILE`` or ``ALGORITHM(FILE)= HEX``.
    """
    words = text.decode("ascii", errors="replace").split()
    for word in (words[0], words[-1]) if words else ():
        if len(word) == digits and not word.lower().strip("0123456789abcdef"):
            return word.lower()
    return None


def _has(path: Path, algorithm: str, checksum: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == checksum


def _is_present(answer: aiohttp.ClientResponse, url: str) -> bool:
    check_busy(answer.status)
    if answer.status not in (200, *_ABSENT):
        raise unavailable(url, f"status {answer.status}")
    return answer.status == 200


def _url(repository: MavenRepository, path: str) -> str:
    return f"{repository.url}/{quote(path)}"
