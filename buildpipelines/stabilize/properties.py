"""Small files that Maven's plugins write beside the code, at level 2. Pure.

- ``jar-maven-pom-properties``: ``META-INF/maven/GROUP/ARTIFACT/pom.properties`` without its
  comments (the tool and the time) and in one order and one kind of line ends. Only if it holds
  nothing but plain ``key=value`` lines, each key once, no line continued.
- ``jar-git-properties``: ``git.properties`` and ``git.json`` without the members that begin with
  ``git.``, which tell branch, time, machine and user of a checkout. Our builds have no checkout:
  they get the tree of the commit. Whatever else such a file holds stays and counts.

A file that does not have this plain form, or is large, is content.
"""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

POM_PROPERTIES: Final = re.compile(r"META-INF/maven/[^/]+/[^/]+/pom\.properties\Z")
GIT_FILE: Final = re.compile(r"(?:.*/)?git\.(?:properties|json)\Z")
_LINE = re.compile(
    r"([A-Za-z0-9._-]+) ?[=:] ?((?:[^\\\x00-\x1f\x7f]|\\[:=#! \\]|\\u[0-9A-Fa-f]{4})*)\Z"
)
"""One line, one pair: an escape may stand in the value, none that goes on to the next line."""


_GIT = "git."
_PROPERTIES_BYTES_MAX = 64 * 1024
_JSON_BYTES_MAX = 1024 * 1024


def stable_pom_properties(content: bytes) -> bytes | None:
    """Return the sorted lines of a plain pom.properties, or None where it is not plain."""
    found = _plain_lines(content)
    if found is None:
        return None
    return "".join(f"{key}={value}\n" for key, value in sorted(found.items())).encode()


def stable_git_file(name: str, content: bytes) -> bytes | None:
    """Return a git.properties or git.json without what tells of a checkout, or None."""
    if name.endswith(".json"):
        return _stable_git_json(content)
    found = _plain_lines(content)
    if found is None:
        return None
    kept = {key: value for key, value in found.items() if not key.startswith(_GIT)}
    return "".join(f"{key}={value}\n" for key, value in sorted(kept.items())).encode()


def _stable_git_json(content: bytes) -> bytes | None:
    if len(content) > _JSON_BYTES_MAX:
        return None
    try:
        value: object = json.loads(
            content.decode(), object_pairs_hook=_once, parse_float=_refuse, parse_constant=_refuse
        )
        if not isinstance(value, dict):
            return None
        kept = {key: item for key, item in value.items() if not str(key).startswith(_GIT)}
        return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _refuse(text: str) -> NoReturn:
    # One number can be written in many ways, and readers keep more or fewer of its digits.
    raise ValueError(f"number {text:.20}")


def _plain_lines(content: bytes) -> dict[str, str] | None:
    """Return key and value of each line; comments and empty lines are left out."""
    if len(content) > _PROPERTIES_BYTES_MAX:
        return None
    content = content.replace(b"\r\n", b"\n")
    try:
        lines = content.decode("ascii").split("\n")
    except UnicodeDecodeError:
        return None
    found: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None or match[1] in found:
            return None
        found[match[1]] = match[2]
    return found
