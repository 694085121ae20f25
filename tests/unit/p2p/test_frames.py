"""Frames, requests, answers and lists, with their bounds."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.p2p.frames import (
    FrameDecoder,
    Status,
    decode_answer,
    decode_length,
    decode_list,
    decode_request,
    encode_answer,
    encode_error,
    encode_frame,
    encode_list,
    encode_request,
)


def test_a_frame_that_announces_too_much_is_refused_before_its_bytes_come() -> None:
    decoder = FrameDecoder(bytes_max=10)
    assert decoder.feed(encode_frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(InvalidInputError, match="11 bytes exceeds the limit of 10"):
        decoder.feed(b"\x00\x00\x00\x0b")


def test_an_incomplete_frame_is_held_back() -> None:
    decoder = FrameDecoder(bytes_max=10)
    assert decoder.feed(encode_frame(b"one") + b"\x00\x00") == [b"one"]
    assert decoder.pending == 2
    assert decoder.feed(b"\x00\x03tw") == []
    assert decoder.feed(b"o") == [b"two"]
    assert decoder.pending == 0


@pytest.mark.parametrize("head", [b"", b"\x00\x00\x00", b"\x00" * 5])
def test_a_length_has_four_bytes(head: bytes) -> None:
    with pytest.raises(InvalidInputError):
        decode_length(head, bytes_max=10)


@pytest.mark.parametrize("method", ["", "a b", "x" * 33, "Ä", "a/b", "tip\n", "_"])
def test_what_is_no_methods_name_is_refused(method: str) -> None:
    with pytest.raises(InvalidInputError):
        encode_request(method, b"")


@pytest.mark.parametrize("frame", [b"", b"\x00", b"\x04tip", b"\x03\xff\xff\xff", b"\x03a b"])
def test_a_malformed_request_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidInputError):
        decode_request(frame)


@pytest.mark.parametrize(
    ("error", "status", "received"),
    [
        (InvalidInputError("x"), Status.INVALID, InvalidInputError),
        (NotFoundError("x"), Status.NOT_FOUND, NotFoundError),
        (VerificationError("x"), Status.VERIFICATION, VerificationError),
        (PeerMisbehaviorError("me", "x"), Status.PEER, UnavailableError),
        (UnavailableError("x"), Status.UNAVAILABLE, UnavailableError),
        (CorruptStateError("x"), Status.CORRUPT, UnavailableError),
        (ValueError("x"), Status.INTERNAL, UnavailableError),
    ],
)
def test_every_error_has_a_status_and_comes_back_as_its_kind(
    error: Exception, status: Status, received: type[PyrsiaError]
) -> None:
    frame = encode_error(error)[4:]
    assert frame[0] == status
    with pytest.raises(received, match="peer P answered: "):
        decode_answer(frame, peer="P")


def test_a_defects_text_is_not_told() -> None:
    assert b"secret" not in encode_error(RuntimeError("a secret"))


def test_a_peers_error_text_is_bounded_and_printable() -> None:
    hostile = encode_answer(Status.UNAVAILABLE, b"\x1b[2J\n" + b"x" * 100_000)[4:]
    with pytest.raises(UnavailableError) as caught:
        decode_answer(hostile, peer="P")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize("frame", [b"", b"\x08", b"\xff text"])
def test_an_answer_of_no_known_status_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidInputError):
        decode_answer(frame, peer="P")


def test_a_list_is_bounded_in_number_and_size() -> None:
    data = encode_list([b"one", b"two", b""])
    assert decode_list(data, items_max=3, item_bytes_max=3) == [b"one", b"two", b""]
    for wrong in (data[:-1], data + b"\x00"):
        with pytest.raises(InvalidInputError):
            decode_list(wrong, items_max=5, item_bytes_max=3)
    with pytest.raises(InvalidInputError, match="more than 2"):
        decode_list(data, items_max=2, item_bytes_max=3)
    with pytest.raises(InvalidInputError, match="exceeds the limit of 2"):
        decode_list(data, items_max=3, item_bytes_max=2)
