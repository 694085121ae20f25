"""``look``, ``mirror``, ``mirror_job`` and ``mirror_forget``: imports of images for the core.

A job runs by itself; the core asks how far it is, and its blobs are leased until it says that it
needs the job no more: by then it has pinned them. Jobs are not durable. After a restart of this
process the core begins a job again, and what came already is taken up. docs/spec/links.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.artifacts.images.mirror import ImageMirror, MovedError, Progress, Wish
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.oci import ImageName, OciDigest, check_tag, parse_name
from pyrsia_node.schema.links import Done, Handler, typed
from pyrsia_node.schema.mirroring import (
    Look,
    LookParams,
    Mirrored,
    MirrorFailure,
    MirrorJobParams,
    MirrorParams,
    MirrorStatus,
)

JOBS_MAX: Final = 256
"""Jobs that are remembered; finished ones make room."""

JOB_SECONDS_MAX: Final = 12 * 3600.0
LOOK_TIMEOUT_S: Final = 120.0
DETAIL_LENGTH_MAX: Final = 4000
_log: Final = logging.getLogger("pyrsia.gateway.mirror")


@dataclass(slots=True)
class _Job:
    params: MirrorParams
    progress: Progress = field(default_factory=Progress)
    result: Mirrored | None = None
    failure: MirrorFailure | None = None
    task: asyncio.Task[None] | None = None
    leases: ExitStack = field(default_factory=ExitStack)

    @property
    def is_running(self) -> bool:
        return self.result is None and self.failure is None


class MirrorJobs:
    """The jobs of one gateway."""

    def __init__(self, mirror: ImageMirror, *, default_host: str) -> None:
        """Run jobs with ``mirror``; ``default_host`` is the registry of names without one."""
        self._mirror = mirror
        self._default_host = default_host
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "look": typed(LookParams, self._look),
            "mirror": typed(MirrorParams, self._start),
            "mirror_job": typed(MirrorJobParams, self._status),
            "mirror_forget": typed(MirrorJobParams, self._forget),
        }

    async def close(self) -> None:
        """Stop every job; what came stays for a later one."""
        for job in self._jobs.values():
            await _stop(job)
        self._jobs.clear()

    async def _look(self, params: LookParams) -> Look:
        return await self._mirror.look(self._name(params.image), check_tag(params.tag))

    async def _start(self, params: MirrorParams) -> Mapping[str, object]:
        known = self._jobs.get(params.job)
        if known is not None:
            if known.params != params:
                raise InvalidInputError(f"job {params.job} is about another image")
            return {"job": params.job}
        wish = Wish(
            name=self._name(params.image),
            digest=OciDigest.parse(params.digest),
            tag=None if params.tag is None else check_tag(params.tag),
            platforms=tuple(params.platforms),
        )
        await self._make_room()
        job = self._jobs[params.job] = _Job(params)
        job.task = asyncio.create_task(self._run(job, wish))
        return {"job": params.job}

    async def _status(self, params: MirrorJobParams) -> MirrorStatus:
        job = self._jobs.get(params.job)
        if job is None:
            raise NotFoundError(f"no job {params.job}: this process may have started anew")
        state = "running" if job.is_running else "done" if job.result is not None else "failed"
        progress = job.progress
        return MirrorStatus.model_validate(
            {
                "job": params.job,
                "state": state,
                "stage": progress.stage,
                "detail": progress.detail,
                "done_bytes": progress.done(),
                "total_bytes": progress.total_bytes,
                "result": job.result,
                "failure": job.failure,
            }
        )

    async def _forget(self, params: MirrorJobParams) -> Done:
        job = self._jobs.pop(params.job, None)
        if job is not None:
            await _stop(job)
        return Done()

    # ------------------------------------------------------------ inside

    def _name(self, image: str) -> ImageName:
        return parse_name(image, default_host=self._default_host)

    async def _make_room(self) -> None:
        while len(self._jobs) >= JOBS_MAX:
            ended = next((key for key, job in self._jobs.items() if not job.is_running), None)
            if ended is None:
                raise UnavailableError(f"{JOBS_MAX} imports are under way")
            await _stop(self._jobs.pop(ended))

    async def _run(self, job: _Job, wish: Wish) -> None:
        try:
            async with asyncio.timeout(JOB_SECONDS_MAX):
                job.result = await self._mirror.fetch(wish, job.progress, job.leases)
        except MovedError as moved:
            text = f"{wish.name}:{wish.tag} is {moved.now} by now, not {wish.digest}"
            job.failure = MirrorFailure(
                outcome="MOVED",
                cause="tag moved",
                detail=text,
                moved=str(moved.now),
                seen_ms=moved.seen_ms,
            )
        except TimeoutError:
            job.failure = MirrorFailure(
                outcome="TIMEOUT", cause="timeout", detail=f"not done in {JOB_SECONDS_MAX:.0f} s"
            )
        except PyrsiaError as error:
            _log.warning("import of %s@%s failed: %s", wish.name, wish.digest, error)
            job.failure = _failure(error)
        except Exception:  # noqa: BLE001 - a task's last resort: the core must hear of it
            _log.exception("import of %s@%s failed", wish.name, wish.digest)
            job.failure = MirrorFailure(
                outcome="SOURCE_UNAVAILABLE", cause="internal", detail="failed inside; see the log"
            )


def _failure(error: PyrsiaError) -> MirrorFailure:
    match error:
        case InvalidInputError():
            outcome, cause = "REFUSED", "not an image to mirror"
        case VerificationError():
            outcome, cause = "SOURCE_UNAVAILABLE", "wrong bytes"
        case NotFoundError():
            outcome, cause = "SOURCE_UNAVAILABLE", "not found or not public"
        case _:
            outcome, cause = "SOURCE_UNAVAILABLE", "upstream unavailable"
    return MirrorFailure.model_validate(
        {"outcome": outcome, "cause": cause, "detail": str(error)[:DETAIL_LENGTH_MAX]}
    )


async def _stop(job: _Job) -> None:
    if job.task is not None:
        job.task.cancel()
        await asyncio.wait([job.task])
    job.leases.close()
