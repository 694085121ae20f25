"""Whatever bytes come in, only our errors leave; and what is understood is understood rightly."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.transfer.address import parse_data_url
from pyrsia_node.transfer.conditions import (
    Span,
    Unsatisfiable,
    matches_etag,
    parse_range,
    range_applies,
)
from pyrsia_node.transfer.response import parse_head

SIZES = st.integers(0, 1 << 40)
HEADERS = st.text(st.characters(max_codepoint=255), max_size=60)
RANGEISH = st.from_regex(r"(bytes|items)=[0-9 ,\-]{0,30}", fullmatch=True)


@given(HEADERS | RANGEISH, SIZES)
def test_any_range_header_is_whole_file_or_a_span_inside_it(value: str, size: int) -> None:
    span = parse_range(value, size=size)
    if isinstance(span, Span):
        assert 0 <= span.start < span.end <= size


@given(st.data(), st.integers(1, 1 << 40))
def test_range_inside_the_file_is_answered_exactly(draw: st.DataObject, size: int) -> None:
    first = draw.draw(st.integers(0, size - 1))
    last = draw.draw(st.integers(first, size - 1))
    assert parse_range(f"bytes={first}-{last}", size=size) == Span(first, last + 1)
    assert parse_range(f"bytes={first}-", size=size) == Span(first, size)
    assert parse_range(f"BYTES={first}-{last + size}", size=size) == Span(first, size)
    assert parse_range(f"bytes=-{size - first}", size=size) == Span(first, size)


@given(SIZES, st.integers(0, 1000))
def test_range_beyond_the_end_is_unsatisfiable(size: int, beyond: int) -> None:
    assert isinstance(parse_range(f"bytes={size + beyond}-", size=size), Unsatisfiable)
    assert isinstance(parse_range("bytes=-0", size=size), Unsatisfiable)


@pytest.mark.parametrize(
    "value", ["bytes=0-1,5-6", "bytes=5-2", "bytes=-", "bytes=a-b", "items=0-1", "", "bytes=+1-2"]
)
def test_several_or_malformed_ranges_mean_the_whole_file(value: str) -> None:
    assert parse_range(value, size=100) is None


@given(HEADERS)
def test_any_if_none_match_is_answered(value: str) -> None:
    assert matches_etag(value, '"abc"') in {True, False}
    assert range_applies(value, '"abc"') == (value.strip() == '"abc"')


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        ("*", True),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"ab"', False),
        ("abc", False),
    ],
)
def test_if_none_match_compares_weakly(value: str | None, *, expected: bool) -> None:
    assert matches_etag(value, '"abc"') is expected


@given(st.binary(max_size=300))
def test_only_our_error_leaves_the_head_parser(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        parse_head(data)


@given(
    st.integers(100, 599),
    st.integers(0, 10**14),
    st.dictionaries(
        st.from_regex(r"x-[a-z]{1,10}", fullmatch=True),
        st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True),
        max_size=5,
    ),
)
def test_well_formed_head_is_read_back(status: int, length: int, fields: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {length}"]
    lines += [f"{name.upper()}:  {value} " for name, value in fields.items()]
    head = parse_head("\r\n".join([*lines, "", ""]).encode())
    assert (head.status, head.length) == (status, length)
    assert {name: head.fields[name] for name in fields} == fields


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n" + b"a: b\r\n" * 100 + b"\r\n",
    ],
)
def test_ambiguous_or_endless_head_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_head(head)


@given(
    url=st.text(max_size=80),
    fingerprint=st.text(max_size=64) | st.none(),
    plain=st.booleans(),
)
def test_only_our_error_leaves_the_url_parser(
    *, url: str, fingerprint: str | None, plain: bool
) -> None:
    with contextlib.suppress(InvalidInputError):
        parse_data_url(url, fingerprint, allow_plain=plain)


@pytest.mark.parametrize(
    "url",
    [
        "https://host",
        "https://user@host:1",
        "https://host:1/path",
        "https://host:1?q",
        "https://host:0",
        "https://host:65536",
        "http://host:1",
        "file:///etc/passwd",
        "https://ho st:1",
        "https://host:1\r\nx: y",
    ],
)
def test_url_that_is_more_than_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_data_url(url, "0" * 64, allow_plain=False)


def test_good_urls_are_read() -> None:
    address = parse_data_url("https://[::1]:44/", "a" * 64, allow_plain=False)
    assert (address.host, address.port, str(address)) == ("::1", 44, "https://[::1]:44")
    plain = parse_data_url("http://node.example:80", "a" * 64, allow_plain=True)
    assert not plain.is_tls
    with pytest.raises(InvalidInputError, match="fingerprint"):
        parse_data_url("https://host:1", None, allow_plain=True)
