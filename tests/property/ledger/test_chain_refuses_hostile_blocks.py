"""Whatever bytes a peer sends as a block: a verdict, never an exception, and never a wrong yes."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import wire
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonValue
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.model.transactions import Transaction
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies import model_values as model
from tests.strategies.json_values import values


@functools.cache
def prepared() -> tuple[LocalChain, bytes]:
    """Return a chain of two blocks and a valid third, which carries a parent certificate."""
    local = LocalChain()
    members = [one.id for one in local.members]
    body = make.request(members[0])
    req = local.sign(body).id
    local.commit(body)
    local.commit(make.batch(members[0], 1, make.built(req)))
    bodies: list[Transaction] = [make.batch(each, 1, make.built(req)) for each in members[1:3]]
    third = [local.sign(each) for each in (*bodies, make.result(members[0], req))]
    block = local.build(*(each.encoded for each in third))
    assert block is not None
    assert local.chain.check_body(block, 3, local.now_ms).valid
    return local, block


def verdict(chain: Chain, block: bytes) -> bool:
    return chain.check_body(block, 3, prepared()[0].now_ms).valid


@given(st.data())
def test_block_with_one_changed_byte_is_invalid(data: st.DataObject) -> None:
    local, block = prepared()
    # The time is the proposer's to choose, within bounds that others hold it to.
    time = range(block.index(b'"time_ms":') + len(b'"time_ms":'), block.index(b',"v":'))
    position = data.draw(st.integers(0, len(block) - 1).filter(lambda at: at not in time))
    flipped = bytearray(block)
    flipped[position] ^= data.draw(st.integers(1, 255))
    assert not verdict(local.chain, bytes(flipped))


@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    local, _ = prepared()
    assert not verdict(local.chain, data)


HEADER_MEMBERS = sorted(
    canonical.loads_object(wire.split_block(prepared()[1]).header, bytes_max=9_999)
)


@pytest.mark.parametrize("name", HEADER_MEMBERS)
@given(other=values | st.integers(0, 9) | model.digests | model.member_ids)
def test_no_member_of_the_header_is_free(name: str, other: JsonValue) -> None:
    local, block = prepared()
    parts = wire.split_block(block)
    header = canonical.loads_object(parts.header, bytes_max=9_999)
    changed = canonical.dumps({**header, name: other})
    forged = wire.encode_block(changed, parts.parent_certificate, parts.transactions)
    checked = local.chain.check_body(forged, 3, local.now_ms)
    # The proposer and its view are its own to say; consensus compares them with the proposal.
    is_free = name in {"view", "proposer"} or changed == parts.header
    if name == "time_ms" and isinstance(other, int):
        is_free = is_free or local.chain.tip.time_ms < other
    assert is_free or not checked.valid
    if checked.valid and name in {"view", "proposer"}:
        assert other in {checked.origin_view, checked.origin_proposer}


@given(st.data())
def test_transactions_of_a_block_cannot_be_exchanged(data: st.DataObject) -> None:
    local, block = prepared()
    parts = wire.split_block(block)
    pool = [*parts.transactions, *local_transactions()]
    chosen = data.draw(st.lists(st.sampled_from(pool), max_size=5))
    forged = wire.encode_block(parts.header, parts.parent_certificate, chosen)
    assert verdict(local.chain, forged) == (tuple(chosen) == parts.transactions)


@functools.cache
def local_transactions() -> list[bytes]:
    local, _ = prepared()
    return [
        local.sign(make.request(local.members[2].id, lock="more")).encoded,
        local.sign(make.batch(local.members[3].id, 1, make.failed("0" * 64))).encoded,
        b"{}",
    ]


@given(st.data())
def test_parent_certificate_must_hold_for_the_tip(data: st.DataObject) -> None:
    local, block = prepared()
    parts = wire.split_block(block)
    certificate = bytearray(parts.parent_certificate)
    position = data.draw(st.integers(0, len(certificate) - 1))
    certificate[position] ^= data.draw(st.integers(1, 255))
    header = canonical.loads_object(parts.header, bytes_max=9_999)
    digest = sha256_of(bytes(certificate))
    forged = wire.encode_block(
        canonical.dumps({**header, "parent_cert": digest}), bytes(certificate), parts.transactions
    )
    checked = local.chain.check_body(forged, 3, local.now_ms)
    assert not checked.valid
    assert "certificate" in checked.reason


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_only_our_errors_escape_from_commit_and_from_the_door(block: bytes, other: bytes) -> None:
    local, _ = prepared()
    height = local.chain.tip.height
    with pytest.raises(PyrsiaError):
        local.chain.commit(block, other)
    with pytest.raises(InvalidInputError):
        local.chain.check_transaction(block, local.now_ms)
    assert local.chain.tip.height == height


@given(st.data())
def test_almost_valid_transaction_passes_the_door_never(data: st.DataObject) -> None:
    local, block = prepared()
    encoded = data.draw(st.sampled_from(wire.split_block(block).transactions))
    valid = canonical.loads_object(encoded, bytes_max=48_000)
    mutated = canonical.dumps(data.draw(model.almost_valid(valid)))
    if mutated != encoded:
        with pytest.raises(InvalidInputError):
            local.chain.check_transaction(mutated, local.now_ms)
