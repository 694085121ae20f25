"""Names that a page of another site could make point here are refused; numbers and ours are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.gateway.app import HostCheck

CHECK = HostCheck(frozenset({"node-1"}))


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:7888", "LOCALHOST", "localhost.", "127.0.0.1:1", "[::1]", "[::1]:7888",
     "node-1", "node-1:80", "192.168.1.7:7888"],
)  # fmt: skip
def test_our_names_and_numbers_are_admitted(host: str) -> None:
    assert CHECK.admits(host, None)
    assert CHECK.admits("localhost", f"http://{host}")


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:7888", "localhost.evil.example", "node-1.evil.example",
     "127.0.0.1.evil.example", "localhost@evil.example", "::1", "[::1", "a b", "localhost:x"],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    assert not CHECK.admits(host, None)
    assert not CHECK.admits("localhost", f"http://{host}")


@pytest.mark.parametrize("origin", ["null", "", "file://", "http://localhost/path", "localhost"])
def test_origin_that_is_no_site_of_ours_is_refused(origin: str) -> None:
    assert not CHECK.admits("localhost", origin)


def test_request_without_host_is_refused() -> None:
    assert not CHECK.admits(None, None)


@given(st.text(max_size=80), st.text(max_size=80) | st.none())
def test_any_headers_give_an_answer(host: str, origin: str | None) -> None:
    assert CHECK.admits(host, origin) in {True, False}
