"""The pipeline contract's asking end: another's pipeline, of which nothing is taken on trust.

The operator names one pipeline, by an address or a unix socket; everything is asked of that very
address. No redirects, no credentials, no cookies, no proxies of the environment; an address leads
into the operator's own network only if he says so. Passing faults are waited for, up to a bound;
every other answer that the contract does not know ends the build with what was wrong.
Specification: docs/spec/pipeline-contract.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.outward import PublicResolver, check_address
from buildpipelines.worker.contract import (
    BODY_BYTES_MAX,
    MappingInfo,
    Status,
    artifact_path,
    parse_build_id,
    parse_info,
)

PATIENCE_SECONDS: Final = 120.0
"""How long a pipeline may be away or busy, without a break, before the build is given up."""

PAUSE_SECONDS: Final = 0.5
PAUSE_SECONDS_MAX: Final = 15.0
ANSWER_SECONDS: Final = 60.0
ARTIFACT_SECONDS: Final = 1800.0
PROBE_SECONDS: Final = 5.0
CHUNK_BYTES: Final = 256 * 1024
CONNECTIONS_MAX: Final = 8

GONE: Final = "external build is gone"
"""Cause where a pipeline knows no build of an id."""

_SOCKET: Final = "unix://"
_LINE_CHARACTERS_MAX: Final = 300
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PipelineAddress:
    """Where a pipeline answers: ``url`` without a slash at its end, or a unix socket."""

    url: str
    socket: Path | None = None
    is_private: bool = False


def parse_pipeline_address(text: str, *, is_private: bool = False) -> PipelineAddress:
    """Read ``http(s)://HOST[:PORT][/PATH]`` or ``unix:///PATH``, as the command line gives it.

    Raises:
        FormatError: something else, or an address with a user, a query or a fragment.
    """
    if text.startswith(f"{_SOCKET}/") and len(text) > len(_SOCKET) + 1:
        return PipelineAddress("http://pipeline", Path(text.removeprefix(_SOCKET)), is_private=True)
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise FormatError(f"pipeline {text!r:.200}: {error}") from error
    if not is_address or "@" in parts.netloc or "?" in text or "#" in text:
        raise FormatError(f"pipeline {text!r:.200} is not http(s)://HOST[:PORT][/PATH]")
    return PipelineAddress(text.rstrip("/"), None, is_private)


class ContractClient:
    """One pipeline. Use as an async context manager; safe for many jobs.

    Args (of the constructor):
        address: Where it answers.
        patience_seconds: How long faults that pass are waited for.
        answer_seconds: Longest silence within an answer.
    """

    def __init__(
        self,
        address: PipelineAddress,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Ask ``address``; nothing is connected yet."""
        self._address = address
        self._patience = patience_seconds
        self._silence = answer_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Be ready to connect."""
        self._session = aiohttp.ClientSession(
            connector=_connector(self._address),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": "pyrsia-build", "Accept-Encoding": "identity"},
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

    async def start(self, mapping: MappingInfo) -> str:
        """Ask for a build and return its id.

        An answer that was lost on its way leaves a build behind that nobody asks about.

        Raises:
            BuildFailure: REFUSED: the pipeline does not take it; else as :meth:`status`.
        """
        body = mapping.encoded()

        async def ask() -> str:
            async with self._answer("PUT", "/build", ANSWER_SECONDS, body) as answer:
                data = await _read(answer)
                if 400 <= answer.status < 500:
                    raise BuildFailure("REFUSED", "external pipeline", _said(answer.status, data))
                _require_ok(answer.status, data)
                return _understood(parse_build_id, data)

        return await self._patiently(ask)

    async def status(self, build_id: str) -> Status:
        """Return how a build stands.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE: the pipeline does not answer, or knows no such build;
                BUILD_FAILED: it answers what the contract does not know.
        """

        async def ask() -> Status:
            path = f"/build/{quote(build_id, safe='')}"
            async with self._answer("GET", path, ANSWER_SECONDS) as answer:
                data = await _read(answer)
                if answer.status in (404, 410):
                    detail = f"the pipeline forgot build {build_id}"
                    raise BuildFailure("SOURCE_UNAVAILABLE", GONE, detail)
                _require_ok(answer.status, data)
                info = _understood(parse_info, data)
            if info.id != build_id:
                raise _bad(f"told of build {info.id!r:.140}, asked for {build_id!r:.140}")
            return info.status

        return await self._patiently(ask)

    async def fetch(self, build_id: str, name: str, target: Path, *, bytes_max: int) -> int:
        """Write a file of a build to ``target`` and return its size in bytes.

        Args:
            build_id: The build.
            name: The file; as ``artifact_name`` gives it.
            target: Where it goes; it is no file yet.
            bytes_max: Most bytes that are taken.

        Raises:
            BuildFailure: the file is too large or is not given; else as :meth:`status`.
        """

        async def ask() -> int:
            path = artifact_path(quote(build_id, safe=""), quote(name, safe=""))
            async with self._answer("GET", path, ARTIFACT_SECONDS) as answer:
                if answer.status != 200:
                    _require_ok(answer.status, await _read(answer))
                return await _save(answer, target, bytes_max)

        return await self._patiently(ask)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, seconds: float, body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "the client is not entered"
        url = self._address.url + path
        check_address(url, is_private=self._address.is_private)
        headers = {} if body is None else {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=30, sock_read=self._silence)
        async with self._session.request(
            method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if answer.status >= 500 or answer.status in (408, 429):
                raise _PassingError(f"status {answer.status}")
            yield answer

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask again after faults that pass, for as long as this client's patience lasts."""
        clock = asyncio.get_running_loop().time
        deadline, pause = clock() + self._patience, PAUSE_SECONDS
        while True:
            try:
                return await ask()
            except (aiohttp.ClientError, OSError, TimeoutError, _PassingError) as error:
                if clock() + pause > deadline:
                    raise BuildFailure(
                        "SOURCE_UNAVAILABLE", "external pipeline", f"{_where(error)}"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)


async def why_no_answer(address: PipelineAddress) -> str:
    """Return why a pipeline cannot be asked now, in words; "" if it speaks the contract."""
    async with ContractClient(address, patience_seconds=0, answer_seconds=PROBE_SECONDS) as client:
        try:
            await client.status("none")
        except BuildFailure as failure:
            return "" if failure.cause == GONE else failure.detail
    return ""


class _PassingError(Exception):
    """The pipeline says that it cannot answer now."""


def _connector(address: PipelineAddress) -> aiohttp.BaseConnector:
    if address.socket is not None:
        return aiohttp.UnixConnector(str(address.socket), limit=CONNECTIONS_MAX)
    resolver: AbstractResolver = ThreadedResolver()
    if not address.is_private:
        resolver = PublicResolver(resolver)
    return aiohttp.TCPConnector(resolver=resolver, limit=CONNECTIONS_MAX)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer, one byte more than is allowed at most."""
    body = bytearray()
    async for data in answer.content.iter_chunked(CHUNK_BYTES):
        body += data
        if len(body) > BODY_BYTES_MAX:
            return bytes(body[: BODY_BYTES_MAX + 1])
    return bytes(body)


async def _save(answer: aiohttp.ClientResponse, target: Path, bytes_max: int) -> int:
    size = 0
    with target.open("wb") as file:
        async for data in answer.content.iter_chunked(CHUNK_BYTES):
            size += len(data)
            if size > bytes_max:
                detail = f"{target.name} has more than {bytes_max} bytes"
                raise BuildFailure("BUILD_FAILED", "external file too large", detail)
            await asyncio.to_thread(file.write, data)
    return size


def _require_ok(status: int, body: bytes) -> None:
    if status != 200:
        raise _bad(_said(status, body))


def _understood(parse: Callable[[bytes], _T], body: bytes) -> _T:
    try:
        return parse(body)
    except FormatError as error:
        raise _bad(str(error)) from error


def _bad(text: str) -> BuildFailure:
    return BuildFailure("BUILD_FAILED", "external answer", f"the pipeline: {text}")


def _said(status: int, body: bytes) -> str:
    """Return a status and what came with it, as one printable line."""
    text = body[: 4 * _LINE_CHARACTERS_MAX].decode(errors="replace")
    line = "".join(c if c.isprintable() else " " for c in text)[:_LINE_CHARACTERS_MAX].strip()
    return f"status {status}: {line}" if line else f"status {status}"


def _where(error: Exception) -> str:
    return f"the pipeline does not answer: {error!r:.300}"
