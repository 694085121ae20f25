"""The pipeline contract's serving end: a build asked by ``PUT /build`` is a trial of our own.

It listens on a unix socket for the node's user, and on a private address if the operator wants
that. Whoever reaches it can keep one build slot busy and nothing more: one build of the contract
runs at a time, so the node's own builds never wait for two. Nothing of a request names a file of
ours: ids and names are looked up among those that were given out. No redirects, no ranges, no
scripts of the asker's: a ``build_spec_url`` is refused.
Specification: docs/spec/pipeline-contract.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from buildpipelines.errors import BuildFailure, BuildpipelinesError, FormatError
from buildpipelines.spec.coordinates import parse_coordinates
from buildpipelines.spec.messages import JobFailure, TrialParams, parse_trial
from buildpipelines.worker.contract import (
    BODY_BYTES_MAX,
    BuildInfo,
    Failure,
    MappingInfo,
    Running,
    parse_mapping,
)
from buildpipelines.worker.contract_store import BuildRecord, ContractStore, StoreFullError
from buildpipelines.worker.jobs import Jobs, TooManyJobsError
from buildpipelines.worker.unix_socket import bind_private, peer_uid

CONNECTIONS_MAX: Final = 32
SILENCE_SECONDS: Final = 30.0
CHUNK: Final = 256 * 1024
NO_SCRIPTS: Final = (
    "build_spec_url is refused: it would have this pipeline run a script of yours; it goes by what"
    " the published artifact tells and by its own recipe alone"
)
NO_IMAGES: Final = (
    "this pipeline rebuilds images from a context, which the contract has no member for; ask a node"
    " by `pyrsia build docker`"
)

_GIT_ADDRESS: Final = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[!-~]+\Z")
_BYTES: Final = {"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff"}

_log = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric address and a port to listen on; port 0 is any that is free."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT`` as the command line gives it.

    Raises:
        FormatError: no loopback or private address: nobody is asked who he is, and to ask for a
            build is to keep this machine busy.
    """
    try:
        parts = urlsplit(f"//{text}")
        address, port = ipaddress.ip_address(parts.hostname or ""), parts.port
    except ValueError as error:
        raise FormatError(f"{text!r:.100} is not ADDRESS:PORT: {error}") from error
    if port is None or parts.netloc != text or parts.username is not None:
        raise FormatError(f"{text!r:.100} is not ADDRESS:PORT")
    if address.is_unspecified or not (address.is_loopback or address.is_private):
        raise FormatError(
            f"{address} is neither a loopback nor a private address; the pipeline contract has no"
            " way to say who may ask"
        )
    return Address(str(address), port)


class Trials(Protocol):
    """What carries builds out: the worker's service."""

    @property
    def jobs(self) -> Jobs:
        """The jobs that trials become."""
        ...

    def trial(self, params: TrialParams) -> None:
        """Queue a recording run; raises FormatError, TooManyJobsError."""
        ...


class ContractServer:
    """Answers the pipeline contract with the worker's own pipelines."""

    def __init__(
        self,
        service: Trials,
        store: ContractStore,
        *,
        seconds_max: int,
        allowed_uids: frozenset[int],
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Build with ``service`` and remember in ``store``.

        Args:
            service: Whose trials are started.
            store: What was asked, how it ended, and its files.
            seconds_max: Longest build.
            allowed_uids: Who may use the unix socket.
            silence_seconds: How long a connection may ask nothing, a body take to come, or a part
                of a file to be read.
        """
        self._service = service
        self._store = store
        self._seconds_max = seconds_max
        self._allowed_uids = allowed_uids
        self._silence = silence_seconds
        self._slot = asyncio.Semaphore(1)
        self._adding = asyncio.Lock()
        self._builds: set[asyncio.Task[None]] = set()
        self._silent: set[web.RequestHandler] = set()

    @contextlib.asynccontextmanager
    async def listening(
        self, path: Path | None = None, address: Address | None = None
    ) -> AsyncIterator[list[Address]]:
        """Listen on a socket file, an address or both while the context lasts.

        Yields where it listens, with the ports that were given. An address that cannot be had is
        left out, and said in telemetry.
        """
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        app.router.add_put("/build", self._put)
        app.router.add_get("/build/{id}", self._status)
        app.router.add_get("/build/{id}/artifacts/{file}", self._artifact)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=15.0)
        await runner.setup()
        assert runner.server is not None
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._end_builds)
            stack.push_async_callback(runner.cleanup)
            yield await _listen(
                stack, _Door(runner.server, self._silent, self._silence), path, address
            )

    # ------------------------------------------------------------ requests

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer every request, refusals too, with a line of text; never with a trace."""
        self._silent.discard(request.protocol)
        try:
            refused = self._why_refused(request)
            return refused if refused is not None else await handler(request)
        except web.HTTPException as error:
            return _line(error.status, error.reason)
        except FormatError as error:
            return _line(400, str(error))
        except (StoreFullError, TooManyJobsError) as error:
            return _line(503, str(error))
        except TimeoutError:
            return _line(408, "the body did not come in time")
        except ConnectionError:
            return _line(400, "the connection ended")  # nobody reads it
        except OSError:
            # What our disk says, and where, is no business of whoever asks.
            _log.exception("the pipeline contract: %s %s", request.method, request.path)
            return _line(503, "the pipeline's disk does not do this just now")

    def _why_refused(self, request: web.Request) -> web.Response | None:
        listener: socket.socket | None = request.get_extra_info("socket")
        if listener is not None and listener.family == socket.AF_UNIX:
            if peer_uid(listener) not in self._allowed_uids:
                return _line(403, "this user may not use the pipeline")
            return None
        # A name may be somebody else's that was pointed at this machine (DNS rebinding).
        if not _is_local_or_number(request.host):
            return _line(403, "ask for this pipeline by its number, not by a name")
        return None

    async def _put(self, request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(self._silence):
            mapping = parse_mapping(await request.read())
        trial = _trial_of(mapping, seconds_max=self._seconds_max)
        async with self._adding:
            record = await asyncio.to_thread(self._store.add, mapping)
        task = asyncio.create_task(self._build(record, trial), name=f"pipeline {record.id}")
        self._builds.add(task)
        task.add_done_callback(self._builds.discard)
        return _json(json.dumps(record.id).encode())

    async def _status(self, request: web.Request) -> web.StreamResponse:
        record = self._record(request)
        if record is None:
            return _line(404, "no such build")
        return _json(BuildInfo(record.id, record.status).encoded())

    async def _artifact(self, request: web.Request) -> web.StreamResponse:
        record = self._record(request)
        if record is None:
            return _line(404, "no such build")
        if isinstance(record.status, Running):
            return _line(202, "the build has not ended yet")
        if isinstance(record.status, Failure):
            return _line(410, "the build failed; it has no files")
        path = self._store.file(record, request.match_info["file"])
        if path is None:
            return _line(404, "the build has no such file")
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            return _line(404, "no such build")  # It made room for a newer one just now.
        with file:
            return await _send(request, file, silence_seconds=self._silence)

    def _record(self, request: web.Request) -> BuildRecord | None:
        return self._store.find(request.match_info["id"])

    # ------------------------------------------------------------ builds

    async def _build(self, record: BuildRecord, trial: TrialParams | None) -> None:
        """Carry a build out; whatever happens, its record says how it ended."""
        try:
            if trial is None:
                raise BuildFailure("REFUSED", "images", NO_IMAGES)
            async with self._slot:
                await self._run(record, replace(trial, job=record.id))
        except (BuildpipelinesError, OSError) as error:
            _log.warning("pipeline build %s: %s", record.id, error)
            text = "the pipeline's disk failed" if isinstance(error, OSError) else str(error)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._store.fail, record, text)

    async def _run(self, record: BuildRecord, trial: TrialParams) -> None:
        jobs = self._service.jobs
        self._service.trial(trial)
        try:
            result = await jobs.wait(record.id)
            if isinstance(result, JobFailure):
                raise BuildFailure(result.outcome, result.cause, result.detail)
            files = [(f.name, Path(f.path)) for f in result.files if f.claim == "rebuilt"]
            await asyncio.to_thread(self._store.succeed, record, files)
        finally:
            await jobs.forget(record.id)

    async def _end_builds(self) -> None:
        for task in self._builds:
            task.cancel()
        await asyncio.gather(*self._builds, return_exceptions=True)


class _Door:
    """Lets in a bounded number of connections, and cuts off those that never ask anything."""

    def __init__(self, server: web.Server, silent: set[web.RequestHandler], seconds: float) -> None:
        self._server = server
        self._silent = silent
        self._seconds = seconds
        self._coming = 0

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) + self._coming >= CONNECTIONS_MAX:
            return _Closed()
        handler = self._server()
        self._silent.add(handler)
        loop = asyncio.get_running_loop()
        # The server counts a connection one turn of the loop later, and many may come in one.
        self._coming += 1
        loop.call_soon(self._has_come)
        loop.call_later(self._seconds, self._cut, handler)
        return handler

    def _has_come(self) -> None:
        self._coming -= 1

    def _cut(self, handler: web.RequestHandler) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            handler.force_close()


class _Closed(asyncio.Protocol):
    """A connection that there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _listen(
    stack: contextlib.AsyncExitStack, door: _Door, path: Path | None, address: Address | None
) -> list[Address]:
    loop = asyncio.get_running_loop()
    found = []
    if path is not None:
        listener = await asyncio.to_thread(bind_private, path, CONNECTIONS_MAX)
        stack.callback(path.unlink, missing_ok=True)
        stack.callback((await loop.create_server(door, sock=listener)).close)
    if address is not None:
        try:
            server = await loop.create_server(door, address.host, address.port)
        except OSError as error:
            # The node's own builds matter more than others' questions: they go on.
            where = f"{address.host} port {address.port}"
            _log.error("the pipeline contract is not served at %s: %s", where, error)
            return []
        stack.callback(server.close)
        found = [Address(*each.getsockname()[:2]) for each in server.sockets]
    return found


def _trial_of(mapping: MappingInfo, *, seconds_max: int) -> TrialParams | None:
    """Return the trial that a mapping asks for; None of an image.

    Raises:
        FormatError: the mapping cannot be meant, or wants what nobody is given.
    """
    if mapping.build_spec_url is not None:
        raise FormatError(NO_SCRIPTS)
    if mapping.package_type == "Docker":
        return None
    name, _, version = mapping.package_specific_id.rpartition(":")
    parse_coordinates(name, version)
    git = mapping.source_repository
    if git is None:
        raise FormatError("source_repository is missing: this pipeline builds from source alone")
    if not _GIT_ADDRESS.match(git.url):
        raise FormatError(
            f"source_repository {git.url!r:.200} is not https://HOST[:PORT]/PATH, without a user"
        )
    return parse_trial(
        {
            "job": "pipeline",
            "ecosystem": "maven",
            "name": name,
            "version": version,
            "seconds_max": seconds_max,
            "options": {"source": f"git+{git.url}", "tag": git.tag},
        }
    )


async def _send(
    request: web.Request, file: BinaryIO, *, silence_seconds: float
) -> web.StreamResponse:
    # By hand: aiohttp's own answer for files would send a file of the same name and ".gz" instead.
    answer = web.StreamResponse(headers=_BYTES)
    answer.content_length = os.fstat(file.fileno()).st_size
    await answer.prepare(request)
    try:
        while request.method != "HEAD" and (data := await asyncio.to_thread(file.read, CHUNK)):
            async with asyncio.timeout(silence_seconds):
                await answer.write(data)
        await answer.write_eof()
    except TimeoutError:
        # Who asks and does not read would keep one of few places for ever.
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # whoever asked has left
    return answer


def _is_local_or_number(host: str) -> bool:
    """Tell whether a Host header names this machine, or an address by its number."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _line(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text.replace("\n", " ") + "\n")


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
