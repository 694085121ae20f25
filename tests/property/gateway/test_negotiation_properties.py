"""An Accept header, whatever it says, leads to one of our types or to none, never to an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.gateway.negotiation import preferred
from pyrsia_node.gateway.simple_pages import HTML, JSON, OFFERED, PLAIN_HTML

ACCEPTISH = st.from_regex(
    r"([a-z*]{1,9}/[a-z.*+]{1,9}(;q=[0-9.]{0,5})?[ ,]{0,3}){0,5}", fullmatch=True
)


@given(st.text(st.characters(max_codepoint=255), max_size=100) | ACCEPTISH)
def test_any_header_gives_an_offered_type_or_none(accept: str) -> None:
    assert preferred(accept, OFFERED) in {*OFFERED, None}


@given(st.sampled_from(OFFERED), st.integers(1, 1000))
def test_type_that_alone_is_named_is_given(media: str, thousandths: int) -> None:
    assert preferred(f"{media};q={thousandths / 1000:.3f}", OFFERED) == media
    assert preferred(f"{media}; q=0", OFFERED) is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, HTML),
        ("", HTML),
        ("*/*", HTML),
        (f"{JSON}, {HTML}; q=0.1, text/html; q=0.01", JSON),
        (f"{JSON};q=0.2, {HTML};q=0.3", HTML),
        ("text/html", PLAIN_HTML),
        ("text/*", PLAIN_HTML),
        ("TEXT/HTML", PLAIN_HTML),
        (f"*/*;q=0.1, {JSON}", JSON),
        (f"*/*, {HTML};q=0", JSON),
        ("image/png", None),
        ("*/*;q=0", None),
        (f"{JSON};q=nonsense, text/html;q=0.1", PLAIN_HTML),
        ("text/html;level=1;q=0.5, */*;q=0.1", PLAIN_HTML),
        ("application/json", None),
    ],
)
def test_best_type_is_chosen(accept: str | None, expected: str | None) -> None:
    assert preferred(accept, OFFERED) == expected
