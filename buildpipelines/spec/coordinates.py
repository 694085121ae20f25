"""Names of Maven artifacts and the paths that follow from them. Pure.

GROUP:ARTIFACT and a version say where the files of an artifact lie in every Maven repository:
``GROUP with slashes/ARTIFACT/VERSION/ARTIFACT-VERSION[-CLASSIFIER].EXTENSION``. A path is read by
the same rules as it is written by, so that a path which is not our own normal form is no path.
Layout: Maven's documentation, "Repository layout"; docs/design/maven.md, "Names".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import FormatError
from buildpipelines.spec.lock import FILE_NAME, FOLDER

METADATA: Final = "maven-metadata.xml"
PATH_CHARACTERS_MAX: Final = 512

_GROUP = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*)*\Z")
_ARTIFACT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}\Z")
_CLASSIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}(\.[A-Za-z0-9]{1,16}){0,2}\Z")
_SNAPSHOT = "-SNAPSHOT"


@dataclass(frozen=True, slots=True, order=True)
class Coordinates:
    """One version of one artifact; make it with :func:`parse_coordinates`."""

    group: str
    artifact: str
    version: str

    @property
    def name(self) -> str:
        """Return ``GROUP:ARTIFACT``."""
        return f"{self.group}:{self.artifact}"

    @property
    def purl(self) -> str:
        """Return the package URL, as the log has it."""
        return f"pkg:maven/{self.group}/{self.artifact}@{self.version.replace('+', '%2B')}"

    @property
    def folder(self) -> str:
        """Return the folder of this version in a repository, without slashes at its ends."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}"

    def file(self, extension: str, classifier: str = "") -> str:
        """Return the name of one of its files.

        Raises:
            FormatError: an extension or classifier that no repository would take.
        """
        if not _EXTENSION.match(extension) or (classifier and not _CLASSIFIER.match(classifier)):
            raise FormatError(f"{classifier!r:.80} and {extension!r:.80} make no file name")
        middle = f"-{classifier}" if classifier else ""
        return f"{self.artifact}-{self.version}{middle}.{extension}"

    def owns(self, file: str) -> bool:
        """Tell whether a file of this name may lie in the folder of this version."""
        prefix = f"{self.artifact}-{self.version}"
        rest = file.removeprefix(prefix)
        return bool(FILE_NAME.match(file)) and rest != file and rest[:1] in (".", "-")


def parse_coordinates(name: str, version: str) -> Coordinates:
    """Read ``GROUP:ARTIFACT`` and a version.

    Raises:
        FormatError: not of that form, or a snapshot, which is no version of the log.
    """
    group, colon, artifact = name.partition(":")
    if not (colon and _GROUP.match(group) and _ARTIFACT.match(artifact)):
        raise FormatError(f"{name!r:.300} is not GROUP:ARTIFACT")
    if not _VERSION.match(version):
        raise FormatError(f"{version!r:.200} is no version of a Maven artifact")
    if version.endswith(_SNAPSHOT):
        raise FormatError(f"{version!r:.200}: snapshots change, so they are never logged")
    return Coordinates(group, artifact, version)


def parse_maven_purl(purl: str) -> Coordinates:
    """Read ``pkg:maven/GROUP/ARTIFACT@VERSION``; raises FormatError if it is not that very text."""
    rest = purl.removeprefix("pkg:maven/")
    name, at, version = rest.partition("@")
    if rest == purl or not at or name.count("/") != 1:
        raise FormatError(f"{purl!r:.300} is not pkg:maven/GROUP/ARTIFACT@VERSION")
    found = parse_coordinates(name.replace("/", ":"), version.replace("%2B", "+"))
    if found.purl != purl:
        raise FormatError(f"{purl!r:.300} is not in its normal form")
    return found


def parse_file_path(path: str) -> tuple[str, str]:
    """Return folder and name of a file in a repository, as a lock has them.

    Args:
        path: Decoded, without a slash at its beginning.

    Raises:
        FormatError: not in normal form, or nothing that a repository could hold.
    """
    folder, slash, file = path.rpartition("/")
    if len(path) > PATH_CHARACTERS_MAX or not slash or not FILE_NAME.match(file):
        raise FormatError(f"{path!r:.300} is no path of a repository")
    # A step has no dot at its beginning, so ".." cannot be one.
    if not FOLDER.match(folder):
        raise FormatError(f"{path!r:.300} is no path of a repository")
    return folder, file
