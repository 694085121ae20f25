"""What safety and liveness rest on: quorums intersect, leaders rotate, bitmaps are exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import DecodeError
from consensus.quorum import (
    bitmap_bytes,
    faults,
    leader,
    pack_bitmap,
    quorum,
    unpack_bitmap,
)
from consensus.types import Height, NodeId, View
from tests.unit.consensus.committee import member_set, names


@given(st.integers(1, 1000))
def test_two_quorums_share_an_honest_member(n: int) -> None:
    assert 2 * quorum(n) - n >= faults(n) + 1


@given(st.integers(1, 1000))
def test_honest_members_alone_are_a_quorum(n: int) -> None:
    assert n - faults(n) >= quorum(n) > faults(n)


@given(st.integers(1, 20), st.integers(1, 10_000), st.integers(1, 100))
def test_every_member_leads_one_of_n_later_views(n: int, height: int, view: int) -> None:
    members = member_set(names(n))
    led = {leader(Height(height), View(view + turn), members, ()) for turn in range(n)}
    assert led == set(names(n))


@given(
    st.integers(1, 13),
    st.integers(1, 1000),
    st.lists(st.lists(st.integers(0, 12), max_size=13), max_size=60),
)
def test_view_0_is_led_by_those_the_chain_has_heard(
    n: int, height: int, blocks: list[list[int]]
) -> None:
    ids = names(n)
    members = member_set(ids)
    history = tuple(tuple(ids[one] for one in signers if one < n) for signers in blocks)
    heard = {one for signers in history[-2 * n :] for one in signers}
    found = {leader(Height(height + turn), View(0), members, history) for turn in range(n)}
    assert found <= (heard if len(heard) >= quorum(n) else set(ids))


def histories(n: int) -> st.SearchStrategy[tuple[int, list[list[int]]]]:
    block = st.lists(st.integers(0, n), max_size=n)
    return st.tuples(st.just(n), st.lists(block, min_size=2 * n, max_size=2 * n + 3))


@given(st.integers(1, 7).flatmap(histories))
def test_blocks_older_than_2n_do_not_count(case: tuple[int, list[list[int]]]) -> None:
    n, blocks = case
    ids = [*names(n), NodeId("gone")]
    members = member_set(names(n))
    history = tuple(tuple(ids[one] for one in signers) for signers in blocks)
    padded = (tuple(names(n)),) * 3 + history
    for height in range(1, n + 1):
        at = Height(height)
        assert leader(at, View(0), members, padded) == leader(at, View(0), members, history)


@given(st.integers(1, 600).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_bitmap_survives_the_round_trip(case: tuple[int, set[int]]) -> None:
    n, indexes = case
    bits = pack_bitmap(sorted(indexes), n=n)
    assert len(bits) == bitmap_bytes(n)
    assert unpack_bitmap(bits, n=n) == tuple(sorted(indexes))


@given(st.integers(1, 70), st.binary(max_size=10))
def test_bitmap_of_other_length_or_with_stray_bits_is_refused(n: int, bits: bytes) -> None:
    try:
        indexes = unpack_bitmap(bits, n=n)
    except DecodeError:
        value = int.from_bytes(bits, "little")
        assert len(bits) != bitmap_bytes(n) or value >= 2**n
        return
    assert pack_bitmap(indexes, n=n) == bits
