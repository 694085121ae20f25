"""Which web pages may do what: preflights, answers, and pages that are refused."""

from __future__ import annotations

import asyncio

import pytest

from pyrsia_node.gateway.app import GatewayApp, HostCheck
from pyrsia_node.gateway.cors import CorsApp, CorsPolicy
from pyrsia_node.transfer.asgi import Message, Receive, Scope, Send, answer_text

UI = "https://ui.example"
Answered = tuple[int, dict[str, str]]


async def _service(scope: Scope, _receive: Receive, send: Send) -> None:
    await answer_text(scope, send, 200, "served", [("docker-content-digest", "sha256:1")])


def ask(origins: tuple[str, ...], origin: str | None, method: str = "GET", **more: str) -> Answered:
    """Send a request to the whole front; ``more`` are header fields."""
    policy = CorsPolicy(origins)
    hosts = HostCheck(frozenset({"node-1"}), policy)
    app = CorsApp(policy, hosts.is_own_origin, GatewayApp(hosts, {b"v2": _service}, _service))
    fields = {"host": more.pop("host", "localhost")} | more
    if origin is not None:
        fields["origin"] = origin
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    scope = {"type": "http", "method": method, "raw_path": b"/v2/", "headers": headers}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(app(scope, receive, send))
    shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], shown


PREFLIGHT = {"method": "OPTIONS", "access_control_request_method": "DELETE"}


def test_named_page_reads_with_credentials_and_sees_what_registries_say() -> None:
    status, headers = ask((UI,), UI)
    assert status == 200
    assert headers["access-control-allow-origin"] == UI
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["vary"] == "Origin"
    for name in ("Docker-Content-Digest", "Link", "Location"):
        assert name in headers["access-control-expose-headers"]


def test_named_page_may_push_and_delete_after_a_preflight() -> None:
    status, headers = ask((UI,), UI, **PREFLIGHT)
    assert status == 204
    assert "DELETE" in headers["access-control-allow-methods"]
    assert "Authorization" in headers["access-control-allow-headers"]
    assert ask((UI,), UI, "DELETE")[0] == 200


def test_page_that_is_not_listed_is_refused_whatever_it_asks() -> None:
    for method in ("GET", "POST", "DELETE"):
        status, headers = ask((UI,), "https://evil.example", method)
        assert status == 403
        assert "access-control-allow-origin" not in headers
    assert ask((UI,), "https://evil.example", **PREFLIGHT)[0] == 403
    assert ask((UI,), "https://ui.example.evil.example")[0] == 403
    assert ask((UI,), "http://ui.example")[0] == 403


def test_star_lets_every_page_read_without_credentials() -> None:
    status, headers = ask(("*",), "https://any.example")
    assert status == 200
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers
    status, headers = ask(("*",), "https://any.example", **PREFLIGHT)
    assert headers["access-control-allow-methods"] == "GET, HEAD"
    assert "Authorization" not in headers["access-control-allow-headers"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_star_lets_no_page_change_anything_even_without_a_preflight(method: str) -> None:
    assert ask(("*",), "https://any.example", method)[0] == 403


def test_star_takes_no_credentials_from_a_page() -> None:
    assert ask(("*",), "https://any.example", authorization="Basic YTpi")[0] == 403


def test_star_takes_nothing_from_named_pages_and_from_our_own() -> None:
    assert ask(("*", UI), UI, "DELETE")[0] == 200
    assert ask(("*",), "http://localhost", "POST")[0] == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]"])
def test_star_does_not_trust_pages_of_other_ports_or_of_numbers(origin: str) -> None:
    assert ask(("*",), origin, "POST")[0] == 403


def test_host_is_checked_whatever_the_origin() -> None:
    assert ask((UI,), UI, host="evil.example")[0] == 403


def test_request_without_origin_gets_no_headers_of_cors() -> None:
    status, headers = ask((UI,), None)
    assert status == 200
    assert not any(name.startswith("access-control") for name in headers)


def test_page_on_a_public_site_may_reach_a_private_address_only_if_named() -> None:
    wish = {**PREFLIGHT, "access_control_request_private_network": "true"}
    assert ask((UI,), UI, **wish)[1]["access-control-allow-private-network"] == "true"
    assert "access-control-allow-private-network" not in ask(("*",), UI, **wish)[1]
