"""GET over the network for inputs of builds: redirects by hand, every address judged.

What a build may read is asked for by the worker, with addresses that others wrote: mappings of the
log, answers of servers. So a name may lead into the operator's own network only where the operator
said so, at every hop; numbers are judged by their text, names by what they resolve to, at the
moment of connecting. No credentials, no cookies, no proxies of the environment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from buildpipelines.errors import BuildFailure

REDIRECTS_MAX: Final = 5
ATTEMPTS: Final = 3
RETRY_SECONDS: Final = 0.5
CHUNK_BYTES: Final = 256 * 1024

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC: Final = (
    ipaddress.IPv6Network("fec0::/10"),  # site-local, RFC 3879
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, RFC 4291
)
_T = TypeVar("_T")


class Outward:
    """Connections to other machines. Use as an async context manager; safe for many jobs."""

    def __init__(self, *, certificates: Path | None = None) -> None:
        """Trust the machine's certificates, or those of ``certificates`` alone."""
        self._certificates = certificates
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        """Open connections lazily; nothing is fetched yet."""
        context = ssl.create_default_context(cafile=self._certificates)
        for is_private in (False, True):
            resolver: AbstractResolver = ThreadedResolver()
            if not is_private:
                resolver = PublicResolver(resolver)
            self._sessions[is_private] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, ssl=context, limit=16),
                cookie_jar=aiohttp.DummyCookieJar(),
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

    @asynccontextmanager
    async def get(
        self,
        url: str,
        *,
        is_private: bool,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        may_follow: Callable[[str], bool] = lambda _url: True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask ``url`` and follow redirects; ``Authorization`` stays at the first scheme and host.

        Args:
            url: Where to ask.
            is_private: Whether it may lead to private addresses.
            seconds: How long all of it may take.
            headers: Sent with every request.
            may_follow: Judges each address that a redirect names.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE: an address that is not allowed, too many redirects.
        """
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=30, sock_read=60)
        origin = urlsplit(url)[:2]
        first = url
        for _ in range(REDIRECTS_MAX):
            check_address(url, is_private=is_private)
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            if urlsplit(url)[:2] != origin:
                sent.pop("Authorization", None)
            answer = await self._sessions[is_private].get(
                url, timeout=timeout, headers=sent, allow_redirects=False
            )
            async with answer:
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or not location:
                    yield answer
                    return
                url = urljoin(url, location)
                if not may_follow(url):
                    raise unavailable(first, f"redirects to {url!r:.200}")
        raise unavailable(first, f"more than {REDIRECTS_MAX} redirects")


class Asking:
    """Who asks other machines. Use as an async context manager; nothing is asked outside of it."""

    def __init__(self, *, certificates: Path | None = None) -> None:
        """Trust the machine's certificates, or those of ``certificates`` alone."""
        self._outward = Outward(certificates=certificates)

    async def __aenter__(self) -> Self:
        """Open connections lazily; nothing is fetched yet."""
        await self._outward.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._outward.__aexit__(kind, error, trace)


class BusyError(Exception):
    """The other side answered that it cannot answer now."""


def check_busy(status: int) -> None:
    """Raise BusyError at a status that passes by."""
    if status >= 500 or status == 429:
        raise BusyError(f"status {status}")


async def retry(call: Callable[[], Awaitable[_T]], where: str) -> _T:
    """Call again after passing faults: the upstream is far away and busy.

    Raises:
        BuildFailure: SOURCE_UNAVAILABLE: it did not come to answer properly.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await call()
        except (aiohttp.ClientError, TimeoutError, BusyError) as error:
            if attempt == ATTEMPTS:
                raise unavailable(where, repr(error)) from error
        await asyncio.sleep(RETRY_SECONDS * attempt)
    raise AssertionError("unreachable")


class PublicResolver(AbstractResolver):
    """Resolves names, and knows none whose address is not public."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises OSError if one of them is not public."""
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(each["host"]) for each in found):
            raise OSError(None, f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        """Close the resolver that does the work."""
        await self._inner.close()


def is_public(address: str) -> bool:
    """Tell whether a numeric address is one of the Internet's; what is no address is none.

    An IPv6 address that carries an IPv4 one (mapped, NAT64) is judged by that: a gateway on the
    way would unwrap it.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found in _NAT64:
            found = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        elif any(found in network for network in _NEVER_PUBLIC):
            return False
    return found.is_global and not found.is_multicast


def check_address(url: str, *, is_private: bool) -> None:
    """Refuse other schemes, and numbers of private networks; names are judged when resolved.

    The host is judged as the client reads it: digits of other scripts, which become numbers on
    the way to a connection, are numbers here, too.

    Raises:
        BuildFailure: SOURCE_UNAVAILABLE.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise unavailable(url, f"leads to {url!r:.100}")
    if is_private:
        return
    try:
        host = URL(url).raw_host or ""
    except ValueError as error:
        raise unavailable(url, f"leads to {url!r:.100}: {error}") from error
    is_number = ":" in host or (host[:1].isdigit() and not host.strip("0123456789abcdefx.%"))
    if is_number and not is_public(host):
        raise unavailable(url, f"leads to {host}, which is not public")


def unavailable(where: str, text: str) -> BuildFailure:
    """Return a failure that names host and path; addresses may carry credentials and queries."""
    if "://" in where:
        parts = urlsplit(where)
        where = f"{parts.hostname or ''}{parts.path}"
    return BuildFailure("SOURCE_UNAVAILABLE", "upstream", f"{where.partition('?')[0]}: {text}")
