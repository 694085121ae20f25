"""What the fields of a Maven recipe may hold: one grammar for mappings, requests and builds. Pure.

A mapping in the log that no build could follow would be approved in vain, so whoever takes a field
takes it by these rules. What the fields mean: docs/design/maven.md, "Recipe".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, cast

from buildpipelines.errors import FormatError
from buildpipelines.spec import fields

EPOCH_MIN, EPOCH_MAX = 315_532_800, 4_354_819_198
"""What an entry of a zip file can say, in seconds since 1970: 1980 to 2107."""

LIST_MAX: Final = 32
Newline = Literal["lf", "crlf"]

TAG: Final = re.compile(
    r"(?!.*(\.\.|//|/\.|@\{|\.lock(/|\Z)))[A-Za-z0-9_][A-Za-z0-9._+/@-]{0,198}(?<![./])\Z"
)
"""A tag of a repository: what git itself takes for a name, and nobody for an option or a range."""

TEXTS: Final = {
    "tag": re.compile(r"([A-Za-z0-9_][A-Za-z0-9._/+@-]{0,199})?\Z"),
    "commit": re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})?\Z"),
    "module": re.compile(
        r"([A-Za-z0-9_][A-Za-z0-9._-]{0,100}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,100}){0,15})?\Z"
    ),
    "maven": re.compile(r"[0-9][A-Za-z0-9.-]{0,31}\Z"),
    "timezone": re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(/[A-Za-z0-9_+-]{1,30}){0,2}\Z"),
    "locale": re.compile(r"(C|[a-z]{2}_[A-Z]{2})\.UTF-8\Z"),
    "newline": re.compile(r"(lf|crlf)\Z"),
    "reference": re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}\Z"),
}
NUMBERS: Final = {
    "jdk": (1, 99),
    "umask": (0, 0o077),
    "epoch": (EPOCH_MIN, EPOCH_MAX),
    "strip": (0, 1),
}
LISTS: Final = {
    "goals": re.compile(r"[A-Za-z0-9][A-Za-z0-9:._@-]{0,200}\Z"),
    "profiles": re.compile(r"[!?]?[A-Za-z0-9_][A-Za-z0-9._-]{0,100}\Z"),
    "properties": re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,100}(=[ -~]{0,150})?\Z"),
}

_SOURCE = re.compile(r"(git\+)?https://[a-z0-9.-]{1,200}(:[0-9]{1,5})?/[!-~]{1,200}\Z")
_RESERVED = ("maven.repo.local", "project.build.outputTimestamp", "maven.home", "user.")
"""How properties begin that the sandbox itself gives."""


def read_source(value: Mapping[str, object], key: str) -> str:
    """Return an address, ``git+https://…`` or ``https://…``; raises FormatError."""
    return fields.matching(value, key, _SOURCE)


def read_text(value: Mapping[str, object], name: str) -> str:
    """Return one of :data:`TEXTS`; raises FormatError."""
    found = fields.matching(value, name, TEXTS[name])
    if name == "tag" and found and not TAG.match(found):
        raise FormatError(f"field 'tag' {found!r:.100} is no name of a git tag")
    return found


def read_newline(value: Mapping[str, object]) -> Newline:
    """Return the line ends of text files; raises FormatError."""
    return cast("Newline", read_text(value, "newline"))


def read_number(value: Mapping[str, object], name: str) -> int:
    """Return one of :data:`NUMBERS`; raises FormatError."""
    low, high = NUMBERS[name]
    return fields.integer(value, name, low=low, high=high)


def read_list(value: Mapping[str, object], name: str) -> tuple[str, ...]:
    """Return one of :data:`LISTS`; raises FormatError."""
    found = fields.texts(value, name, count_max=LIST_MAX, characters_max=256)
    for text in found:
        if not LISTS[name].match(text):
            raise FormatError(f"field {name!r}: {text!r:.100} does not fit {LISTS[name].pattern}")
    if name == "properties":
        _check_properties([text.partition("=")[0] for text in found])
    return found


def check_field(name: str, value: object) -> None:
    """Check a field that a mapping or a request names.

    Args:
        name: One of :data:`TEXTS`, :data:`NUMBERS` or :data:`LISTS`.
        value: As parsed JSON has it; a tuple counts as a list.

    Raises:
        FormatError: unknown, of another type, or out of form; the text names the field.
    """
    given = {name: list(value) if isinstance(value, tuple) else value}
    if name in TEXTS:
        read_text(given, name)
    elif name in NUMBERS:
        read_number(given, name)
    elif name in LISTS:
        read_list(given, name)
    else:
        raise FormatError(f"field {name!r:.80} is unknown")


def _check_properties(names: list[str]) -> None:
    if len({*names}) != len(names):
        raise FormatError("field 'properties' names a property twice")
    for name in names:
        if name.startswith(_RESERVED):
            raise FormatError(f"field 'properties': {name} is given by the sandbox")
