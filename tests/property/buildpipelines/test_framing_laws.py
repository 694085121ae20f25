"""Laws of the frame codec: round trips however the stream is cut; one error for hostile bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.spec.framing import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    ID_MAX,
    KINDS,
    Answer,
    Failure,
    FrameDecoder,
    FrameError,
    Request,
    Result,
    encode_answer,
    encode_frame,
    encode_object,
    encode_request,
    parse_answer,
    parse_object,
    parse_request,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-ID_MAX, ID_MAX) | texts | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=5)
ids = st.integers(0, ID_MAX)
requests = st.builds(Request, ids, st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True), objects)
answers: st.SearchStrategy[Answer] = st.builds(Result, ids, objects) | st.builds(
    Failure, ids, st.sampled_from(KINDS), texts
)


def payload_of(frame: bytes) -> bytes:
    return frame[HEADER_BYTES:]


@given(requests)
def test_request_survives_the_round_trip(request: Request) -> None:
    assert parse_request(payload_of(encode_request(request))) == request


@given(answers)
def test_answer_survives_the_round_trip(answer: Answer) -> None:
    assert parse_answer(payload_of(encode_answer(answer))) == answer


@given(st.lists(objects, max_size=6), st.data())
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(
    sent: list[dict[str, object]], data: st.DataObject
) -> None:
    stream = b"".join(encode_object(value) for value in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = FrameDecoder()
    received: list[dict[str, object]] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += [parse_object(payload) for payload in decoder.feed(stream[start:end])]
    assert received == sent
    assert decoder.is_between_frames


@given(objects, st.binary(max_size=64))
def test_raw_bytes_after_a_frame_are_handed_back_untouched(
    value: dict[str, object], raw: bytes
) -> None:
    decoder = FrameDecoder()
    payload = decoder.next(encode_object(value) + raw)
    assert payload is not None
    assert parse_object(payload) == value
    assert decoder.take_rest() == raw


@given(st.binary(max_size=200))
def test_only_frame_error_escapes_the_decoder(data: bytes) -> None:
    decoder = FrameDecoder(bytes_max=100)
    try:
        payloads = decoder.feed(data)
    except FrameError:
        with pytest.raises(FrameError):
            decoder.feed(b"")
    else:
        consumed = sum(HEADER_BYTES + len(payload) for payload in payloads)
        assert data[consumed:] == decoder.take_rest()


@given(
    st.binary(max_size=80)
    | values.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda request_id, method, params, extra: json.dumps(
            {"id": request_id, "method": method, "params": params, **extra}
        ).encode(),
        values,
        values,
        values,
        st.dictionaries(st.sampled_from(["result", "error", "x"]), values, max_size=1),
    )
    | st.builds(lambda i, error: json.dumps({"id": i, "error": error}).encode(), ids, values)
)
def test_only_frame_error_escapes_the_parsers(payload: bytes) -> None:
    for parse in (parse_object, parse_request, parse_answer):
        try:
            parsed = parse(payload)
        except FrameError:
            continue
        assert parsed is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 10_000,
        b'{"a":' + b"1" * 10_000 + b"}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"\\uDC00":1}',
        b'{"a":"\xff"}',
        b"[]",
        b"null",
        b"{} {}",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda payload: repr(payload[:12]),
)
def test_object_that_would_hurt_a_reader_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        parse_object(payload)


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_length_out_of_bounds_is_refused_before_the_bytes_come(length: int) -> None:
    with pytest.raises(FrameError, match=f"frame of {length} bytes"):
        FrameDecoder().feed(length.to_bytes(HEADER_BYTES, "big"))


def test_largest_frame_passes_and_one_byte_more_does_not() -> None:
    largest = b" " * FRAME_BYTES_MAX
    assert FrameDecoder().feed(encode_frame(largest)) == [largest]
    for wrong in (b"", largest + b" "):
        with pytest.raises(FrameError):
            encode_frame(wrong)


@pytest.mark.parametrize(
    "request_",
    [
        Request(-1, "status", {}),
        Request(ID_MAX + 1, "status", {}),
        Request(id=True, method="status", params={}),
        Request(1, "", {}),
        Request(1, "Status", {}),
        Request(1, "status\n", {}),
        Request(1, "s" * 65, {}),
        Request(1, "status", {"a": float("nan")}),
        Request(1, "status", {"a": b"bytes"}),
        Request(1, "status", {"a": "\ud800"}),
        Request(1, "status", {"a": "x" * FRAME_BYTES_MAX}),
    ],
    ids=lambda request: f"{request.id} {request.method[:8]!r}",
)
def test_request_out_of_form_is_refused_when_it_is_made(request_: Request) -> None:
    with pytest.raises(FrameError):
        encode_request(request_)


def test_error_text_is_cut_and_cleaned_rather_than_lost() -> None:
    answer = parse_answer(payload_of(encode_answer(Failure(1, "internal", "\ud800" + "x" * 9000))))
    assert isinstance(answer, Failure)
    assert answer.message == "?" + "x" * 3999


def test_unknown_error_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="'fatal'"):
        encode_answer(Failure(1, "fatal", ""))
    with pytest.raises(FrameError, match="kind"):
        parse_answer(b'{"id":1,"error":{"kind":"fatal","message":""}}')
