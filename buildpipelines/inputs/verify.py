"""Every locked input is checked against the upstream by each node's own look-up.

A sponsor could lock a poisoned build tool: a file of the right name with other bytes, or one that
was uploaded after the release. So before a rebuild each member asks its own index whether every
locked file exists under that name with that hash, and whether it is old enough. Only then are the
files fetched, by their digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.maven_upstream import MavenUpstream
from buildpipelines.inputs.pages import IndexFile
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.spec.lock import UNKNOWN, Lock, LockedFile

FETCHES_MAX: Final = 16
"""Files of a lock that are fetched at the same time."""


async def verify_locked(lock: Lock, upstream: Upstream, *, cutoff: str) -> dict[str, IndexFile]:
    """Return the upstream's own record of every locked file, by digest.

    Args:
        lock: What the sponsor recorded.
        upstream: This node's index.
        cutoff: The time up to which inputs may have been uploaded, or "none".

    Raises:
        BuildFailure: REFUSED when the upstream has no such file, other bytes under the name, or a
            later upload; SOURCE_UNAVAILABLE when the upstream does not answer.
    """
    if foreign := [f for f in lock.files if f.ecosystem != "pypi"]:
        raise BuildFailure("REFUSED", "lock ecosystem", foreign[0].ecosystem)
    found: dict[str, IndexFile] = {}
    for project in sorted({f.project for f in lock.files}):
        known = {f.file: f for f in await upstream.project(project)}
        for locked in lock.files:
            if locked.project == project:
                found[locked.sha256] = _check(locked, known, cutoff)
    return found


async def fetch_maven(lock: Lock, upstream: MavenUpstream) -> dict[str, Path]:
    """Check every locked Maven file against this node's own repositories, and fetch it.

    Entries of the source are left to who builds: it fetches them in another way.

    Args:
        lock: What the sponsor recorded.
        upstream: This node's repositories.

    Returns:
        The paths of the files by digest.

    Raises:
        BuildFailure: REFUSED when no repository has such a file, or it has other bytes or another
            size; SOURCE_UNAVAILABLE when a repository does not answer.
    """
    if foreign := [f for f in lock.files if f.ecosystem not in ("maven", "source")]:
        raise BuildFailure("REFUSED", "lock ecosystem", foreign[0].ecosystem)
    wanted = [f for f in lock.files if f.ecosystem == "maven"]
    at_once = asyncio.Semaphore(FETCHES_MAX)

    async def fetch(locked: LockedFile) -> Path:
        async with at_once:
            return await _fetch_maven_file(locked, upstream)

    paths = await asyncio.gather(*map(fetch, wanted))
    return {f.sha256: path for f, path in zip(wanted, paths, strict=True)}


async def _fetch_maven_file(locked: LockedFile, upstream: MavenUpstream) -> Path:
    name = f"{locked.project}/{locked.file}"
    try:
        found = await upstream.find(name)
    except FormatError as error:
        raise BuildFailure("REFUSED", "lock", str(error)) from error
    if found is None:
        raise BuildFailure("REFUSED", "lock unknown file", f"{name} is at no upstream")
    path = await upstream.fetch_locked(found, locked.sha256)
    _check_size(locked, path)
    return path


async def fetch_locked(
    lock: Lock, known: Mapping[str, IndexFile], upstream: Upstream
) -> dict[str, Path]:
    """Fetch every locked file and return the paths by digest.

    Raises:
        BuildFailure: a file cannot be had, or has not the locked size.
    """
    wanted = [known[f.sha256] for f in lock.files]
    paths = await asyncio.gather(*(upstream.fetch(file) for file in wanted))
    for locked, path in zip(lock.files, paths, strict=True):
        _check_size(locked, path)
    return {f.sha256: path for f, path in zip(lock.files, paths, strict=True)}


def _check_size(locked: LockedFile, path: Path) -> None:
    size = path.stat().st_size
    if size != locked.size:
        raise BuildFailure(
            "REFUSED", "lock size", f"{locked.file}: {size} bytes, {locked.size} locked"
        )


def _check(locked: LockedFile, known: Mapping[str, IndexFile], cutoff: str) -> IndexFile:
    file = known.get(locked.file)
    if file is None:
        raise BuildFailure("REFUSED", "lock unknown file", f"{locked.file} is not at the upstream")
    if file.sha256 != locked.sha256:
        raise BuildFailure(
            "REFUSED",
            "lock hash",
            f"{locked.file}: {locked.sha256} is locked, the upstream has {file.sha256}",
        )
    times = {locked.uploaded, file.uploaded} - {UNKNOWN}
    if len(times) > 1:
        raise BuildFailure("REFUSED", "lock upload time", f"{locked.file}: {' and '.join(times)}")
    if cutoff != "none" and any(time > cutoff for time in times):
        raise BuildFailure("REFUSED", "lock too new", f"{locked.file}: {times} after {cutoff}")
    return file
