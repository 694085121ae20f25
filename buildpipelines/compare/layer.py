"""At which level two image layers are equal, and what differs in words. Pure.

The words name the path, the attribute and both values. Levels: ``compare.verdict``; normal forms:
``stabilize.layer``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from buildpipelines.compare.verdict import Comparison, bounded
from buildpipelines.extract.layer import Entry
from buildpipelines.stabilize.layer import Layer, Listing, level2

_VALUE_CHARACTERS: Final = 80
_PATH_CHARACTERS: Final = 120
_ATTRIBUTES: Final = (
    "kind",
    "mode",
    "uid",
    "gid",
    "link",
    "device",
    "sha256",
    "records",
    "mtime_ns",
    "owner_names",
    "access_times",
)
"""What is told of an entry that differs, most important first."""


def compare_layers(built: Layer, published: Layer, *, is_identical: bool) -> Comparison:
    """Compare a built layer with the published one at its place.

    Args:
        built: What came out of the sandbox.
        published: What the upstream offers.
        is_identical: Whether the two blobs have equal bytes, as they are stored.
    """
    if is_identical:
        return Comparison(0, ())
    if built.listing == published.listing:
        return Comparison(1, bounded(_container_differences(built, published)))
    level = 2 if level2(built.listing) == level2(published.listing) else 3
    return Comparison(level, bounded(entry_differences(built.listing, published.listing)))


def entry_differences(ours: Listing, theirs: Listing) -> Iterator[str]:
    """Yield a line for everything that differs, those that matter at level 2 first."""
    both = sorted(ours.keys() & theirs.keys())
    deep_ours, deep_theirs = level2(ours), level2(theirs)
    for path in sorted(ours.keys() ^ theirs.keys()):
        where = "the build" if path in ours else "the published layer"
        yield f"{_name(path)}: only in {where}"
    for path in both:
        if deep_ours[path] != deep_theirs[path]:
            yield from _attributes(deep_ours[path], deep_theirs[path])
    for path in both:
        if ours[path] != theirs[path] and deep_ours[path] == deep_theirs[path]:
            yield from _attributes(ours[path], theirs[path])


def _container_differences(built: Layer, published: Layer) -> Iterator[str]:
    if built.diff_id == published.diff_id:
        yield "layer: compression"
    else:
        yield "layer: order of entries, or how their headers are written"


def _attributes(ours: Entry, theirs: Entry) -> Iterator[str]:
    for attribute in _ATTRIBUTES:
        one, other = getattr(ours, attribute), getattr(theirs, attribute)
        if one != other:
            label = "content" if attribute == "sha256" else attribute.removesuffix("_ns")
            yield (
                f"{_name(ours.path)}: {label}: {_show(attribute, one)} in the build,"
                f" {_show(attribute, other)} published"
            )


def _name(path: str) -> str:
    return repr(path or "/")[1:-1][:_PATH_CHARACTERS]


def _show(attribute: str, value: object) -> str:
    match attribute, value:
        case "mode", int(mode):
            return f"{mode:04o}"
        case "sha256", str(digest):
            return digest[:16] or "none"
        case "mtime_ns", int(moment):
            seconds, rest = divmod(moment, 10**9)
            return f"{seconds}.{rest:09}" if rest else str(seconds)
        case "records", tuple(records):
            return str(dict(records))[:_VALUE_CHARACTERS]
        case _:
            return str(value)[:_VALUE_CHARACTERS]
