"""Peer ids: one spelling, the key inside."""

from __future__ import annotations

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.identity import (
    is_signed_by,
    peer_id_of,
    public_key_of,
    public_key_of_seed,
    sign,
)

SEED = bytes(range(32))


def test_the_peer_id_is_the_librarys() -> None:
    theirs = ID.from_pubkey(create_new_key_pair(SEED).public_key).to_base58()
    assert peer_id_of(public_key_of_seed(SEED)) == theirs


def test_the_key_is_read_back() -> None:
    key = public_key_of_seed(SEED)
    assert public_key_of(peer_id_of(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "12D3KooW",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox0",
        "1" * 52,
        "z" * 52,
        "z" * 5000,
        "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5 ",
        "112D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5",
        "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPHé",
    ],
)
def test_what_is_no_ed25519_peer_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        public_key_of(text)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_and_seeds_have_32_bytes(length: int) -> None:
    with pytest.raises(InvalidInputError):
        peer_id_of(b"k" * length)
    with pytest.raises(InvalidInputError):
        public_key_of_seed(b"s" * length)


def test_a_signature_holds_for_its_key_and_message_alone() -> None:
    key, other = public_key_of_seed(SEED), public_key_of_seed(b"o" * 32)
    signature = sign(SEED, b"message")
    assert is_signed_by(key, message=b"message", signature=signature)
    assert not is_signed_by(key, message=b"massage", signature=signature)
    assert not is_signed_by(other, message=b"message", signature=signature)
    assert not is_signed_by(key, message=b"message", signature=signature[:-1])
    assert not is_signed_by(key[:-1], message=b"message", signature=signature)
    assert not is_signed_by(b"\xff" * 32, message=b"message", signature=signature)
