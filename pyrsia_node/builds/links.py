"""What the build service asks of the gateway and of the build worker, typed.

Both are reached over local links (docs/spec/links.md); a ``Caller`` is one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import trio

from buildpipelines.errors import FormatError
from buildpipelines.spec.framing import JsonObject
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    JobStatus,
    RebuildParams,
    TrialParams,
    parse_status,
)
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.schema.links import Stored

POLL_INTERVAL_S: Final = 0.2
WORKER_PATIENCE_S: Final = 30.0
"""How long a worker may be away (a restart) before a running job counts as lost."""

ADOPT_TIMEOUT_S: Final = 120.0
FETCH_TIMEOUT_S: Final = 600.0


class Caller(Protocol):
    """One end of a local link on which this process calls."""

    async def call(
        self, method: str, params: Mapping[str, object], *, timeout_s: float = 30.0
    ) -> JsonObject:
        """Return the answer; raises the PyrsiaError that the other side sent."""
        ...


class Vault:
    """The gateway's blob store, seen from the core."""

    def __init__(self, link: Caller) -> None:
        """Call the gateway over ``link``."""
        self._link = link

    async def adopt(self, path: str, sha256: str, size: int) -> Stored:
        """Move a finished file into the store, re-hashed there.

        Raises:
            VerificationError: its bytes are others.
            UnavailableError: the gateway is away, or the disk is full.
        """
        params = {"path": path, "sha256": sha256, "size": size}
        answer = await self._link.call("adopt", params, timeout_s=ADOPT_TIMEOUT_S)
        return Stored.parse(answer)

    async def fetch(self, *, sha256: str, size: int, pieces: str) -> Stored:
        """Bring an artifact of the log into the store, pinned; raises UnavailableError."""
        params = {"sha256": sha256, "size": size, "pieces": pieces, "pin": True}
        return Stored.parse(await self._link.call("fetch", params, timeout_s=FETCH_TIMEOUT_S))


class Worker:
    """The build worker, seen from the core."""

    def __init__(self, link: Caller) -> None:
        """Call the worker over ``link``."""
        self._link = link

    async def describe(self) -> JsonObject:
        """Return pipelines, toolchain (digest and document) and environment."""
        return await self._link.call("describe", {})

    async def trial(
        self, params: TrialParams, on_progress: Callable[[JobStatus], None]
    ) -> BuildResult | JobFailure:
        """Run a recording build to its end; raises UnavailableError if the worker is lost."""
        await self._begin("trial", params.document())
        return await self._finish(params.job, on_progress)

    async def rebuild(
        self, params: RebuildParams, on_progress: Callable[[JobStatus], None]
    ) -> BuildResult | JobFailure:
        """Run a replay build to its end; raises UnavailableError if the worker is lost."""
        await self._begin("rebuild", params.document())
        return await self._finish(params.job, on_progress)

    async def forget(self, job: str) -> None:
        """Delete the job's folder; a job that is gone is no error."""
        try:
            await self._link.call("forget", {"job": job})
        except (NotFoundError, UnavailableError):
            # Gone already, or with its worker; either way there is nothing left to do here.
            return

    async def _begin(self, method: str, params: JsonObject) -> None:
        """Start a job, or find that it was started: by this core before it was restarted.

        Raises:
            InvalidInputError: the worker refuses the parameters.
            UnavailableError: the worker is away, or remembers as many jobs as it may.
        """
        try:
            await self._link.call(method, params)
        except InvalidInputError as refusal:
            try:
                await self._link.call("job", {"job": params["job"]})
            except NotFoundError:
                raise refusal from None

    async def _finish(
        self, job: str, on_progress: Callable[[JobStatus], None]
    ) -> BuildResult | JobFailure:
        deadline = trio.current_time() + WORKER_PATIENCE_S
        while True:
            try:
                status = parse_status(await self._link.call("job", {"job": job}))
            except FormatError as error:
                raise VerificationError(f"build worker's answer does not hold: {error}") from error
            except NotFoundError:
                # It was restarted, and what it was building is gone.
                raise UnavailableError(f"the build worker lost job {job}") from None
            except UnavailableError:
                if trio.current_time() > deadline:
                    raise
                await trio.sleep(POLL_INTERVAL_S)
                continue
            deadline = trio.current_time() + WORKER_PATIENCE_S
            on_progress(status)
            if status.result is not None:
                return status.result
            await trio.sleep(POLL_INTERVAL_S)
