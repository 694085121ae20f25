"""At which level two wheels are equal, and what differs in words. Pure.

Level 0: the same bytes. Level 1 and 2: equal normal forms (``stabilize.wheel``). Level 3: they
differ in something that matters. The verdict rests on digests alone; the words are for people
and never enter a decision.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from buildpipelines.compare.verdict import Comparison, bounded
from buildpipelines.compare.zip import attribute_differences
from buildpipelines.errors import ArchiveError
from buildpipelines.extract.wheel import Wheel
from buildpipelines.stabilize import wheel as stabilize
from buildpipelines.stabilize.zip import Listing

_TEXT_BYTES_MAX = 256 * 1024
_VALUE_CHARACTERS = 100


def compare(built: Wheel, published: Wheel, *, is_identical: bool) -> Comparison:
    """Compare a build with the published wheel of the same name.

    Args:
        built: What came out of the sandbox.
        published: What the upstream offers.
        is_identical: Whether the two files have equal bytes.
    """
    if is_identical:
        return Comparison(0, ())
    built1, published1 = stabilize.level1(built), stabilize.level1(published)
    if built1 == published1:
        return Comparison(1, bounded(_container_differences(built, published)))
    built2, published2 = stabilize.level2(built), stabilize.level2(published)
    level = 2 if built2 == published2 else 3
    contents = _content_differences(built, published, built1, published1)
    return Comparison(level, bounded(contents))


def _content_differences(
    built: Wheel, published: Wheel, ours: Listing, theirs: Listing
) -> Iterator[str]:
    # RECORD lists all others, so its own difference says least and comes last.
    names = sorted(ours.keys() | theirs.keys(), key=lambda n: (n.endswith("/RECORD"), n))
    for name in names:
        if name not in theirs:
            yield f"{name}: only in the build"
        elif name not in ours:
            yield f"{name}: only in the published file"
        else:
            (our_mode, our_digest), (their_mode, their_digest) = ours[name], theirs[name]
            if our_mode != their_mode:
                yield f"{name}: mode: {our_mode:o} in the build, {their_mode:o} published"
            if our_digest != their_digest:
                yield _describe_content(name, built, published, our_digest, their_digest)


def _describe_content(
    name: str, built: Wheel, published: Wheel, our_digest: str, their_digest: str
) -> str:
    ours, theirs = _text_lines(built, name), _text_lines(published, name)
    if ours is not None and theirs is not None:
        for number, (our_line, their_line) in enumerate(
            itertools.zip_longest(ours, theirs, fillvalue="<end>"), 1
        ):
            if our_line != their_line:
                a, b = our_line[:_VALUE_CHARACTERS], their_line[:_VALUE_CHARACTERS]
                return f"{name}: line {number}: {a!r} in the build, {b!r} published"
    return f"{name}: content: {our_digest[:16]} in the build, {their_digest[:16]} published"


def _text_lines(wheel: Wheel, name: str) -> list[str] | None:
    entry = wheel.archive.find(name)
    if entry is None or entry.is_dir or entry.size > _TEXT_BYTES_MAX:
        return None
    try:
        return wheel.archive.read(entry).decode().split("\n")
    except (ArchiveError, UnicodeDecodeError):
        return None


def _container_differences(built: Wheel, published: Wheel) -> Iterator[str]:
    ours, theirs = built.archive.entries, published.archive.entries
    if [e.name for e in ours] != [e.name for e in theirs]:
        yield "zip: order of entries, or folder entries"
    by_name = {e.name: e for e in theirs}
    pairs = [(e, by_name[e.name]) for e in ours if e.name in by_name]
    for found in attribute_differences(pairs):
        yield (
            f"zip: {found.attribute} of {found.count} entries, first {found.name}: "
            f"{found.built} in the build, {found.published} published"
        )
