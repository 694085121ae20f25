"""METADATA of a log entry from a Maven pom and its parents. Pure.

Every member computes this value alone and hashes it, so it depends on nothing but the bytes of
the built pom and of those parents that are in the source or among the locked files: fixed limits,
no e-mail addresses, and of Maven's model only inheritance, properties and managed versions. What
other means would have to decide (profiles, imported lists of versions) is left out rather than
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import FormatError
from buildpipelines.recipes.xml import Element, parse_xml
from buildpipelines.spec.coordinates import Coordinates, parse_coordinates
from buildpipelines.spec.metadata import Metadata

VERSION: Final = 1
"""Raised with every change of what this module returns; a part of the pipeline's digest."""

PARENTS_MAX: Final = 16
DEPENDENCIES_MAX: Final = 400
DEPENDENCIES_READ_MAX: Final = 6000
"""Of a pom and its parents together; the largest lists of managed versions have some 1,500."""

REPLACEMENTS_MAX: Final = 64
WORD_CHARACTERS_MAX: Final = 300
VALUE_CHARACTERS_MAX: Final = 2000

_REFERENCE = re.compile(r"\$\{([A-Za-z0-9_.-]{1,100})\}")
_ADDRESS = re.compile(r"<[^<>]*>|[^ ]*@[^ ]*")
_CONTROL = dict.fromkeys((*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")
_SPACES = re.compile(r" +")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_FIXED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}\Z")
_SCOPES = ("compile", "runtime", "provided", "test", "system")
_URL = re.compile(r"https?://[!-~]{1,480}\Z")


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a pom says that its parent is."""

    coordinates: Coordinates

    @property
    def file(self) -> str:
        """Return the name of the parent's pom."""
        return self.coordinates.file("pom")


@dataclass(frozen=True, slots=True)
class Pom:
    """A pom as it stands, without its parents."""

    root: Element
    parent: Parent | None


def read_pom(data: bytes) -> Pom:
    """Read a pom.

    Raises:
        FormatError: not a well-formed project.
    """
    root = parse_xml(data)
    if root.name != "project":
        raise FormatError(f"a pom begins with {root.name!r:.80}, not with project")
    return Pom(root, _parent(root))


def _parent(root: Element) -> Parent | None:
    """Return where the parent is; None without one, or where only a whole build could say it."""
    group, artifact = root.value("parent", "groupId"), root.value("parent", "artifactId")
    try:
        return Parent(parse_coordinates(f"{group}:{artifact}", root.value("parent", "version")))
    except FormatError:
        return None


def parent_path(pom: Pom, folder: str) -> str | None:
    """Return where in a source the parent of a pom in ``folder`` lies, if it lies there at all.

    Maven's rule: the path in ``relativePath``, by default ``../pom.xml``; empty means nowhere.
    """
    declared = pom.root.child("parent")
    if declared is None or pom.parent is None:
        return None
    relative = declared.child("relativePath")
    path = "../pom.xml" if relative is None else relative.text.strip()
    if not path or path.startswith("/") or len(path) > VALUE_CHARACTERS_MAX:
        return None
    if not path.endswith(".xml"):
        path = f"{path}/pom.xml"
    steps = [step for step in folder.split("/") if step]
    for step in path.split("/"):
        if step == "..":
            if not steps:
                return None  # beyond the source
            steps.pop()
        elif step not in ("", "."):
            steps.append(step)
    return "/".join(steps)


def is_parent(found: Pom, child: Pom) -> bool:
    """Tell whether a pom is the parent that another one names."""
    if child.parent is None:
        return False
    wanted = child.parent.coordinates
    group, version = (
        found.root.value(key) or found.root.value("parent", key) for key in ("groupId", "version")
    )
    return (group, found.root.value("artifactId"), version) == (
        wanted.group,
        wanted.artifact,
        wanted.version,
    )


def extract_metadata(line: Sequence[Pom], coordinates: Coordinates) -> Metadata:
    """Return the agreed facts of a pom that has the parents ``line[1:]``.

    Raises:
        FormatError: the pom is of another artifact or version.
    """
    model = _Model(line)
    found = tuple(model.text(key) for key in ("groupId", "artifactId", "version"))
    wanted = (coordinates.group, coordinates.artifact, coordinates.version)
    if found != wanted:
        raise FormatError(f"the pom is of {':'.join(found)!r:.300}, not of {':'.join(wanted)}")
    return Metadata(
        name=coordinates.name,
        version=coordinates.version,
        summary=_line(model.text("description") or model.text("name"), 1000),
        author=_people(model),
        licence=_licences(model),
        homepage=_url(model.text("url")),
        repository=_url(model.text("scm", "url")),
        requires=_dependencies(model),
    )


class _Model:
    """A pom with its parents: what a value is after inheritance and replacement."""

    def __init__(self, line: Sequence[Pom]) -> None:
        self.line = [pom.root for pom in line]
        self._own: dict[str, str] = {}
        for root in reversed(self.line):
            listed = root.child("properties")
            for each in () if listed is None else listed.children:
                self._own[each.name] = each.text.strip()[:VALUE_CHARACTERS_MAX]
        self._replaced: dict[str, str] = {}

    def text(self, *path: str) -> str:
        """Return the value at a path of the nearest pom that has one."""
        found = next((text for root in self.line if (text := root.value(*path))), "")
        if not found and path in (("groupId",), ("version",)):
            found = self.line[-1].value("parent", *path)
        return self.replaced(found)

    def nearest(self, parent: str, name: str) -> list[Element]:
        """Return a list of the nearest pom that has one; lists are not merged."""
        return next((found for root in self.line if (found := root.all(parent, name))), [])

    def replaced(self, text: str) -> str:
        """Return ``text``, cut, with its references replaced; those of unknown meaning stay.

        Cut before it is looked at, and each reference looked at once where its value brings in no
        others: a stranger's pom costs what it weighs.
        """
        text, place = text[:VALUE_CHARACTERS_MAX], 0
        if text in self._replaced:
            return self._replaced[text]
        given = text
        for _ in range(REPLACEMENTS_MAX):
            match = next((m for m in _REFERENCE.finditer(text, place) if self._value(m[1])), None)
            if match is None or len(text) > VALUE_CHARACTERS_MAX:
                break
            place = match.start()
            text = text[:place] + self._value(match[1]) + text[match.end() :]
        self._replaced[given] = text[:VALUE_CHARACTERS_MAX]
        return self._replaced[given]

    def _value(self, name: str) -> str:
        if name in self._own:
            return self._own[name]
        key = name.removeprefix("project.").removeprefix("pom.")
        is_parent = key.startswith("parent.")
        key = key.removeprefix("parent.")
        if key not in ("groupId", "artifactId", "version"):
            return ""
        if is_parent:
            return self.line[0].value("parent", key)
        return self.line[0].value(key) or self.line[0].value("parent", key)


def _dependencies(model: _Model) -> tuple[str, ...]:
    """Return what a pom and its parents depend on, each name once, sorted."""
    managed: dict[tuple[str, str], Element] = {}
    direct: dict[tuple[str, str], Element] = {}
    left = DEPENDENCIES_READ_MAX
    for root in model.line:  # the nearest first: what it says stands
        management = root.child("dependencyManagement") or Element("dependencyManagement")
        for found, listed in ((direct, root), (managed, management)):
            elements = listed.all("dependencies", "dependency")[:left]
            left -= len(elements)
            for element in elements:
                found.setdefault(_key(model, element), element)
    lines = set()
    for (group, artifact), element in direct.items():
        if not (_NAME.match(group) and _NAME.match(artifact)):
            continue  # a name that nothing in the pom decides
        default = managed.get((group, artifact), Element("dependency"))
        version, scope, optional = (
            _short(model, element.value(key) or default.value(key))
            for key in ("version", "scope", "optional")
        )
        purl = f"pkg:maven/{group}/{artifact}"
        if _FIXED.match(version):
            purl += f"@{version.replace('+', '%2B')}"
        words = [purl, scope if scope in _SCOPES else "compile"]
        lines.add(" ".join([*words, "optional"] if optional == "true" else words))
    return tuple(sorted(lines)[:DEPENDENCIES_MAX])


def _key(model: _Model, element: Element) -> tuple[str, str]:
    return _short(model, element.value("groupId")), _short(model, element.value("artifactId"))


def _short(model: _Model, text: str) -> str:
    """Return a value that is a name or a word, or nothing that could be one."""
    return model.replaced(text[:WORD_CHARACTERS_MAX])


def _people(model: _Model) -> str:
    names = (
        _line(_ADDRESS.sub(" ", model.replaced(e.value("name"))[:VALUE_CHARACTERS_MAX]), 100)
        for e in model.nearest("developers", "developer")
    )
    found = ", ".join(dict.fromkeys(name for name in names if name))
    return _line(found or model.text("organization", "name"), 300)


def _licences(model: _Model) -> str:
    names = (
        _line(model.replaced(e.value("name") or e.value("url")), 200)
        for e in model.nearest("licenses", "license")
    )
    return _line(" OR ".join(dict.fromkeys(name for name in names if name)), 256)


def _url(text: str) -> str:
    return text if _URL.match(text) else ""


def _line(text: str, bytes_max: int) -> str:
    """Return one line of text, cut at a character's end to ``bytes_max`` bytes."""
    line = _SPACES.sub(" ", text[:8000].translate(_CONTROL)).strip(" ")
    return line.encode("utf-8", "ignore")[:bytes_max].decode("utf-8", "ignore").strip(" ")
