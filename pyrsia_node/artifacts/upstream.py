"""What an upstream Python index offers, for names that the log does not know.

Only asked where the operator's policy says so. Pages are cached in memory, revalidated, and used
stale while the upstream is down; absence is remembered for a minute. A file counts only with a
SHA-256 on its page, is fetched once however many ask, and is checked before the first byte of it
is given to anybody. Nothing here is vouched for by the log; the caller says so to the client.
PEP 503, 691, 700, 592; parsing by pypi-simple.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from pypi_simple import DistributionPackage, ProjectPage, UnsupportedRepoVersionError

from pyrsia_node.artifacts.incoming import temporary_file
from pyrsia_node.artifacts.names import is_file_name, normalise_project
from pyrsia_node.artifacts.safe_http import Answer, SafeHttp, parse_url
from pyrsia_node.artifacts.upstream_values import UpstreamFile, UpstreamProject
from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.store.blob_files import reserve

PAGE_BYTES_MAX: Final = 32 * 1024 * 1024
FILE_BYTES_MAX: Final = 16 * 1024**3
FRESH_SECONDS: Final = 60.0
"""How long a page, or the absence of one, is believed without asking again."""

PAGES_MAX: Final = 512
_CHUNK_BYTES: Final = 256 * 1024
_ACCEPT: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


@dataclass(slots=True)
class _Cached:
    project: UpstreamProject | None
    etag: str | None
    fresh_until: float


class Upstream:
    """One configured index."""

    def __init__(self, http: SafeHttp, index_url: str, store: BlobStore, folder: Path) -> None:
        """Ask ``index_url`` through ``http``; ``folder`` takes files while they come."""
        self._http = http
        self._index_url = index_url.rstrip("/")
        self._store = store
        self._folder = folder
        self._pages: OrderedDict[str, _Cached] = OrderedDict()
        self._asking: dict[str, asyncio.Task[UpstreamProject]] = {}
        self._fetching: dict[str, asyncio.Task[BlobInfo]] = {}

    async def project(self, name: str) -> UpstreamProject:
        """Return a project's page; ``name`` is in normal form.

        Raises:
            NotFoundError: The upstream does not have the project.
            UnavailableError: It cannot be asked, and no earlier page is at hand.
        """
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._project(name))
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(task)

    async def fetch(self, file: UpstreamFile) -> BlobInfo:
        """Return when the file is in the store, checked against the page's SHA-256.

        Raises:
            VerificationError: The upstream sent other bytes; nothing was kept.
            UnavailableError: It cannot be had, or the disk is full.
        """
        info = self._store.stat(file.sha256)
        if info is not None:
            return info
        task = self._fetching.get(file.sha256)
        if task is None:
            task = asyncio.create_task(self._fetch(file))
            self._fetching[file.sha256] = task
            task.add_done_callback(lambda _: self._fetching.pop(file.sha256, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks: list[asyncio.Task[UpstreamProject] | asyncio.Task[BlobInfo]] = []
        tasks += [*self._asking.values(), *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()

    # ------------------------------------------------------------ pages

    async def _project(self, name: str) -> UpstreamProject:
        now = asyncio.get_running_loop().time()
        cached = self._pages.get(name)
        if cached is None or cached.fresh_until <= now:
            try:
                cached = await self._ask(name, cached)
            except UnavailableError:
                # An old page is better than none: its hashes still decide what is served.
                if cached is None or cached.project is None:
                    raise
                return replace(cached.project, is_stale=True)
            self._pages[name] = cached
            self._pages.move_to_end(name)
            if len(self._pages) > PAGES_MAX:
                self._pages.popitem(last=False)
        if cached.project is None:
            raise NotFoundError(f"the upstream has no project {name}")
        return cached.project

    async def _ask(self, name: str, cached: _Cached | None) -> _Cached:
        etag = cached.etag if cached is not None else None
        url = f"{self._index_url}/{name}/"
        until = asyncio.get_running_loop().time() + FRESH_SECONDS
        try:
            answer = await self._http.get(url, accept=_ACCEPT, bytes_max=PAGE_BYTES_MAX, etag=etag)
        except NotFoundError:
            return _Cached(None, None, until)
        if answer.status == 304 and cached is not None:
            return replace(cached, fresh_until=until)
        project = await asyncio.to_thread(parse_page, name, answer)
        return _Cached(project, answer.etag, until)

    # ------------------------------------------------------------ files

    async def _fetch(self, file: UpstreamFile) -> BlobInfo:
        size_max = FILE_BYTES_MAX if file.size is None else file.size
        if size_max > FILE_BYTES_MAX:
            raise UnavailableError(f"{file.name} of {size_max} bytes exceeds {FILE_BYTES_MAX}")
        with temporary_file(self._folder) as temporary:
            if file.size is not None:
                reserve(temporary.fileno(), file.size, temporary.name)
            found = await self._receive(file, temporary, size_max)
            if found != file.sha256:
                raise VerificationError(
                    f"{file.name} from the upstream has sha256 {found}, its page says {file.sha256}"
                )
            return await asyncio.to_thread(self._store.adopt, temporary.name, file.sha256)

    async def _receive(self, file: UpstreamFile, target: BinaryIO, size_max: int) -> str:
        """Write the file's bytes and return their SHA-256."""
        digest, size = hashlib.sha256(), 0

        def keep(chunk: bytes) -> None:
            digest.update(chunk)
            target.write(chunk)

        async with self._http.stream(file.url) as response:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                size += len(chunk)
                if size > size_max:
                    raise VerificationError(f"{file.name} is longer than {size_max} bytes")
                await asyncio.to_thread(keep, chunk)
        target.truncate(size)
        target.flush()
        return digest.hexdigest()


def parse_page(name: str, answer: Answer) -> UpstreamProject:
    """Return what a project's page lists; files without a SHA-256 are left out.

    Raises:
        UnavailableError: The page cannot be understood.
    """
    try:
        if answer.media.endswith("+json") or answer.media == "application/json":
            page = ProjectPage.from_json_data(json.loads(answer.body), base_url=answer.url)
        else:
            page = ProjectPage.from_html(name, answer.body, base_url=answer.url)
        if normalise_project(page.project) != name:
            raise UnavailableError(f"the upstream's page of {name} is about {page.project!r:.80}")
        files = [_file_of(package) for package in page.packages]
    except (
        UnsupportedRepoVersionError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        InvalidInputError,
    ) as error:
        raise UnavailableError(f"the upstream's page of {name} is malformed: {error}") from error
    return UpstreamProject(name, {file.name: file for file in files if file is not None})


def _file_of(package: DistributionPackage) -> UpstreamFile | None:
    sha256 = package.digests.get("sha256", "").lower()
    if not is_hex(sha256, size=32) or not is_file_name(package.filename):
        return None
    uploaded = package.upload_time
    return UpstreamFile(
        name=package.filename,
        version=package.version,
        url=str(parse_url(package.url)),
        sha256=sha256,
        size=package.size,
        requires_python=package.requires_python,
        yanked=(package.yanked_reason or "") if package.is_yanked else None,
        upload_time=None if uploaded is None else uploaded.isoformat().replace("+00:00", "Z"),
    )
