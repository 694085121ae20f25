"""The upstream index as a source of build inputs: pages and files, bounded and checked.

It trusts the index for nothing but what the index alone can say: which files exist, with which
hash, uploaded when. Files are hashed on the way into the cache. Failures of the network are
``SOURCE_UNAVAILABLE``; they say nothing about the package.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
from packaging.utils import canonicalize_name

from buildpipelines.errors import FormatError
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.keyed_locks import KeyedLocks
from buildpipelines.inputs.outward import CHUNK_BYTES, check_busy, retry, unavailable
from buildpipelines.inputs.pages import PAGE_BYTES_MAX, IndexFile, parse_page
from buildpipelines.inputs.pipconf import IndexSettings
from buildpipelines.spec.lock import FILE_BYTES_MAX

ACCEPT: Final = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.01"
)
PAGE_SECONDS: Final = 120.0
FILE_SECONDS: Final = 900.0
PAGE_KEPT_SECONDS: Final = 120.0
PAGES_KEPT_MAX: Final = 256


class Upstream:
    """One index. Use as an async context manager; safe for many jobs at once."""

    def __init__(self, settings: IndexSettings, cache: InputsCache) -> None:
        """Use the index at ``settings.url``; files go to ``cache``."""
        self._settings = settings
        self._cache = cache
        self._session: aiohttp.ClientSession | None = None
        self._pages: dict[str, tuple[float, tuple[IndexFile, ...]]] = {}
        self._locks = KeyedLocks()

    async def __aenter__(self) -> Self:
        """Open connections lazily; nothing is fetched yet."""
        context = ssl.create_default_context(cafile=self._settings.certificates)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=16),
            trust_env=True,
            headers={"User-Agent": "pyrsia-build"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def project(self, name: str) -> tuple[IndexFile, ...]:
        """Return the files of a project; none if the index does not know it. Kept for a while.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE, the index does not answer properly.
        """
        project = canonicalize_name(name)
        now = asyncio.get_running_loop().time()
        async with self._locks.hold(project):
            kept = self._pages.get(project)
            if kept is not None and now - kept[0] < PAGE_KEPT_SECONDS:
                return kept[1]
            files = await retry(lambda: self._fetch_page(project), self._settings.url)
            while len(self._pages) >= PAGES_KEPT_MAX:
                self._pages.pop(next(iter(self._pages)))
            self._pages[project] = (now, files)
            return files

    async def fetch(self, file: IndexFile) -> Path:
        """Return the file from the cache or the index, hash and size checked.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE: gone, too large, or other bytes came.
        """
        size_max = FILE_BYTES_MAX if file.size is None else file.size
        return await retry(
            lambda: self._cache.get(file.sha256, size_max, lambda: self._stream(file.url)),
            self._settings.url,
        )

    async def _fetch_page(self, project: str) -> tuple[IndexFile, ...]:
        url = f"{self._settings.url}{project}/"
        async with self._get(url, PAGE_SECONDS, headers={"Accept": ACCEPT}) as answer:
            if answer.status in (404, 410):
                return ()
            _check_status(answer)
            body = bytearray()
            async for data in answer.content.iter_chunked(CHUNK_BYTES):
                body += data
                if len(body) > PAGE_BYTES_MAX:
                    raise unavailable(url, "the page is too large")
            kind = answer.headers.get("Content-Type", "")
            try:
                return await asyncio.to_thread(
                    parse_page, bytes(body), content_type=kind, url=str(answer.url)
                )
            except FormatError as error:
                raise unavailable(url, str(error)) from error

    async def _stream(self, url: str) -> AsyncIterator[bytes]:
        headers = {"Accept-Encoding": "identity"}
        async with self._get(url, FILE_SECONDS, headers=headers) as answer:
            _check_status(answer)
            async for data in answer.content.iter_chunked(CHUNK_BYTES):
                yield data

    def _get(
        self, url: str, seconds: float, headers: dict[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None, "Upstream is used outside its context"
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=30, sock_read=60)
        return self._session.get(url, timeout=timeout, headers=headers, max_redirects=5)


def _check_status(answer: aiohttp.ClientResponse) -> None:
    check_busy(answer.status)
    if answer.status != 200:
        raise unavailable(str(answer.url), f"status {answer.status}")
