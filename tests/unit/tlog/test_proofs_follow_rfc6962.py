"""Trees and proofs against RFC 6962's own recursive definitions, written again here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog import proofs
from pyrsia_node.tlog.tree import (
    EMPTY_FRONTIER,
    Frontier,
    Subtree,
    leaf_hash,
    perfect_subtrees,
    root,
)

SIZES = range(1, 71)
LEAVES = [f"leaf {number}".encode() for number in range(70)]


def mth(leaves: Sequence[bytes]) -> bytes:
    """Merkle Tree Hash, RFC 6962 section 2.1, word for word."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256().digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_below(n)
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Merkle audit path, section 2.1.1."""
    n = len(leaves)
    if n == 1:
        return []
    k = largest_power_below(n)
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    """Merkle consistency proof, section 2.1.2."""
    n = len(leaves)
    if m == n:
        return [] if whole else [mth(leaves)]
    k = largest_power_below(n)
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


class LeafReader:
    """Hash reader over leaves in memory; counts its calls."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self.calls = 0

    def read_hashes(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        self.calls += 1
        hashes = []
        for level, index in subtrees:
            start, end = index << level, (index + 1) << level
            assert end <= len(self.leaves), "asked beyond the tree"
            hashes.append(mth(self.leaves[start:end]))
        return hashes


ROOTS = [mth(LEAVES[:size]) for size in range(71)]


@pytest.mark.parametrize("size", [0, *SIZES])
def test_root_equals_the_recursive_definition(size: int) -> None:
    leaves = LEAVES[:size]
    assert root(leaf_hash(leaf) for leaf in leaves) == ROOTS[size]
    hashes = LeafReader(leaves).read_hashes(perfect_subtrees(0, size))
    assert Frontier(size, tuple(hashes)).root() == ROOTS[size]


@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_proof_equals_the_recursive_definition(size: int) -> None:
    for index in range(size):
        reader = LeafReader(LEAVES[:size])
        proof = proofs.make_inclusion_proof(reader, index=index, size=size)
        assert reader.calls == 1
        assert list(proof) == path(index, LEAVES[:size])
        proofs.verify_inclusion(
            leaf_hash(LEAVES[index]), index=index, size=size, root=ROOTS[size], proof=proof
        )


@pytest.mark.parametrize("new_size", SIZES)
def test_every_consistency_proof_equals_the_recursive_definition(new_size: int) -> None:
    for old_size in range(1, new_size + 1):
        reader = LeafReader(LEAVES[:new_size])
        proof = proofs.make_consistency_proof(reader, old_size=old_size, new_size=new_size)
        assert list(proof) == subproof(old_size, LEAVES[:new_size], whole=True)
        proofs.verify_consistency(
            old_size=old_size,
            old_root=ROOTS[old_size],
            new_size=new_size,
            new_root=ROOTS[new_size],
            proof=proof,
        )


def test_empty_tree_is_a_prefix_of_every_tree_by_an_empty_proof() -> None:
    proofs.verify_consistency(
        old_size=0, old_root=ROOTS[0], new_size=9, new_root=ROOTS[9], proof=()
    )
    with pytest.raises(VerificationError, match="has 1 hashes, needs 0"):
        proofs.verify_consistency(
            old_size=0, old_root=ROOTS[0], new_size=9, new_root=ROOTS[9], proof=(ROOTS[1],)
        )
    with pytest.raises(VerificationError, match="the empty tree gives root"):
        proofs.verify_consistency(
            old_size=0, old_root=ROOTS[1], new_size=9, new_root=ROOTS[9], proof=()
        )


def test_equal_sizes_with_different_roots_are_refused_naming_both() -> None:
    with pytest.raises(VerificationError) as caught:
        proofs.verify_consistency(
            old_size=9, old_root=ROOTS[8], new_size=9, new_root=ROOTS[9], proof=()
        )
    assert ROOTS[8].hex() in str(caught.value)
    assert ROOTS[9].hex() in str(caught.value)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (0, 2**53)])
def test_a_leaf_outside_the_tree_is_bad_input(index: int, size: int) -> None:
    with pytest.raises(InvalidInputError, match="is not in a tree of size"):
        proofs.verify_inclusion(ROOTS[1], index=index, size=size, root=ROOTS[1], proof=())
    with pytest.raises(InvalidInputError):
        proofs.make_inclusion_proof(LeafReader([]), index=index, size=size)


@pytest.mark.parametrize(("old_size", "new_size"), [(6, 5), (-1, 5), (5, 2**53)])
def test_a_larger_tree_is_no_prefix(old_size: int, new_size: int) -> None:
    with pytest.raises(InvalidInputError, match="is no prefix"):
        proofs.make_consistency_proof(LeafReader([]), old_size=old_size, new_size=new_size)


def test_hashes_of_another_length_are_bad_input() -> None:
    with pytest.raises(InvalidInputError, match="31 bytes instead of 32"):
        proofs.verify_inclusion(ROOTS[1], index=0, size=2, root=ROOTS[2], proof=(bytes(31),))


def test_frontier_grows_the_same_in_any_steps() -> None:
    hashes = [leaf_hash(leaf) for leaf in LEAVES]
    whole = EMPTY_FRONTIER.extend(hashes)
    for cut in range(71):
        assert EMPTY_FRONTIER.extend(hashes[:cut]).extend(hashes[cut:]) == whole


def test_frontier_of_another_length_is_refused() -> None:
    encoded = EMPTY_FRONTIER.extend([leaf_hash(b"x")] * 5).encode()
    assert Frontier.decode(encoded).encode() == encoded
    for bad in (encoded[:-1], encoded + bytes(32), encoded[:4], b"", b"\xff" * 8):
        with pytest.raises(InvalidInputError, match="does not fit"):
            Frontier.decode(bad)


def test_a_range_is_cut_into_its_largest_perfect_subtrees() -> None:
    assert perfect_subtrees(0, 7) == ((2, 0), (1, 2), (0, 6))
    assert perfect_subtrees(8, 8) == ()
    assert perfect_subtrees(8, 11) == ((1, 4), (0, 10))
