"""Registries of container images as a source of inputs and of images to compare with.

Only registries that the operator named are asked. Everything is asked by digest and hashed on the
way into the cache, except a tag's look-up in a trial. Failures of the network are
``SOURCE_UNAVAILABLE``. A name may lead into the operator's own network only where that registry
was given as private: addresses are judged at every hop, of redirects and token servers, too.
OCI distribution specification 1.1, "Pull"; its token authentication for public images.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.image import DOCUMENT_BYTES_MAX, parse_json_object
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.recipes.dockerfile import Pin
from buildpipelines.spec.lock import FILE_BYTES_MAX

ACCEPT: Final = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json,"
    " application/vnd.docker.distribution.manifest.list.v2+json,"
    " application/vnd.docker.distribution.manifest.v2+json"
)
DOCUMENT_SECONDS: Final = 60.0
BLOB_SECONDS: Final = 1800.0
REDIRECTS_MAX: Final = 5
ATTEMPTS: Final = 3
RETRY_SECONDS: Final = 0.5
CHUNK_BYTES: Final = 256 * 1024
TOKEN_BYTES_MAX: Final = 64 * 1024

_T = TypeVar("_T")
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


class Registries:
    """The registries of one worker. Use as an async context manager; safe for many jobs."""

    def __init__(self, registries: Sequence[Registry], cache: InputsCache) -> None:
        """Ask these and no others; files go to ``cache``."""
        self._known = {registry.host: registry for registry in registries}
        self._cache = cache
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._tokens: dict[tuple[str, str], str] = {}

    async def __aenter__(self) -> Self:
        """Open connections lazily; nothing is fetched yet."""
        for is_private in (False, True):
            resolver: AbstractResolver = ThreadedResolver()
            if not is_private:
                resolver = _PublicResolver(resolver)
            self._sessions[is_private] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, limit=16),
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
        for session in self._sessions.values():
            await session.close()

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
                    raise _unavailable(f"{host}{path}", "the manifest is too large")
            return Pin(host, repository, hashlib.sha256(body).hexdigest())

        return await _retry(read, f"{host}{path}")

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

        return await _retry(lambda: self._cache.get(sha256, size_max, stream), f"{pin.host}{path}")

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
            if answer.status >= 500 or answer.status == 429:
                raise _BusyError(f"status {answer.status}")
            if answer.status != 200:
                raise _unavailable(f"{host}{path}", f"status {answer.status}")
            async for data in answer.content.iter_chunked(CHUNK_BYTES):
                yield data

    @asynccontextmanager
    async def _get(
        self, registry: Registry, repository: str, url: str, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, with a token where one is wanted; redirects are followed by hand, without it."""
        key = (registry.host, repository)
        for is_last in (False, True):
            headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
            if key in self._tokens:
                headers["Authorization"] = f"Bearer {self._tokens[key]}"
            async with self._follow(registry, url, seconds, headers) as answer:
                challenge = answer.headers.get("WWW-Authenticate", "")
                if answer.status != 401 or is_last or not challenge.startswith("Bearer "):
                    yield answer
                    return
            self._tokens[key] = await self._token(registry, repository, challenge)

    @asynccontextmanager
    async def _follow(
        self, registry: Registry, url: str, seconds: float, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        session = self._sessions[registry.is_private]
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=30, sock_read=60)
        origin = urlsplit(url).netloc
        for _ in range(REDIRECTS_MAX):
            _check_address(url, registry)
            sent = dict(headers)
            if urlsplit(url).netloc != origin:
                sent.pop("Authorization", None)
            answer = await session.get(url, timeout=timeout, headers=sent, allow_redirects=False)
            async with answer:
                location = answer.headers.get("Location")
                if answer.status not in (301, 302, 303, 307, 308) or not location:
                    yield answer
                    return
                url = urljoin(url, location)
        raise _unavailable(url, f"more than {REDIRECTS_MAX} redirects")

    async def _token(self, registry: Registry, repository: str, challenge: str) -> str:
        """Ask the realm that the registry named for a token to pull, as nobody in particular."""
        found = dict(_CHALLENGE.findall(challenge))
        realm = found.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise _unavailable(registry.host, f"asks for a token of {realm!r:.100}")
        query = {"service": found.get("service", ""), "scope": f"repository:{repository}:pull"}
        url = f"{realm}?{'&'.join(f'{key}={_quoted(value)}' for key, value in query.items())}"
        async with self._follow(registry, url, DOCUMENT_SECONDS, {}) as answer:
            body = await answer.content.read(TOKEN_BYTES_MAX) if answer.status == 200 else b"{}"
        try:
            document: Mapping[str, Any] = parse_json_object(body, "token")
        except ArchiveError as error:
            raise _unavailable(registry.host, str(error)) from error
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise _unavailable(registry.host, "gives no token to pull without an account")
        return token


async def _retry(call: Callable[[], Awaitable[_T]], where: str) -> _T:
    """Call again after passing faults: the upstream is far away and busy."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await call()
        except (aiohttp.ClientError, TimeoutError, _BusyError) as error:
            if attempt == ATTEMPTS:
                raise _unavailable(where, repr(error)) from error
        await asyncio.sleep(RETRY_SECONDS * attempt)
    raise AssertionError("unreachable")


class _BusyError(Exception):
    """The registry answered that it cannot answer now."""


class _PublicResolver(AbstractResolver):
    """Resolves names, and knows none whose address is not public."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(each["host"]) for each in found):
            raise OSError(None, f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        await self._inner.close()


def is_public(address: str) -> bool:
    """Tell whether a numeric address is one of the Internet's; what is no address is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_global and not (mapped or found).is_multicast


def _check_address(url: str, registry: Registry) -> None:
    """Refuse other schemes, and numbers of private networks; names are judged when resolved."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unavailable(registry.host, f"leads to {url!r:.100}")
    if registry.is_private:
        return
    is_number = bool(re.fullmatch(r"[0-9a-fx.:%]+", parts.hostname)) and (
        ":" in parts.hostname or parts.hostname[0].isdigit()
    )
    if is_number and not is_public(parts.hostname):
        raise _unavailable(registry.host, f"leads to {parts.hostname}, which is not public")


def _quoted(value: str) -> str:
    return "".join(c if c.isalnum() or c in "-._~:/" else f"%{ord(c):02X}" for c in value)


def _unavailable(where: str, text: str) -> BuildFailure:
    return BuildFailure("SOURCE_UNAVAILABLE", "upstream", f"{where.partition('?')[0]}: {text}")
