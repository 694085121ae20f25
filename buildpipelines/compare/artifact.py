"""One file that a Maven build makes, compared with the published file of its name. Pure.

Archives are compared by the rules of jars; everything else (poms, signatures, tars) is equal to
the byte or differs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from buildpipelines.compare.jar import compare
from buildpipelines.compare.text import text_differences
from buildpipelines.compare.verdict import bounded
from buildpipelines.errors import ArchiveError
from buildpipelines.extract.jar import Jar, JarLimits, is_archive, read_jar
from buildpipelines.spec.explanation import (
    UNPUBLISHED,
    Content,
    Difference,
    FileExplanation,
    make_difference,
)
from buildpipelines.stabilize.jar import level1, level2, listing_digest


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, read and checked. ``l1`` and ``l2`` are digests of its normal forms."""

    name: str
    content: Content
    l1: str
    l2: str
    jar: Jar | None
    data: bytes


def read_artifact(name: str, data: bytes, limits: JarLimits | None = None) -> Artifact:
    """Read a file that a build made, or that is published.

    Raises:
        ArchiveError: it is called like an archive, and is none with exactly one reading.
    """
    content = Content(hashlib.sha256(data).hexdigest(), len(data))
    if not is_archive(name):
        return Artifact(name, content, content.sha256, content.sha256, None, data)
    jar = read_jar(name, data, limits)
    forms = listing_digest(level1(jar), "l1"), listing_digest(level2(jar), "l2")
    return Artifact(name, content, *forms, jar, data)


def compare_published(
    built: Artifact, published: bytes | None, limits: JarLimits | None = None
) -> FileExplanation:
    """Compare a build with the bytes that the upstream has under its name.

    Args:
        built: The file that came out of the sandbox.
        published: The upstream's bytes, or None where it has no such file.
        limits: The bounds of archives; the defaults where None.
    """
    if published is None:
        return FileExplanation(built.name, UNPUBLISHED, built.content)
    content = Content(hashlib.sha256(published).hexdigest(), len(published))
    if built.jar is None:
        return _compare_plain(built, published, content)
    try:
        other = built.jar if content == built.content else read_jar(built.name, published, limits)
    except ArchiveError as error:
        refused = make_difference(
            "", "structure", built="one reading", published=f"refused: {error}", level=3
        )
        return FileExplanation(built.name, 3, built.content, content, differences=(refused,))
    found = compare(built.jar, other, is_identical=content == built.content)
    return FileExplanation(
        built.name,
        found.level,
        built.content,
        content,
        entries=found.entries,
        classes=found.classes,
        differences=found.differences,
        more=found.more,
    )


def in_words(explanation: FileExplanation) -> tuple[str, ...]:
    """Return the first differences as lines, as messages of the build link carry them."""
    return bounded(difference.line() for difference in explanation.differences)


def _compare_plain(built: Artifact, published: bytes, content: Content) -> FileExplanation:
    if content == built.content:
        return FileExplanation(built.name, 0, built.content, content)
    lines = text_differences(built.data, published)
    differences: tuple[Difference, ...] = tuple(
        make_difference("", d.attribute, built=d.built, published=d.published, level=3)
        for d in lines or ()
    )
    if lines is None:
        one, other = (f"{c.size} bytes, SHA-256 {c.sha256[:16]}…" for c in (built.content, content))
        differences = (make_difference("", "content", built=one, published=other, level=3),)
    return FileExplanation(built.name, 3, built.content, content, differences=differences)
