"""Strict reading of the members of a canonical JSON object.

``Fields`` is the one way in which documents from outside become values: the set of member names
must be exact, every member has a type and a bound, and each refusal names the member. It knows no
schema; the modules beside it do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Final

from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, is_hex
from pyrsia_node.model.errors import InvalidInputError

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~@=-]{0,199}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")


class Fields:
    """A view of one object whose member names are exactly those that its schema has."""

    __slots__ = ("_members", "_where")

    def __init__(self, value: JsonValue, where: str, names: frozenset[str]) -> None:
        """Check that ``value`` is an object with exactly the members ``names``.

        Args:
            value: A value read by ``canonical``.
            where: What this object is, for error texts, such as ``build_request.source``.
            names: The member names of the schema.

        Raises:
            InvalidInputError: Not an object, or members missing or unknown.
        """
        if not isinstance(value, dict):
            raise InvalidInputError(f"{where} is not an object")
        if value.keys() != names:
            missing = ", ".join(sorted(names - value.keys()))
            unknown = ", ".join(sorted(value.keys() - names))
            raise InvalidInputError(
                f"{where} has wrong members: missing [{missing:.200}], unknown [{unknown:.200}]"
            )
        self._members: JsonObject = value
        self._where = where

    def schema(self, kind: str, version: int = 1) -> None:
        """Check the members ``t`` and ``v``.

        Raises:
            InvalidInputError: The object is of another schema.
        """
        if self._members["t"] != kind or self.integer("v", low=0, high=INTEGER_MAX) != version:
            raise InvalidInputError(f"{self._where} is not of schema {kind!r} version {version}")

    def text(self, name: str, *, length_max: int, length_min: int = 0) -> str:
        """Return a text member of at most ``length_max`` characters."""
        value = self._members[name]
        if not isinstance(value, str):
            raise self.refused(name, "is not text")
        if not length_min <= len(value) <= length_max:
            raise self.refused(
                name, f"has {len(value)} characters, not {length_min} to {length_max}"
            )
        return value

    def matching(self, name: str, pattern: re.Pattern[str], what: str) -> str:
        """Return a text member that ``pattern`` matches wholly; ``what`` says the rule."""
        value = self._members[name]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.refused(name, f"is not {what}")
        return value

    def integer(self, name: str, *, low: int, high: int) -> int:
        """Return an integer member within [low, high]."""
        value = self._members[name]
        # bool is a subclass of int, and True is not 1 in a signed document.
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refused(name, "is not an integer")
        if not low <= value <= high:
            raise self.refused(name, f"is {value}, not {low} to {high}")
        return value

    def one_of(self, name: str, choices: Iterable[str]) -> str:
        """Return a text member that is one of ``choices``."""
        value = self._members[name]
        if not isinstance(value, str) or value not in choices:
            raise self.refused(name, f"is not one of {', '.join(sorted(choices))}")
        return value

    def hex(self, name: str, *, size: int) -> str:
        """Return a member that is the lowercase hex of ``size`` bytes."""
        value = self._members[name]
        if not isinstance(value, str) or not is_hex(value, size=size):
            raise self.refused(name, f"is not {2 * size} lowercase hex digits")
        return value

    def sha256(self, name: str) -> Sha256:
        """Return a member that is a SHA-256 digest."""
        return Sha256(self.hex(name, size=32))

    def raw(self, name: str, *, size: int) -> bytes:
        """Return the ``size`` bytes that a hex member spells."""
        return bytes.fromhex(self.hex(name, size=size))

    def file_name(self, name: str) -> str:
        """Return a member that is a bare file name: no separator, no leading dot, ASCII."""
        return self.matching(name, _FILE_NAME, "a plain file name")

    def identifier(self, name: str) -> str:
        """Return a short ASCII name."""
        return self.matching(name, _NAME, "a short name of letters, digits and ._/-")

    def array(self, name: str, *, length_max: int, length_min: int = 0) -> list[JsonValue]:
        """Return an array member of at most ``length_max`` elements."""
        value = self._members[name]
        if not isinstance(value, list):
            raise self.refused(name, "is not an array")
        if not length_min <= len(value) <= length_max:
            raise self.refused(name, f"has {len(value)} elements, not {length_min} to {length_max}")
        return value

    def texts(self, name: str, *, count_max: int, length_max: int) -> tuple[str, ...]:
        """Return an array of texts."""
        found = []
        for each in self.array(name, length_max=count_max):
            if not isinstance(each, str) or len(each) > length_max:
                raise self.refused(name, f"holds what is not text of up to {length_max} characters")
            found.append(each)
        return tuple(found)

    def digests(self, name: str, *, count: int) -> tuple[Sha256, ...]:
        """Return an array of exactly ``count`` SHA-256 digests."""
        found = []
        for each in self.array(name, length_max=count, length_min=count):
            if not isinstance(each, str) or not is_hex(each, size=32):
                raise self.refused(name, "holds what is not a digest")
            found.append(Sha256(each))
        return tuple(found)

    def mapping(self, name: str, *, count_max: int) -> JsonObject:
        """Return an object member whose keys are free, at most ``count_max`` of them."""
        value = self._members[name]
        if not isinstance(value, dict):
            raise self.refused(name, "is not an object")
        if len(value) > count_max:
            raise self.refused(name, f"has {len(value)} members, more than {count_max}")
        return value

    def value(self, name: str) -> JsonValue:
        """Return a member as it is, for a reader of its own schema."""
        return self._members[name]

    def refused(self, name: str, why: str) -> InvalidInputError:
        """Return the error that says why member ``name`` is refused; the caller raises it."""
        return InvalidInputError(f"{self._where}: {name} {why}")


def schema_of(value: JsonObject) -> str:
    """Return member ``t``: the schema that the object says it is of.

    Raises:
        InvalidInputError: There is no such text member.
    """
    kind = value.get("t")
    if not isinstance(kind, str):
        raise InvalidInputError("the object names no schema (member t)")
    return kind


def check_sorted(keys: list[str], what: str) -> None:
    """Check that ``keys`` ascend without repetition.

    Raises:
        InvalidInputError: They do not; the text names ``what`` and the first offender.
    """
    for before, after in itertools.pairwise(keys):
        if before >= after:
            raise InvalidInputError(f"{what} are not sorted and distinct at {after!r:.80}")
