"""One entry in a list of a JSON object, put in and taken out in the text itself. Pure.

The file is another program's and its person's: order, spaces and every other byte stay as they
are. Only members of the outermost object are looked at.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Span:
    """Where something stands in the text: ``begin`` included, ``end`` not."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class _Member:
    key: _Span
    value: _Span


def with_entry(text: str, key: str, entry: str) -> str:
    """Return the object with ``entry`` first in the list ``key``; unchanged if it is in there.

    Blank text counts as an object without members.

    Raises:
        InvalidInputError: The text is no JSON object, has a member twice, or ``key`` is no list of
            texts; syntax errors name the line.
    """
    if _SPACE.fullmatch(text):
        return _fresh(key, entry)
    found = _list_of(text, key)
    if found is not None and entry in found:
        return text
    members = _members(text)
    if key not in members:
        return _with_member(text, members, key, entry)
    begin = members[key].value.begin + 1
    first = _skip(text, begin)
    if not found:
        # Right behind the bracket, so that it can be told from a list that is ours as a whole.
        return text[:begin] + json.dumps(entry) + text[begin:]
    space = text[begin:first] or " "
    return f"{text[:first]}{json.dumps(entry)},{space}{text[first:]}"


def without_entry(text: str, key: str, entry: str) -> str:
    """Undo :func:`with_entry`. What consists of nothing else becomes empty.

    Raises:
        InvalidInputError: As :func:`with_entry`.
    """
    if _SPACE.fullmatch(text):
        return text
    if text == _fresh(key, entry):
        return ""
    while entry in (_list_of(text, key) or []):
        text = _without_one(text, key, entry)
    return text


def entries(text: str, key: str) -> list[str]:
    """Return the list ``key``, [] if there is none; raises as :func:`with_entry`."""
    return [] if _SPACE.fullmatch(text) else (_list_of(text, key) or [])


def _fresh(key: str, entry: str) -> str:
    return f"{{\n  {json.dumps(key)}: [\n    {json.dumps(entry)}\n  ]\n}}\n"


def _list_of(text: str, key: str) -> list[str] | None:
    try:
        value = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise InvalidInputError("nested too deeply to be read") from None
    if not isinstance(value, _Pairs):
        raise InvalidInputError("line 1: no JSON object")
    counted = Counter(name for name, _ in value.pairs)
    if counted and max(counted.values()) > 1:
        twice = next(name for name, count in counted.items() if count > 1)
        raise InvalidInputError(f"{twice!r} stands in it twice")
    found = dict(value.pairs).get(key)
    if found is None and key not in counted:
        return None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidInputError(f"{key!r} is no list of texts")
    return found


@dataclass(frozen=True, slots=True)
class _Pairs:
    """An object whose repeated members can still be seen."""

    pairs: list[tuple[str, object]]


def _pairs(pairs: list[tuple[str, object]]) -> _Pairs:
    return _Pairs(pairs)


def _with_member(text: str, members: dict[str, _Member], key: str, entry: str) -> str:
    if not members:
        begin = _skip(text, 0) + 1
        return f"{text[:begin]}{json.dumps(key)}: [ {json.dumps(entry)} ]{text[begin:]}"
    all_members = list(members.values())
    begin = _skip(text, 0) + 1
    space = text[begin : all_members[0].key.begin] or " "
    # A list that is ours as a whole has space around its entry: so it is known when it goes again.
    inner = f"{space}{space.rpartition(chr(10))[2]}" if "\n" in space else " "
    outer = space if "\n" in space else " "
    member = f"{json.dumps(key)}: [{inner}{json.dumps(entry)}{outer}]"
    end = all_members[-1].value.end
    return f"{text[:end]},{space}{member}{text[end:]}"


def _without_one(text: str, key: str, entry: str) -> str:
    members = _members(text)
    value = members[key].value
    spans = _elements(text, value)
    if len(spans) == 1 and spans[0].begin > value.begin + 1:
        return _without_member(text, list(members.values()), members[key])
    place = next(number for number, span in enumerate(spans) if _decoded(text, span.begin) == entry)
    return _cut(text, spans, place)


def _without_member(text: str, members: list[_Member], ours: _Member) -> str:
    spans = [_Span(each.key.begin, each.value.end) for each in members]
    return _cut(text, spans, members.index(ours))


def _cut(text: str, spans: list[_Span], place: int) -> str:
    """Take out one of several spans with the comma that belongs to it."""
    span = spans[place]
    if len(spans) == 1:
        return text[: span.begin] + text[span.end :]
    if place == len(spans) - 1:
        return text[: spans[place - 1].end] + text[span.end :]
    return text[: span.begin] + text[spans[place + 1].begin :]


def _members(text: str) -> dict[str, _Member]:
    """Return the members of an object that is known to be well-formed."""
    members: dict[str, _Member] = {}
    position = _skip(text, _skip(text, 0) + 1)
    while text[position] != "}":
        name, end = _DECODER.raw_decode(text, position)
        key = _Span(position, end)
        begin = _skip(text, _skip(text, end) + 1)
        _, end = _DECODER.raw_decode(text, begin)
        members[name] = _Member(key, _Span(begin, end))
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return members


def _elements(text: str, value: _Span) -> list[_Span]:
    spans: list[_Span] = []
    position = _skip(text, value.begin + 1)
    while text[position] != "]":
        _, end = _DECODER.raw_decode(text, position)
        spans.append(_Span(position, end))
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return spans


def _decoded(text: str, begin: int) -> object:
    value, _ = _DECODER.raw_decode(text, begin)
    return value


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()
