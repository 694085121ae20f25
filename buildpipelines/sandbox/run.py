"""Run one job in a sandbox: start it, feed it, watch it, take what it made, leave nothing.

The host's side of ``guest``. Every byte that comes out is hostile: events are bounded and parsed,
file names checked, sizes limited, the log cut. The one way in is stdin, the one way out stdout.
Ending the sandbox kills the first process of its pid namespace, and with it all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Final, cast

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.sandbox import bwrap, confine, seccomp
from buildpipelines.sandbox import ids as namespaces
from buildpipelines.sandbox.causes import explain
from buildpipelines.sandbox.image_guest import SECCOMP_PROFILE
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.spec import fields
from buildpipelines.spec.lock import FILE_NAME

CHUNK_BYTES: Final = 256 * 1024
EVENT_BYTES_MAX: Final = 64 * 1024
OUTPUT_FILES_MAX: Final = 8
START_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 0.2
LOG_END_SECONDS: Final = 2.0
END_SECONDS: Final = 10.0
REMOVE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class SandboxJob:
    """What to run: the guest's job, the source tar, and where the outputs go."""

    name: str
    guest: Mapping[str, object]
    source: Path
    proxy_socket: Path
    out_dir: Path
    log_path: Path
    limits: SandboxLimits
    files: Mapping[str, int]
    """More read-only files: path inside to a descriptor, which stays the caller's."""

    uid: int | None
    """The user that the sandbox runs as; None keeps the caller's (who is then no root)."""

    ids: int | None = None
    """For builds of images: the user namespace to run in (``ids``); None builds a package."""

    maven_binds: Mapping[str, str] | None = None
    """For Maven builds: what the sandbox sees of JDK, Maven and programs (``maven_toolchain``)."""

    outputs_max: int = OUTPUT_FILES_MAX


@dataclass(slots=True)
class Progress:
    """What others may look at while the job runs: the time of the last sign of life, a stage."""

    stage: str = "start"
    refused_hosts: list[str] = field(default_factory=list)
    """Where the build wanted to go; the proxy of the job fills it."""

    input_failure: BuildFailure | None = None
    """That the upstream did not deliver an input which the build asked for."""

    last_sign: float = 0.0

    def sign(self) -> None:
        """Note that something happened just now."""
        self.last_sign = asyncio.get_running_loop().time()


def maven_guest_source() -> bytes:
    """Return the text of the guest of Maven builds, which imports the first."""
    return resources.files("buildpipelines.sandbox").joinpath("maven_guest.py").read_bytes()


def image_guest_source() -> bytes:
    """Return the text of the guest of image builds, which imports the other."""
    return resources.files("buildpipelines.sandbox").joinpath("image_guest.py").read_bytes()


def guest_source() -> bytes:
    """Return the text of the guest, as it is copied into every sandbox."""
    return resources.files("buildpipelines.sandbox").joinpath("guest.py").read_bytes()


async def run_sandbox(
    job: SandboxJob, confiner: confine.Confiner, progress: Progress
) -> list[Path]:
    """Run a job to its end and return the files it made, below ``job.out_dir``.

    Cancelling kills the sandbox before the cancellation goes on.

    Raises:
        BuildFailure: no files; the cause says which limit was hit or which step failed.
    """
    confinement = confiner.make(job.name, job.limits)
    try:
        async with contextlib.AsyncExitStack() as stack:
            process = await stack.enter_async_context(_started(job))
            if job.ids is not None:
                # Once it has become one of nobody's ids we may not move it any more; so it waits.
                confinement.attach([process.pid])
                assert process.stdin is not None
                process.stdin.write(namespaces.GO)
            run = _Run(job, process, confinement, progress)
            return await run.to_the_end()
    finally:
        await asyncio.shield(remove_bounds(confinement))


async def remove_bounds(confinement: confine.Confinement) -> None:
    """Remove the bounds; the kernel may need a moment to bury a sandbox's last processes."""
    for _ in range(int(END_SECONDS / REMOVE_SECONDS)):
        if confinement.close():
            return
        await asyncio.sleep(REMOVE_SECONDS)


@contextlib.asynccontextmanager
async def _started(job: SandboxJob) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start bubblewrap; on leaving, kill it and wait until every process of it is gone."""
    with contextlib.ExitStack() as descriptors:
        mounts = _open_mounts(job, descriptors)
        more_fds = [fd for fd in (mounts.seccomp_fd, job.ids) if fd is not None]
        process = await asyncio.create_subprocess_exec(
            *_command(job, mounts),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[*mounts.data.values(), *more_fds],
            env={},
            cwd="/",
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await asyncio.shield(end_sandbox(process))


def _command(job: SandboxJob, mounts: bwrap.Mounts) -> list[str]:
    if job.maven_binds is not None:
        return bwrap.maven_command(mounts, job.limits, uid=job.uid, binds=job.maven_binds)
    if job.ids is None:
        return bwrap.command(mounts, job.limits, uid=job.uid)
    return bwrap.image_command(
        mounts, job.limits, uid=job.uid, ids=namespaces.enter_command(job.ids)
    )


def _guest_files(job: SandboxJob) -> dict[str, bytes]:
    package = {
        f"{bwrap.PACKAGE_PATH}/__init__.py": b"",
        f"{bwrap.PACKAGE_PATH}/sandbox/__init__.py": b"",
        f"{bwrap.PACKAGE_PATH}/sandbox/guest.py": guest_source(),
    }
    if job.maven_binds is not None:
        guest = {f"{bwrap.PACKAGE_PATH}/sandbox/maven_guest.py": maven_guest_source()}
        return {**package, **guest, **bwrap.ETC_FILES}
    if job.ids is None:
        return {bwrap.GUEST_PATH: guest_source(), **bwrap.ETC_FILES}
    return {
        **package,
        f"{bwrap.PACKAGE_PATH}/sandbox/image_guest.py": image_guest_source(),
        SECCOMP_PROFILE: seccomp.engine_profile(),
        **bwrap.IMAGE_ETC_FILES,
    }


def _open_mounts(job: SandboxJob, descriptors: contextlib.ExitStack) -> bwrap.Mounts:
    data = _guest_files(job)
    seccomp_fd = seccomp.open_filter(
        allowed=seccomp.MOUNTING if job.ids is not None else frozenset()
    )
    if seccomp_fd is not None:
        descriptors.callback(os.close, seccomp_fd)
    data_fds = {path: memory_file(content, descriptors) for path, content in data.items()}
    for path, shared in job.files.items():
        # Opened anew: bwrap reads from the descriptor's position, and others read the same file.
        data_fds[path] = os.open(f"/proc/self/fd/{shared}", os.O_RDONLY)
        descriptors.callback(os.close, data_fds[path])
    return bwrap.Mounts(
        proxy_socket=str(job.proxy_socket),
        data=data_fds,
        masked=[path for path in bwrap.MASKED if Path(path).is_dir()],
        has_alternatives=job.maven_binds is None and Path("/etc/alternatives").is_dir(),
        seccomp_fd=seccomp_fd,
        emptied=[path for path in bwrap.MAVEN_EMPTIED if Path(path).is_dir()],
    )


def memory_file(content: bytes, descriptors: contextlib.ExitStack) -> int:
    """Return a descriptor at the start of ``content``, open as long as ``descriptors``."""
    descriptor = os.memfd_create("pyrsia")
    descriptors.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


async def end_sandbox(process: asyncio.subprocess.Process) -> None:
    """End the sandbox and wait until its last process is gone."""
    # bwrap's child is the first process of the pid namespace: its death ends every other. bwrap
    # itself is left to bury it; killed first, it would leave that to whoever is pid 1 here.
    for pid in confine.descendants(process.pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            await _drain(process)
    except TimeoutError:
        process.kill()
        await _drain(process)


async def _drain(process: asyncio.subprocess.Process) -> None:
    # Every process of the sandbox holds one of these pipes, so their ends say that all are gone.
    # They must be read to the end: asyncio reports an exit only when nobody waits to be read.
    for pipe in (process.stdout, process.stderr):
        while pipe is not None and await pipe.read(CHUNK_BYTES):
            pass
    await process.wait()


class _StepFailedError(Exception):
    """The guest says that a step of the build ended badly."""

    def __init__(self, step: str, *, disk_full: bool) -> None:
        super().__init__(f"step {step!r} failed")
        self.step = step
        self.disk_full = disk_full


class _Run:
    """One sandbox from its first to its last byte."""

    def __init__(
        self,
        job: SandboxJob,
        process: asyncio.subprocess.Process,
        confinement: confine.Confinement,
        progress: Progress,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._job = job
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._confinement = confinement
        self._progress = progress
        self._log_tail = bytearray()
        self._breach: str | None = None

    async def to_the_end(self) -> list[Path]:
        self._progress.sign()
        log = asyncio.create_task(self._copy_log())
        watch = asyncio.create_task(self._watch())
        talk = asyncio.create_task(self._talk())
        try:
            await asyncio.wait(
                (talk, watch),
                timeout=self._job.limits.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if talk.done():
                return await self._outcome(talk, log)
            if watch.done():
                raise watch.result()
            seconds = self._job.limits.seconds
            raise BuildFailure("TIMEOUT", "time limit", f"not done after {seconds:.0f} s")
        finally:
            for task in (talk, watch, log):
                task.cancel()
            await asyncio.gather(talk, watch, log, return_exceptions=True)

    async def _outcome(self, talk: asyncio.Task[list[Path]], log: asyncio.Task[None]) -> list[Path]:
        try:
            return talk.result()
        except _StepFailedError as error:
            step, text, disk_full = error.step, str(error), error.disk_full
        except (EOFError, FormatError, OSError) as error:
            step, text, disk_full = "", f"the sandbox ended early: {error}", False
        # The end of the log explains the failure. It ends when the sandbox does, and that may be
        # hostile and hold it open, so the wait is bounded.
        await asyncio.wait((log,), timeout=LOG_END_SECONDS)
        if self._progress.input_failure is not None:
            # The build may have failed for want of what the upstream did not deliver.
            raise self._progress.input_failure
        raise explain(
            step=step,
            text=text,
            disk_full=disk_full,
            breach=self._breach or self._confinement.breach(),
            refused_hosts=self._progress.refused_hosts,
            log_tail=bytes(self._log_tail),
        )

    async def _talk(self) -> list[Path]:
        """Wait for the guest, tell it its job, follow its events, take the files."""
        try:
            async with asyncio.timeout(START_SECONDS):
                event = await self._event()
        except (TimeoutError, EOFError, FormatError) as error:
            tail = bytes(self._log_tail[-1000:]).decode(errors="replace")
            raise BuildFailure("REFUSED", "no sandbox", f"it did not start: {tail}") from error
        if self._job.ids is None:
            # Only our own guest runs in there now, so from here on everything is counted.
            self._confinement.attach(confine.descendants(self._process.pid))
        feed = asyncio.create_task(self._feed())
        try:
            while True:
                event = await self._event()
                self._progress.sign()
                kind = event.get("event")
                if kind == "stage":
                    self._progress.stage = fields.text(event, "stage", characters_max=64)
                elif kind == "failed":
                    step = fields.text(event, "step", characters_max=64)
                    raise _StepFailedError(step, disk_full=event.get("disk_full") is True)
                elif kind == "done":
                    return await self._take(fields.objects(event, "files", count_max=10**4))
                else:
                    raise FormatError("the guest sent an unknown event")
        finally:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)

    async def _event(self) -> dict[str, object]:
        try:
            length = int.from_bytes(await self._stdout.readexactly(4), "big")
            if not 1 <= length <= EVENT_BYTES_MAX:
                raise FormatError(f"the guest sent an event of {length} bytes")
            event: object = json.loads(await self._stdout.readexactly(length))
        except (ValueError, RecursionError) as error:
            raise FormatError("the guest sent an event that is not JSON") from error
        if not isinstance(event, dict):
            raise FormatError("the guest sent an event that is no object")
        return cast("dict[str, object]", event)

    async def _feed(self) -> None:
        guest = json.dumps(self._job.guest).encode()
        with contextlib.suppress(ConnectionError):
            self._stdin.write(len(guest).to_bytes(4, "big") + guest)
            with self._job.source.open("rb") as source:
                while data := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    self._stdin.write(data)
                    await self._stdin.drain()
            self._stdin.close()

    async def _take(self, listed: list[dict[str, object]]) -> list[Path]:
        if not 1 <= len(listed) <= self._job.outputs_max:
            raise BuildFailure("BUILD_FAILED", self._nothing(), f"it made {len(listed)} files")
        left, paths = self._job.limits.output_bytes, []
        for item in listed:
            try:
                name = fields.matching(item, "name", FILE_NAME)
                size = fields.integer(item, "size", low=0, high=left)
            except FormatError as error:
                raise BuildFailure("BUILD_FAILED", "output limit", str(error)) from error
            left -= size
            path = self._job.out_dir / name
            with path.open("xb") as file:
                await self._copy(file, size)
            paths.append(path)
        return paths

    def _nothing(self) -> str:
        """Return how the absence of what was to be built is called."""
        if self._job.maven_binds is not None:
            return "no artifact"
        return "no wheel" if self._job.ids is None else "no image"

    async def _copy(self, file: BinaryIO, size: int) -> None:
        while size:
            data = await self._stdout.read(min(size, CHUNK_BYTES))
            if not data:
                raise EOFError("an output file is cut")
            file.write(data)
            size -= len(data)

    async def _copy_log(self) -> None:
        """Write the log up to its limit and keep its end; past the limit the build is stopped."""
        written = 0
        with self._job.log_path.open("ab") as file:
            while data := await self._stderr.read(CHUNK_BYTES):
                self._progress.sign()
                self._log_tail = (self._log_tail + data)[-CHUNK_BYTES:]
                file.write(data[: max(0, self._job.limits.log_bytes - written)])
                file.flush()
                written += len(data)
                if written > self._job.limits.log_bytes:
                    self._breach = "log limit"
                    return

    async def _watch(self) -> BuildFailure:
        """Return when a bound is hit; the caller then ends the sandbox."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            breach = self._breach or self._confinement.breach()
            if breach is not None:
                return BuildFailure("BUILD_FAILED", breach, "the build was stopped at a limit")
            silence = loop.time() - self._progress.last_sign
            if silence > self._job.limits.idle_seconds:
                return BuildFailure("TIMEOUT", "idle limit", f"silent for {silence:.0f} s")
