"""The canonical JSON profile: one spelling for every value, nothing outside the profile."""

from __future__ import annotations

from enum import IntEnum

import pytest

from pyrsia_node.model.canonical import (
    DEPTH_MAX,
    INTEGER_MAX,
    JsonValue,
    dumps,
    loads,
    loads_object,
)
from pyrsia_node.model.errors import InvalidInputError


class Colour(IntEnum):
    RED = 1


def nested(depth: int) -> JsonValue:
    value: JsonValue = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":1}', "canonical"),
        (b'{"b":1,"a":1}', "canonical"),
        (b'{"a": 1}', "canonical"),
        (b'{"a":1}\n', "canonical"),
        (b'"\\u0041"', "canonical"),
        (b'"\\/"', "canonical"),
        (b"-0", "canonical"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b"1.0", "not an integer"),
        (b"1e3", "not an integer"),
        (b"NaN", "not an integer"),
        (b"-Infinity", "not an integer"),
        (b"null", "no canonical form"),
        (b"[null]", "no canonical form"),
        (b'{"\xc3\xa9":1}', "not ASCII"),
        (b'"\\ud800"', "surrogate"),
        (b'"\xed\xa0\x80"', "not JSON"),
        (b'"\xc0\xaf"', "not JSON"),
        (b'"\xff"', "not JSON"),
        (b'"\x01"', "not JSON"),
        (b"9007199254740992", "outside"),
        (b"-9007199254740992", "outside"),
        (b"1" * 5000, "outside"),
        (b"01", "not JSON"),
        (b"", "not JSON"),
        (b"[", "not JSON"),
        (b"1 2", "not JSON"),
        # Which of the two an interpreter notices first depends on its version.
        (b"[" * 5000, "nested|not JSON"),
        (b"[" * 100_000, "nested|not JSON"),
        (b"[" * 5000 + b"]" * 5000, "nested"),
    ],
)
def test_second_spelling_or_value_outside_the_profile_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        loads(data, bytes_max=200_000)


def test_input_longer_than_its_limit_is_not_parsed() -> None:
    assert loads(b'"abc"', bytes_max=5) == "abc"
    with pytest.raises(InvalidInputError, match="5 bytes exceeds the limit of 4"):
        loads(b'"abc"', bytes_max=4)


def test_depth_16_is_allowed_and_17_is_not() -> None:
    assert loads(dumps(nested(DEPTH_MAX)), bytes_max=100) == nested(DEPTH_MAX)
    with pytest.raises(InvalidInputError, match="nested"):
        dumps(nested(DEPTH_MAX + 1))
    with pytest.raises(InvalidInputError, match="nested"):
        loads(b"[" * 17 + b"]" * 17, bytes_max=100)


def test_integers_are_exact_up_to_the_limit() -> None:
    for value in (INTEGER_MAX, -INTEGER_MAX, 0):
        assert loads(dumps(value), bytes_max=100) == value
    with pytest.raises(InvalidInputError, match="outside"):
        dumps(INTEGER_MAX + 1)


def test_keys_sort_by_bytes_and_control_characters_escape_as_rfc_8785_says() -> None:
    value: JsonValue = {"b": '\x1f\x7f\n"\\/é😀', "B": True, "": [1, -1]}
    assert dumps(value) == (
        b'{"":[1,-1],"B":true,"b":"\\u001f\x7f\\n\\"\\\\/\xc3\xa9\xf0\x9f\x98\x80"}'
    )


def test_subclass_of_a_plain_type_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Colour"):
        dumps({"a": Colour.RED})


def test_lone_surrogate_is_refused_when_writing() -> None:
    with pytest.raises(InvalidInputError, match="surrogate"):
        dumps(["\ud800"])


def test_object_reader_refuses_other_values() -> None:
    assert loads_object(b"{}", bytes_max=10) == {}
    with pytest.raises(InvalidInputError, match="not an object"):
        loads_object(b"[]", bytes_max=10)


def test_refusal_names_the_first_byte_that_differs() -> None:
    with pytest.raises(InvalidInputError, match="at byte 5"):
        loads(b'{"a": 1}', bytes_max=100)
