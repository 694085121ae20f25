"""``Last-Modified`` and ``If-Modified-Since``: ours is understood, and no other hurts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.transfer.conditions import http_date, is_known, is_unchanged_since

SECONDS = st.integers(0, 250_000_000_000)
HEADERS = st.text(st.characters(max_codepoint=255), max_size=60)


@given(SECONDS, st.integers(0, 10**6))
def test_our_own_date_is_understood_to_the_second(seconds: int, later: int) -> None:
    assert is_unchanged_since(http_date(seconds + later), seconds)
    assert is_unchanged_since(http_date(seconds), seconds + later) == (later == 0)


@given(HEADERS | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} .{0,12}"))
def test_any_date_header_is_answered(value: str) -> None:
    assert is_unchanged_since(value, 0) in (True, False)


@given(HEADERS)
def test_etag_counts_before_the_date(value: str) -> None:
    now = http_date(10**9)
    assert not is_known('"other"', now, etag='"own"', modified_s=0)
    assert is_known('"own"', value, etag='"own"', modified_s=10**9)
    assert not is_known(None, now, etag='"own"', modified_s=None)
    assert is_known(None, now, etag='"own"', modified_s=10**9)
