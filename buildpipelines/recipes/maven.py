"""Recipes of Maven builds: what the published jar tells, what the requester says, what is left.

A published jar carries marks of how it was made: the JDK in its manifest, the time of its entries,
line ends, modes. They stand above what a mapping or request says, so every member that looks at
the same jar arrives at the same recipe; where nothing is published, the recipe names what was
chosen for everybody. Pure. Fields and their meaning: docs/design/maven.md, "Recipe".
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from buildpipelines.errors import FormatError
from buildpipelines.extract.zip import ZipArchive, ZipEntry
from buildpipelines.spec import fields, maven_fields
from buildpipelines.spec.maven_fields import EPOCH_MAX, EPOCH_MIN, Newline
from buildpipelines.spec.messages import RecipeValue

VERSION: Final = 1
"""Raised with every change of what this module plans; a part of the pipeline's digest."""

NONE: Final = "none"
"""The reference of a version that is published nowhere."""

GOALS: Final = ("install",)
SKIP_TESTS: Final = "maven.test.skip=true"
UMASK: Final = 0o022
TIMEZONE: Final = "UTC"
LOCALE: Final = "C.UTF-8"
MARK_BYTES_MAX: Final = 1024 * 1024
MARK_ENTRIES_MAX: Final = 32

_JDK_VALUE = re.compile(r"(?:1\.)?([1-9][0-9]?)(?![0-9])")
_CREATED_BY = re.compile(r"(?:1\.)?([1-9][0-9]?)(?:[._+][0-9A-Za-z._+-]*)? \(")
_TEXTS = ("pom.xml", "pom.properties", "LICENSE", "LICENSE.txt", "NOTICE", "NOTICE.txt")
_UMASKS: Final = {0o644: 0o022, 0o664: 0o002, 0o640: 0o027, 0o600: 0o077}


@dataclass(frozen=True, slots=True)
class Marks:
    """What a published jar tells of its making; None and "" where it is silent."""

    jdk: int | None = None
    epoch: int | None = None
    newline: Newline | Literal[""] = ""
    umask: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The source as it was found: a commit of a repository, or an archive (no commit)."""

    url: str
    commit: str
    tag: str
    strip: int
    time: int
    """Of the commit or of the archive's newest entry, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a requester says; None where he leaves it to the jar or to us."""

    source: str
    tag: str = ""
    commit: str = ""
    module: str = ""
    jdk: int | None = None
    goals: tuple[str, ...] = GOALS
    profiles: tuple[str, ...] = ()
    properties: tuple[str, ...] = (SKIP_TESTS,)
    newline: Newline | None = None
    umask: int | None = None
    timezone: str = TIMEZONE
    locale: str = LOCALE
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class MavenRecipe:
    """Everything that decides a build besides source, locked inputs and toolchain."""

    source_url: str
    commit: str
    tag: str
    strip: int
    module: str
    jdk: int
    maven: str
    goals: tuple[str, ...]
    profiles: tuple[str, ...]
    properties: tuple[str, ...]
    newline: Newline
    umask: int
    timezone: str
    locale: str
    epoch: int
    reference: str

    def fields(self) -> dict[str, RecipeValue]:
        """Return it as the fields of a request."""
        return {key: getattr(self, key) for key in self.__slots__}

    def title(self) -> str:
        """Return it in a few words."""
        return f"JDK {self.jdk}, {self.newline}, umask {self.umask:03o}, epoch {self.epoch}"

    def options(self) -> Options:
        """Return what a requester would have to say for this recipe, all of it."""
        return Options(
            source=self.source_url,
            tag=self.tag,
            commit=self.commit,
            module=self.module,
            jdk=self.jdk,
            goals=self.goals,
            profiles=self.profiles,
            properties=self.properties,
            newline=self.newline,
            umask=self.umask,
            timezone=self.timezone,
            locale=self.locale,
            epoch=self.epoch,
        )


def parse_options(value: Mapping[str, RecipeValue]) -> Options:
    """Read the options of a trial.

    Raises:
        FormatError: no source, a git source without tag and commit, an unknown or malformed field.
    """
    given = _plain(value)
    known = {"tag", "commit", "module", "jdk", "goals", "profiles", "properties", "newline"}
    known |= {"umask", "timezone", "locale", "epoch"}
    fields.exactly(given, {"source"}, frozenset(known))
    source = maven_fields.read_source(given, "source")
    given = {"tag": "", "commit": "", **given}
    tag, commit = (maven_fields.read_text(given, name) for name in ("tag", "commit"))
    has_git = source.startswith("git+")
    if has_git and not tag and not commit:
        raise FormatError("a git source needs a tag or a commit: a branch is another tomorrow")
    if not has_git and (tag or commit):
        raise FormatError("tag and commit belong to a git+https source")
    given.setdefault("properties", [])
    properties = maven_fields.read_list(given, "properties")
    if not any(each.startswith(("maven.test.skip", "skipTests")) for each in properties):
        properties = (*properties, SKIP_TESTS)
    given = {"module": "", "timezone": TIMEZONE, "locale": LOCALE, "profiles": [], **given}
    given.setdefault("goals", list(GOALS))
    return Options(
        source=source,
        tag=tag,
        commit=commit,
        module=maven_fields.read_text(given, "module"),
        jdk=maven_fields.read_number(given, "jdk") if "jdk" in given else None,
        goals=maven_fields.read_list(given, "goals") or GOALS,
        profiles=maven_fields.read_list(given, "profiles"),
        properties=properties,
        newline=maven_fields.read_newline(given) if "newline" in given else None,
        umask=maven_fields.read_number(given, "umask") if "umask" in given else None,
        timezone=maven_fields.read_text(given, "timezone"),
        locale=maven_fields.read_text(given, "locale"),
        epoch=maven_fields.read_number(given, "epoch") if "epoch" in given else None,
    )


def parse_recipe_fields(value: Mapping[str, RecipeValue]) -> MavenRecipe:
    """Read the recipe of a request.

    Raises:
        FormatError: a field is missing, unknown or out of form.
    """
    given = _plain(value)
    fields.exactly(given, set(MavenRecipe.__slots__))
    source = maven_fields.read_source(given, "source_url")
    tag, commit = (maven_fields.read_text(given, name) for name in ("tag", "commit"))
    if source.startswith("git+") is not bool(commit):
        raise FormatError("a recipe has a commit if its source is git, else none")
    if tag and not commit:
        raise FormatError("a recipe with a tag has its commit, too")
    goals = maven_fields.read_list(given, "goals")
    if not goals:
        raise FormatError("field 'goals' is empty")
    return MavenRecipe(
        source_url=source,
        commit=commit,
        tag=tag,
        strip=maven_fields.read_number(given, "strip"),
        module=maven_fields.read_text(given, "module"),
        jdk=maven_fields.read_number(given, "jdk"),
        maven=maven_fields.read_text(given, "maven"),
        goals=goals,
        profiles=maven_fields.read_list(given, "profiles"),
        properties=maven_fields.read_list(given, "properties"),
        newline=maven_fields.read_newline(given),
        umask=maven_fields.read_number(given, "umask"),
        timezone=maven_fields.read_text(given, "timezone"),
        locale=maven_fields.read_text(given, "locale"),
        epoch=maven_fields.read_number(given, "epoch"),
        reference=maven_fields.read_text(given, "reference"),
    )


def plan(
    marks: Marks, options: Options, origin: Origin, *, reference: str, jdk: int, maven: str
) -> tuple[MavenRecipe, ...]:
    """Return the recipes to try, one or two, the most promising first.

    Args:
        marks: What the published jar tells; all silent where there is none.
        options: What the requester said.
        origin: The source.
        reference: Name of the published file, or "none".
        jdk: Major version to build with where neither jar nor requester names one.
        maven: Version of this machine's Maven.
    """
    epoch = next((e for e in (marks.epoch, options.epoch) if e is not None), origin.time)
    umask = next((u for u in (marks.umask, options.umask) if u is not None), UMASK)
    first = MavenRecipe(
        source_url=origin.url,
        commit=origin.commit,
        tag=origin.tag,
        strip=origin.strip,
        module=options.module,
        jdk=marks.jdk or options.jdk or jdk,
        maven=maven,
        goals=options.goals,
        profiles=options.profiles,
        properties=options.properties,
        newline=marks.newline or options.newline or "lf",
        umask=umask,
        timezone=options.timezone,
        locale=options.locale,
        epoch=min(max(epoch, EPOCH_MIN), EPOCH_MAX),
        reference=reference,
    )
    # The one thing that changes contents and that a jar may be silent about.
    is_open = reference != NONE and not marks.newline and options.newline is None
    return (first, replace(first, newline="crlf")) if is_open else (first,)


def read_marks(archive: ZipArchive) -> Marks:
    """Return what a published jar tells of its making.

    Raises:
        ArchiveError: an entry that is read is damaged.
    """
    return Marks(
        jdk=_jdk_of(archive),
        epoch=_newest(archive.entries),
        newline=_newlines_of(archive),
        umask=_umask_of(archive.entries),
    )


def parse_main_attributes(manifest: bytes) -> dict[str, str]:
    """Return the main attributes of a manifest, names in lower case. Never fails: others judge."""
    text = manifest.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.partition("\n\n")[0].replace("\n ", "").split("\n")
    pairs = (line.partition(":") for line in lines)
    return {name.lower(): value.strip(" ") for name, colon, value in pairs if colon}


def _jdk_of(archive: ZipArchive) -> int | None:
    manifest = archive.find("META-INF/MANIFEST.MF")
    if manifest is None or manifest.size > MARK_BYTES_MAX:
        return None
    attributes = parse_main_attributes(archive.read(manifest))
    for key in ("build-jdk-spec", "build-jdk"):
        if found := _JDK_VALUE.match(attributes.get(key, "")):
            return int(found[1])
    # A tool's own name and version may stand here as well; a JDK's is followed by its vendor.
    found = _CREATED_BY.match(attributes.get("created-by", ""))
    return None if found is None else int(found[1])


def _newest(entries: tuple[ZipEntry, ...]) -> int | None:
    """Return the newest time of an archive's entries as if they were UTC, in seconds."""
    newest = max((entry.time for entry in entries), default=(0, 0))
    date, time = newest
    try:
        moment = dt.datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            (time & 31) * 2,
            tzinfo=dt.UTC,
        )
    except ValueError:
        return None  # what stands there is no time
    return int(moment.timestamp())


def _newlines_of(archive: ZipArchive) -> Newline | Literal[""]:
    """Return the line ends of the texts that every build copies, or "" if they do not agree."""
    seen: set[bool] = set()
    texts = (e for e in archive.entries if e.path and e.path[-1] in _TEXTS and not e.is_dir)
    for _, entry in zip(range(MARK_ENTRIES_MAX), texts, strict=False):
        if entry.path[0] != "META-INF" or entry.size > MARK_BYTES_MAX:
            continue
        content = archive.read(entry)
        if b"\n" in content:
            seen.add(b"\r\n" in content)
    if len(seen) != 1:
        return ""
    return "crlf" if seen.pop() else "lf"


def _umask_of(entries: tuple[ZipEntry, ...]) -> int | None:
    modes = {e.attributes & 0o777 for e in entries if not e.is_dir and e.system == 3}
    found = {_UMASKS[mode] for mode in modes if mode in _UMASKS}
    return found.pop() if len(found) == 1 else None


def _plain(value: Mapping[str, RecipeValue]) -> dict[str, object]:
    """Return the fields as parsed JSON has them, lists as lists."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in value.items()}
