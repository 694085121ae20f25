"""What jobs of all pipelines share: names of rules, refusals, the nearest attempt, the source."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.spec import canonical
from buildpipelines.spec.messages import OutputFile, Source
from buildpipelines.worker.workspace import JobFolder

_T = TypeVar("_T")
_Recipe = TypeVar("_Recipe")
_Built = TypeVar("_Built")

NEAR_LEVEL = 1
"""At this level nothing but containers differs: another attempt would not be nearer."""


def name_pipeline(
    name: str, version: int, parts: Mapping[str, object], **guests: bytes
) -> dict[str, object]:
    """Return id, version and digest of a pipeline's rules.

    Args:
        name: The pipeline's id.
        version: Of its recipes.
        parts: What else decides its results.
        guests: Texts of the programs that run in its sandboxes.
    """
    texts = {key: hashlib.sha256(text).hexdigest() for key, text in guests.items()}
    document = {"t": "pipeline", "v": 1, "id": name, "recipe": version, **parts, **texts}
    return {"id": name, "version": version, "digest": canonical.digest(document)}


def refusing_format(read: Callable[[], _T]) -> _T:
    """Return what ``read`` returns; a FormatError becomes a refusal of the request."""
    try:
        return read()
    except FormatError as error:
        raise BuildFailure("REFUSED", "request", str(error)) from error


async def nearest(
    plan: Sequence[_Recipe],
    attempt: Callable[[int, _Recipe], Awaitable[_Built]],
    folder: JobFolder,
    *,
    levels: Callable[[_Built], tuple[int, ...]],
    is_late: Callable[[], bool] = lambda: False,
) -> _Built:
    """Try recipes in their order and return what came nearest to the published files.

    Args:
        plan: The recipes, the most promising first; at least one.
        attempt: Builds by a recipe; told its number, from 1.
        folder: The job's, for notes.
        levels: The levels that an attempt reached, the worst first.
        is_late: Whether another attempt could run out of the job's time.

    Raises:
        BuildFailure: none made anything; it is the failure of the most promising.
    """
    best: _Built | None = None
    first_failure: BuildFailure | None = None
    for number, recipe in enumerate(plan, 1):
        if number > 1 and is_late():
            break
        try:
            built = await attempt(number, recipe)
        except BuildFailure as failure:
            folder.note(f"attempt {number}: {failure.outcome}: {failure.cause}")
            first_failure = first_failure or failure
            continue
        if best is None or levels(built) < levels(best):
            best = built
        if max(levels(best)) <= NEAR_LEVEL:
            break
    if best is None:
        assert first_failure is not None, "a plan has at least one recipe"
        raise first_failure
    return best


def mirrored_source(source: Source, path: Path, *, media: str) -> OutputFile:
    """Describe the source as a file of the result, which hands it on as it was fetched.

    Args:
        source: What the build started from.
        path: Where the node finds it.
        media: The media type that it is served with.
    """
    return OutputFile(
        name=source.file,
        path=str(path),
        size=source.size,
        sha256=source.sha256,
        l1=source.sha256,
        l2=source.sha256,
        media=media,
        claim="mirrored",
        upstream_sha256=source.sha256,
        level=0,
    )
