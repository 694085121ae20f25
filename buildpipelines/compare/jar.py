"""At which level two jars are equal, and what differs, entry by entry. Pure.

Levels: ``compare.verdict``; normal forms: ``stabilize.jar``. The verdict rests on digests of the
normal forms alone; differences are for people and never enter it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from buildpipelines.compare.classfile import ClassDifference, class_differences
from buildpipelines.compare.manifest import manifest_differences
from buildpipelines.compare.text import TextDifference, text_differences
from buildpipelines.compare.zip import AttributeDifference, attribute_differences
from buildpipelines.extract.jar import MANIFEST, Jar
from buildpipelines.extract.zip import ZipEntry
from buildpipelines.spec.explanation import (
    DIFFERENCES_MAX,
    NO_ENTRIES,
    Counts,
    Difference,
    make_difference,
)
from buildpipelines.stabilize import jar as rules
from buildpipelines.stabilize.signature import signature_files
from buildpipelines.stabilize.zip import implied_folders, normal_mode

READ_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of how many bytes that differ the words are sought; beyond them digests have to do."""

_CONTENT_BYTES_MAX = 4 * 1024 * 1024
_CLASS: Final = ".class"
_RULE_OF: Final = {"time": "zip-time", "compression": "zip-compression", "extra": "zip-extra"}


@dataclass(frozen=True, slots=True)
class JarComparison:
    """The level of equality, what differs (most important first), and how much of each."""

    level: int
    differences: tuple[Difference, ...] = ()
    more: int = 0
    entries: Counts = NO_ENTRIES
    classes: Counts = NO_ENTRIES


def compare(built: Jar, published: Jar, *, is_identical: bool) -> JarComparison:
    """Compare a build with the published file of the same name.

    Args:
        built: What came out of the sandbox.
        published: What the upstream offers.
        is_identical: Whether the two files have equal bytes.
    """
    counts = _counts(built, published, "")
    classes = _counts(built, published, _CLASS)
    if is_identical:
        return JarComparison(0, entries=counts, classes=classes)
    ours, theirs = _Side(built), _Side(published)
    found = _Found()
    _explain(found, ours, theirs, "")
    ordered = sorted(found.differences, key=lambda d: -d.level)
    level = 1 if ours.level1 == theirs.level1 else 2 if ours.level2 == theirs.level2 else 3
    return JarComparison(level, tuple(ordered), found.more, entries=counts, classes=classes)


class _Side:
    """One of the two archives, with everything that is worth finding out once."""

    def __init__(self, jar: Jar) -> None:
        self.jar = jar
        self.level1 = rules.level1(jar)
        self.level2 = rules.level2(jar)
        self.signatures = signature_files(jar)
        self.by_name = {entry.name: entry for entry in jar.archive.entries}
        implied = implied_folders(jar.archive)
        self.implied = {n for n, e in self.by_name.items() if e.is_dir and e.path in implied}

    def stable(self, name: str) -> str | None:
        """Return what a file's content counts as at level 2; None where a signature is one."""
        found = self.level2.entries.get(name)
        return None if found is None else found[1]


@dataclass(slots=True)
class _Found:
    """Differences up to the bound; the rest is counted."""

    differences: list[Difference] = field(default_factory=list)
    more: int = 0
    read_bytes_left: int = READ_BYTES_MAX

    def may_read(self, size: int) -> bool:
        """Whether contents of that size may still be told in words; counts them."""
        if size > min(self.read_bytes_left, _CONTENT_BYTES_MAX):
            return False
        self.read_bytes_left -= size
        return True

    @property
    def is_full(self) -> bool:
        return len(self.differences) >= DIFFERENCES_MAX

    def add(self, differences: Iterable[Difference]) -> None:
        for difference in differences:
            if self.is_full:
                self.more += 1
            else:
                self.differences.append(difference)


def _counts(built: Jar, published: Jar, suffix: str) -> Counts:
    ours, theirs = (
        {name: digest for name, digest in jar.digests.items() if name.endswith(suffix)}
        for jar in (built, published)
    )
    both = ours.keys() & theirs.keys()
    equal = sum(ours[name] == theirs[name] for name in both)
    return Counts(equal, len(both) - equal, len(ours) - len(both), len(theirs) - len(both))


def _explain(found: _Found, built: _Side, published: _Side, prefix: str) -> None:
    """Add what differs between two archives; those entries first that matter at level 2."""
    one1, other1 = built.level1.entries, published.level1.entries
    one2, other2 = built.level2.entries, published.level2.entries
    names = sorted(one1.keys() | other1.keys())
    differing = [name for name in names if one1.get(name) != other1.get(name)]
    # Of names alone: whether a digest or a signature holds depends on other entries as well.
    deep = [name for name in names if one2.get(name) != other2.get(name)]
    if built.jar.has_manifest_first != published.jar.has_manifest_first:
        found.add([_manifest_place(prefix, built, published)])
    for name in deep:
        _explain_entry(found, built, published, prefix, name)
    for name in sorted(set(differing) - set(deep)):
        _explain_entry(found, built, published, prefix, name)
    found.add(_container(built, published, prefix))
    for name in sorted(built.jar.nested.keys() & published.jar.nested.keys() - set(differing)):
        if built.jar.digests[name] != published.jar.digests[name]:
            _explain_nested(found, built, published, prefix, name)


def _explain_entry(found: _Found, built: _Side, published: _Side, prefix: str, name: str) -> None:
    if found.is_full:
        found.more += 1
        return
    ours, theirs = built.by_name.get(name), published.by_name.get(name)
    path = f"{prefix}{name}"
    if ours is None or theirs is None:
        found.add([_presence(built, published, path, name)])
        return
    if normal_mode(ours) != normal_mode(theirs):
        one, other = f"{ours.attributes & 0o7777:04o}", f"{theirs.attributes & 0o7777:04o}"
        found.add([make_difference(path, "mode", built=one, published=other, level=3)])
    is_same = ours.is_dir or built.jar.digests[name] == published.jar.digests[name]
    if is_same and built.stable(name) == published.stable(name):
        return
    if name in built.jar.nested and name in published.jar.nested:
        _explain_nested(found, built, published, prefix, name)
    else:
        found.add(_content(found, built, published, path, name))


def _explain_nested(found: _Found, built: _Side, published: _Side, prefix: str, name: str) -> None:
    inner = _Side(built.jar.nested[name]), _Side(published.jar.nested[name])
    _explain(found, *inner, f"{prefix}{name}!/")


def _presence(built: _Side, published: _Side, path: str, name: str) -> Difference:
    is_ours = name in built.by_name
    is_signature = name in (built if is_ours else published).signatures
    return make_difference(
        path,
        "presence",
        built="present" if is_ours else "absent",
        published="absent" if is_ours else "present",
        level=2 if is_signature else 3,
        rule="jar-signature" if is_signature else "",
    )


def _content(
    found: _Found, built: _Side, published: _Side, path: str, name: str
) -> list[Difference]:
    """Return what differs between two files of one name."""
    may_read = found.may_read(built.by_name[name].size + published.by_name[name].size)
    if name == MANIFEST and may_read:
        attributes = manifest_differences(path, built.jar, published.jar)
        if attributes is not None:
            return attributes
    is_signature = name in built.signatures and name in published.signatures
    rule = "jar-signature" if is_signature else rules.content_rule(built.jar.file_name, name)
    # A signature of both is in neither normal form, so that these are equal as well.
    is_stable = built.stable(name) == published.stable(name)
    lines: Sequence[TextDifference | ClassDifference] = ()
    ours, theirs = built.jar.small_file(name), published.jar.small_file(name)
    if ours is not None and theirs is not None and may_read and not is_signature:
        lines = _in_words(name, ours, theirs, "" if is_stable else rule)
    if (name in built.signatures) != (name in published.signatures):
        one, other = (
            "of this jar" if name in side.signatures else "not of this jar"
            for side in (built, published)
        )
        lines = [TextDifference("signature", one, other)]
    if not lines:
        one, other = (_bytes_text(side.jar, name) for side in (built, published))
        lines = [TextDifference("content", one, other)]
    level, ended_by = (2, rule) if is_stable else (3, "")
    return [
        make_difference(
            path, d.attribute, built=d.built, published=d.published, level=level, rule=ended_by
        )
        for d in lines
    ]


def _in_words(
    name: str, ours: bytes, theirs: bytes, rule: str
) -> Sequence[TextDifference | ClassDifference]:
    """Return what differs between two contents, as far as they can be read.

    What ``rule`` takes out is not told: something else is why the files differ.
    """
    if name.endswith(_CLASS):
        return class_differences(ours, theirs) or ()
    if rule:
        ours = rules.stable_content(rule, name, ours) or ours
        theirs = rules.stable_content(rule, name, theirs) or theirs
    return text_differences(ours, theirs) or ()


def _bytes_text(jar: Jar, name: str) -> str:
    entry = jar.archive.find(name)
    size = 0 if entry is None else entry.size
    why = f", taken for bytes ({jar.plain[name]})" if name in jar.plain else ""
    return f"{size} bytes, SHA-256 {jar.digests[name][:16]}…{why}"


def _manifest_place(prefix: str, built: _Side, published: _Side) -> Difference:
    one, other = (
        "first" if jar.has_manifest_first else "where readers from the front miss it"
        for jar in (built.jar, published.jar)
    )
    return make_difference(f"{prefix}{MANIFEST}", "order", built=one, published=other, level=3)


def _container(built: _Side, published: _Side, prefix: str) -> Iterator[Difference]:
    """Yield what differs between the containers and is gone at level 1."""
    archive = prefix.removesuffix("!/")
    ours, theirs = built.jar.archive.entries, published.jar.archive.entries
    by_name = published.by_name
    pairs = [(e, by_name[e.name]) for e in ours if e.name in by_name]
    shared = {e.name for e, _ in pairs}
    one, other = ([e.name for e in found if e.name in shared] for found in (ours, theirs))
    if one != other:
        first = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        yield make_difference(
            archive,
            "order",
            built=f"{one[first]} at {first + 1}",
            published=f"{other[first]} at {first + 1}",
            level=1,
            rule="zip-order",
        )
    yield from _folders(built, published, archive)
    same_mode = [(a, b) for a, b in pairs if normal_mode(a) == normal_mode(b)]
    # How well something is packed says something only of equal contents.
    ours_digests, theirs_digests = built.jar.digests, published.jar.digests
    equal = {n for n in shared if ours_digests.get(n) == theirs_digests.get(n)}
    same_content = [(a, b) for a, b in pairs if a.name in equal]
    for chosen, is_packing in ((same_mode, False), (same_content, True)):
        for difference in attribute_differences(chosen):
            if (difference.attribute == "compression") is is_packing:
                yield _attribute(difference, archive, chosen)


def _folders(built: _Side, published: _Side, archive: str) -> Iterator[Difference]:
    one, other = built.implied, published.implied
    for only, is_ours in ((one - other, True), (other - one, False)):
        if only:
            text = f"{len(only)} folder entries, first {min(only)}"
            yield make_difference(
                archive,
                "folders",
                built=text if is_ours else "implied",
                published="implied" if is_ours else text,
                level=1,
                rule="zip-implied-folders",
            )


def _attribute(
    difference: AttributeDifference, archive: str, pairs: list[tuple[ZipEntry, ZipEntry]]
) -> Difference:
    rule = _RULE_OF.get(difference.attribute)
    if rule is None:
        one, other = next((a, b) for a, b in pairs if a.name == difference.name)
        is_umask = one.system == other.system == 3 and one.attributes and other.attributes
        rule = "zip-group-other-write" if is_umask else "zip-system"
    return make_difference(
        archive,
        difference.attribute,
        built=f"{difference.built} ({difference.name})",
        published=f"{difference.published} ({difference.count} entries differ)",
        level=1,
        rule=rule,
    )
