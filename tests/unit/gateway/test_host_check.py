"""Names that a page of another site could make point here are refused, and pages of other sites."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.gateway.app import HostCheck
from pyrsia_node.gateway.cors import CorsPolicy
from pyrsia_node.transfer.asgi import Scope

CHECK = HostCheck(frozenset({"node-1"}))


def asked(
    host: str | None,
    origin: str | None = None,
    *,
    method: str = "POST",
    site: str | None = None,
    mode: str | None = None,
    dest: str | None = None,
    scheme: str = "http",
) -> Scope:
    fields = {"host": host, "origin": origin, "sec-fetch-site": site}
    fields |= {"sec-fetch-mode": mode, "sec-fetch-dest": dest}
    headers = [
        (name.encode(), value.encode("utf-8", "surrogatepass"))
        for name, value in fields.items()
        if value is not None
    ]
    return {"type": "http", "scheme": scheme, "method": method, "headers": headers}


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:7888", "LOCALHOST", "localhost.", "127.0.0.1:1", "[::1]", "[::1]:7888",
     "node-1", "node-1:80", "192.168.1.7:7888"],
)  # fmt: skip
def test_our_names_and_numbers_are_admitted_and_pages_from_there(host: str) -> None:
    assert CHECK.admits(asked(host))
    assert CHECK.admits(asked(host, f"http://{host}"))
    assert CHECK.admits(asked(host, f"https://{host}", scheme="https"))


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:7888", "localhost.evil.example", "node-1.evil.example",
     "127.0.0.1.evil.example", "localhost@evil.example", "::1", "[::1", "a b", "localhost:x"],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    assert not CHECK.admits(asked(host))
    assert not CHECK.admits(asked("localhost", f"http://{host}"))
    assert not CHECK.admits(asked(host, f"http://{host}"))


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:7888",
        "http://127.0.0.1:7888",
        "http://203.0.113.7",
        "http://[::1]:7888",
        "http://node-1:7888",
    ],
)
def test_page_of_another_port_or_of_any_number_is_somebody_elses(origin: str) -> None:
    assert not CHECK.admits(asked("localhost:7888", origin))
    assert not CHECK.admits(asked("localhost:7888", origin, method="GET"))


@pytest.mark.parametrize("origin", ["null", "", "file://", "http://localhost/path", "localhost"])
def test_origin_that_is_no_site_of_ours_is_refused(origin: str) -> None:
    assert not CHECK.admits(asked("localhost", origin))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_browser_that_hides_the_origin_changes_nothing_from_elsewhere(site: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        visit = asked("localhost", method=method, site=site, mode="navigate", dest="document")
        assert not CHECK.admits(visit)
    assert CHECK.admits(asked("localhost", site="same-origin"))
    assert CHECK.admits(asked("localhost", site="none"))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_picture_or_frame_of_another_page_asks_for_nothing_but_a_link_may_be_followed(
    site: str,
) -> None:
    def reads(mode: str, dest: str) -> bool:
        return CHECK.admits(asked("localhost", method="GET", site=site, mode=mode, dest=dest))

    assert reads("navigate", "document")
    assert not reads("no-cors", "image")
    assert not reads("no-cors", "script")
    assert not reads("navigate", "iframe")
    assert CHECK.admits(asked("localhost", method="GET", site="same-origin", mode="no-cors"))


def test_pages_that_the_operator_named_are_admitted() -> None:
    check = HostCheck(frozenset(), CorsPolicy(["https://ui.example"]), "https://pub.example")
    assert check.admits(asked("localhost", "https://ui.example", site="cross-site"))
    assert check.admits(asked("localhost", "https://pub.example"))
    assert not check.admits(asked("localhost", "http://pub.example"))


def test_request_without_host_is_refused() -> None:
    assert not CHECK.admits(asked(None))


@given(st.text(max_size=80), st.text(max_size=80) | st.none())
def test_any_headers_give_an_answer(host: str, origin: str | None) -> None:
    assert CHECK.admits(asked(host, origin)) in {True, False}
