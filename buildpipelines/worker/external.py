"""Claims ``external``: what another's pipeline answered, checked for form and compared.

A member asks the pipeline that its own operator named, and only that. Nothing of how the files
came about is known here, so nothing is claimed about it: the source is the question itself, the
lock holds nothing else, and the toolchain is the document which says that nobody knows. What is
known is what can be seen: names, structure, and how the files compare with the published ones.
Design: docs/design/maven.md, "External pipelines".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.recipes import pom
from buildpipelines.spec import canonical
from buildpipelines.spec.coordinates import (
    METADATA,
    Coordinates,
    parse_coordinates,
    parse_maven_purl,
)
from buildpipelines.spec.lock import Lock, LockedFile, make_lock
from buildpipelines.spec.messages import (
    BuildResult,
    OutputFile,
    RebuildParams,
    RecipeValue,
    Source,
    TrialParams,
)
from buildpipelines.spec.metadata import Metadata
from buildpipelines.stabilize.jar import rules_document
from buildpipelines.worker.attempts import mirrored_source, name_pipeline, refusing_format
from buildpipelines.worker.contract import (
    Failure,
    GitSource,
    MappingInfo,
    Success,
    artifact_name,
)
from buildpipelines.worker.machine import ExternalTools, Machine, Report
from buildpipelines.worker.maven_outputs import AssessedFiles, assess_files
from buildpipelines.worker.workspace import JobFolder

VERSION: Final = 1
"""Raised with every change of what is asked, taken or said; a part of the pipeline's digest."""

MAPPING: Final = "mapping"
OPTION: Final = "external"
"""Value of the option ``pipeline`` that asks for another's pipeline instead of our own."""

FILES_MAX: Final = 32
POLL_SECONDS: Final = 0.1
POLL_SECONDS_MAX: Final = 10.0

TOOLCHAIN: Final[Mapping[str, object]] = {"toolchain": "unknown"}
"""The toolchain document of what nobody here knows how it was made."""

_GIT: Final = "git+"
_ASIDE: Final = (".md5", ".sha1", ".sha256", ".sha512", ".asc")
"""What pipelines put beside their files: every node computes or relays these by itself."""


def pipeline() -> dict[str, object]:
    """Return id, version and digest of the rules by which an answer is taken and compared."""
    return name_pipeline(OPTION, VERSION, {"metadata": pom.VERSION, "rules": rules_document()})


class ExternalJob:
    """One question to another's pipeline, as a trial or as a member's own answer."""

    def __init__(self, machine: Machine, folder: JobFolder, report: Report) -> None:
        """Work in ``folder`` and tell ``report`` about it.

        Raises:
            BuildFailure: REFUSED: no pipeline was named to this worker.
        """
        if machine.external is None:
            detail = "build.external names no pipeline here"
            raise BuildFailure("REFUSED", "no external pipeline", detail)
        self._tools: ExternalTools = machine.external
        self._machine = machine
        self._folder = folder
        self._report = report
        self._started = asyncio.get_running_loop().time()

    async def trial(self, params: TrialParams) -> BuildResult:
        """Ask for a version, from the source that the options name, if they name one.

        Raises:
            BuildFailure: REFUSED: the options ask for what no pipeline can be told; else what
                the pipeline said.
        """
        coordinates = refusing_format(lambda: parse_coordinates(params.name, params.version))
        recipe = refusing_format(lambda: _recipe_of(params.options))
        return await self._ask(coordinates, recipe)

    async def rebuild(self, params: RebuildParams) -> BuildResult:
        """Ask this worker's own pipeline what a request says that another answered.

        Raises:
            BuildFailure: REFUSED: request and question do not fit together; else what the
                pipeline said.
        """
        coordinates = refusing_format(lambda: parse_maven_purl(params.purl))
        recipe = refusing_format(lambda: _parse_recipe(params.recipe))
        if params.toolchain != canonical.digest(TOOLCHAIN):
            raise BuildFailure("REFUSED", "toolchain", "of an external pipeline it is unknown")
        question = mapping_of(coordinates, recipe).encoded()
        if params.source != source_of(question):
            detail = f"{params.source.file} is not what follows from name and recipe"
            raise BuildFailure("REFUSED", "source", detail)
        if params.lock != lock_of(params.source):
            raise BuildFailure("REFUSED", "lock", "it holds more than the question")
        return await self._ask(coordinates, recipe, tamper=params.tamper)

    async def _ask(
        self, coordinates: Coordinates, recipe: Mapping[str, str], *, tamper: str | None = None
    ) -> BuildResult:
        self._report.enter("ask", f"{coordinates.name} {coordinates.version}")
        mapping = mapping_of(coordinates, recipe)
        build = await self._tools.client.start(mapping)
        self._folder.note(f"the pipeline calls it {build}")
        names = _wanted(await self._wait(build), build, coordinates)
        paths = await self._fetch(build, names)
        self._report.enter("compare")
        assessed = await assess_files(
            paths,
            coordinates,
            self._tools.published,
            self._folder,
            rules=str(pipeline()["digest"]),
            claim="external",
            tamper=tamper,
        )
        return self._result(coordinates, recipe, mapping.encoded(), assessed)

    async def _wait(self, build: str) -> Success:
        """Look until the build has ended; the job's own time bounds how often."""
        self._report.enter("wait", build)
        pause = POLL_SECONDS
        while True:
            status = await self._tools.client.status(build)
            if isinstance(status, Failure):
                raise BuildFailure("BUILD_FAILED", "external build", status.text)
            if isinstance(status, Success):
                return status
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, POLL_SECONDS_MAX)

    async def _fetch(self, build: str, names: tuple[str, ...]) -> list[Path]:
        paths, room = [], self._machine.limits.output_bytes
        for name in names:
            self._report.enter("fetch", name)
            path = self._folder.out / name
            room -= await self._tools.client.fetch(build, name, path, bytes_max=room)
            paths.append(path)
        return paths

    def _result(
        self,
        coordinates: Coordinates,
        recipe: Mapping[str, str],
        question: bytes,
        assessed: AssessedFiles,
    ) -> BuildResult:
        source = source_of(question)
        files = (*assessed.files, self._question_file(source, question))
        return BuildResult(
            purl=coordinates.purl,
            source=source,
            pipeline=pipeline(),
            toolchain=canonical.digest(TOOLCHAIN),
            lock=lock_of(source),
            recipe=recipe,
            metadata=_metadata(coordinates, assessed),
            files=tuple(sorted(files, key=lambda file: file.name)),
            environment=self._machine.environment,
            seconds=round(asyncio.get_running_loop().time() - self._started, 3),
            log_path=str(self._folder.log),
            explanation_path=assessed.explanation_path,
        )

    def _question_file(self, source: Source, question: bytes) -> OutputFile:
        """Describe the question as a file of the entry: who audits can ask it again."""
        path = self._folder.out / source.file
        path.write_bytes(question)
        return mirrored_source(source, path, media="application/json")


def mapping_of(coordinates: Coordinates, recipe: Mapping[str, str]) -> MappingInfo:
    """Return the question that follows from a version and a recipe."""
    git = None
    if recipe:
        git = GitSource(recipe["source_url"].removeprefix(_GIT), recipe["tag"])
    return MappingInfo("Maven2", f"{coordinates.name}:{coordinates.version}", git)


def source_of(question: bytes) -> Source:
    """Return a question as the source of a request."""
    sha256 = hashlib.sha256(question).hexdigest()
    return Source(MAPPING, f"{MAPPING}-{sha256[:16]}.json", sha256, len(question))


def lock_of(source: Source) -> Lock:
    """Return the inputs lock: the question alone."""
    return make_lock([LockedFile("source", "source", source.file, source.sha256, source.size)])


def _recipe_of(options: Mapping[str, RecipeValue]) -> dict[str, str]:
    """Return the recipe that the options of a trial ask for; raises FormatError."""
    more = sorted(options.keys() - {"pipeline", "source", "tag"})
    if more:
        raise FormatError(f"an external pipeline cannot be told {more[0]!r:.40}")
    named = {"source_url": options.get("source"), "tag": options.get("tag")}
    return _parse_recipe({key: value for key, value in named.items() if value is not None})


def _parse_recipe(fields: Mapping[str, RecipeValue]) -> dict[str, str]:
    """Read the recipe of a request: nothing, or a git repository with a tag.

    Raises:
        FormatError: something else; a repository without a tag is named.
    """
    if not fields:
        return {}
    url, tag = fields.get("source_url"), fields.get("tag")
    if fields.keys() - {"source_url", "tag"} or not isinstance(url, str):
        raise FormatError("the recipe of an external pipeline is {} or {source_url, tag}")
    if not url.startswith(f"{_GIT}https://") or not url.isprintable():
        raise FormatError(f"{url!r:.200} is not git+https://…: the contract knows no other source")
    if not isinstance(tag, str) or not tag or not tag.isprintable():
        raise FormatError(f"{url!r:.200} needs a tag: a mapping without one is refused")
    return {"source_url": url, "tag": tag}


def _wanted(status: Success, build: str, coordinates: Coordinates) -> tuple[str, ...]:
    """Return the names to fetch, sorted.

    Raises:
        BuildFailure: an address that leads elsewhere, a file of another version, none, too many.
    """
    try:
        offered = {artifact_name(url, build_id=build) for url in status.artifact_urls}
    except FormatError as error:
        raise BuildFailure("BUILD_FAILED", "external answer", str(error)) from error
    stem = METADATA.removesuffix(".xml")
    names = sorted(n for n in offered if not n.endswith(_ASIDE) and not n.startswith(stem))
    foreign = next((name for name in names if not coordinates.owns(name)), None)
    if foreign is not None:
        detail = f"{foreign} is not of {coordinates.name} {coordinates.version}"
        raise BuildFailure("BUILD_FAILED", "file name", detail)
    if not names or len(names) > FILES_MAX:
        detail = f"{len(names)} files are offered; from 1 to {FILES_MAX} are taken"
        raise BuildFailure("BUILD_FAILED", "external files", detail)
    return tuple(names)


def _metadata(coordinates: Coordinates, assessed: AssessedFiles) -> Metadata:
    """Return what the pom says by itself, or name and version where there is none."""
    data = assessed.pom(coordinates)
    if data is None:
        return Metadata(coordinates.name, coordinates.version)
    try:
        return pom.extract_metadata([pom.read_pom(data)], coordinates)
    except FormatError as error:
        raise BuildFailure("BUILD_FAILED", "pom", str(error)) from error
