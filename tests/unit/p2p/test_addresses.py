"""Which addresses this network speaks."""

from __future__ import annotations

import pytest
from multiaddr import Multiaddr

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.addresses import is_wildcard, parse_address, parse_peer_address

PEER = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/0.0.0.0/tcp/0",
        "/ip6/::1/tcp/65535",
        "/ip6/2001:db8::5/tcp/1",
        "/dns/node.example/tcp/4001",
        "/dns4/a/tcp/1",
        "/dns6/x-1.example/tcp/1",
    ],
)
def test_an_address_is_taken_and_means_the_same_to_the_library(text: str) -> None:
    assert parse_address(text) == (None, text)
    assert parse_peer_address(f"{text}/p2p/{PEER}") == (PEER, text)
    assert str(Multiaddr(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/01",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/+1",
        "/ip4/127.0.0.1/tcp/1_0",
        "/ip4/127.0.0.1/tcp/\u0661",
        "/ip4/127.1/tcp/1",
        "/ip4/::1/tcp/1",
        "/ip6/fe80::1%eth0/tcp/1",
        "/dns/-a/tcp/1",
        "/dns/a..b /tcp/1",
        "/dns5/a/tcp/1",
        "/ip4/127.0.0.1/tcp/1/quic",
        "/ip4/127.0.0.1/tcp/1/p2p/",
        "/ip4/127.0.0.1/tcp/1/p2p/Qm",
        f"/ip4/127.0.0.1/tcp/1/p2q/{PEER}",
        f"x/ip4/127.0.0.1/tcp/1/p2p/{PEER}",
        "/dns/" + "a" * 260 + "/tcp/1",
    ],
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_address(text)


def test_what_is_dialled_must_name_its_peer() -> None:
    with pytest.raises(InvalidInputError, match="lacks /p2p"):
        parse_peer_address("/ip4/127.0.0.1/tcp/4001")


def test_wildcards_are_known() -> None:
    assert is_wildcard("/ip4/0.0.0.0/tcp/1")
    assert is_wildcard("/ip6/::/tcp/1")
    assert not is_wildcard("/ip6/::1/tcp/1")
