"""File names and project names of PyPI, as clients send them. Pure.

PEP 503 (project names), PEP 427 (wheels), PEP 625 and its past (source distributions). A name
becomes a key of a look-up and never a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from pyrsia_node.model.errors import InvalidInputError

NAME_LENGTH_MAX: Final = 200
_PROJECT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.!+-]{0,199}")


@dataclass(frozen=True, slots=True)
class FileName:
    """What a distribution's file name says."""

    project: str
    """In PEP 503 normal form."""
    version: str
    """In PEP 440 normal form."""


def normalise_project(name: str) -> str:
    """Return a project's name in normal form.

    Raises:
        InvalidInputError: No project can have this name.
    """
    if not _PROJECT.fullmatch(name):
        raise InvalidInputError(f"{name!r:.80} is not the name of a project")
    return str(canonicalize_name(name))


def is_file_name(name: str) -> bool:
    """Tell whether the name is a plain one that a distribution may have."""
    return _FILE.fullmatch(name) is not None


def parse_file_name(name: str) -> FileName:
    """Return what a wheel's or source distribution's name says.

    Raises:
        InvalidInputError: Neither of the two, or not a plain file name.
    """
    if not is_file_name(name):
        raise InvalidInputError(f"{name!r:.80} is not the name of a distribution")
    try:
        if name.endswith(".whl"):
            project, version, _, _ = parse_wheel_filename(name)
        else:
            project, version = parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion, ValueError) as error:
        raise InvalidInputError(f"{name!r:.80}: {error}") from error
    return FileName(project=str(project), version=str(version))


def sort_versions(versions: set[str]) -> list[str]:
    """Return versions in the order of PEP 440, those that are none first."""
    return sorted(versions, key=_version_key)


def _version_key(text: str) -> tuple[bool, Version, str]:
    try:
        return True, Version(text), text
    except InvalidVersion:
        return False, Version("0"), text
