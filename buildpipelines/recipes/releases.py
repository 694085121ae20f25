"""Which files of an index belong to a release, and which one tells how it was made. Pure.

File names are read by the packaging library's rules (PEP 427, 440, 503, 625); names that do not
parse are not offered to anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from buildpipelines.errors import FormatError

FLOOR: Final = "2023-06-01T00:00:00Z"
"""Older releases may use build tools up to this time: earlier ones do not know the toolchain."""


def is_sdist_of(file: str, name: str, version: str) -> bool:
    """Tell whether ``file`` is a source distribution of that release."""
    try:
        found, found_version = parse_sdist_filename(file)
        return found == canonicalize_name(name) and found_version == Version(version)
    except (InvalidSdistFilename, InvalidVersion):
        return False


def is_wheel_of(file: str, name: str, version: str) -> bool:
    """Tell whether ``file`` is a wheel of that release."""
    try:
        found, found_version, _, _ = parse_wheel_filename(file)
        return found == canonicalize_name(name) and found_version == Version(version)
    except (InvalidWheelFilename, InvalidVersion):
        return False


def same_wheel(file: str, other: str) -> bool:
    """Tell whether two wheel names mean the same wheel, however they are spelled."""
    try:
        return parse_wheel_filename(file) == parse_wheel_filename(other)
    except (InvalidWheelFilename, InvalidVersion):
        return False


def choose_reference(files: Iterable[str], *, python: tuple[int, int], machine: str) -> str | None:
    """Return the published wheel to learn from and to compare with, or None.

    A pure wheel if there is one, else the one for this Python and machine: it cannot be equal
    (it was repaired for other systems), but it names the back end.
    """
    names = sorted(files)
    ranked = [(rank, f) for f in names if (rank := _rank(f, python, machine)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(file: str, python: tuple[int, int], machine: str) -> int | None:
    try:
        _, _, build, tags = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    ranks = [r for tag in tags if (r := _rank_tag(tag, python, machine)) is not None]
    return min(ranks) + (10 if build else 0) if ranks else None


def _rank_tag(tag: Tag, python: tuple[int, int], machine: str) -> int | None:
    if tag.abi == "none" and tag.platform == "any":
        return 0 if tag.interpreter in ("py3", f"py{python[0]}{python[1]}") else None
    if "linux" not in tag.platform or not tag.platform.endswith(machine):
        return None
    exact = f"cp{python[0]}{python[1]}"
    rank = 1 if tag.interpreter == exact else 3 if tag.abi in ("abi3", "none") else None
    return None if rank is None else rank + ("musllinux" in tag.platform)


def choose_sdist(files: Iterable[str], name: str, version: str) -> str | None:
    """Return the release's source distribution, ``.tar.gz`` before ``.zip``, or None."""
    found = sorted(f for f in files if is_sdist_of(f, name, version))
    return min(found, key=lambda f: (not f.endswith(".tar.gz"), f), default=None)


def choose_cutoff(uploads: Iterable[str]) -> str:
    """Return the time up to which build inputs may have been uploaded, or "none".

    It is the release's own time: what was built then cannot have used anything newer. Every node
    computes it alone from its own index. Times are UTC, "YYYY-MM-DDThh:mm:ssZ".
    """
    known = [time for time in uploads if time != "unknown"]
    return max(*known, FLOOR) if known else "none"


def purl_of(name: str, version: str) -> str:
    """Return the package URL of a release in normal form (purl-spec type pypi; PEP 503, 440).

    Raises:
        FormatError: the version does not parse.
    """
    try:
        normal = str(Version(version))
    except InvalidVersion as error:
        raise FormatError(f"{version!r:.100} is no version") from error
    encoded = normal.replace("+", "%2B").replace("!", "%21")
    return f"pkg:pypi/{canonicalize_name(name)}@{encoded}"


def parse_purl(purl: str) -> tuple[str, str]:
    """Return (name, version) of a pypi package URL in normal form without qualifiers.

    Raises:
        FormatError: another type, no version, or a part that is out of form.
    """
    prefix = "pkg:pypi/"
    name, at, encoded = purl.removeprefix(prefix).partition("@")
    version = encoded.replace("%2B", "+").replace("%21", "!")
    if not purl.startswith(prefix) or not at or purl_of(name, version) != purl:
        raise FormatError(f"{purl!r:.200} is no package URL of the form {prefix}name@version")
    return name, version
