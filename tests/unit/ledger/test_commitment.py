"""The hash over the whole state: kept change by change, it equals the one made from nothing."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import wire
from pyrsia_node.ledger.commitment import (
    BucketSum,
    changed_sums,
    is_due,
    is_empty,
    root_of_sums,
    sums_of,
)
from pyrsia_node.ledger.machine.view import Change
from pyrsia_node.ledger.storage import BucketReader, StateReader
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.leaves import Header
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request
from tests.strategies.identities import identity

KEYS = st.builds(
    "{}/{}".format, st.sampled_from(["item", "tally", "param"]), st.text("abc0", min_size=1)
)
BLOCKS = st.lists(st.dictionaries(KEYS, st.none() | st.binary(min_size=1, max_size=9)), max_size=8)


@given(BLOCKS)
def test_sums_kept_block_by_block_are_those_of_the_whole_state(
    blocks: list[dict[str, bytes | None]],
) -> None:
    state: dict[str, bytes] = {}
    sums: dict[str, bytes] = {}
    for block in blocks:
        changes = [Change(key, value) for key, value in sorted(block.items())]
        sums |= changed_sums(changes, read_value=state.get, read_sum=sums.get)
        for key, value in block.items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    kept = {name: value for name, value in sums.items() if not is_empty(value)}
    assert kept == sums_of(state.items())
    assert root_of_sums(sums) == root_of_sums(sums_of(state.items()))


@given(st.dictionaries(KEYS, st.binary(max_size=5), min_size=1), st.data())
def test_any_other_pair_gives_another_root(state: dict[str, bytes], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(state)))
    other = state | {key: state[key] + b"x"}
    less = {name: value for name, value in state.items() if name != key}
    roots = {root_of_sums(sums_of(each.items())) for each in (state, other, less)}
    assert len(roots) == 3


def test_key_and_value_cannot_trade_bytes() -> None:
    assert root_of_sums(sums_of([("a/bc", b"d")])) != root_of_sums(sums_of([("a/b", b"cd")]))


def test_lanes_do_not_spill_into_one_another_over_many_terms() -> None:
    bucket = BucketSum()
    for number in range(200):
        bucket.add(f"item/{number}", b"v")
    middle = bucket.value()
    for number in range(200, 260):
        bucket.add(f"item/{number}", b"v")
    for number in reversed(range(200, 260)):
        bucket.remove(f"item/{number}", b"v")
    assert bucket.value() == middle
    assert BucketSum(middle).value() == middle


@pytest.mark.parametrize("reduced_after", [1, 7, 30_000])
def test_pairs_taken_in_together_give_the_sum_of_each_by_itself(
    reduced_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.ledger.commitment._TERMS_MAX", reduced_after)
    pairs = [(f"item/{number}", b"v" * number) for number in range(40)]
    one_by_one, together = BucketSum(), BucketSum()
    for key, value in pairs:
        one_by_one.add(key, value)
    for part in (pairs[:3], pairs[3:], []):
        together.add_all((key.encode(), value) for key, value in part)
    assert together.value() == one_by_one.value()
    together.remove(*pairs[0])
    one_by_one.remove(*pairs[0])
    assert together.value() == one_by_one.value()


@pytest.fixture
def local() -> LocalChain:
    return LocalChain()


def header_of(local: LocalChain, height: int) -> Header:
    return Header.decode(local.chain.leaf(local.chain.block(height).first_leaf))


def state_of(local: LocalChain) -> list[tuple[str, bytes]]:
    return [(key.decode(), value) for key, value in StateReader(local.store).scan(b"")]


def test_header_that_ends_an_epoch_carries_the_root_over_the_state_after_it(
    local: LocalChain,
) -> None:
    local.commit(request(local.members[0].id))
    local.commit(*local.add(identity(100)))
    roots = [header_of(local, height).snapshot_root for height in (1, 2)]
    assert roots == [None, root_of_sums(sums_of(state_of(local))).hex()]
    assert Header.decode(header_of(local, 2).encode()) == header_of(local, 2)
    assert BucketReader(local.store).sums() == sums_of(state_of(local))


def test_block_with_another_snapshot_root_or_without_it_is_invalid(local: LocalChain) -> None:
    signed = [local.sign(body).encoded for body in local.add(identity(100))]
    block = local.build(*signed)
    assert block is not None
    parts = wire.split_block(block)
    header = Header.decode(parts.header)
    for wrong in (None, sha256_of(b"another state")):
        forged = dataclasses.replace(header, snapshot_root=wrong).encode()
        body = wire.encode_block(forged, parts.parent_certificate, list(parts.transactions))
        verdict = local.chain.check_body(body, 1, local.now_ms)
        assert not verdict.valid
        assert "snapshot_root is" in verdict.reason
    assert local.chain.check_body(block, 1, local.now_ms).valid


def test_root_is_due_at_epoch_ends_and_at_every_ten_thousandth_height() -> None:
    due = [height for height in range(1, 30_001) if is_due(height, changes_set=False)]
    assert due == [10_000, 20_000, 30_000]
    assert is_due(3, changes_set=True)
