"""Whatever becomes of a job, it ends, and those who wait for it are told how."""

from __future__ import annotations

import asyncio
from pathlib import Path

from buildpipelines.errors import BuildFailure
from buildpipelines.spec.messages import BuildResult, JobFailure
from buildpipelines.worker.jobs import Jobs
from buildpipelines.worker.machine import Report
from buildpipelines.worker.workspace import JobFolder, Workspace


async def broken(_folder: JobFolder, _report: Report) -> BuildResult:
    raise BuildFailure("REFUSED", "toolchain", "no JDK 8")


def test_job_that_is_cancelled_before_its_first_step_has_failed(tmp_path: Path) -> None:
    async def run() -> None:
        jobs = Jobs(Workspace(tmp_path), parallel=1)
        jobs.start("a", broken, seconds_max=10)
        waiting = asyncio.create_task(jobs.wait("a"))
        await jobs.cancel("a")
        found = jobs.status("a")
        assert (found.state, found.stage) == ("failed", "failed")
        assert found.result == JobFailure("TIMEOUT", "cancelled", "the job was cancelled")
        assert not (tmp_path / "jobs" / "a" / "tmp").exists()
        assert await waiting == await jobs.wait("a") == found.result

    asyncio.run(run())


def test_who_waits_for_a_job_gets_what_it_ended_with(tmp_path: Path) -> None:
    async def run() -> None:
        jobs = Jobs(Workspace(tmp_path), parallel=1)
        jobs.start("a", broken, seconds_max=10)
        assert await jobs.wait("a") == JobFailure("REFUSED", "toolchain", "no JDK 8")
        assert jobs.status("a").state == "failed"

    asyncio.run(run())
