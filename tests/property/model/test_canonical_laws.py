"""Laws of the canonical profile, with the rfc8785 library as the oracle."""

from __future__ import annotations

import json

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.canonical import JsonValue, dumps, loads
from pyrsia_node.model.errors import InvalidInputError
from tests.strategies.json_values import objects, values


@given(values)
def test_canonical_form_equals_rfc_8785(value: JsonValue) -> None:
    assert dumps(value) == rfc8785.dumps(value)


@given(values)
def test_reading_the_canonical_form_gives_the_value_back(value: JsonValue) -> None:
    data = dumps(value)
    again = loads(data, bytes_max=len(data))
    assert again == value
    assert dumps(again) == data


@given(objects, st.data())
def test_any_accepted_bytes_are_the_canonical_form(value: JsonValue, data: st.DataObject) -> None:
    raw = bytearray(dumps(value))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] = data.draw(st.integers(0, 255))
    try:
        read = loads(bytes(raw), bytes_max=len(raw))
    except InvalidInputError:
        return
    assert rfc8785.dumps(read) == bytes(raw)


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_only_our_error_escapes_from_the_parser(raw: bytes) -> None:
    try:
        loads(raw, bytes_max=60)
    except InvalidInputError:
        return


@given(values, st.integers(0, 4))
def test_pretty_printed_form_is_refused(value: JsonValue, indent: int) -> None:
    pretty = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    try:
        assert loads(pretty, bytes_max=len(pretty)) == value
    except InvalidInputError:
        assert pretty != dumps(value)
    else:
        assert pretty == dumps(value)
