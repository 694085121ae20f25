"""HTTP to configured upstreams, and to nowhere else.

An upstream's page may name any address, and whoever writes pages may want this node to fetch from
the machine's own network. So every connection, redirects included, goes through one check of the
address that it really connects to; credentials go to the configured host alone; sizes and times
are bounded; and nothing is decoded but what was asked for. Not for other nodes: those are reached
by ``transfer``.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import functools
import ipaddress
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError

REDIRECTS_MAX: Final = 5
CONNECT_SECONDS_MAX: Final = 10.0
READ_SECONDS_MAX: Final = 30.0
"""Silence that is waited for, not the length of the whole transfer."""

CONNECTIONS_MAX: Final = 16
READ_BUFFER_BYTES: Final = 128 * 1024
"""What a connection takes in before its reader looks. Larger ones make fewer steps of large files,
but what lies in it when a connection breaks is lost, and must be sent again."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC: Final = (
    ipaddress.IPv6Network("fec0::/10"),  # site-local, RFC 3879
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, RFC 4291
)


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public Internet.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by both: a
    gateway on the way would unwrap it.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if any(parsed in network for network in _NEVER_PUBLIC):
            return False
        inner = [parsed.sixtofour, *(parsed.teredo or ())]
        if parsed in _NAT64:
            inner.append(ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF))
        if not all(is_public(str(each)) for each in inner if each is not None):
            return False
    return parsed.is_global and not parsed.is_multicast


_LOOKUPS: Final = ThreadPoolExecutor(4, thread_name_prefix="names")
"""Threads for names alone: a name server that does not answer keeps nothing else waiting."""


class SystemResolver(AbstractResolver):
    """Resolves names as the system does, in threads of its own."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``; raises OSError if it has none."""
        look = functools.partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, look)
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Hold nothing."""


class PublicResolver(SystemResolver):
    """Resolves names and gives only public addresses: what is checked is what is connected to."""

    def __init__(self, setting: str) -> None:
        """Resolve through the system; errors name the ``setting`` that allows more."""
        self._setting = setting

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the public addresses of ``host``; raises OSError if it has none."""
        found = await super().resolve(host, port, family)
        public = [each for each in found if is_public(each["host"])]
        if not public:
            message = f"{host} has no public address (see {self._setting})"
            raise OSError(errno.EACCES, message)
        return public


def _numeric(address: tuple[object, ...]) -> str:
    """Return the address of a socket as text, with its zone if it has one."""
    host = str(address[0])
    zone = address[3] if len(address) == 4 else 0
    return f"{host}%{zone}" if zone and "%" not in host else host


@dataclass(frozen=True, slots=True)
class Answer:
    """An upstream's answer, whole. ``url`` is where it came from, after redirects."""

    status: int
    url: str
    media: str
    etag: str | None
    body: bytes


class SafeHttp:
    """A client for one configured upstream."""

    def __init__(
        self, base_url: str, *, allow_private: bool, setting: str = "pypi.allow_private"
    ) -> None:
        """Make a client; use it inside a running event loop.

        Args:
            base_url: The configured address; user and password in it go to its origin alone.
            allow_private: Let it live at a loopback, link-local or private address.
            setting: What the operator sets to allow that, for error messages.

        Raises:
            InvalidInputError: Not an HTTP address.
        """
        base = parse_url(base_url)
        self._authorization = _basic(base)
        self._origin = base.with_user(None).origin()
        self._allow_private = allow_private
        self._setting = setting
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self, url: str, *, accept: str, bytes_max: int, etag: str | None = None
    ) -> Answer:
        """Return a small resource whole.

        Raises:
            NotFoundError: The upstream says that there is no such thing (404, 410).
            UnavailableError: It cannot be reached, refuses, or sends too much.
        """
        headers = {"accept": accept} | ({"if-none-match": etag} if etag else {})
        async with self.stream(url, headers=headers) as response:
            body = bytearray()
            if response.status == 200:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > bytes_max:
                        raise UnavailableError(f"{_shown(url)} is longer than {bytes_max} bytes")
            return Answer(
                status=response.status,
                url=str(response.url.with_user(None)),
                media=response.content_type,
                etag=response.headers.get("etag"),
                body=bytes(body),
            )

    @asynccontextmanager
    async def stream(
        self, url: str, *, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a good answer (200 or 304), following redirects; errors as :meth:`get`."""
        async with self.send("GET", url, headers=headers) as response:
            if response.status in {404, 410}:
                raise NotFoundError(f"the upstream has no {_shown(url)}")
            if response.status not in {200, 304}:
                raise UnavailableError(f"{_shown(url)} answered {response.status}")
            yield response

    @asynccontextmanager
    async def send(
        self,
        method: Literal["GET", "HEAD"],
        url: str,
        *,
        headers: dict[str, str] | None = None,
        authorization: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer, whatever its status, following redirects.

        Args:
            method: What to do.
            url: Where.
            headers: What else is sent, also to where a redirect leads: nothing secret.
            authorization: Credentials for the origin of ``url`` alone.

        Raises:
            UnavailableError: It cannot be reached, or the address is one that may not be asked.
        """
        try:
            target = parse_url(url)
            secrets = {target.origin(): {"authorization": authorization}} if authorization else {}
            response = await self._follow(method, target, headers or {}, secrets)
            async with response:
                yield response
        except TimeoutError as error:
            raise UnavailableError(f"{_shown(url)} does not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{_shown(url)} cannot be had: {error}") from error

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            # aiohttp closes TLS transports one round of the loop later.
            await asyncio.sleep(0)

    # ------------------------------------------------------------ inside

    async def _follow(
        self,
        method: Literal["GET", "HEAD"],
        url: URL,
        headers: dict[str, str],
        secrets: dict[URL, dict[str, str]],
    ) -> aiohttp.ClientResponse:
        secrets = secrets or {self._origin: self._authorization}
        for _ in range(REDIRECTS_MAX + 1):
            self._check(url)
            bare = url.with_user(None)
            response = await self._open_session().request(
                method,
                bare,
                headers=headers | secrets.get(bare.origin(), {}),
                allow_redirects=False,
            )
            if response.status not in _REDIRECTS:
                return response
            target = response.headers.get("location", "")
            response.release()
            there = _joined(url, target)
            if url.scheme == "https" and there.scheme != "https":
                raise UnavailableError(f"{_shown(str(url))} redirects to an unencrypted address")
            url = there
        raise UnavailableError(f"{_shown(str(url))}: more than {REDIRECTS_MAX} redirects")

    def _check(self, url: URL) -> None:
        """Refuse what a resolver does not see: addresses written as numbers.

        Whatever the HTTP client takes for a number it hands to the system without resolving it,
        and the system reads 127.1 and 2130706433 as addresses, too: only full forms may pass.
        """
        if self._allow_private or url.host is None:
            return
        looks_numeric = ":" in url.host or url.host.replace(".", "").isdigit()
        if not looks_numeric:
            return
        try:
            # A zone ("fe80::1%eth0") makes an address of this link, whatever else it says.
            literal = "%" not in url.host and is_public(url.host)
        except ValueError:
            literal = False
        if not literal:
            raise UnavailableError(f"{_shown(str(url))} is no public address (see {self._setting})")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            is_free = self._allow_private
            resolver = SystemResolver() if is_free else PublicResolver(self._setting)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, resolver=resolver),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=CONNECT_SECONDS_MAX, sock_read=READ_SECONDS_MAX
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"user-agent": "pyrsia-node"},
                read_bufsize=READ_BUFFER_BYTES,
                trust_env=False,
            )
        return self._session


def parse_url(text: str) -> URL:
    """Return an absolute HTTP address.

    Raises:
        InvalidInputError: Anything else.
    """
    try:
        url = URL(text)
    except ValueError as error:
        raise InvalidInputError(f"{text!r:.120} is no URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidInputError(f"{_shown(text)} is no http or https URL")
    return url


def _joined(base: URL, target: str) -> URL:
    """Return where a redirect leads."""
    try:
        return parse_url(str(base.join(URL(target))))
    except (ValueError, InvalidInputError) as error:
        raise UnavailableError(f"{_shown(str(base))} redirects to no address: {error}") from error


def _basic(url: URL) -> dict[str, str]:
    """Return the header for the user and password in a URL (RFC 7617)."""
    if not url.user:
        return {}
    pair = f"{url.user}:{url.password or ''}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _shown(url: str) -> str:
    """Return a URL as it may stand in an error: without user and password."""
    try:
        return str(URL(url).with_user(None))[:200]
    except ValueError:
        return "the address"
