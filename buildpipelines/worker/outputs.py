"""From what a build made to what the node is told: digests, levels, metadata.

Everything is checked before it is described: the wheel's structure, that it belongs to the
release, the upstream's own file of the same name. A published file that fails the structural
checks cannot be served, so it counts as different, with the reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.compare.verdict import Comparison
from buildpipelines.compare.wheel import compare
from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.wheel import Wheel, read_wheel
from buildpipelines.inputs.pages import IndexFile
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.recipes.metadata import extract_metadata
from buildpipelines.recipes.releases import is_wheel_of, same_wheel
from buildpipelines.spec.messages import OutputFile, Source
from buildpipelines.spec.metadata import Metadata
from buildpipelines.stabilize import wheel as stabilize
from buildpipelines.worker.attempts import mirrored_source
from buildpipelines.worker.tamper import tamper_with
from buildpipelines.worker.workspace import JobFolder

WHEEL_BYTES_MAX: Final = 256 * 1024 * 1024
WHEEL_LIMITS: Final = ArchiveLimits()
WHEEL_MEDIA: Final = "application/zip"
SDIST_MEDIA: Final = {".gz": "application/gzip", ".zip": "application/zip"}


@dataclass(frozen=True, slots=True)
class Release:
    """A package version and the files that the upstream publishes for it."""

    name: str
    version: str
    files: tuple[IndexFile, ...]


@dataclass(frozen=True, slots=True)
class Assessed:
    """A built wheel, described."""

    file: OutputFile
    metadata: Metadata


async def assess(
    paths: Sequence[Path],
    release: Release,
    upstream: Upstream,
    folder: JobFolder,
    *,
    tamper: str | None = None,
) -> Assessed:
    """Check and describe what a build made, and compare it with the upstream's file.

    Raises:
        BuildFailure: not exactly one wheel of this release, or one that is malformed.
    """
    if len(paths) != 1:
        raise BuildFailure("BUILD_FAILED", "several wheels", f"the build made {len(paths)} wheels")
    path = paths[0]
    if not is_wheel_of(path.name, release.name, release.version):
        raise BuildFailure("BUILD_FAILED", "wheel name", f"{path.name} is not of this release")
    published = next((f for f in release.files if same_wheel(f.file, path.name)), None)
    published_path = None if published is None else await upstream.fetch(published)
    return await asyncio.to_thread(_assess, path, published, published_path, folder, tamper)


def _assess(
    path: Path,
    published: IndexFile | None,
    published_path: Path | None,
    folder: JobFolder,
    tamper: str | None,
) -> Assessed:
    try:
        wheel, data = read_wheel_file(path, path.name)
        if tamper is not None:
            path.write_bytes(tamper_with(wheel, tamper))
            wheel, data = read_wheel_file(path, path.name)
        metadata = extract_metadata(wheel.small_file("METADATA"))
    except ArchiveError as error:
        raise BuildFailure("BUILD_FAILED", error.cause, f"the built wheel: {error}") from error
    except FormatError as error:
        raise BuildFailure("BUILD_FAILED", "wheel metadata", str(error)) from error
    sha256 = hashlib.sha256(data).hexdigest()
    comparison: Comparison | None = None
    copy: Path | None = None
    if published is not None and published_path is not None:
        comparison = _compare(wheel, published, published_path, sha256)
        # A copy, because the node moves what it adopts and the cache must keep its own.
        (folder.root / "upstream").mkdir(exist_ok=True)
        copy = folder.root / "upstream" / published.file
        shutil.copyfile(published_path, copy)
    # The index's spelling of the name wins: it is what lock files and clients ask for.
    file = OutputFile(
        name=path.name if published is None else published.file,
        path=str(path),
        size=len(data),
        sha256=sha256,
        l1=stabilize.listing_digest(stabilize.level1(wheel), "l1"),
        l2=stabilize.listing_digest(stabilize.level2(wheel), "l2"),
        media=WHEEL_MEDIA,
        claim="rebuilt",
        upstream_sha256=None if published is None else published.sha256,
        upstream_path=None if copy is None else str(copy),
        level=None if comparison is None else comparison.level,
        differences=() if comparison is None else comparison.differences,
    )
    return Assessed(file, metadata)


def read_wheel_file(path: Path, name: str) -> tuple[Wheel, bytes]:
    """Read and check a wheel from disk; returns its bytes too; raises ArchiveError."""
    size = path.stat().st_size
    if size > WHEEL_BYTES_MAX:
        raise ArchiveError("archive too large", f"{name} has {size} bytes")
    data = path.read_bytes()
    return read_wheel(name, data, WHEEL_LIMITS), data


def _compare(built: Wheel, published: IndexFile, path: Path, sha256: str) -> Comparison:
    if published.sha256 == sha256:
        return Comparison(0, ())
    try:
        wheel, _ = read_wheel_file(path, published.file)
    except ArchiveError as error:
        return Comparison(3, (f"the published file is refused: {error}",))
    return compare(built, wheel, is_identical=False)


def mirrored(source: Source, path: Path, folder: JobFolder) -> OutputFile:
    """Describe the source distribution, which is handed on as it was fetched."""
    copy = folder.out / source.file
    shutil.copyfile(path, copy)
    return mirrored_source(source, copy, media=SDIST_MEDIA[copy.suffix])
