"""``maven-metadata.xml``: read what an upstream says, write what this node says. Pure.

Maven asks for it to resolve version ranges and plugin prefixes. What an upstream sends is read by
a parser that knows no entities and no document types, within limits; names that no artifact can
have are left out. Snapshots are never listed. Format: Maven's repository metadata 1.1.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from buildpipelines.spec.maven_order import version_key
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.maven import MavenProject
from pyrsia_node.model.purl import Purl

LISTING_BYTES_MAX: Final = 4 * 1024 * 1024
_DEPTH_MAX: Final = 16
_ITEMS_MAX: Final = 4_000
_VERSION_LENGTH_MAX: Final = 64
_VERSION_PARTS_MAX: Final = 16
"""What an upstream lists beyond these is no version that anybody publishes, and to put such into
Maven's order would take the time that others wait."""
_TEXT_MAX: Final = 512
_TIME: Final = re.compile(r"[0-9]{14}")
_PART: Final = re.compile(r"[0-9]+|[^0-9._-]+")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_OFFICIAL: Final = re.compile(r"maven-(.+)-plugin")
_FOREIGN: Final = re.compile(r"(.+)-maven-plugin")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of a group. ``prefix`` is what people write before the colon of a goal."""

    prefix: str
    artifact: str
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a ``maven-metadata.xml`` says. ``updated`` is yyyyMMddHHmmss in UTC, "" if unknown."""

    versions: frozenset[str] = frozenset()
    updated: str = ""
    plugins: tuple[Plugin, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it lists nothing."""
        return not self.versions and not self.plugins


def merge(listings: Iterable[Listing]) -> Listing:
    """Return what all of them list; of two plugins with one prefix, the earlier listing's."""
    versions: set[str] = set()
    plugins: dict[str, Plugin] = {}
    updated = ""
    for each in listings:
        versions |= each.versions
        updated = max(updated, each.updated)
        for plugin in each.plugins:
            plugins.setdefault(plugin.prefix, plugin)
    ordered = tuple(sorted(plugins.values(), key=lambda plugin: plugin.prefix))
    return Listing(frozenset(versions), updated, ordered)


def plugin_of(artifact: str) -> Plugin | None:
    """Return the plugin that an artifact's name tells, by Maven's convention; None if none."""
    match = _OFFICIAL.fullmatch(artifact) or _FOREIGN.fullmatch(artifact)
    return None if match is None else Plugin(match[1], artifact, artifact)


def timestamp(time_ms: int) -> str:
    """Return a time, in Unix milliseconds, as metadata spells it."""
    return dt.datetime.fromtimestamp(time_ms / 1000, tz=dt.UTC).strftime("%Y%m%d%H%M%S")


def seconds_of(updated: str) -> int | None:
    """Return a time of metadata in Unix seconds; None if it is none."""
    try:
        time = dt.datetime.strptime(updated, "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return max(0, int(time.timestamp()))


def sort_versions(versions: Iterable[str]) -> list[str]:
    """Return versions in Maven's order, lowest first; equal ones by their text."""
    return sorted(sorted(versions), key=version_key)


# ------------------------------------------------------------ writing


def render(listing: Listing, *, group: str, project: MavenProject | None) -> bytes:
    """Return the document of a folder: an artifact's versions, a group's plugins, or both."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<metadata>"]
    if listing.versions and project is not None:
        lines += _element("  ", "groupId", project.group)
        lines += _element("  ", "artifactId", project.artifact)
        lines += _versioning(listing)
    elif listing.plugins:
        lines += _element("  ", "groupId", group)
    if listing.plugins:
        lines.append("  <plugins>")
        for plugin in listing.plugins:
            lines.append("    <plugin>")
            lines += _element("      ", "name", plugin.name)
            lines += _element("      ", "prefix", plugin.prefix)
            lines += _element("      ", "artifactId", plugin.artifact)
            lines.append("    </plugin>")
        lines.append("  </plugins>")
    return ("\n".join([*lines, "</metadata>"]) + "\n").encode()


def _versioning(listing: Listing) -> list[str]:
    versions = sort_versions(listing.versions)
    lines = ["  <versioning>"]
    lines += _element("    ", "latest", versions[-1])
    lines += _element("    ", "release", versions[-1])
    lines.append("    <versions>")
    for version in versions:
        lines += _element("      ", "version", version)
    lines.append("    </versions>")
    if listing.updated:
        lines += _element("    ", "lastUpdated", listing.updated)
    return [*lines, "  </versioning>"]


def _element(indent: str, name: str, text: str) -> list[str]:
    return [f"{indent}<{name}>{escape(text)}</{name}>"]


# ------------------------------------------------------------ reading


@dataclass(slots=True)
class _Reading:
    """What was met so far. ``path`` holds the open elements, ``text`` the innermost one's text."""

    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    length: int = 0
    versions: set[str] = field(default_factory=set)
    updated: str = ""
    plugins: list[Plugin] = field(default_factory=list)
    plugin: dict[str, str] = field(default_factory=dict)

    def begin(self, name: str, _attributes: object) -> None:
        """Open an element."""
        self.path.append(name)
        self.text.clear()
        self.length = 0
        if len(self.path) > _DEPTH_MAX:
            raise VerificationError(f"maven-metadata.xml is more than {_DEPTH_MAX} elements deep")

    def add(self, text: str) -> None:
        """Take in text; more than any value has is dropped."""
        self.length += len(text)
        if self.length <= _TEXT_MAX:
            self.text.append(text)

    def end(self, name: str) -> None:
        """Close an element and keep what it says."""
        text = "".join(self.text).strip()
        match self.path:
            case ["metadata", "versioning", "versions", "version"]:
                self.versions.add(text)
            case ["metadata", "versioning", "lastUpdated"] if _TIME.fullmatch(text):
                self.updated = text
            case ["metadata", "plugins", "plugin", _]:
                self.plugin[name] = text
            case ["metadata", "plugins", "plugin"]:
                self._end_plugin()
            case _:
                pass
        if len(self.versions) + len(self.plugins) > _ITEMS_MAX:
            raise VerificationError(f"maven-metadata.xml lists more than {_ITEMS_MAX} names")
        self.path.pop()
        self.text.clear()
        self.length = 0

    def _end_plugin(self) -> None:
        prefix, artifact = self.plugin.get("prefix", ""), self.plugin.get("artifactId", "")
        if _PREFIX.fullmatch(prefix) and _PREFIX.fullmatch(artifact):
            name = self.plugin.get("name", "")
            self.plugins.append(Plugin(prefix, artifact, name if name.isprintable() else artifact))
        self.plugin.clear()


def parse_listing(data: bytes) -> Listing:
    """Return what a document says; names that cannot be served are left out.

    Raises:
        VerificationError: It is no such document, or exceeds a limit.
    """
    if len(data) > LISTING_BYTES_MAX:
        raise VerificationError(f"maven-metadata.xml is longer than {LISTING_BYTES_MAX} bytes")
    reading = _Reading()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reading.begin
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.add
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)  # noqa: FBT003 - expat takes it by position alone
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise VerificationError(f"maven-metadata.xml is malformed: {error}") from error
    versions = frozenset(each for each in reading.versions if _is_release(each))
    return Listing(versions, reading.updated, tuple(reading.plugins))


def _refuse_doctype(*_said: object) -> None:
    raise VerificationError("maven-metadata.xml has a document type")


def _is_release(version: str) -> bool:
    """Tell whether it is a version that can be served: snapshots are none."""
    if len(version) > _VERSION_LENGTH_MAX or len(_PART.findall(version)) > _VERSION_PARTS_MAX:
        return False
    try:
        Purl.maven("g", "a", version)
    except InvalidInputError:
        return False
    return True
