"""The document that tells what differs between a build and what is published. Pure.

Each member writes one for its own comparison; it is named by the SHA-256 of its canonical JSON and
reached from the log through the member's item. It decides nothing: levels are judged on digests
alone. People read it, so its texts carry no control or direction characters, whoever wrote them.
Format: docs/design/maven.md, "Explained".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from buildpipelines.errors import FormatError
from buildpipelines.spec import canonical, fields
from buildpipelines.spec.lock import FILE_BYTES_MAX, FILE_NAME

EXPLANATION_BYTES_MAX: Final = 400_000
DIFFERENCES_MAX: Final = 400
FILES_MAX: Final = 160
PATH_CHARACTERS_MAX: Final = 1000
ATTRIBUTE_CHARACTERS_MAX: Final = 120
VALUE_CHARACTERS_MAX: Final = 4000
RULE_CHARACTERS_MAX: Final = 64
COUNT_MAX: Final = 10_000_000
UNPUBLISHED: Final = -1
"""The level of a file that the upstream does not have."""

_PURL_CHARACTERS_MAX = 512
_TOOL_CHARACTERS_MAX = 80
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)
"""What changes a terminal or the direction of a line; a line feed may stand in a value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    ``path`` is the entry ("" for the file itself, nested ones joined by ``!/``), ``attribute``
    what of it, ``level`` where the difference ends, ``rule`` which rule ends it ("" at 3).
    """

    path: str
    attribute: str
    built: str
    published: str
    level: int
    rule: str = ""

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {
            "path": self.path,
            "attribute": self.attribute,
            "built": self.built,
            "published": self.published,
            "level": self.level,
            "rule": self.rule,
        }

    def line(self) -> str:
        """Return it in words, on one line."""
        where = f"{self.path}: {self.attribute}" if self.path else self.attribute
        built, published = (v.replace("\n", " | ") for v in (self.built, self.published))
        return f"{where}: {built} in the build, {published} published"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries are equal to the byte, differ, or are on one side alone."""

    equal: int = 0
    differ: int = 0
    built_only: int = 0
    published_only: int = 0

    def document(self) -> dict[str, object]:
        """Return them as a JSON object."""
        return {
            "equal": self.equal,
            "differ": self.differ,
            "built_only": self.built_only,
            "published_only": self.published_only,
        }


NO_ENTRIES: Final = Counts()


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes by digest; ``size`` in bytes."""

    sha256: str
    size: int

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {"sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True)
class FileExplanation:
    """The comparison of one file; ``more`` counts the differences that are not listed.

    ``entries`` counts all entries of an archive, ``classes`` those of compiled classes alone.
    """

    name: str
    level: int
    built: Content
    published: Content | None = None
    entries: Counts = NO_ENTRIES
    classes: Counts = NO_ENTRIES
    differences: tuple[Difference, ...] = ()
    more: int = 0

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        document: dict[str, object] = {
            "name": self.name,
            "level": self.level,
            "built": self.built.document(),
            "entries": self.entries.document(),
            "classes": self.classes.document(),
            "differences": [d.document() for d in self.differences],
            "more": self.more,
        }
        if self.published is not None:
            document["published"] = self.published.document()
        return document


@dataclass(frozen=True, slots=True)
class Explanation:
    """The comparisons of all files of a build; make it with :func:`make_explanation`."""

    purl: str
    rules: str
    tool: str
    files: tuple[FileExplanation, ...]

    def document(self) -> dict[str, object]:
        """Return the explanation as a JSON object."""
        return {
            "t": "explanation",
            "v": 1,
            "purl": self.purl,
            "rules": self.rules,
            "tool": self.tool,
            "files": [f.document() for f in self.files],
        }

    def encode(self) -> bytes:
        """Return the canonical bytes, whose SHA-256 names the document."""
        return canonical.dumps(self.document())


def printable(text: str, characters_max: int = VALUE_CHARACTERS_MAX) -> str:
    """Return a text that may stand in an explanation: escaped where needed, and cut."""
    safe = _UNSAFE.sub(lambda m: m[0].encode("unicode_escape").decode(), text[:characters_max])
    return safe if len(safe) <= characters_max else safe[: characters_max - 1] + "…"


def make_difference(
    path: str, attribute: str, *, built: str, published: str, level: int, rule: str = ""
) -> Difference:
    """Return a difference whose texts are safe to show and within their bounds."""
    return Difference(
        path=_one_line(path, PATH_CHARACTERS_MAX),
        attribute=_one_line(attribute, ATTRIBUTE_CHARACTERS_MAX),
        built=printable(built),
        published=printable(published),
        level=level,
        rule=rule,
    )


def make_explanation(
    *, purl: str, rules: str, files: Iterable[FileExplanation], tool: str = ""
) -> Explanation:
    """Return an explanation within its bounds.

    Where there is too much, each file in its turn gets its next difference, so that one file with
    thousands never hides what differs in another; the rest is counted.

    Args:
        purl: The package.
        rules: The digest of the pipeline, in hex.
        files: The comparisons, each with its most important differences first.
        tool: Name and version of the outside tool whose words are quoted, or "".
    """
    ordered = sorted(files, key=lambda f: f.name)
    bare = [replace(f, differences=(), more=f.more + len(f.differences)) for f in ordered]
    empty = Explanation(purl, rules, _one_line(tool, _TOOL_CHARACTERS_MAX), tuple(bare))
    chosen = _share([f.differences for f in ordered], EXPLANATION_BYTES_MAX - len(empty.encode()))
    full = [
        replace(f, differences=f.differences[:count], more=f.more + len(f.differences) - count)
        for f, count in zip(ordered, chosen, strict=True)
    ]
    return replace(empty, files=tuple(full))


def _share(lists: Sequence[Sequence[Difference]], bytes_left: int) -> list[int]:
    """Return how many differences of each list have room, in turns."""
    counts = [0] * len(lists)
    differences_left = DIFFERENCES_MAX
    waiting = [index for index, found in enumerate(lists) if found]
    while waiting and differences_left:
        for index in list(waiting):
            size = len(canonical.dumps(lists[index][counts[index]].document())) + 1
            if size > bytes_left or not differences_left:
                waiting.remove(index)
                continue
            bytes_left -= size
            differences_left -= 1
            counts[index] += 1
            if counts[index] == len(lists[index]):
                waiting.remove(index)
    return counts


def _one_line(text: str, characters_max: int) -> str:
    return printable(text.replace("\n", "\\n"), characters_max)


def parse_explanation(data: bytes) -> Explanation:
    """Read an explanation's bytes, whoever wrote them.

    Raises:
        FormatError: not an explanation of version 1 in canonical form, or over a limit.
    """
    document = canonical.loads_object(data, bytes_max=EXPLANATION_BYTES_MAX)
    fields.exactly(document, {"t", "v", "purl", "rules", "tool", "files"})
    if document["t"] != "explanation" or document["v"] != 1 or document["v"] is True:
        raise FormatError("not an explanation of version 1")
    files = [_parse_file(f) for f in fields.objects(document, "files", count_max=FILES_MAX)]
    names = [f.name for f in files]
    if sorted(set(names)) != names:
        raise FormatError("the files of an explanation are not sorted or are repeated")
    if sum(len(f.differences) for f in files) > DIFFERENCES_MAX:
        raise FormatError(f"an explanation lists more than {DIFFERENCES_MAX} differences")
    return Explanation(
        purl=_text(document, "purl", _PURL_CHARACTERS_MAX),
        rules=fields.sha256(document, "rules"),
        tool=_text(document, "tool", _TOOL_CHARACTERS_MAX),
        files=tuple(files),
    )


def _parse_file(item: Mapping[str, object]) -> FileExplanation:
    required = {"name", "level", "built", "entries", "classes", "differences", "more"}
    fields.exactly(item, required, frozenset({"published"}))
    level = fields.integer(item, "level", low=UNPUBLISHED, high=3)
    if (level == UNPUBLISHED) != ("published" not in item):
        raise FormatError("a level is told exactly of what is published")
    differences = fields.objects(item, "differences", count_max=DIFFERENCES_MAX)
    return FileExplanation(
        name=fields.matching(item, "name", FILE_NAME),
        level=level,
        built=_parse_content(fields.obj(item, "built")),
        published=_parse_content(fields.obj(item, "published")) if "published" in item else None,
        entries=_parse_counts(fields.obj(item, "entries")),
        classes=_parse_counts(fields.obj(item, "classes")),
        differences=tuple(_parse_difference(d) for d in differences),
        more=fields.integer(item, "more", low=0, high=COUNT_MAX),
    )


def _parse_content(item: Mapping[str, object]) -> Content:
    fields.exactly(item, {"sha256", "size"})
    size = fields.integer(item, "size", low=0, high=FILE_BYTES_MAX)
    return Content(fields.sha256(item, "sha256"), size)


def _parse_counts(item: Mapping[str, object]) -> Counts:
    names = ("equal", "differ", "built_only", "published_only")
    fields.exactly(item, set(names))
    return Counts(*(fields.integer(item, name, low=0, high=COUNT_MAX) for name in names))


def _parse_difference(item: Mapping[str, object]) -> Difference:
    fields.exactly(item, {"path", "attribute", "built", "published", "level", "rule"})
    return Difference(
        path=_text(item, "path", PATH_CHARACTERS_MAX),
        attribute=_text(item, "attribute", ATTRIBUTE_CHARACTERS_MAX),
        built=_text(item, "built", VALUE_CHARACTERS_MAX, may_wrap=True),
        published=_text(item, "published", VALUE_CHARACTERS_MAX, may_wrap=True),
        level=fields.integer(item, "level", low=1, high=3),
        rule=_text(item, "rule", RULE_CHARACTERS_MAX),
    )


def _text(
    item: Mapping[str, object], key: str, characters_max: int, *, may_wrap: bool = False
) -> str:
    found = fields.text(item, key, characters_max=characters_max)
    if _UNSAFE.search(found) or ("\n" in found and not may_wrap):
        raise FormatError(f"field {key!r} holds control or direction characters")
    return found
