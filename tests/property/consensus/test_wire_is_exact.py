"""Every value has one encoding, and no other bytes decode: only ``DecodeError`` ever escapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import wire
from consensus.errors import DecodeError
from consensus.types import Certificate, Decision, Message
from tests.property.consensus.values import blocks, certificates, messages, proposals, sizes


@given(sizes.flatmap(lambda n: st.tuples(st.just(n), messages(n))))
def test_message_survives_the_round_trip(case: tuple[int, Message]) -> None:
    n, message = case
    frame = wire.encode_message(message, n=n)
    assert wire.decode_message(frame, n=n) == message
    kind, height, view = wire.peek(frame)
    found = message.certificate if isinstance(message, Decision) else message
    assert (kind, height, view) == (wire.MessageKind(frame[0]), found.height, found.view)


@given(
    sizes.flatmap(lambda n: st.tuples(st.just(n), messages(n))),
    st.integers(0, 10_000),
    st.integers(1, 255),
)
def test_flipped_byte_decodes_to_something_else_or_not_at_all(
    case: tuple[int, Message], at: int, flip: int
) -> None:
    n, message = case
    frame = bytearray(wire.encode_message(message, n=n))
    frame[at % len(frame)] ^= flip
    try:
        found = wire.decode_message(bytes(frame), n=n)
    except DecodeError:
        return
    assert found != message
    assert wire.encode_message(found, n=n) == frame, "what decodes has exactly one encoding"


@given(sizes.flatmap(lambda n: st.tuples(st.just(n), messages(n))), st.integers(0, 10_000))
def test_cut_or_lengthened_frame_never_decodes_to_the_message(
    case: tuple[int, Message], at: int
) -> None:
    n, message = case
    frame = wire.encode_message(message, n=n)
    for damaged in (frame[: at % len(frame)], frame + b"\0"):
        try:
            assert wire.decode_message(damaged, n=n) != message
        except DecodeError:
            continue


@given(st.binary(max_size=300), st.sampled_from([1, 2, 3, 4, 5]), sizes)
def test_arbitrary_bytes_fail_as_decode_errors_alone(data: bytes, kind: int, n: int) -> None:
    for frame in (data, bytes([kind]) + data):
        for decode in (lambda one: wire.decode_message(one, n=n), wire.peek):
            try:
                decode(frame)
            except DecodeError:
                continue
    for parse in (wire.split_block, wire.block_hash, wire.split_decision):
        try:
            parse(data)
        except DecodeError:
            continue


@given(sizes.flatmap(lambda n: st.tuples(st.just(n), proposals(n=n))), st.data())
def test_frames_spliced_from_two_fail_as_decode_errors_alone(
    case: tuple[int, Message], data: st.DataObject
) -> None:
    n, message = case
    one = wire.encode_message(message, n=n)
    two = wire.encode_message(data.draw(messages(n)), n=n)
    cut = data.draw(st.integers(0, min(len(one), len(two))))
    try:
        found = wire.decode_message(one[:cut] + two[cut:], n=n)
    except DecodeError:
        return
    assert wire.encode_message(found, n=n) == one[:cut] + two[cut:]


@given(blocks())
def test_block_comes_apart_into_what_it_was_made_of(block: bytes) -> None:
    parts = wire.split_block(block)
    again = wire.encode_block(parts.header, parts.parent_certificate, parts.transactions)
    assert again == block


@given(sizes.flatmap(lambda n: st.tuples(st.just(n), certificates(n=n))))
def test_certificate_of_another_set_size_never_decodes_to_it(
    case: tuple[int, Certificate],
) -> None:
    n, certificate = case
    encoded = wire.encode_certificate(certificate, n=n)
    other = n + 8
    with pytest.raises(DecodeError):
        wire.decode_certificate(encoded, n=other)
