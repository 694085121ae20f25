"""The simple repository API for pip, uv and poetry, as a raw ASGI application under ``/pypi``.

* ``/simple/`` and ``/simple/{project}/``: pages, HTML or JSON (gateway/simple_pages.py);
* ``/files/{sha256}/{name}``: the file, streamed while it is still being fetched;
* ``/files/{sha256}/{name}.metadata`` (PEP 658) and ``….tlog-proof`` (the offline proof).

Reads the path as it was sent and decodes each segment by itself: a decoded name is a key of a
look-up and never a path. Contract: docs/spec/http-api.md.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from pyrsia_node.artifacts.catalog import Catalog, OfferedFile, OfferedProject
from pyrsia_node.artifacts.names import normalise_project
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.gateway.errors import headers_of, status_of, text_of
from pyrsia_node.gateway.negotiation import preferred
from pyrsia_node.gateway.simple_pages import (
    HTML,
    JSON,
    OFFERED,
    PLAIN_HTML,
    has_metadata,
    index_html,
    index_json,
    project_html,
    project_json,
    statements_on,
)
from pyrsia_node.gateway.small_answers import IMMUTABLE, send_small, statement_fields
from pyrsia_node.gateway.wheel_metadata import metadata_of, read_metadata
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, PyrsiaError
from pyrsia_node.ports import BlobStore
from pyrsia_node.transfer.asgi import (
    Receive,
    Scope,
    Send,
    answer_empty,
    answer_text,
    header,
    may_read,
)
from pyrsia_node.transfer.body import send_reader

PREFIX: Final = b"/pypi"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_METADATA: Final = ".metadata"
_PROOF: Final = ".tlog-proof"
_PAGES_MAX: Final = 256
_METADATA_BYTES_KEPT: Final = 8 * 1024 * 1024
_CHARSET: Final = {PLAIN_HTML: "text/html; charset=utf-8"}


class PypiService:
    """Serves what a catalog offers."""

    def __init__(self, catalog: Catalog, log: VerifiedLog, store: BlobStore) -> None:
        """Serve ``catalog``; proofs come from ``log``, metadata from wheels in ``store``."""
        self._catalog = catalog
        self._log = log
        self._store = store
        self._pages: OrderedDict[tuple[str, str], tuple[int, bytes]] = OrderedDict()
        self._metadata: OrderedDict[str, bytes] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors are a line of text, as pip shows it."""
        if not may_read(scope):
            await answer_text(scope, send, 405, "use GET or HEAD", [("allow", "GET, HEAD")])
            return
        try:
            await self._route(scope, receive, send)
        except PyrsiaError as error:
            await answer_text(scope, send, status_of(error), text_of(error), headers_of(error))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        match _segments(scope["raw_path"].removeprefix(PREFIX)):
            case ["simple"] | ["simple", ""]:
                await self._index(scope, send)
            case ["simple", project] | ["simple", project, ""]:
                await self._project(scope, send, project)
            case ["simple", project, version] | ["simple", project, version, ""]:
                offered = await self._catalog.project(_known_name(project))
                raise NotFoundError(self._catalog.unknown_version(offered, version[:80]))
            case ["files", sha256, name] if _SHA256.fullmatch(sha256):
                await self._file(scope, receive, send, sha256=sha256, name=name)
            case _:
                raise NotFoundError("not found; the index is at /pypi/simple/")

    # ------------------------------------------------------------ pages

    async def _index(self, scope: Scope, send: Send) -> None:
        if not scope["raw_path"].endswith(b"/"):
            await answer_empty(scope, send, 301, [("location", "/pypi/simple/")])
            return
        media = _media(scope)
        if media is None:
            await _not_acceptable(scope, send)
            return
        names = self._catalog.projects()
        body = index_json(names) if media == JSON else index_html(names)
        await _send_page(scope, send, body, media, [])

    async def _project(self, scope: Scope, send: Send, project: str) -> None:
        name = _known_name(project)
        if project != name or not scope["raw_path"].endswith(b"/"):
            location = f"/pypi/simple/{quote(name)}/"
            await answer_empty(scope, send, 301, [("location", location)])
            return
        media = _media(scope)
        if media is None:
            await _not_acceptable(scope, send)
            return
        render = project_json if media == JSON else project_html
        offered = await self._catalog.project(name)
        form = JSON if media == JSON else HTML
        body = self._page(offered, form, lambda: render(offered))
        await _send_page(scope, send, body, media, [("x-pyrsia-verified", offered.vouched)])

    def _page(self, project: OfferedProject, form: str, render: Callable[[], bytes]) -> bytes:
        """Return a page, rendered once for each checkpoint where it depends on the log alone."""
        if not self._catalog.is_log_alone or not project.is_settled:
            return render()
        key = project.name, form
        known = self._pages.get(key)
        if known is not None and known[0] == project.log_size:
            return known[1]
        body = render()
        self._pages[key] = project.log_size, body
        self._pages.move_to_end(key)
        if len(self._pages) > _PAGES_MAX:
            self._pages.popitem(last=False)
        return body

    # ------------------------------------------------------------ files

    async def _file(
        self, scope: Scope, receive: Receive, send: Send, *, sha256: str, name: str
    ) -> None:
        if name.endswith(_METADATA):
            await self._send_metadata(scope, send, sha256, name.removesuffix(_METADATA))
            return
        if name.endswith(_PROOF):
            await self._send_proof(scope, send, sha256, name.removesuffix(_PROOF))
            return
        file = await self._catalog.file(sha256, name)
        reader = await self._catalog.open(file)
        try:
            await send_reader(
                scope,
                receive,
                send,
                reader,
                etag=f'"{sha256}"',
                media="application/octet-stream",
                headers=_headers_of(file),
            )
        finally:
            reader.close()

    async def _send_metadata(self, scope: Scope, send: Send, sha256: str, name: str) -> None:
        file = await self._catalog.file(sha256, name, even_closed=True)
        if file.is_refused and file.logged is not None:
            # What the log says of the package; the closed bytes are not touched for it.
            data = metadata_of(file.logged.proved.entry.document.metadata)
        else:
            data = await self._metadata_of(file)
        await _send_page(scope, send, data, "application/octet-stream", _headers_of(file))

    async def _metadata_of(self, file: OfferedFile) -> bytes:
        if not has_metadata(file):
            raise NotFoundError(f"no metadata file is offered for {file.name}")
        data = self._metadata.pop(file.sha256, None)
        if data is None:
            await self._catalog.ensure(file)
            with self._store.lease(file.sha256) as path:
                data = await asyncio.to_thread(read_metadata, path)
        # Put back at the end: what was not asked for longest goes first.
        self._metadata[file.sha256] = data
        while sum(map(len, self._metadata.values())) > _METADATA_BYTES_KEPT:
            self._metadata.popitem(last=False)
        return data

    async def _send_proof(self, scope: Scope, send: Send, sha256: str, name: str) -> None:
        file = await self._catalog.file(sha256, name)
        if file.logged is None:
            raise NotFoundError(f"{name} is not in the log: the upstream alone vouches for it")
        proof = self._log.proof(file.logged.proved.index)
        await _send_page(scope, send, proof, "text/plain; charset=utf-8", [])


def _headers_of(file: OfferedFile) -> list[tuple[str, str]]:
    """Return who vouches for a file, and what was said of it."""
    said = statement_fields(statements_on(file))
    return [IMMUTABLE, ("x-pyrsia-verified", file.vouched), *said]


async def _send_page(
    scope: Scope, send: Send, body: bytes, media: str, headers: list[tuple[str, str]]
) -> None:
    """Send a computed body with an ETag, or 304; to be asked for again unless headers say else."""
    fields = [("vary", "accept"), *headers]
    if not any(name == "cache-control" for name, _ in headers):
        fields.append(("cache-control", "no-cache"))
    await send_small(scope, send, body, media=_CHARSET.get(media, media), headers=fields)


async def _not_acceptable(scope: Scope, send: Send) -> None:
    await answer_text(scope, send, 406, f"acceptable types: {', '.join(OFFERED)}")


def _media(scope: Scope) -> str | None:
    return preferred(header(scope, b"accept"), OFFERED)


def _segments(raw_path: bytes) -> list[str]:
    """Return the decoded segments of a path.

    Raises:
        NotFoundError: One of them is no UTF-8 text, or hides a separator.
    """
    segments: list[str] = []
    for raw in raw_path.removeprefix(b"/").split(b"/"):
        try:
            text = unquote_to_bytes(raw).decode("utf-8", errors="strict")
        except UnicodeDecodeError:
            raise NotFoundError("the path is not UTF-8") from None
        if "/" in text or not text.isprintable():
            raise NotFoundError("the path hides a separator")
        segments.append(text)
    return segments


def _known_name(project: str) -> str:
    """Return a project's normal form; what no project can be called is not found."""
    try:
        return normalise_project(project)
    except InvalidInputError as error:
        raise NotFoundError(str(error)) from error
