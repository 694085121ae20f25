"""The build link's listening end: requests in, answers out, one bad client hurts nobody.

A unix socket of mode 0600; only processes of our own user or of root may speak (a worker that has
a user of its own answers the node's core, which is root or of the allowed user). Methods and
shapes: docs/spec/links.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from buildpipelines.errors import BuildpipelinesError, FormatError
from buildpipelines.spec import framing
from buildpipelines.spec.messages import parse_job, parse_rebuild, parse_trial
from buildpipelines.worker.jobs import JobExistsError, TooManyJobsError, UnknownJobError
from buildpipelines.worker.service import Service
from buildpipelines.worker.unix_socket import bind_private, peer_uid

CONNECTIONS_MAX: Final = 32
CALLS_MAX: Final = 64
CALL_SECONDS: Final = 60.0
READ_BYTES: Final = 64 * 1024

Method = Callable[[Mapping[str, object]], Awaitable[dict[str, object]]]

# From 3.13 on asyncio would look for the socket under the name that it was bound to, which is gone.
_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
_log = logging.getLogger(__name__)


class BuildLink:
    """Answers the build link's methods."""

    def __init__(self, service: Service, *, allowed_uids: frozenset[int]) -> None:
        """Answer for ``service``; ``allowed_uids`` may connect."""
        self._service = service
        self._allowed_uids = allowed_uids
        self._connections: set[asyncio.Task[None]] = set()
        self._methods: dict[str, Method] = {
            "describe": self._describe,
            "trial": self._trial,
            "rebuild": self._rebuild,
            "job": self._job,
            "cancel": self._cancel,
            "forget": self._forget,
        }

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listen on ``path`` while the context lasts; a socket left by a crash is replaced."""
        listener = await asyncio.to_thread(bind_private, path, CONNECTIONS_MAX)
        server = await asyncio.start_unix_server(self._serve, sock=listener, **_KEEP_FILE)
        try:
            yield
        finally:
            server.close()
            tasks = list(self._connections)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX or not self._is_allowed(writer):
            writer.close()
            return
        self._connections.add(task)
        calls: set[asyncio.Task[None]] = set()
        try:
            await self._read(reader, writer, calls)
        except (OSError, framing.FrameError) as error:
            _log.warning("a client of the build link is cut off: %s", error)
        finally:
            for call in calls:
                call.cancel()
            self._connections.discard(task)
            writer.close()

    async def _read(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        calls: set[asyncio.Task[None]],
    ) -> None:
        decoder = framing.FrameDecoder()
        while data := await reader.read(READ_BYTES):
            for payload in decoder.feed(data):
                request = framing.parse_request(payload)
                call = asyncio.create_task(self._answer(request, writer))
                calls.add(call)
                call.add_done_callback(calls.discard)
            # A client that asks faster than it reads waits here, and its requests in the socket.
            if len(calls) >= CALLS_MAX:
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)

    async def _answer(self, request: framing.Request, writer: asyncio.StreamWriter) -> None:
        answer: framing.Answer
        method = self._methods.get(request.method)
        try:
            if method is None:
                raise FormatError(f"method {request.method!r} is not one of this link")  # noqa: TRY301 - all refusals are answered below
            async with asyncio.timeout(CALL_SECONDS):
                answer = framing.Result(request.id, await method(request.params))
        except (FormatError, JobExistsError) as error:
            answer = framing.Failure(request.id, "invalid", str(error))
        except UnknownJobError as error:
            answer = framing.Failure(request.id, "not_found", str(error))
        except (TooManyJobsError, TimeoutError) as error:
            answer = framing.Failure(request.id, "unavailable", str(error) or "no answer in time")
        except (BuildpipelinesError, OSError) as error:
            answer = framing.Failure(request.id, "internal", str(error))
        with contextlib.suppress(OSError):
            writer.write(_encode(answer))
            await writer.drain()

    def _is_allowed(self, writer: asyncio.StreamWriter) -> bool:
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in self._allowed_uids:
            _log.warning("user %d may not use the build link", uid)
        return uid in self._allowed_uids

    async def _describe(self, params: Mapping[str, object]) -> dict[str, object]:
        if params:
            raise FormatError("describe takes no parameters")
        return await self._service.describe()

    async def _trial(self, params: Mapping[str, object]) -> dict[str, object]:
        trial = parse_trial(params)
        self._service.trial(trial)
        return {"job": trial.job}

    async def _rebuild(self, params: Mapping[str, object]) -> dict[str, object]:
        rebuild = parse_rebuild(params)
        self._service.rebuild(rebuild)
        return {"job": rebuild.job}

    async def _job(self, params: Mapping[str, object]) -> dict[str, object]:
        return self._service.jobs.status(parse_job(params)).document()

    async def _cancel(self, params: Mapping[str, object]) -> dict[str, object]:
        await self._service.jobs.cancel(parse_job(params))
        return {}

    async def _forget(self, params: Mapping[str, object]) -> dict[str, object]:
        await self._service.jobs.forget(parse_job(params))
        return {}


def _encode(answer: framing.Answer) -> bytes:
    try:
        return framing.encode_answer(answer)
    except framing.FrameError as error:
        return framing.encode_answer(framing.Failure(answer.id, "internal", str(error)))
