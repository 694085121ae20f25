"""A placed leaf counts only where both its proofs lead to the root and its block holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.digest import ZERO_SHA256, Sha256
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Header
from pyrsia_node.tlog.placed import PLACED_BYTES_MAX, PlacedLeaf
from pyrsia_node.tlog.proofs import make_inclusion_proof
from tests.strategies.identities import identity
from tests.strategies.small_logs import SmallLog

BLOCKS = ((2, 3), (6, 1), (8, 4))
"""Where headers stand, and how many leaves follow each."""


def header(at: int, count: int) -> bytes:
    zero = ZERO_SHA256
    return Header(
        network=Sha256("11" * 32),
        height=1 + [start for start, _ in BLOCKS].index(at),
        parent=zero,
        prev_size=at,
        prev_root=zero,
        view=0,
        proposer=identity(0).id,
        time_ms=1_700_000_000_000,
        n_leaves=count,
        body_root=zero,
        state_root=zero,
        set=zero,
        next_set=zero,
        prev_epoch_height=0,
        parent_cert=zero,
    ).encode()


def leaves() -> list[bytes]:
    found = [b"genesis", b"set"]
    for at, count in BLOCKS:
        found += [header(at, count), *(f"leaf {at}/{number}".encode() for number in range(count))]
    return found


LOG = SmallLog("testnet", leaves())
SIZE = len(leaves())
HEAD = LOG.head()


def placed(index: int, header_index: int) -> PlacedLeaf:
    data = leaves()
    return PlacedLeaf(
        index=index,
        data=data[index],
        proof=make_inclusion_proof(LOG, index=index, size=SIZE),
        header_index=header_index,
        header=data[header_index],
        header_proof=make_inclusion_proof(LOG, index=header_index, size=SIZE),
    )


@pytest.mark.parametrize(("index", "at"), [(3, 2), (5, 2), (7, 6), (12, 8), (8, 8)])
def test_leaf_is_placed_in_its_block_and_survives_the_wire(index: int, at: int) -> None:
    found = PlacedLeaf.decode(placed(index, at).encode())
    assert found == placed(index, at)
    assert found.check(size=SIZE, root=HEAD.root).prev_size == at


@pytest.mark.parametrize(("index", "at"), [(7, 2), (3, 6), (12, 6)])
def test_header_of_another_block_is_refused(index: int, at: int) -> None:
    with pytest.raises(VerificationError, match="does not hold"):
        placed(index, at).check(size=SIZE, root=HEAD.root)


def test_other_leaf_other_place_and_other_root_are_refused() -> None:
    right = placed(4, 2)
    for wrong in (
        replace(right, data=b"another"),
        replace(right, index=5),
        replace(right, header=header(2, 4)),
        replace(right, proof=right.header_proof),
    ):
        with pytest.raises(VerificationError):
            wrong.check(size=SIZE, root=HEAD.root)
    with pytest.raises(VerificationError):
        right.check(size=SIZE, root=bytes(32))
    with pytest.raises(InvalidInputError):
        replace(right, index=SIZE).check(size=SIZE, root=HEAD.root)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = PlacedLeaf.decode(data)
    except InvalidInputError:
        return
    assert found.encode() == data


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_no_flipped_bit_is_accepted(at: int, bit: int) -> None:
    data = bytearray(placed(4, 2).encode())
    data[at % len(data)] ^= 1 << bit
    with pytest.raises((InvalidInputError, VerificationError)):
        PlacedLeaf.decode(bytes(data)).check(size=SIZE, root=HEAD.root)


def test_length_is_bounded() -> None:
    with pytest.raises(InvalidInputError, match="placed leaf of"):
        PlacedLeaf.decode(bytes(PLACED_BYTES_MAX + 1))
