"""A forwarded wish counts only if its sender signed it, for this network, lately."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ed25519 import public_key, signer, verify
from pyrsia_node.builds.wishes import AGE_MS_MAX, Wish, decode_wish, encode_options, encode_wish
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.model.purl import Purl

SEED = bytes(range(32))
ME = peer_id_of(public_key(SEED))
OTHER = peer_id_of(public_key(bytes(32)))
NETWORK = b"n" * 32
NOW = 1_800_000_000_000
WISH = Wish(Purl.pypi("six", "1.17.0"), "S", ME)


def encoded(wish: Wish = WISH, network: bytes = NETWORK) -> bytes:
    return encode_wish(wish, network_id=network, now_ms=NOW, sign=signer(SEED))


def decode(data: bytes, *, now_ms: int = NOW, sender: str = ME) -> Wish:
    return decode_wish(data, network_id=NETWORK, now_ms=now_ms, sender=sender, verify=verify)


def test_a_signed_wish_arrives_as_it_was_made() -> None:
    assert decode(encoded()) == WISH


@pytest.mark.parametrize(
    "change",
    [
        {"platforms": ("linux/amd64", "linux/arm64")},
        {"pinned": "sha256:" + "0" * 64},
        {"every_s": 0},
        {"every_s": 3600},
        {"options": encode_options({"context": "a.b/c@sha256:0", "args": ["A=1", "B=2"]})},
    ],
)
def test_what_a_wish_for_an_image_says_more_arrives_too(change: dict[str, Any]) -> None:
    wish = replace(WISH, **change)
    assert decode(encoded(wish)) == wish


@pytest.mark.parametrize(
    "change",
    [
        {"platforms": ("linux/b", "linux/a")},
        {"platforms": ("Linux",)},
        {"platforms": tuple(f"linux/{n:03}" for n in range(65))},
    ],
)
def test_platforms_that_are_none_or_too_many_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        decode(encoded(replace(WISH, **change)))


def test_somebody_elses_wish_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="was sent by"):
        decode(encoded(), sender=OTHER)


def test_a_wish_in_anothers_name_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="signature"):
        decode(encoded(Wish(WISH.purl, "S", OTHER)), sender=OTHER)


def test_a_wish_for_another_network_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="signature"):
        decode(encoded(network=b"m" * 32))


@pytest.mark.parametrize("off_ms", [AGE_MS_MAX + 1000, -AGE_MS_MAX - 1000])
def test_a_stale_wish_is_refused(off_ms: int) -> None:
    with pytest.raises(InvalidInputError, match="clocks"):
        decode(encoded(), now_ms=NOW + off_ms)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_never_passes(position: int, value: int) -> None:
    data = bytearray(encoded())
    position %= len(data)
    if data[position] == value:
        return
    data[position] = value
    with pytest.raises(InvalidInputError):
        decode(bytes(data))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_wish_or_our_error(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        decode(data)
