"""Reads one upstream registry: tags, manifests, blobs (distribution specification 1.1, pull).

Whoever calls gets bytes that are bounded, and manifests that hash to their digest; blobs are
checked by who stores them. Errors say what follows: NotFoundError (absent, or denied to us) counts,
UnavailableError may pass, VerificationError means that the registry contradicts itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp

from pyrsia_node.artifacts.images.tokens import Authorizer, DeniedError
from pyrsia_node.artifacts.safe_http import SafeHttp
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.manifests import INDEXES, MANIFEST_BYTES_MAX, MANIFESTS
from pyrsia_node.model.oci import ImageName, OciDigest, check_tag, is_digest

ACCEPT: Final = ", ".join((*INDEXES, *MANIFESTS))
TAGS_MAX: Final = 20_000
TAGS_PAGES_MAX: Final = 40
TAGS_SECONDS_MAX: Final = 30.0
TAGS_PAGE_BYTES_MAX: Final = 2 * 1024 * 1024
PAUSE_SECONDS: Final = 0.25
"""Half of the first pause between two tries; each is twice as long as the one before."""

_RETRIED: Final = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a failing request is tried, and the longest pause between in seconds."""

    attempts: int
    pause_s_max: float


CLIENT_WAITS: Final = Patience(attempts=2, pause_s_max=2.0)
"""Somebody's pull waits for the answer."""

JOB_WAITS: Final = Patience(attempts=7, pause_s_max=60.0)
"""An import may take its time."""


@dataclass(frozen=True, slots=True)
class RemoteTag:
    """What a tag is at the upstream. ``size`` of the manifest in bytes, 0 if it was not told."""

    digest: OciDigest
    media: str
    size: int


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest's bytes, which hash to ``digest``."""

    data: bytes
    media: str
    digest: OciDigest


@dataclass(frozen=True, slots=True)
class BlobStream:
    """Bytes of a blob from ``start`` on. ``size`` is that of the whole blob, None if not told."""

    start: int
    size: int | None
    content: aiohttp.StreamReader


class _PassingError(UnavailableError):
    """The upstream asks to come back later; ``pause_s`` is what it said, if it did."""

    def __init__(self, text: str, pause_s: float | None = None) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class _NoHeadError(PyrsiaError):
    """The registry answers GET alone."""


class RegistryClient:
    """One registry at one address."""

    def __init__(self, base_url: str, http: SafeHttp, rights: Authorizer) -> None:
        """Ask ``base_url``, below which ``/v2/`` answers."""
        self._base = base_url.rstrip("/")
        self._http = http
        self._rights = rights

    async def look(self, name: ImageName, tag: str, *, patience: Patience) -> RemoteTag:
        """Return what a tag is now, without its bytes where the registry can tell so.

        Raises:
            NotFoundError: There is no such tag or repository.
            UnavailableError: The registry cannot be asked now.
            VerificationError: It names another digest than its bytes have.
        """
        path = f"manifests/{check_tag(tag)}"
        with contextlib.suppress(_NoHeadError):
            async with self._ask("HEAD", name, path, accept=ACCEPT, patience=patience) as answer:
                found = _told_tag(answer)
            if found is not None:
                return found
        manifest = await self.manifest(name, tag, patience=patience)
        return RemoteTag(manifest.digest, manifest.media, len(manifest.data))

    async def manifest(
        self, name: ImageName, reference: str, *, patience: Patience
    ) -> RemoteManifest:
        """Return a manifest by tag or digest; raises as :meth:`look`."""
        path = f"manifests/{reference}"
        async with self._ask("GET", name, path, accept=ACCEPT, patience=patience) as response:
            data = await _whole(response, MANIFEST_BYTES_MAX)
            told = response.headers.get("docker-content-digest")
            media = response.content_type
        return RemoteManifest(data, media, _checked_digest(data, reference, told))

    async def blob_size(self, name: ImageName, digest: OciDigest, *, patience: Patience) -> int:
        """Return a blob's size in bytes; raises as :meth:`look`."""
        async with self._ask("HEAD", name, f"blobs/{digest}", patience=patience) as response:
            size = _length(response)
        if size is None:
            raise UnavailableError(f"{name.host} does not tell the size of {digest}")
        return size

    @asynccontextmanager
    async def blob(
        self, name: ImageName, digest: OciDigest, *, start: int = 0, patience: Patience
    ) -> AsyncIterator[BlobStream]:
        """Yield a blob from ``start`` on, or from its beginning if the registry has no ranges."""
        ranges = {"range": f"bytes={start}-"} if start else {}
        path = f"blobs/{digest}"
        async with self._ask("GET", name, path, extra=ranges, patience=patience) as response:
            if response.status == 206:
                yield _ranged(response, start)
            else:
                yield BlobStream(0, _length(response), response.content)

    async def has(self, name: ImageName, *, patience: Patience) -> bool:
        """Tell whether there is such a repository, as far as it shows itself to us.

        Raises:
            UnavailableError: The registry cannot be asked now.
        """
        try:
            async with self._ask("GET", name, "tags/list?n=1", patience=patience) as response:
                return bool(_tags_of(await _whole(response, TAGS_PAGE_BYTES_MAX)))
        except NotFoundError:
            return False

    async def tags(self, name: ImageName, *, patience: Patience) -> list[str]:
        """Return the repository's tags, at most ``TAGS_MAX``; odd ones are left out."""
        found: dict[str, None] = {}
        path = "tags/list?n=1000"
        try:
            async with asyncio.timeout(TAGS_SECONDS_MAX):
                for _ in range(TAGS_PAGES_MAX):
                    async with self._ask("GET", name, path, patience=patience) as response:
                        page = _tags_of(await _whole(response, TAGS_PAGE_BYTES_MAX))
                        is_last = "link" not in response.headers
                    before = len(found)
                    found.update(dict.fromkeys(page))
                    if is_last or not before < len(found) < TAGS_MAX:
                        break
                    path = f"tags/list?n=1000&last={page[-1]}"
        except TimeoutError as error:
            raise UnavailableError(f"{name.host} does not list its tags in time") from error
        return list(found)[:TAGS_MAX]

    async def close(self) -> None:
        """Close every connection."""
        await self._rights.close()
        await self._http.close()

    # ------------------------------------------------------------ inside

    @asynccontextmanager
    async def _ask(
        self,
        method: Literal["GET", "HEAD"],
        name: ImageName,
        path: str,
        *,
        patience: Patience,
        accept: str = "*/*",
        extra: dict[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a good answer (200 or 206), after as many tries as patience allows."""
        url = f"{self._base}/v2/{name.repository}/{path}"
        # What comes is hashed and stored as it is: no compression on top of it.
        headers = {"accept": accept, "accept-encoding": "identity", **(extra or {})}
        for attempt in range(1, patience.attempts + 1):
            pause = min(PAUSE_SECONDS * 2.0**attempt, patience.pause_s_max)
            is_answered = False
            try:
                async with self._once(method, name, url, headers) as response:
                    is_answered = True
                    yield response
                    return
            except UnavailableError as error:
                # What fails while the answer is read is the caller's to go on with.
                if is_answered or attempt == patience.attempts:
                    raise
                told = error.pause_s if isinstance(error, _PassingError) else None
                if told is not None and told > patience.pause_s_max:
                    raise
                pause = max(pause, told or 0.0)
            # Not all at once: whoever asked together must not ask again together.
            await asyncio.sleep(pause * (0.75 + secrets.randbelow(1000) / 4000))

    @asynccontextmanager
    async def _once(
        self, method: Literal["GET", "HEAD"], name: ImageName, url: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = await self._rights.header(name)
        async with self._http.send(method, url, headers=headers, authorization=sent) as first:
            if first.status != 401:
                _check_status(first, name)
                yield first
                return
            fields = first.headers.getall("www-authenticate", [])
        renewed = await self._rights.challenged(name, fields, sent)
        async with self._http.send(method, url, headers=headers, authorization=renewed) as second:
            _check_status(second, name)
            yield second


def _check_status(response: aiohttp.ClientResponse, name: ImageName) -> None:
    status = response.status
    if status in {200, 206}:
        return
    if status in {404, 410}:
        raise NotFoundError(f"{name.host} has no such thing: {response.url.path}")
    if status in {401, 403}:
        raise DeniedError(f"{name.host} denies {response.url.path}: absent, or not for us")
    if status in {405, 501} and response.method == "HEAD":
        raise _NoHeadError
    text = f"{name.host} answered {status} to {response.url.path}"
    if status in _RETRIED:
        raise _PassingError(text, _pause(response.headers.get("retry-after")))
    raise UnavailableError(text)


def _pause(told: str | None) -> float | None:
    """Return the seconds of a Retry-After field; dates are too rare to be worth a clock."""
    if told is None or not told.isascii() or not told.isdigit() or len(told) > 6:
        return None
    return float(told)


def _length(response: aiohttp.ClientResponse) -> int | None:
    told = response.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= 16 else None


def _told_tag(response: aiohttp.ClientResponse) -> RemoteTag | None:
    told = response.headers.get("docker-content-digest")
    if told is None:
        return None
    try:
        digest = OciDigest.parse(told)
    except InvalidInputError:
        return None
    return RemoteTag(digest, response.content_type, _length(response) or 0)


def _ranged(response: aiohttp.ClientResponse, start: int) -> BlobStream:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    span, _, size = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or first != str(start) or not (size == "*" or size.isdecimal()):
        raise UnavailableError(f"{response.url.host} answered with another range than was asked")
    return BlobStream(start, None if size == "*" else int(size[:16]), response.content)


async def _whole(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > bytes_max:
                raise VerificationError(f"{response.url.path} is longer than {bytes_max} bytes")
    except aiohttp.ClientError as error:
        raise UnavailableError(f"{response.url.path} was cut off: {error}") from error
    return bytes(body)


def _checked_digest(data: bytes, reference: str, told: str | None) -> OciDigest:
    """Return the digest of a manifest's bytes, by the algorithm that it is known under."""
    if is_digest(reference):
        expected: OciDigest | None = OciDigest.parse(reference)
    else:
        try:
            expected = None if told is None else OciDigest.parse(told)
        except InvalidInputError:
            expected = None
    algorithm = "sha256" if expected is None else expected.algorithm
    found = OciDigest(algorithm, hashlib.new(algorithm, data).hexdigest())
    if expected is not None and found != expected:
        raise VerificationError(f"the upstream sent manifest {found} as {expected}")
    return found


def _tags_of(data: bytes) -> list[str]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnavailableError(f"the upstream's list of tags is not JSON: {error}") from None
    listed = value.get("tags") if isinstance(value, dict) else None
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise UnavailableError("the upstream's list of tags is no list")
    return [each for each in listed if isinstance(each, str) and _is_tag(each)]


def _is_tag(text: str) -> bool:
    try:
        check_tag(text)
    except PyrsiaError:
        return False
    return True
