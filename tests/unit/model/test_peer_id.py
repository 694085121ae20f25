"""Peer ids: one text for one Ed25519 key."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.peer_id import key_of_peer_id, peer_id_of

# The first public key of RFC 8032, 7.1, and its id as py-libp2p 0.8.1 writes it.
KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
LIBP2P_TEXT = "12D3KooWQK1wnefoLrcVHbbnf5tLzbopUd3K3bFAoJpA7YJgL5pV"


def test_peer_id_is_what_libp2p_says() -> None:
    assert peer_id_of(KEY) == LIBP2P_TEXT


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, KEY])
def test_key_can_be_read_back(key: bytes) -> None:
    assert len(peer_id_of(key)) == 52
    assert key_of_peer_id(peer_id_of(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "Qm" + "a" * 44,
        "0" * 52,
        "12D3KooW" + "l" * 44,
        "z" * 52,
        peer_id_of(KEY)[:-1],
        peer_id_of(KEY) + "1",
        "1" + peer_id_of(KEY)[:-1],
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="peer id"):
        key_of_peer_id(text)
