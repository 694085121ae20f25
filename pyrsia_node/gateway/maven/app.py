"""The Maven repository, as a raw ASGI application under ``/maven2``: read-only.

Files, their checksums and signatures, proofs beside them, ``maven-metadata.xml``. Every answer says
who vouches for the bytes. Whatever is not there is 404 with a sentence that says what to do, and
costs a few look-ups; clients ask for much that is nowhere. Contract: docs/spec/maven-api.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from pyrsia_node.artifacts.maven.catalog import (
    BUILD_COMMAND,
    MavenCatalog,
    OfferedFile,
    OfferedListing,
)
from pyrsia_node.artifacts.maven.listings import Listing, render
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.gateway.errors import headers_of, status_of, text_of
from pyrsia_node.gateway.maven.requests import PREFIX, PROOF, SIGNATURE, Wanted, read_path
from pyrsia_node.gateway.maven.statement import MEDIA, statement_of
from pyrsia_node.gateway.small_answers import IMMUTABLE, send_small, statement_fields
from pyrsia_node.model.errors import NotFoundError, PyrsiaError
from pyrsia_node.model.maven import MavenFile, MavenListing
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer_text, may_read
from pyrsia_node.transfer.body import send_reader

LISTINGS_KEPT: Final = 512
LISTING_SECONDS: Final = 30.0
"""How long a listing's checksum is that of the listing last sent: clients ask for one after the
other, and what the log learned in between must not look like damage."""

_TEXT: Final = "text/plain; charset=utf-8"
_XML: Final = "text/xml; charset=utf-8"
_MEDIA: Final = {
    "asc": "application/pgp-signature",
    "jar": "application/java-archive",
    "module": "application/json",
    "pom": _XML,
    "war": "application/java-archive",
    "xml": _XML,
}
_WELCOME: Final = (
    "This is a Maven repository. Let `pyrsia configure maven` make it the mirror of your Maven, or "
    "give Gradle its address: maven { url }"
)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A listing as it was last sent, in seconds of the event loop's clock."""

    at: float
    listing: Listing
    body: bytes


class MavenService:
    """Serves what a catalog offers."""

    def __init__(self, catalog: MavenCatalog, log: VerifiedLog) -> None:
        """Serve ``catalog``; proofs come from ``log``."""
        self._catalog = catalog
        self._log = log
        self._listings: OrderedDict[str, _Sent] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors are a line of text."""
        if not may_read(scope):
            text = (
                "nothing is deployed here: the network rebuilds from source. Request it with: "
                f"{BUILD_COMMAND} GROUP:ARTIFACT:VERSION"
            )
            await answer_text(scope, send, 405, text, [("allow", "GET, HEAD")])
            return
        if scope["raw_path"].removeprefix(PREFIX) in (b"", b"/"):
            await answer_text(scope, send, 200, _WELCOME)
            return
        try:
            await self._answer(scope, receive, send, read_path(scope["raw_path"]))
        except PyrsiaError as error:
            await answer_text(scope, send, status_of(error), text_of(error), headers_of(error))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, wanted: Wanted) -> None:
        match wanted.what:
            case MavenListing() as listing if wanted.checksum:
                await self._send_listing_checksum(scope, send, listing, wanted.checksum)
            case MavenListing() as listing:
                await self._send_listing(scope, send, listing)
            case MavenFile() as file:
                offered = await self._catalog.file(file)
                if wanted.sidecar == SIGNATURE:
                    offered = await self._catalog.signature(offered)
                elif wanted.sidecar:
                    await self._send_evidence(scope, send, offered, wanted.sidecar)
                    return
                if wanted.checksum:
                    digest = await self._catalog.digest(offered, wanted.checksum)
                    await send_small(
                        scope,
                        send,
                        digest.encode(),
                        media=_TEXT,
                        headers=_headers_of(offered),
                        modified_s=offered.modified_s,
                    )
                else:
                    await self._send_file(scope, receive, send, offered)

    # ------------------------------------------------------------ files

    async def _send_file(
        self, scope: Scope, receive: Receive, send: Send, offered: OfferedFile
    ) -> None:
        is_head = scope["method"] == "HEAD"
        reader: Reader = _Unread(offered.size) if is_head else await self._catalog.open(offered)
        try:
            await send_reader(
                scope,
                receive,
                send,
                reader,
                etag=f'"{offered.sha256}"',
                media=_MEDIA.get(offered.file.name.rpartition(".")[2], "application/octet-stream"),
                headers=_headers_of(offered),
                modified_s=offered.modified_s,
            )
        finally:
            reader.close()

    async def _send_evidence(
        self, scope: Scope, send: Send, offered: OfferedFile, sidecar: str
    ) -> None:
        """Send what offline verification needs, or the entry for tools that read in-toto."""
        logged = offered.logged
        if logged is None:
            raise NotFoundError(
                f"{offered.file.name} is not in the log: the upstream alone vouches for it"
            )
        if sidecar == PROOF:
            body, media = self._log.proof(logged.proved.index), _TEXT
        else:
            body, media = statement_of(logged, network_id=self._log.network_id), MEDIA
        await send_small(scope, send, body, media=media, headers=[("cache-control", "no-cache")])

    # ------------------------------------------------------------ listings

    async def _send_listing(self, scope: Scope, send: Send, wanted: MavenListing) -> None:
        offered, body = await self._render(wanted)
        headers = [
            ("cache-control", "no-cache"),
            ("x-pyrsia-verified", "log" if offered.is_log_alone else "upstream"),
        ]
        if offered.is_stale:
            headers.append(("x-pyrsia-stale", "an upstream could not be asked just now"))
        await send_small(
            scope, send, body, media=_XML, headers=headers, modified_s=offered.modified_s
        )

    async def _send_listing_checksum(
        self, scope: Scope, send: Send, wanted: MavenListing, kind: str
    ) -> None:
        sent = self._listings.get(wanted.path)
        if sent is None or asyncio.get_running_loop().time() - sent.at >= LISTING_SECONDS:
            _, body = await self._render(wanted)
        else:
            body = sent.body
        # What Maven asks for: not against people who want to deceive, only against damage.
        digest = hashlib.new(kind, body, usedforsecurity=False).hexdigest()
        headers = [("cache-control", "no-cache")]
        await send_small(scope, send, digest.encode(), media=_TEXT, headers=headers)

    async def _render(self, wanted: MavenListing) -> tuple[OfferedListing, bytes]:
        """Return a listing as it is now; written anew only if it says something else."""
        offered = await self._catalog.listing(wanted)
        sent, path = self._listings.get(wanted.path), wanted.path
        if sent is None or sent.listing != offered.listing:
            # In a thread: to put thousands of versions into order takes a while.
            body = await asyncio.to_thread(
                render, offered.listing, group=wanted.group, project=wanted.project
            )
        else:
            body = sent.body
        now = asyncio.get_running_loop().time()
        self._listings[path] = _Sent(now, offered.listing, body)
        self._listings.move_to_end(path)
        if len(self._listings) > LISTINGS_KEPT:
            self._listings.popitem(last=False)
        return offered, body


class _Unread:
    """Stands for a file of which only the size is told: no byte is fetched for a HEAD."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def read(self, _position: int, _length: int) -> bytes:
        raise AssertionError("a HEAD reads nothing")

    async def ready(self, _position: int, _length: int) -> tuple[int, int]:
        raise AssertionError("a HEAD reads nothing")

    def close(self) -> None:
        """Hold nothing."""


def _headers_of(offered: OfferedFile) -> list[tuple[str, str]]:
    """Return who vouches for a file, and what was said of it, one field for each statement."""
    fields = [IMMUTABLE, ("x-pyrsia-verified", _vouched(offered))]
    # Newer clients of Maven take these for the checksum files and ask no more.
    fields.append(("x-checksum-sha256", offered.sha256))
    if offered.kept is not None:
        fields.append(("x-checksum-sha1", offered.kept.digests.sha1))
    advice = offered.logged.advice if offered.logged is not None else ()
    said = advice if offered.closed is None else (offered.closed, *advice)
    return fields + statement_fields(said)


def _vouched(offered: OfferedFile) -> str:
    """Return who vouches for the bytes: the log, by which claim, or which upstream, by what."""
    if offered.logged is not None:
        claim = offered.logged.file.claim
        return "log" if claim == "rebuilt" else f"log; claim={claim}"
    assert offered.kept is not None
    checked = offered.kept.checked or "nothing"
    return f"upstream; from={offered.kept.upstream}; checked={checked}"
