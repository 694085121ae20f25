"""One upstream repository over HTTP: takes files in, checked, and asks for listings.

A file's checksum is asked for while the file comes; nothing is kept before the two fit. The first
of SHA-256, SHA-1 and MD5 that the repository publishes counts. Requests go through
``SafeHttp``: bounded in size and time, and to public addresses unless the operator says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from aiohttp import StreamReader

from pyrsia_node.artifacts.images.keeping import Keep
from pyrsia_node.artifacts.incoming import temporary_file
from pyrsia_node.artifacts.maven.checksums import (
    CHECKSUM_BYTES_MAX,
    PREFERRED,
    Hashes,
    read_checksum,
)
from pyrsia_node.artifacts.maven.listings import LISTING_BYTES_MAX
from pyrsia_node.artifacts.safe_http import SafeHttp
from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.ports.maven import Digests, KeptListing
from pyrsia_node.schema.maven_repositories import MavenUpstream

FILE_BYTES_MAX: Final = 4 * 1024**3
_CHUNK_BYTES: Final = 256 * 1024
_SMALL_BYTES: Final = 32 * 1024
_SECONDS_MAX: Final = 253_402_300_799
"""The end of the year 9999: no header field can spell a later time."""

_VALIDATOR_LENGTH_MAX: Final = 256
_IDENTITY: Final = {"accept-encoding": "identity"}
"""What is unpacked on the way would not be what the checksum is about."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that is in the store now. ``checked`` is the kind of checksum it was held against."""

    digests: Digests
    checked: str
    modified_s: int


class RemoteRepository:
    """Asks one repository."""

    def __init__(self, entry: MavenUpstream, folder: Path) -> None:
        """Make a client; use it inside a running event loop.

        Args:
            entry: What the operator says of it.
            folder: Takes files while they come.
        """
        self.id = entry.id
        self.is_public = entry.is_public
        self._entry = entry
        self._folder = folder
        self._http = SafeHttp(
            entry.url,
            allow_private=entry.allow_private,
            setting=f"allow_private of {entry.id} in maven.upstreams",
        )

    async def take(self, path: str, keep: Keep, *, is_checked: bool) -> Taken:
        """Take a file into the store.

        Args:
            path: Where it lies in the repository.
            keep: Puts it into the store.
            is_checked: Whether a checksum must fit; not for what is a signature itself.

        Raises:
            NotFoundError: The repository says that there is none.
            UnavailableError: It cannot be asked now, or the disk is full.
            VerificationError: No checksum fits, or none is published and that is not allowed.
        """
        async with contextlib.AsyncExitStack() as stack:
            temporary = stack.enter_context(temporary_file(self._folder))
            response = await stack.enter_async_context(
                self._http.stream(self._url(path), headers=_IDENTITY)
            )
            if response.status != 200:
                raise UnavailableError(f"{path} of {self.id} answered {response.status}")
            published = asyncio.ensure_future(self._published(path) if is_checked else _nothing())
            stack.push_async_callback(_end, published)
            hashes = await _receive(path, response.content, temporary)
            kind = self._check(path, hashes, await published, is_checked=is_checked)
            modified_s = _seconds(response.headers.get("last-modified", ""))
            digests, pieces = hashes.finish()
            # Moved and not copied: nobody else ever had this file open.
            await asyncio.to_thread(keep, temporary.name, digests.sha256, pieces)
            return Taken(digests, kind, modified_s)

    async def ask_listing(self, path: str, known: KeptListing | None) -> KeptListing | None:
        """Return the repository's listing now, with ``asked_ms`` 0; None if ``known`` still holds.

        An absent one has an empty body.

        Raises:
            UnavailableError: It cannot be asked now, or sends too much.
        """
        headers = dict(_IDENTITY)
        if known is not None and known.body:
            headers |= {"if-none-match": known.etag} if known.etag else {}
            headers |= {"if-modified-since": known.modified} if known.modified else {}
        try:
            async with self._http.stream(self._url(path), headers=headers) as response:
                if response.status == 304:
                    if known is None or not known.body:
                        raise UnavailableError(f"{self.id} says 304 to what was not asked")
                    return None
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > LISTING_BYTES_MAX:
                        raise UnavailableError(f"{path} of {self.id} is too long")
                etag = _validator(response.headers.get("etag", ""))
                modified = _validator(response.headers.get("last-modified", ""))
        except NotFoundError:
            return KeptListing(path, self.id, b"", "", "", 0)
        return KeptListing(path, self.id, bytes(body), etag, modified, 0)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    # ------------------------------------------------------------ inside

    def _url(self, path: str) -> str:
        return f"{self._entry.url}/{quote(path, safe='/+~')}"

    async def _published(self, path: str) -> tuple[str, str] | None:
        """Return kind and digest of the first checksum that is published; None if none is."""
        for kind in PREFERRED:
            with contextlib.suppress(NotFoundError):
                answer = await self._http.get(
                    self._url(f"{path}.{kind}"), accept="*/*", bytes_max=CHECKSUM_BYTES_MAX
                )
                digest = read_checksum(answer.body, kind)
                if digest is not None:
                    return kind, digest
        return None

    def _check(
        self, path: str, hashes: Hashes, published: tuple[str, str] | None, *, is_checked: bool
    ) -> str:
        """Return the kind of the checksum that fits, "" if none is needed."""
        if published is not None:
            kind, digest = published
            if hashes.digest(kind) != digest:
                raise VerificationError(
                    f"{path} from {self.id} has {kind} {hashes.digest(kind)}, its checksum file "
                    f"says {digest}: nothing was kept"
                )
            return kind
        if is_checked and not self._entry.unchecked:
            raise VerificationError(
                f"{self.id} publishes no checksum of {path}, so it is not served; the operator may "
                "allow that: unchecked = true in its entry of maven.upstreams"
            )
        return ""


async def _receive(path: str, content: StreamReader, target: BinaryIO) -> Hashes:
    """Write the file's bytes; return their digests."""
    hashes = Hashes()

    def keep(chunk: bytes) -> None:
        hashes.update(chunk)
        target.write(chunk)

    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        if hashes.size + len(chunk) > FILE_BYTES_MAX:
            raise VerificationError(f"{path} is longer than {FILE_BYTES_MAX} bytes")
        # A thread costs more than the hashes of a small file, and most are small.
        if len(chunk) <= _SMALL_BYTES:
            keep(chunk)
        else:
            await asyncio.to_thread(keep, chunk)
    target.flush()
    return hashes


async def _nothing() -> tuple[str, str] | None:
    return None


async def _end(task: asyncio.Future[tuple[str, str] | None]) -> None:
    """Leave no request behind; what it found, or what went wrong, was told if it matters."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def _seconds(date: str) -> int:
    """Return a header's time in Unix seconds; 0 if it is none, or one of no year from 1970 on."""
    try:
        seconds = int(email.utils.parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    return seconds if 0 <= seconds <= _SECONDS_MAX else 0


def _validator(value: str) -> str:
    """Return what is sent back to ask whether something changed; "" if it is not fit for that."""
    is_plain = value.isascii() and value.isprintable() and len(value) <= _VALIDATOR_LENGTH_MAX
    return value if is_plain else ""
