"""The PyPI pipeline: a trial finds recipe and lock of a release, a rebuild replays them.

A trial records what each attempt reads and keeps the attempt that comes nearest to the published
wheel. A rebuild is a pure function of source, lock, recipe and toolchain; before it, this node
checks all four against its own machine and its own look at the upstream.
Design: docs/design/builds.md.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.sdist import SourceTree, repack
from buildpipelines.inputs.pages import IndexFile
from buildpipelines.inputs.proxy import (
    Inputs,
    RecordingInputs,
    ReplayInputs,
    locked_file,
    record_lock,
    serving,
)
from buildpipelines.inputs.verify import fetch_locked, verify_locked
from buildpipelines.recipes import metadata, pypi, releases
from buildpipelines.sandbox.precompiled import PIP_PATH
from buildpipelines.sandbox.run import Progress, SandboxJob, guest_source, run_sandbox
from buildpipelines.spec.lock import Lock
from buildpipelines.spec.messages import BuildResult, RebuildParams, Source, TrialParams
from buildpipelines.stabilize.wheel import RULES
from buildpipelines.worker.attempts import name_pipeline
from buildpipelines.worker.machine import Machine, Report
from buildpipelines.worker.outputs import Assessed, Release, assess, mirrored, read_wheel_file
from buildpipelines.worker.workspace import JobFolder, socket_folder

SDIST_BYTES_MAX: Final = 256 * 1024 * 1024
SDIST_LIMITS: Final = ArchiveLimits()


def pipeline() -> dict[str, object]:
    """Return id, version and digest of this pipeline's rules."""
    rules = {level: list(names) for level, names in RULES.items()}
    parts = {"metadata": metadata.VERSION, "rules": rules}
    return name_pipeline("pypi", pypi.VERSION, parts, guest=guest_source())


@dataclass(frozen=True, slots=True)
class _Source:
    """A fetched and checked source distribution."""

    file: IndexFile
    path: Path
    tree: SourceTree
    tar: Path

    def described(self) -> Source:
        return Source("sdist", self.file.file, self.file.sha256, self.path.stat().st_size)


@dataclass(frozen=True, slots=True)
class _Built:
    """An attempt that made a wheel."""

    attempt: pypi.Attempt
    assessed: Assessed
    lock: Lock


class PypiJob:
    """One trial or rebuild."""

    def __init__(self, machine: Machine, folder: JobFolder, report: Report) -> None:
        """Work in ``folder`` and tell ``report`` about it."""
        self._machine = machine
        self._folder = folder
        self._report = report
        self._started = asyncio.get_running_loop().time()

    async def trial(self, params: TrialParams) -> BuildResult:
        """Find recipe and lock of a release.

        Raises:
            BuildFailure: no recipe built it; the cause is that of the most promising one.
        """
        release = await self._release(params.name, params.version)
        source = await self._fetch_source(release)
        marks, uploads = await self._read_reference(release)
        cutoff = releases.choose_cutoff((source.file.uploaded, *uploads))
        plan = pypi.plan(marks, source.tree, cutoff=cutoff)
        attempts: list[pypi.Attempt] = []
        best: _Built | None = None
        first_failure: BuildFailure | None = None
        for number, recipe in enumerate(plan, 1):
            if not pypi.is_worth_trying(recipe, attempts) or (best and self._is_late(params)):
                continue
            try:
                built = await self._attempt(number, recipe, source, release)
            except BuildFailure as failure:
                self._folder.note(f"attempt {number}: {failure.outcome}: {failure.cause}")
                first_failure = first_failure or failure
                if not failure.cause.startswith("build"):
                    break  # a limit or the network: no other recipe would help
                attempts.append(pypi.Attempt(recipe, is_built=False, level=None))
                continue
            attempts.append(built.attempt)
            if best is None or (built.attempt.level or 0) < (best.attempt.level or 0):
                best = built
        if best is None:
            assert first_failure is not None, "a plan has at least one recipe"
            raise first_failure
        return self._result(release, source, best.attempt.recipe, best.lock, best.assessed)

    async def rebuild(self, params: RebuildParams) -> BuildResult:
        """Replay a recorded build.

        Raises:
            BuildFailure: REFUSED if request, machine and upstream do not fit together; else why
                the build failed.
        """
        if params.toolchain != self._machine.toolchain.digest:
            detail = f"{params.toolchain} is asked for, {self._machine.toolchain.digest} is here"
            raise BuildFailure("REFUSED", "toolchain", detail)
        try:
            name, version = releases.parse_purl(params.purl)
            recipe = pypi.parse_recipe_fields(params.recipe)
        except FormatError as error:
            raise BuildFailure("REFUSED", "request", str(error)) from error
        release = await self._release(name, version)
        self._check_request(params, recipe, release)
        self._report.enter("inputs", f"{len(params.lock.files)} locked files")
        known = await verify_locked(params.lock, self._machine.upstream, cutoff=recipe.cutoff)
        paths = await fetch_locked(params.lock, known, self._machine.upstream)
        source = await self._unpack(known[params.source.sha256], paths[params.source.sha256])
        made = await self._build(
            recipe, source, ReplayInputs(params.lock, paths), self._folder.out, "build"
        )
        self._report.enter("compare")
        assessed = await assess(
            made, release, self._machine.upstream, self._folder, tamper=params.tamper
        )
        return self._result(release, source, recipe, params.lock, assessed)

    async def _release(self, name: str, version: str) -> Release:
        self._report.enter("resolve", f"{name} {version}")
        files = await self._machine.upstream.project(name)
        if not files:
            raise BuildFailure(
                "SOURCE_UNAVAILABLE", "unknown package", f"the upstream has no project {name!r}"
            )
        mine = tuple(
            f
            for f in files
            if releases.is_wheel_of(f.file, name, version)
            or releases.is_sdist_of(f.file, name, version)
        )
        if not mine:
            known = sorted(f.file for f in files)[-5:]
            raise BuildFailure(
                "SOURCE_UNAVAILABLE",
                "unknown version",
                f"{name} has no version {version}; some of its files: {', '.join(known)}",
            )
        return Release(name, version, mine)

    async def _fetch_source(self, release: Release) -> _Source:
        names = {f.file: f for f in release.files}
        chosen = releases.choose_sdist(names, release.name, release.version)
        if chosen is None:
            raise BuildFailure(
                "SOURCE_UNAVAILABLE", "no source", "the release has no source distribution"
            )
        self._report.enter("fetch", chosen)
        path = await self._machine.upstream.fetch(names[chosen])
        return await self._unpack(names[chosen], path)

    async def _unpack(self, file: IndexFile, path: Path) -> _Source:
        self._report.enter("unpack", file.file)
        tar = self._folder.temporary / "source.tar"
        try:
            tree = await asyncio.to_thread(_repack, path, file.file, tar)
        except ArchiveError as error:
            raise BuildFailure("REFUSED", error.cause, f"{file.file}: {error}") from error
        return _Source(file, path, tree, tar)

    async def _read_reference(self, release: Release) -> tuple[pypi.Marks | None, list[str]]:
        """Return the marks of the published wheel to learn from, and its upload time."""
        wheels = {f.file: f for f in release.files if f.file.endswith(".whl")}
        toolchain = self._machine.toolchain
        chosen = releases.choose_reference(
            wheels, python=toolchain.python, machine=toolchain.machine
        )
        if chosen is None:
            return None, []
        self._report.enter("fetch", chosen)
        path = await self._machine.upstream.fetch(wheels[chosen])
        try:
            wheel, _ = await asyncio.to_thread(read_wheel_file, path, chosen)
        except ArchiveError as error:
            self._folder.note(f"{chosen} is refused: {error}")
            return None, [wheels[chosen].uploaded]
        return pypi.read_marks(wheel), [wheels[chosen].uploaded]

    async def _attempt(
        self, number: int, recipe: pypi.Recipe, source: _Source, release: Release
    ) -> _Built:
        self._folder.note(f"attempt {number}: {recipe.title()}")
        inputs = RecordingInputs(self._machine.upstream, cutoff=recipe.cutoff)
        out = self._folder.root / f"attempt-{number}"
        out.mkdir()
        made = await self._build(recipe, source, inputs, out, f"attempt {number}")
        self._report.enter("compare", recipe.title())
        assessed = await assess(made, release, self._machine.upstream, self._folder)
        level = assessed.file.level
        self._folder.note(f"attempt {number}: level {'none' if level is None else level}")
        more = (locked_file(release.name, source.file, source.path),)
        attempt = pypi.Attempt(recipe, is_built=True, level=level)
        return _Built(attempt, assessed, record_lock(inputs, more))

    async def _build(
        self, recipe: pypi.Recipe, source: _Source, inputs: Inputs, out: Path, stage: str
    ) -> list[Path]:
        """Run one sandbox with one recipe."""
        back_end = pypi.back_end(source.tree)
        self._report.enter(stage, recipe.title())
        progress = self._report.sandbox = Progress()
        limits = self._machine.limits
        guest = {
            "top": source.tree.top,
            "backend": back_end.name,
            "backend_path": back_end.path,
            "requires": back_end.requires,
            "constraints": recipe.constraints,
            "epoch": recipe.epoch,
            "clock": recipe.clock,
            "umask": recipe.umask,
            "pip": PIP_PATH,
            "limits": self._machine.guest_limits(),
        }
        with socket_folder(self._folder, self._machine.uid) as folder:
            proxy_socket = folder / "proxy.sock"
            async with serving(inputs, proxy_socket, uid=self._machine.uid, watcher=progress):
                job = SandboxJob(
                    name=f"{self._folder.root.name}-{stage.replace(' ', '-')}",
                    guest=guest,
                    source=source.tar,
                    proxy_socket=proxy_socket,
                    out_dir=out,
                    log_path=self._folder.log,
                    limits=limits,
                    files={PIP_PATH: await self._machine.pip.descriptor()},
                    uid=self._machine.uid,
                )
                return await run_sandbox(job, self._machine.confiner, progress)

    def _check_request(self, params: RebuildParams, recipe: pypi.Recipe, release: Release) -> None:
        """Check that source, reference and cut-off are what this node would have chosen from."""
        files = {f.file: f for f in release.files}
        locked = params.lock.find(releases.parse_purl(params.purl)[0], params.source.file)
        is_locked = locked and (locked.sha256, locked.size) == (
            params.source.sha256,
            params.source.size,
        )
        if not is_locked or params.source.file not in files:
            raise BuildFailure(
                "REFUSED", "source", f"{params.source.file} is not locked or not of the release"
            )
        times = [files[params.source.file].uploaded]
        if recipe.reference != pypi.NONE:
            if recipe.reference not in files:
                raise BuildFailure("REFUSED", "reference", f"{recipe.reference!r:.200}")
            times.append(files[recipe.reference].uploaded)
        own = releases.choose_cutoff(times)
        if own != "none" and (recipe.cutoff == "none" or recipe.cutoff > own):
            raise BuildFailure(
                "REFUSED", "cutoff", f"{recipe.cutoff} is asked for, the release is of {own}"
            )

    def _is_late(self, params: TrialParams) -> bool:
        """Tell whether another attempt could run out of the job's time."""
        spent = asyncio.get_running_loop().time() - self._started
        return spent > params.seconds_max / 2

    def _result(
        self,
        release: Release,
        source: _Source,
        recipe: pypi.Recipe,
        lock: Lock,
        assessed: Assessed,
    ) -> BuildResult:
        described = source.described()
        files = (assessed.file, mirrored(described, source.path, self._folder))
        seconds = asyncio.get_running_loop().time() - self._started
        return BuildResult(
            purl=releases.purl_of(release.name, release.version),
            source=described,
            pipeline=pipeline(),
            toolchain=self._machine.toolchain.digest,
            lock=lock,
            recipe=recipe.fields(),
            metadata=assessed.metadata,
            files=tuple(sorted(files, key=lambda f: f.name)),
            environment=self._machine.environment,
            seconds=round(seconds, 3),
            log_path=str(self._folder.log),
        )


def _repack(path: Path, name: str, tar: Path) -> SourceTree:
    if path.stat().st_size > SDIST_BYTES_MAX:
        raise ArchiveError("archive too large", f"{name} has more than {SDIST_BYTES_MAX} bytes")
    with path.open("rb") as source, tar.open("wb") as out:
        return repack(source, file_name=name, out=out, limits=SDIST_LIMITS)
