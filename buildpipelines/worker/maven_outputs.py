"""From what a Maven build installed to what the node is told: digests, levels, explanation.

Each file is checked before it is described: that it is of this version by name, that an archive
has one reading. It is compared with the upstream's file of the same name, if there is one; a
published file that fails the checks cannot be served, so it counts as different, with the reason.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from buildpipelines.compare.artifact import Artifact, compare_published, in_words, read_artifact
from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.jar import is_archive
from buildpipelines.inputs.maven_upstream import MavenUpstream
from buildpipelines.inputs.sources import FetchedSource
from buildpipelines.spec.coordinates import Coordinates
from buildpipelines.spec.explanation import UNPUBLISHED, FileExplanation, make_explanation
from buildpipelines.spec.messages import Claim, OutputFile
from buildpipelines.worker import diffoscope
from buildpipelines.worker.attempts import mirrored_source
from buildpipelines.worker.tamper import tamper_with_archive
from buildpipelines.worker.workspace import JobFolder

FILE_BYTES_MAX: Final = 256 * 1024 * 1024
DIFFERS: Final = 3
EXPLANATION_FILE: Final = "explanation.json"
JAVA_ARCHIVE: Final = "application/java-archive"
PLAIN: Final = "application/octet-stream"
_MEDIA: Final = {
    ".jar": JAVA_ARCHIVE,
    ".war": JAVA_ARCHIVE,
    ".ear": JAVA_ARCHIVE,
    ".aar": "application/zip",
    ".rar": JAVA_ARCHIVE,
    ".zip": "application/zip",
    ".pom": "text/xml",
    ".xml": "text/xml",
    ".gz": "application/gzip",
    ".xz": "application/x-xz",
    ".bz2": "application/x-bzip2",
    ".tar": "application/x-tar",
}


@dataclass(frozen=True, slots=True)
class AssessedFiles:
    """The files of a build, described, and the path of the document that explains them."""

    files: tuple[OutputFile, ...]
    explanation_path: str

    def levels(self) -> tuple[int, ...]:
        """Return the levels reached, the worst first: less of them is nearer."""
        found = (0 if file.level is None else file.level for file in self.files)
        return tuple(sorted(found, reverse=True))

    def pom(self, coordinates: Coordinates) -> bytes | None:
        """Return the bytes of the built pom, or None where the build made none."""
        name = coordinates.file("pom")
        found = next((file.path for file in self.files if file.name == name), None)
        return None if found is None else Path(found).read_bytes()


async def assess_files(
    paths: Sequence[Path],
    coordinates: Coordinates,
    upstream: MavenUpstream,
    folder: JobFolder,
    *,
    rules: str,
    claim: Claim = "rebuilt",
    tamper: str | None = None,
    tool: diffoscope.Tool | None = None,
) -> AssessedFiles:
    """Check and describe what a build made, and compare it with the upstream's files.

    Args:
        paths: The built files; their names are what the build called them.
        coordinates: The version that was built.
        upstream: Where published files of the same names are looked for.
        folder: The job's; the explanation and copies of published files go there.
        rules: Digest of the pipeline that judges, in hex.
        claim: What is said of the files.
        tamper: A fault for development networks: spoil the main artifact.
        tool: How to run diffoscope on the main artifact, where that differs and this is wanted.

    Raises:
        BuildFailure: a file of another version, a malformed archive, or no answer of the upstream.
    """
    found: list[tuple[OutputFile, FileExplanation]] = []
    main = _main_file(paths, coordinates)
    for path in sorted(paths, key=lambda p: p.name):
        if not coordinates.owns(path.name):
            detail = f"{path.name} is not of {coordinates.name} {coordinates.version}"
            raise BuildFailure("BUILD_FAILED", "file name", detail)
        published = await upstream.find(f"{coordinates.folder}/{path.name}")
        local = None if published is None else await upstream.fetch(published)
        spoil = tamper if path == main else None
        found.append(await asyncio.to_thread(_assess, path, local, folder, claim, spoil))
    quoted = None if tool is None else await _quoted(found, main, tool)
    explanation = make_explanation(
        purl=coordinates.purl,
        rules=rules,
        files=(_with(each, quoted, main) for _, each in found),
        tool="" if quoted is None else quoted.tool,
    )
    target = folder.root / EXPLANATION_FILE
    target.write_bytes(explanation.encode())
    return AssessedFiles(tuple(file for file, _ in found), str(target))


async def _quoted(
    found: Sequence[tuple[OutputFile, FileExplanation]],
    main: Path | None,
    tool: diffoscope.Tool,
) -> diffoscope.Quoted | None:
    """Return what diffoscope says of the main artifact, if it differs from the published one."""
    for file, explanation in found:
        is_main = main is not None and file.name == main.name
        if is_main and explanation.level == DIFFERS and file.upstream_path is not None:
            return await diffoscope.quote(
                tool, Path(file.path), Path(file.upstream_path), name=file.name
            )
    return None


def _with(
    explanation: FileExplanation, quoted: diffoscope.Quoted | None, main: Path | None
) -> FileExplanation:
    """Return an explanation with the tool's words behind our own, where they are of this file."""
    if quoted is None or main is None or explanation.name != main.name:
        return explanation
    return replace(explanation, differences=(*explanation.differences, *quoted.differences))


def mirrored(source: FetchedSource, folder: JobFolder) -> OutputFile:
    """Describe the source, which is handed on as it was fetched."""
    described = source.described()
    copy = folder.out / described.file
    shutil.copyfile(source.path, copy)
    return mirrored_source(described, copy, media=media_type(described.file))


def media_type(file_name: str) -> str:
    """Return the media type that a file is served with."""
    return _MEDIA.get(Path(file_name).suffix.lower(), PLAIN)


def _main_file(paths: Sequence[Path], coordinates: Coordinates) -> Path | None:
    stem = f"{coordinates.artifact}-{coordinates.version}"
    return next((p for p in paths if is_archive(p.name) and p.stem == stem), None)


def _assess(
    path: Path, published_path: Path | None, folder: JobFolder, claim: Claim, tamper: str | None
) -> tuple[OutputFile, FileExplanation]:
    try:
        built = read_artifact(path.name, _content(path))
        if tamper is not None and built.jar is not None:
            path.write_bytes(tamper_with_archive(built.jar.archive, tamper))
            built = read_artifact(path.name, _content(path))
    except ArchiveError as error:
        raise BuildFailure("BUILD_FAILED", error.cause, f"{path.name}: {error}") from error
    if published_path is None:
        explanation = compare_published(built, None)
        return _described(path, built, claim, explanation, None), explanation
    if published_path.stat().st_size > FILE_BYTES_MAX:
        raise BuildFailure("REFUSED", "file too large", f"the published {path.name}")
    explanation = compare_published(built, published_path.read_bytes())
    # A copy, because the node moves what it adopts and the cache must keep its own.
    (folder.root / "upstream").mkdir(exist_ok=True)
    copy = folder.root / "upstream" / path.name
    shutil.copyfile(published_path, copy)
    return _described(path, built, claim, explanation, copy), explanation


def _content(path: Path) -> bytes:
    """Return a built file's bytes; raises ArchiveError if there are too many."""
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise ArchiveError("file too large", f"{path.name} has {size} bytes")
    return path.read_bytes()


def _described(
    path: Path, built: Artifact, claim: Claim, explanation: FileExplanation, copy: Path | None
) -> OutputFile:
    published = explanation.published
    return OutputFile(
        name=path.name,
        path=str(path),
        size=built.content.size,
        sha256=built.content.sha256,
        l1=built.l1,
        l2=built.l2,
        media=media_type(path.name),
        claim=claim,
        upstream_sha256=None if published is None else published.sha256,
        upstream_path=None if copy is None else str(copy),
        level=None if explanation.level == UNPUBLISHED else explanation.level,
        differences=in_words(explanation),
    )
