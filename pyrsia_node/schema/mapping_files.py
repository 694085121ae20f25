"""Mappings in files: the original's JSON for one version, and a TOML file of patterns. Pure.

The original asks a server for ``{"package_type":"Maven2", "package_specific_id":"G:A:V",
"source_repository":{"Git":{"url","tag"}}, "build_spec_url"}``; it is read here and nothing of it is
fetched. What a build spec says is code of somebody's choice and is not run: a recipe is data.
The TOML file has tables ``[[mapping]]`` with ``pattern``, ``repository``, ``tag`` and a table
``recipe``, as ``add_source`` has them. Guide: docs/guides/sources.md.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.mappings import GIT, SourceMapping, check_mapping, check_pattern
from pyrsia_node.model.purl import Purl

FILE_CHARACTERS_MAX: Final = 256 * 1024
MAPPINGS_MAX: Final = 200
"""Mappings of one file."""

_TEXT_MAX: Final = 500
_GIT_OBJECT: Final = "source_repository.Git"


@dataclass(frozen=True, slots=True)
class VersionMapping:
    """Where one version is, as the original's servers say it: ``git+https://…`` and a tag."""

    purl: Purl
    repository: str
    tag: str
    has_build_spec: bool

    def pattern_mapping(self) -> SourceMapping:
        """Return the mapping of all versions: the version in the tag becomes ``{version}``.

        Raises:
            InvalidInputError: The tag does not tell the version, so it fits no other.
        """
        version = self.purl.version or ""
        # Of 1 in "rel/1.1" nobody knows which is meant, nor whether either is.
        alone = re.compile(rf"(?<![0-9])(?<![0-9][._]){re.escape(version)}(?![._]?[0-9])")
        if self.tag.count(version) != 1 or not alone.search(self.tag):
            raise InvalidInputError(
                f"mapping of {self.purl}: tag {self.tag!r:.100} does not hold the version once, by"
                " itself: write the pattern of its tags in a TOML file"
            )
        mapping = SourceMapping(
            pattern=str(self.purl.without_version()),
            repository=self.repository,
            tag=self.tag.replace(version, "{version}"),
        )
        check_mapping(mapping)
        return mapping


def read_version_mapping(text: str) -> VersionMapping:
    """Return the mapping of one version in the original's JSON.

    Raises:
        InvalidInputError: It is none, or names no git repository behind https, or no tag.
    """
    if len(text) > FILE_CHARACTERS_MAX:
        raise InvalidInputError(f"a mapping has at most {FILE_CHARACTERS_MAX} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"mapping is not JSON: {error}") from None
    return _version_mapping(value)


def read_mappings(text: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a file of either form; JSON may be one object or an array of them.

    Raises:
        InvalidInputError: The file is malformed, a mapping is refused by name, or two of them
            speak of one pattern.
    """
    if len(text) > FILE_CHARACTERS_MAX:
        raise InvalidInputError(f"a mapping has at most {FILE_CHARACTERS_MAX} characters")
    start = text.lstrip()
    # Of TOML two brackets begin what is expected, a table of an array.
    is_json = start.startswith(("{", "[")) and not start.startswith("[[")
    found = _from_json(text) if is_json else _from_toml(text)
    if not 0 < len(found) <= MAPPINGS_MAX:
        raise InvalidInputError(f"{len(found)} mappings are in it, not 1 to {MAPPINGS_MAX}")
    patterns = [each.pattern for each in found]
    twice = sorted({each for each in patterns if patterns.count(each) > 1})
    if twice:
        raise InvalidInputError(f"{twice[0]} is mapped twice")
    return tuple(found)


def pattern_of(text: str) -> str:
    """Return the pattern that a person means: ``G:A``, ``G:*``, or the pattern itself.

    Raises:
        InvalidInputError: It means none.
    """
    group, colon, artifact = text.partition(":")
    if text.startswith("pkg:") or not colon:
        check_pattern(text)
        return text
    pattern = f"pkg:maven/{group}/{artifact}"
    check_pattern(pattern)
    return pattern


def _from_json(text: str) -> list[SourceMapping]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"mapping is not JSON: {error}") from None
    each = value if isinstance(value, list) else [value]
    return [_version_mapping(one).pattern_mapping() for one in each[: MAPPINGS_MAX + 1]]


def _version_mapping(value: object) -> VersionMapping:
    got = _Members(value, "mapping")
    if got.text("package_type") != "Maven2":
        raise InvalidInputError("mapping: package_type is not Maven2: nothing else has mappings")
    name = got.text("package_specific_id")
    parts = name.split(":")
    if len(parts) != 3:
        raise InvalidInputError(f"mapping: package_specific_id {name!r:.100} is not G:A:V")
    purl = Purl.maven(*parts)
    source = _Members(got.member("source_repository"), f"mapping of {name}: source_repository")
    git = _Members(source.member("Git"), f"mapping of {name}: {_GIT_OBJECT}")
    if git.member("tag") in (None, ""):
        raise InvalidInputError(f"mapping of {name}: a mapping without a tag")
    tag = git.text("tag")
    address = git.text("url").removeprefix(GIT)
    found = VersionMapping(purl, f"{GIT}{address}", tag, has_build_spec=got.has("build_spec_url"))
    # Judged as one version's: its tag needs no placeholder, and everything else is the same.
    whole = SourceMapping(str(purl.without_version()), found.repository, f"{{version}}{tag}")
    check_mapping(whole)
    return found


def _from_toml(text: str) -> list[SourceMapping]:
    try:
        value = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InvalidInputError(f"file of mappings is not TOML: {error}") from None
    listed = value.get("mapping")
    if set(value) != {"mapping"} or not isinstance(listed, list):
        raise InvalidInputError("a file of mappings has tables [[mapping]] and nothing else")
    return [_table(each) for each in listed[: MAPPINGS_MAX + 1]]


def _table(value: object) -> SourceMapping:
    if not isinstance(value, dict):
        raise InvalidInputError("a mapping is a table with pattern, repository and tag")
    given = {"tag": "", "recipe": {}, **value}
    if isinstance(given.get("pattern"), str):
        given["pattern"] = pattern_of(given["pattern"])
    # Through the canonical form, which a float or a date cannot pass.
    text = canonical.dumps(cast("JsonObject", given))
    plain = canonical.loads_object(text, bytes_max=FILE_CHARACTERS_MAX)
    return SourceMapping.read(Fields(plain, "mapping", _TABLE_MEMBERS))


class _Members:
    """An object of the original's: members that nobody here reads are passed over."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInputError(f"{where} is no object")
        self._value: Mapping[str, object] = value
        self._where = where

    def has(self, name: str) -> bool:
        return self._value.get(name) is not None

    def member(self, name: str) -> object:
        return self._value.get(name)

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or not value.isascii():
            raise InvalidInputError(f"{self._where}: {name} is no text of up to {_TEXT_MAX} ASCII")
        return value


_TABLE_MEMBERS: Final = frozenset({"pattern", "recipe", "repository", "tag"})
