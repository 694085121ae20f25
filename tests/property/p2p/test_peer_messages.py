"""Everything that peers send: round trips, and no error but ours on anything at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.p2p.addresses import parse_address
from pyrsia_node.p2p.frames import (
    FrameDecoder,
    Status,
    decode_answer,
    decode_list,
    decode_request,
    encode_answer,
    encode_frame,
    encode_list,
    encode_request,
)
from pyrsia_node.p2p.hello import Hello, decode_hello, encode_hello
from pyrsia_node.p2p.hints import decode_hint, encode_hint
from pyrsia_node.p2p.holders import Holding
from pyrsia_node.p2p.holding import (
    decode_have,
    decode_holders,
    digest_of,
    encode_have,
    encode_holders,
)
from pyrsia_node.p2p.identity import peer_id_of, public_key_of
from pyrsia_node.p2p.pieces import (
    RANGE_BYTES_MAX,
    PieceRequest,
    decode_piece_request,
    encode_piece_request,
)
from pyrsia_node.p2p.records import NodeFacts, make_record, parse_record
from pyrsia_node.ports import Hint

NETWORK = "ab" * 32
PEER = peer_id_of(b"k" * 32)

hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
peers = st.binary(min_size=32, max_size=32).map(peer_id_of)
methods = st.from_regex(r"[a-z][a-z_]{0,31}", fullmatch=True)
labels = st.from_regex(r"[a-z0-9.-]{1,64}", fullmatch=True)
octets = st.integers(0, 255)
addresses = st.builds(
    "/ip4/{}.{}.{}.{}/tcp/{}".format, octets, octets, octets, octets, st.integers(0, 65535)
)
hellos = st.builds(
    Hello,
    genesis=hexes,
    height=st.integers(0, 2**53 - 1),
    role=st.sampled_from(["authorized", "regular"]),
    version=st.from_regex(r"[ -~]{0,64}", fullmatch=True),
)
facts = st.builds(
    NodeFacts,
    label=labels,
    role=st.sampled_from(["authorized", "regular"]),
    addresses=st.lists(addresses, max_size=8).map(tuple),
    data_url=st.sampled_from(["", "https://10.0.0.1:8443", "http://node.example"]),
    fingerprint=st.one_of(st.just(""), hexes),
)
piece_requests = st.builds(
    PieceRequest,
    sha256=hexes,
    start=st.integers(0, 2**63 - 1),
    length=st.integers(1, RANGE_BYTES_MAX),
) | st.builds(PieceRequest, sha256=hexes, start=st.just(0), length=st.none())


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 17), min_size=1))
def test_frames_come_out_however_the_bytes_are_cut(frames: list[bytes], cuts: list[int]) -> None:
    decoder = FrameDecoder(bytes_max=40)
    data = b"".join(map(encode_frame, frames))
    out: list[bytes] = []
    at = turn = 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        out += decoder.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    assert out == frames
    assert decoder.pending == 0


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_a_list_comes_back(items: list[bytes]) -> None:
    assert decode_list(encode_list(items), items_max=20, item_bytes_max=30) == items


@given(methods, st.binary())
def test_a_request_comes_back(method: str, payload: bytes) -> None:
    request = decode_request(encode_request(method, payload)[4:])
    assert (request.method, request.payload) == (method, payload)


@given(st.binary())
def test_an_answer_comes_back(payload: bytes) -> None:
    assert decode_answer(encode_answer(Status.OK, payload)[4:], peer=PEER) == payload


@given(hellos)
def test_a_hello_comes_back(hello: Hello) -> None:
    assert decode_hello(encode_hello(hello)) == hello


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**53 - 1), facts)
def test_a_record_comes_back(seed: bytes, seq: int, said: NodeFacts) -> None:
    record = make_record(seed, network=NETWORK, seq=seq, facts=said)
    assert parse_record(record.raw, network=NETWORK) == record
    assert (
        NodeFacts(record.label, record.role, record.addresses, record.data_url, record.fingerprint)
        == said
    )


@given(st.binary(min_size=32, max_size=32), facts, st.data())
def test_no_bit_of_a_record_can_be_flipped(
    seed: bytes, said: NodeFacts, data: st.DataObject
) -> None:
    raw = bytearray(make_record(seed, network=NETWORK, seq=1, facts=said).raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((InvalidInputError, VerificationError)):
        parse_record(bytes(raw), network=NETWORK)


@given(piece_requests)
def test_a_piece_request_comes_back(request: PieceRequest) -> None:
    assert decode_piece_request(encode_piece_request(request)) == request


@given(st.from_regex(r"[!-~]{1,32}", fullmatch=True), st.binary(max_size=4096))
def test_a_hint_comes_back(topic: str, payload: bytes) -> None:
    assert decode_hint(PEER, encode_hint(topic, payload)) == Hint(topic, PEER, payload)


@given(st.lists(st.builds(Holding, peers, st.booleans(), st.just(0.0)), max_size=32))
def test_holders_come_back(holdings: list[Holding]) -> None:
    told = decode_holders(encode_holders(holdings))
    assert told == [(holding.peer, holding.complete) for holding in holdings]


@given(hexes, st.booleans())
def test_what_a_peer_has_comes_back(sha256: str, complete: bool) -> None:  # noqa: FBT001  drawn
    assert decode_have(encode_have(sha256, complete=complete)) == (sha256, complete)


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_comes_back(key: bytes) -> None:
    assert public_key_of(peer_id_of(key)) == key


DECODERS: list[Callable[[bytes], object]] = [
    lambda data: FrameDecoder(bytes_max=1000).feed(data),
    decode_request,
    lambda data: decode_list(data, items_max=10, item_bytes_max=1000),
    decode_hello,
    decode_piece_request,
    lambda data: decode_hint(PEER, data),
    decode_holders,
    decode_have,
]
NAMES = ["frames", "request", "list", "hello", "pieces", "hint", "holders", "have"]


@pytest.mark.parametrize("decode", DECODERS, ids=NAMES)
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_only_our_error_escapes_a_decoder(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except InvalidInputError:
        return


@given(st.binary(max_size=300))
def test_only_our_errors_escape_an_answer_and_a_record(data: bytes) -> None:
    try:
        decode_answer(data, peer=PEER)
    except PyrsiaError as error:
        kind = type(error)
    else:
        kind = UnavailableError
    assert kind in (InvalidInputError, NotFoundError, VerificationError, UnavailableError)
    with pytest.raises(InvalidInputError):
        parse_record(data, network=NETWORK)


@given(st.text(max_size=300))
def test_only_our_error_escapes_a_parser_of_text(text: str) -> None:
    for parse in (parse_address, public_key_of, digest_of):
        try:
            parse(text)
        except InvalidInputError:
            continue


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_accepted_address_has_one_spelling(host: str, port: str) -> None:
    text = f"/dns/{host}/tcp/{port}"
    try:
        peer, rest = parse_address(text)
    except InvalidInputError:
        return
    assert (peer, rest) == (None, text)
