"""Paths of a Maven repository: which file, or whose metadata, a path below its root names. Pure.

The layout is that of Maven 2 and 3: ``org/example/tool/1.0/tool-1.0.jar``. A path is a key of
look-ups and never a path of this machine; every name in it is held against an allow-list, so dots,
separators and what hides them cannot get through. Which files exist is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl

METADATA: Final = "maven-metadata.xml"
"""What lists versions of an artifact, or plugins of a group."""

CHECKSUMS: Final = ("sha1", "md5", "sha256", "sha512")
"""Extensions of checksum files, the one that Maven asks for first."""

PATH_LENGTH_MAX: Final = 1024
_SEGMENTS_MAX: Final = 64
_GROUP_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~-]{0,254}")


@dataclass(frozen=True, slots=True)
class MavenProject:
    """What Maven calls ``group:artifact``."""

    group: str
    artifact: str

    @property
    def name(self) -> str:
        """Return it as the index of the log calls it."""
        return f"{self.group}/{self.artifact}"

    @property
    def path(self) -> str:
        """Return its folder in a repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}"

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.group}:{self.artifact}"


@dataclass(frozen=True, slots=True)
class MavenFile:
    """A file of one version of a project: ``name`` is in the folder ``version``."""

    project: MavenProject
    version: str
    name: str

    @property
    def path(self) -> str:
        """Return its path in a repository."""
        return f"{self.project.path}/{self.version}/{self.name}"

    @property
    def gav(self) -> str:
        """Return the version as people write it: ``group:artifact:version``."""
        return f"{self.project}:{self.version}"

    @property
    def is_ordinary(self) -> bool:
        """Whether the name is ``ARTIFACT-VERSION`` with a classifier or an extension behind it."""
        stem = f"{self.project.artifact}-{self.version}"
        return self.name.startswith((f"{stem}.", f"{stem}-"))

    @property
    def is_pom(self) -> bool:
        """Whether it describes the version, rather than being of it."""
        return self.name.endswith(".pom")

    def beside(self, suffix: str) -> MavenFile:
        """Return the file that is called as this one with ``suffix`` behind it."""
        return MavenFile(self.project, self.version, self.name + suffix)


@dataclass(frozen=True, slots=True)
class MavenListing:
    """A folder whose ``maven-metadata.xml`` is asked for.

    Nothing in its path tells whether it is a group's or an artifact's, so it may be both.
    """

    group: str
    project: MavenProject | None

    @property
    def path(self) -> str:
        """Return the path of the document in a repository."""
        return f"{self.group.replace('.', '/')}/{METADATA}"


class SnapshotError(InvalidInputError):
    """A snapshot was asked for: it changes under its name, so no log can vouch for it."""

    def __init__(self, version: str) -> None:
        """Say so of ``version``."""
        super().__init__(
            f"{version:.80} is a snapshot: it changes under its name, so this repository has none; "
            "depend on a released version, or add a second repository for snapshots"
        )


def locate(segments: Sequence[str]) -> MavenFile | MavenListing:
    """Return what a path names, given its decoded segments.

    Raises:
        InvalidInputError: No file of a repository can be there; says what is wrong with it.
        SnapshotError: It is one of a snapshot.
    """
    if not 2 <= len(segments) <= _SEGMENTS_MAX:
        raise InvalidInputError(
            "a path is GROUP/ARTIFACT/VERSION/FILE, the group's dots as slashes"
        )
    *folder, name = segments
    if folder[-1].upper().endswith("-SNAPSHOT"):
        raise SnapshotError(folder[-1])
    if name == METADATA:
        return _listing(folder)
    if len(folder) < 3:
        raise InvalidInputError(
            "a path is GROUP/ARTIFACT/VERSION/FILE, the group's dots as slashes"
        )
    project, version = _version(tuple(folder))
    if not _FILE.fullmatch(name) or ".." in name:
        raise InvalidInputError(f"{name!r:.80} is no file name of a Maven repository")
    return MavenFile(project, version, name)


def without_checksum(name: str) -> tuple[str, str]:
    """Return a name without the extension of a checksum, and that extension; else "" for it."""
    stem, _, kind = name.rpartition(".")
    return (stem, kind) if stem and kind in CHECKSUMS else (name, "")


def _listing(folder: Sequence[str]) -> MavenListing:
    group = _group(folder)
    if len(folder) == 1:
        return MavenListing(group, None)
    return MavenListing(group, _project(folder[:-1], folder[-1]))


# A client asks for several files of each: checking names takes longer than all else done to them.
@lru_cache(maxsize=4096)
def _version(folder: tuple[str, ...]) -> tuple[MavenProject, str]:
    *group, artifact, version = folder
    project = _project(group, artifact)
    Purl.maven(project.group, project.artifact, version)
    return project, version


def _project(group: Sequence[str], artifact: str) -> MavenProject:
    project = MavenProject(_group(group), artifact)
    Purl.maven(project.group, project.artifact)
    return project


def _group(segments: Sequence[str]) -> str:
    for each in segments:
        if not _GROUP_SEGMENT.fullmatch(each):
            hint = "; write a group's dots as slashes" if "." in each else ""
            raise InvalidInputError(f"{each!r:.80} is no part of a group{hint}")
    return ".".join(segments)
