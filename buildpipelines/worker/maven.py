"""The pipeline of Maven artifacts: a trial finds recipe and lock, a rebuild replays them.

The sponsor names a source; every member fetches it again, derives from the published jar again
what that tells, asks its own upstream about each locked file, and builds without any network. The
files of the very version that is built are hidden from the build, so that none can pass off a
download as its own work. Design: docs/design/maven.md; docs/design/builds.md, "Maven".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.zip import ZipArchive
from buildpipelines.inputs.maven_proxy import (
    RecordingRepository,
    ReplayRepository,
    RepositoryInputs,
    serving_repository,
)
from buildpipelines.inputs.sources import FetchedSource
from buildpipelines.inputs.verify import fetch_maven
from buildpipelines.recipes import maven, pom
from buildpipelines.recipes.maven import Marks, MavenRecipe, Options, Origin
from buildpipelines.sandbox.maven_toolchain import MavenToolchain
from buildpipelines.sandbox.run import (
    Progress,
    SandboxJob,
    guest_source,
    maven_guest_source,
    run_sandbox,
)
from buildpipelines.spec.coordinates import (
    Coordinates,
    parse_coordinates,
    parse_file_path,
    parse_maven_purl,
)
from buildpipelines.spec.lock import Lock
from buildpipelines.spec.messages import BuildResult, RebuildParams, TrialParams
from buildpipelines.spec.metadata import Metadata
from buildpipelines.stabilize.jar import rules_document
from buildpipelines.worker import diffoscope
from buildpipelines.worker.attempts import name_pipeline, nearest, refusing_format
from buildpipelines.worker.machine import Machine, MavenTools, Report
from buildpipelines.worker.maven_metadata import read_metadata
from buildpipelines.worker.maven_outputs import AssessedFiles, assess_files, mirrored
from buildpipelines.worker.workspace import JobFolder, socket_folder

OUTPUT_FILES_MAX: Final = 32
REFERENCE_BYTES_MAX: Final = 256 * 1024 * 1024
REFERENCES: Final = ("jar", "war", "pom")
"""Extensions under which a published version is looked for; the first that is there tells."""


def pipeline() -> dict[str, object]:
    """Return id, version and digest of this pipeline's rules."""
    return name_pipeline(
        "maven",
        maven.VERSION,
        {"metadata": pom.VERSION, "rules": rules_document()},
        guest=guest_source(),
        maven_guest=maven_guest_source(),
    )


@dataclass(frozen=True, slots=True)
class _Reference:
    """The published file that tells how it was made: its name (or "none") and what it tells."""

    name: str
    marks: Marks


@dataclass(frozen=True, slots=True)
class _Task:
    """What every attempt of a job shares."""

    coordinates: Coordinates
    reference: _Reference
    toolchain: MavenToolchain
    source: FetchedSource


@dataclass(frozen=True, slots=True)
class _Built:
    """An attempt that made files."""

    recipe: MavenRecipe
    assessed: AssessedFiles
    lock: Lock
    metadata: Metadata


class _Hidden:
    """Inputs without the files of one version: what is built is not downloaded."""

    def __init__(self, inputs: RepositoryInputs, folder: str) -> None:
        self._inputs = inputs
        self._prefix = f"{folder}/"
        self.missed = inputs.missed

    async def file(self, path: str) -> Path | None:
        """Return a file of the inputs, or None."""
        return None if path.startswith(self._prefix) else await self._inputs.file(path)

    async def metadata(self, folder: str) -> bytes | None:
        """Return the metadata of a folder, or None."""
        return await self._inputs.metadata(folder)


class MavenJob:
    """One trial or rebuild of a Maven artifact."""

    def __init__(self, machine: Machine, folder: JobFolder, report: Report) -> None:
        """Work in ``folder`` and tell ``report`` about it.

        Raises:
            BuildFailure: REFUSED: this machine cannot build Maven artifacts.
        """
        if machine.maven is None:
            raise BuildFailure("REFUSED", "no maven tools", "there is no JDK or no Maven here")
        self._tools: MavenTools = machine.maven
        self._machine = machine
        self._folder = folder
        self._report = report
        self._started = asyncio.get_running_loop().time()

    async def trial(self, params: TrialParams) -> BuildResult:
        """Find recipe and lock of a version.

        Raises:
            BuildFailure: no recipe built it; the cause is that of the most promising one.
        """
        coordinates = refusing_format(lambda: _asked_for(params))
        options = refusing_format(lambda: maven.parse_options(params.options))
        reference = await self._reference(coordinates)
        toolchain = await self._toolchain_for(reference.marks.jdk or options.jdk)
        task = _Task(coordinates, reference, toolchain, await self._fetch(options))
        best = await nearest(
            _plan(task, options),
            lambda number, recipe: self._attempt(number, recipe, task),
            self._folder,
            levels=lambda built: built.assessed.levels(),
            is_late=lambda: self._is_late(params),
        )
        return self._result(best, task)

    async def rebuild(self, params: RebuildParams) -> BuildResult:
        """Replay a recorded build.

        Raises:
            BuildFailure: REFUSED if request, machine and inputs do not fit together; else why the
                build failed.
        """
        coordinates = refusing_format(lambda: parse_maven_purl(params.purl))
        refusing_format(lambda: parse_file_path(f"{coordinates.folder}/{coordinates.file('pom')}"))
        recipe = refusing_format(lambda: maven.parse_recipe_fields(params.recipe))
        toolchain = await self._toolchain_named(params.toolchain, recipe)
        _check_lock(params, coordinates)
        reference = await self._reference(coordinates)
        task = _Task(coordinates, reference, toolchain, await self._fetch(recipe.options()))
        _check_source(params, task.source)
        if recipe not in _plan(task, recipe.options()):
            raise BuildFailure(
                "REFUSED", "recipe", "it is not what the published file and the source lead to"
            )
        self._report.enter("inputs", f"{len(params.lock.files)} locked files")
        inputs = ReplayRepository(params.lock, await fetch_maven(params.lock, self._tools.upstream))
        made = await self._build(task, recipe, inputs, "build")
        assessed = await self._assess(made, coordinates, tamper=params.tamper)
        metadata = await self._metadata(assessed, task, recipe, inputs)
        return self._result(_Built(recipe, assessed, params.lock, metadata), task)

    async def _reference(self, coordinates: Coordinates) -> _Reference:
        """Look at what is published; a file of no single reading is there, but tells nothing."""
        self._report.enter("resolve", f"{coordinates.name} {coordinates.version}")
        for extension in REFERENCES:
            name = coordinates.file(extension)
            published = await self._tools.upstream.find(f"{coordinates.folder}/{name}")
            if published is None:
                continue
            if extension == "pom":
                return _Reference(name, Marks())
            self._report.enter("fetch", name)
            path = await self._tools.upstream.fetch(published)
            try:
                return _Reference(name, await asyncio.to_thread(_read_marks, path))
            except ArchiveError as error:
                self._folder.note(f"the published {name} is refused: {error}")
                return _Reference(name, Marks())
        return _Reference(maven.NONE, Marks())

    async def _fetch(self, options: Options) -> FetchedSource:
        self._report.enter("fetch", options.source)
        sources, folder = self._tools.sources, self._folder.temporary
        if not options.source.startswith("git+"):
            return await sources.archive(options.source, folder=folder)
        return await sources.tree(
            options.source, folder=folder, tag=options.tag, commit=options.commit
        )

    async def _toolchain_for(self, jdk: int | None) -> MavenToolchain:
        """Return the toolchain with a JDK of this major version, or the machine's default."""
        found = await self._tools.toolchains()
        chosen = next((t for t in found if jdk in (None, t.jdk)), None)
        if chosen is None:
            here = ", ".join(str(each.jdk) for each in found)
            raise BuildFailure("REFUSED", "toolchain", f"JDK {jdk} is wanted; here is {here}")
        return chosen

    async def _toolchain_named(self, digest: str, recipe: MavenRecipe) -> MavenToolchain:
        known = await self._tools.toolchains()
        found = next((t for t in known if t.digest == digest), None)
        if found is None:
            here = ", ".join(f"{t.digest} (JDK {t.jdk})" for t in known)
            raise BuildFailure("REFUSED", "toolchain", f"{digest} is asked for; here is {here}")
        if (recipe.jdk, recipe.maven) != (found.jdk, found.maven):
            wanted = f"JDK {recipe.jdk} and Maven {recipe.maven}"
            raise BuildFailure("REFUSED", "toolchain", f"{wanted} are not those of {digest}")
        return found

    async def _attempt(self, number: int, recipe: MavenRecipe, task: _Task) -> _Built:
        self._folder.note(f"attempt {number}: {recipe.title()}")
        inputs = RecordingRepository(self._tools.upstream)
        made = await self._build(task, recipe, inputs, f"attempt {number}")
        lock = refusing_format(lambda: inputs.lock((task.source.locked(),)))
        assessed = await self._assess(made, task.coordinates)
        metadata = await self._metadata(assessed, task, recipe, await self._replay(lock))
        self._folder.note(f"attempt {number}: levels {assessed.levels()}")
        return _Built(recipe, assessed, lock, metadata)

    async def _replay(self, lock: Lock) -> ReplayRepository:
        """Return what a lock just recorded holds; all of it is in the cache."""
        return ReplayRepository(lock, await fetch_maven(lock, self._tools.upstream))

    async def _build(
        self, task: _Task, recipe: MavenRecipe, inputs: RepositoryInputs, stage: str
    ) -> list[Path]:
        """Run one sandbox with one recipe."""
        self._report.enter(stage, recipe.title())
        progress = self._report.sandbox = Progress()
        out = self._folder.root / stage.replace(" ", "-")
        out.mkdir()
        uid = self._machine.uid
        with socket_folder(self._folder, uid) as folder:
            proxy_socket = folder / "proxy.sock"
            hidden = _Hidden(inputs, task.coordinates.folder)
            async with serving_repository(hidden, proxy_socket, uid=uid, watcher=progress):
                job = SandboxJob(
                    name=f"{self._folder.root.name}-{stage.replace(' ', '-')}",
                    guest=self._guest(recipe, task.coordinates),
                    source=task.source.tar,
                    proxy_socket=proxy_socket,
                    out_dir=out,
                    log_path=self._folder.log,
                    limits=self._machine.limits,
                    files={},
                    uid=uid,
                    maven_binds=task.toolchain.binds,
                    outputs_max=OUTPUT_FILES_MAX,
                )
                return await run_sandbox(job, self._machine.confiner, progress)

    def _guest(self, recipe: MavenRecipe, coordinates: Coordinates) -> Mapping[str, object]:
        """Return the job as the guest reads it."""
        return {
            "folder": coordinates.folder,
            "prefix": f"{coordinates.artifact}-{coordinates.version}",
            "module": recipe.module,
            "goals": list(recipe.goals),
            "profiles": list(recipe.profiles),
            "properties": list(recipe.properties),
            "newline": recipe.newline,
            "umask": recipe.umask,
            "timezone": recipe.timezone,
            "locale": recipe.locale,
            "epoch": recipe.epoch,
            "environment": dict(self._tools.variation),
            # Java reserves more address space than any build uses memory; a cgroup or the watcher,
            # which sums up what is really used, bounds that.
            "limits": {**self._machine.guest_limits(), "AS": 0},
        }

    async def _assess(
        self, made: list[Path], coordinates: Coordinates, *, tamper: str | None = None
    ) -> AssessedFiles:
        self._report.enter("compare")
        return await assess_files(
            made,
            coordinates,
            self._tools.upstream,
            self._folder,
            rules=str(pipeline()["digest"]),
            tamper=tamper,
            tool=diffoscope.Tool(self._machine.confiner, self._machine.uid),
        )

    async def _metadata(
        self, assessed: AssessedFiles, task: _Task, recipe: MavenRecipe, inputs: ReplayRepository
    ) -> Metadata:
        """Return what the built pom and its parents say."""
        data = assessed.pom(task.coordinates)
        if data is None:
            detail = f"{task.coordinates.file('pom')} was not installed"
            raise BuildFailure("BUILD_FAILED", "no pom", detail)
        return await read_metadata(
            data, task.coordinates, inputs=inputs, source=task.source.tar, module=recipe.module
        )

    def _is_late(self, params: TrialParams) -> bool:
        """Tell whether another attempt could run out of the job's time."""
        return asyncio.get_running_loop().time() - self._started > params.seconds_max / 2

    def _result(self, built: _Built, task: _Task) -> BuildResult:
        files = (*built.assessed.files, mirrored(task.source, self._folder))
        seconds = asyncio.get_running_loop().time() - self._started
        return BuildResult(
            purl=task.coordinates.purl,
            source=task.source.described(),
            pipeline=pipeline(),
            toolchain=task.toolchain.digest,
            lock=built.lock,
            recipe=built.recipe.fields(),
            metadata=built.metadata,
            files=tuple(sorted(files, key=lambda f: f.name)),
            environment=self._machine.environment,
            seconds=round(seconds, 3),
            log_path=str(self._folder.log),
            explanation_path=built.assessed.explanation_path,
        )


def _asked_for(params: TrialParams) -> Coordinates:
    """Return the version that is asked for; raises FormatError if it could have no files."""
    found = parse_coordinates(params.name, params.version)
    parse_file_path(f"{found.folder}/{found.file('pom')}")
    return found


def _plan(task: _Task, options: Options) -> tuple[MavenRecipe, ...]:
    source = task.source
    is_archive = not options.source.startswith("git+")
    return maven.plan(
        task.reference.marks,
        options,
        Origin(options.source, source.commit, source.tag, int(is_archive), source.time),
        reference=task.reference.name,
        jdk=task.toolchain.jdk,
        maven=task.toolchain.maven,
    )


def _check_source(params: RebuildParams, source: FetchedSource) -> None:
    """Check that the source is the one that this node has just fetched itself."""
    if source.described() != params.source:
        detail = f"{params.source.file} is asked for, {source.file} is what {source.url} gives"
        raise BuildFailure("REFUSED", "source", detail)


def _check_lock(params: RebuildParams, coordinates: Coordinates) -> None:
    """Check that the lock holds the source, and nothing of the version that is to be built."""
    sources = [f for f in params.lock.files if f.ecosystem == "source"]
    locked = [(f.file, f.sha256, f.size) for f in sources]
    if locked != [(params.source.file, params.source.sha256, params.source.size)]:
        raise BuildFailure("REFUSED", "lock", f"{params.source.file} is not its one source")
    if any(f.project == coordinates.folder for f in params.lock.files):
        raise BuildFailure("REFUSED", "lock", "it holds files of the version that is to be built")


def _read_marks(path: Path) -> Marks:
    if path.stat().st_size > REFERENCE_BYTES_MAX:
        raise ArchiveError("archive too large", f"{path.stat().st_size} bytes")
    return maven.read_marks(ZipArchive(path.read_bytes(), ArchiveLimits()))
