"""Registries of container images as a source of inputs and of images to compare with.

Only registries that the operator named are asked. Everything is asked by digest and hashed on the
way into the cache, except a tag's look-up in a trial. Failures of the network are
``SOURCE_UNAVAILABLE``. A name may lead into the operator's own network only where that registry
was given as private: addresses are judged at every hop, of redirects and token servers, too.
OCI distribution specification 1.1, "Pull"; its token authentication for public images.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.image import DOCUMENT_BYTES_MAX, parse_json_object
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.outward import CHUNK_BYTES, Asking, check_busy, retry, unavailable
from buildpipelines.recipes.dockerfile import Pin
from buildpipelines.spec.lock import FILE_BYTES_MAX

ACCEPT: Final = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json,"
    " application/vnd.docker.distribution.manifest.list.v2+json,"
    " application/vnd.docker.distribution.manifest.v2+json"
)
DOCUMENT_SECONDS: Final = 60.0
BLOB_SECONDS: Final = 1800.0
TOKEN_BYTES_MAX: Final = 64 * 1024

_CHALLENGE: Final = re.compile(r'(realm|service|scope)="([^"]{0,1000})"')
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry: ``host`` as images name it, ``url`` where its ``/v2/`` answers."""

    host: str
    url: str
    is_private: bool = False


def parse_registry(text: str, *, is_private: bool = False) -> Registry:
    """Read ``HOST=URL`` as the command line gives it.

    Raises:
        FormatError: no ``=``, or an address that is not http or https.
    """
    host, equals, url = text.partition("=")
    parts = urlsplit(url)
    if not (equals and host and parts.hostname and parts.scheme in ("http", "https")):
        raise FormatError(f"registry {text!r:.200} is not HOST=http(s)://…")
    return Registry(host, url.rstrip("/"), is_private)


class Registries(Asking):
    """The registries of one worker. Use as an async context manager; safe for many jobs."""

    def __init__(self, registries: Sequence[Registry], cache: InputsCache) -> None:
        """Ask these and no others; files go to ``cache``."""
        self._known = {registry.host: registry for registry in registries}
        self._cache = cache
        super().__init__()
        self._tokens: dict[tuple[str, str], str] = {}

    async def look(self, host: str, repository: str, tag: str) -> Pin:
        """Return what a tag is at its registry just now.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE: no such image, or the registry does not answer.
        """
        if not _TAG.match(tag):
            raise BuildFailure("REFUSED", "request", f"{tag!r:.140} is no tag")
        path = f"/v2/{repository}/manifests/{tag}"

        async def read() -> Pin:
            body = bytearray()
            async for data in self._stream(host, repository, path, DOCUMENT_SECONDS):
                body += data
                if len(body) > DOCUMENT_BYTES_MAX:
                    raise unavailable(f"{host}{path}", "the manifest is too large")
            return Pin(host, repository, hashlib.sha256(body).hexdigest())

        return await retry(read, f"{host}{path}")

    async def manifest(self, pin: Pin) -> Path:
        """Return a manifest's bytes as a file; raises BuildFailure."""
        path = f"/v2/{pin.repository}/manifests/sha256:{pin.sha256}"
        return await self._fetch(pin, pin.sha256, path, DOCUMENT_BYTES_MAX, DOCUMENT_SECONDS)

    async def blob(self, pin: Pin, sha256: str, size: int) -> Path:
        """Return a blob of the repository of ``pin`` as a file; raises BuildFailure."""
        if size > FILE_BYTES_MAX:
            detail = f"{size} bytes; {FILE_BYTES_MAX} at most"
            raise BuildFailure("SOURCE_UNAVAILABLE", "input too large", detail)
        path = f"/v2/{pin.repository}/blobs/sha256:{sha256}"
        return await self._fetch(pin, sha256, path, size, BLOB_SECONDS)

    async def _fetch(self, pin: Pin, sha256: str, path: str, size_max: int, seconds: float) -> Path:
        def stream() -> AsyncIterator[bytes]:
            return self._stream(pin.host, pin.repository, path, seconds)

        return await retry(lambda: self._cache.get(sha256, size_max, stream), f"{pin.host}{path}")

    async def _stream(
        self, host: str, repository: str, path: str, seconds: float
    ) -> AsyncIterator[bytes]:
        registry = self._known.get(host)
        if registry is None:
            known = ", ".join(sorted(self._known)) or "none"
            detail = f"{host!r:.100} is not among the upstream registries of this node: {known}"
            raise BuildFailure("SOURCE_UNAVAILABLE", "unknown registry", detail)
        async with self._get(registry, repository, f"{registry.url}{path}", seconds) as answer:
            if answer.status in (404, 410, 401, 403):
                raise BuildFailure(
                    "SOURCE_UNAVAILABLE", "no such image", f"{host}{path}: status {answer.status}"
                )
            check_busy(answer.status)
            if answer.status != 200:
                raise unavailable(f"{host}{path}", f"status {answer.status}")
            async for data in answer.content.iter_chunked(CHUNK_BYTES):
                yield data

    @asynccontextmanager
    async def _get(
        self, registry: Registry, repository: str, url: str, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, with a token where one is wanted; redirects are followed by hand, without it."""
        key = (registry.host, repository)
        for is_last in (False, True):
            headers = {"Accept": ACCEPT}
            if key in self._tokens:
                headers["Authorization"] = f"Bearer {self._tokens[key]}"
            async with self._follow(registry, url, seconds, headers) as answer:
                challenge = answer.headers.get("WWW-Authenticate", "")
                if answer.status != 401 or is_last or not challenge.startswith("Bearer "):
                    yield answer
                    return
            self._tokens[key] = await self._token(registry, repository, challenge)

    def _follow(
        self, registry: Registry, url: str, seconds: float, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._outward.get(
            url, is_private=registry.is_private, seconds=seconds, headers=headers
        )

    async def _token(self, registry: Registry, repository: str, challenge: str) -> str:
        """Ask the realm that the registry named for a token to pull, as nobody in particular."""
        found = dict(_CHALLENGE.findall(challenge))
        realm = found.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise unavailable(registry.host, f"asks for a token of {realm!r:.100}")
        query = {"service": found.get("service", ""), "scope": f"repository:{repository}:pull"}
        url = f"{realm}?{'&'.join(f'{key}={_quoted(value)}' for key, value in query.items())}"
        async with self._follow(registry, url, DOCUMENT_SECONDS, {}) as answer:
            body = await answer.content.read(TOKEN_BYTES_MAX) if answer.status == 200 else b"{}"
        try:
            document: Mapping[str, Any] = parse_json_object(body, "token")
        except ArchiveError as error:
            raise unavailable(registry.host, str(error)) from error
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise unavailable(registry.host, "gives no token to pull without an account")
        return token


def _quoted(value: str) -> str:
    return "".join(c if c.isalnum() or c in "-._~:/" else f"%{ord(c):02X}" for c in value)
