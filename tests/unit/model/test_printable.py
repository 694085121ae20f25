"""No text makes a terminal do anything, and letters of all scripts stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.printable import plain, plain_message


@given(st.text())
def test_what_is_printed_is_printable(text: str) -> None:
    assert plain(text).isprintable()


@given(st.text().filter(str.isprintable))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udc80", "\\udc80"),
        ("Zoë Ωμέγα 東京", "Zoë Ωμέγα 東京"),
    ],
)
def test_orders_are_shown_as_escapes(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_a_message_has_one_first_line_and_obeys_nothing(text: str) -> None:
    first, *rest = plain_message("pyrsia", text).split("\n")
    assert first.startswith("pyrsia: ")
    assert all(line.startswith("  ") for line in rest)
    assert all(line.isprintable() for line in (first, *rest))
