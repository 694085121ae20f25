"""Inclusion and consistency proofs: made from stored hashes, checked against roots. RFC 6962, 2.1.

The maker names, for a proof, the ranges of leaves whose hashes it consists of, reads all their
perfect subtrees in one batch and folds them. The checker never sees the tree: it rebuilds roots
from the proof alone, with the loops of RFC 9162 (2.1.3.2 and 2.1.4.2), and demands exactly as many
hashes as the two numbers call for. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.tree import (
    EMPTY_ROOT,
    HASH_SIZE,
    SIZE_MAX,
    HashReader,
    fold_right_to_left,
    node_hash,
    perfect_subtrees,
)

Range = tuple[int, int]
"""Leaves [start, end)."""

PROOF_LENGTH_MAX = SIZE_MAX.bit_length() + 1
"""No proof of a tree within SIZE_MAX has more hashes."""


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the leaf ranges whose hashes prove leaf ``index`` in a tree of ``size``.

    They run from the leaf's sibling up to the root's child: PATH(m, D[n]) of RFC 6962.
    """
    assert 0 <= index < size
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    ranges.reverse()
    return ranges


def consistency_ranges(old_size: int, new_size: int) -> list[Range]:
    """Return the leaf ranges whose hashes prove a tree a prefix of another.

    PROOF(m, D[n]) of RFC 6962; empty for an empty old tree and for equal sizes.
    """
    assert 0 <= old_size <= new_size
    if old_size in {0, new_size}:
        return []
    ranges: list[Range] = []
    start, end = 0, new_size
    old_is_whole = True  # the old root itself is known to the verifier and left out
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
            old_is_whole = False
    if not old_is_whole:
        ranges.append((start, end))
    ranges.reverse()
    return ranges


def make_inclusion_proof(reader: HashReader, *, index: int, size: int) -> tuple[bytes, ...]:
    """Return the proof that leaf ``index`` is in the tree over the first ``size`` leaves.

    Raises:
        InvalidInputError: The index is not in a tree of that size.
    """
    _check_index(index, size)
    return _read_ranges(reader, inclusion_ranges(index, size))


def make_consistency_proof(
    reader: HashReader, *, old_size: int, new_size: int
) -> tuple[bytes, ...]:
    """Return the proof that the tree of ``old_size`` is a prefix of that of ``new_size``.

    Raises:
        InvalidInputError: The old size is larger than the new one, or a size is out of bounds.
    """
    _check_sizes(old_size, new_size)
    return _read_ranges(reader, consistency_ranges(old_size, new_size))


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the leaf hash ``leaf`` stands at ``index`` in the tree (size, root).

    Raises:
        InvalidInputError: The numbers or the hashes' lengths are impossible.
        VerificationError: The proof leads to another root; names both.
    """
    _check_index(index, size)
    _check_hashes([leaf, root, *proof])
    inner, border = _inclusion_lengths(index, size)
    if len(proof) != inner + border:
        raise VerificationError(
            f"inclusion proof of index {index} in size {size} has {len(proof)} hashes, "
            f"needs {inner + border}"
        )
    computed = leaf
    for level, sibling in enumerate(proof[:inner]):
        if index >> level & 1:
            computed = node_hash(sibling, computed)
        else:
            computed = node_hash(computed, sibling)
    for left in proof[inner:]:
        computed = node_hash(left, computed)
    _compare_roots(f"inclusion proof of index {index} in size {size}", computed, root)


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree (old_size, old_root) is a prefix of (new_size, new_root).

    Raises:
        InvalidInputError: The numbers or the hashes' lengths are impossible.
        VerificationError: The proof leads to another root, or has another length; names both.
    """
    _check_sizes(old_size, new_size)
    _check_hashes([old_root, new_root, *proof])
    what = f"consistency proof from size {old_size} to {new_size}"
    expected = len(consistency_ranges(old_size, new_size))
    if len(proof) != expected:
        raise VerificationError(f"{what} has {len(proof)} hashes, needs {expected}")
    if old_size == 0:
        _compare_roots("the empty tree", old_root, EMPTY_ROOT)
        return
    if old_size == new_size:
        _compare_roots(f"two trees of size {new_size}", old_root, new_root)
        return
    old_computed, new_computed = _fold_consistency(old_size, new_size, old_root, proof)
    _compare_roots(f"{what}, old tree", old_computed, old_root)
    _compare_roots(f"{what}, new tree", new_computed, new_root)


def _fold_consistency(
    old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the roots of both trees that the proof leads to. RFC 9162, 2.1.4.2."""
    # A perfect old tree is a node of the new one: its root is the seed, and is not in the proof.
    if old_size & (old_size - 1) == 0:
        seed, rest = old_root, proof
    else:
        seed, rest = proof[0], proof[1:]
    old_last, new_last = old_size - 1, new_size - 1
    while old_last & 1:
        old_last >>= 1
        new_last >>= 1
    old_computed = new_computed = seed
    for each in rest:
        assert new_last, "the length check leaves no hash beyond the root"
        if old_last & 1 or old_last == new_last:
            old_computed = node_hash(each, old_computed)
            new_computed = node_hash(each, new_computed)
            while old_last and not old_last & 1:
                old_last >>= 1
                new_last >>= 1
        else:
            new_computed = node_hash(new_computed, each)
        old_last >>= 1
        new_last >>= 1
    return old_computed, new_computed


def _read_ranges(reader: HashReader, ranges: Sequence[Range]) -> tuple[bytes, ...]:
    covers = [perfect_subtrees(start, end) for start, end in ranges]
    hashes = reader.read_hashes([subtree for cover in covers for subtree in cover])
    bounds = [0]
    for cover in covers:
        bounds.append(bounds[-1] + len(cover))
    return tuple(fold_right_to_left(hashes[start:end]) for start, end in pairwise(bounds))


def _inclusion_lengths(index: int, size: int) -> tuple[int, int]:
    """Return how many hashes join below and along the right border of the tree.

    Above the height at which the paths of ``index`` and of the last leaf meet, the leaf's
    ancestors lie on the right border: from there on every sibling stands to the left.
    """
    inner = (index ^ (size - 1)).bit_length()
    return inner, (index >> inner).bit_count()


def _split(count: int) -> int:
    """Return the largest power of two below ``count`` (at least 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size <= SIZE_MAX:
        raise InvalidInputError(f"leaf {index} is not in a tree of size {size}")


def _check_sizes(old_size: int, new_size: int) -> None:
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise InvalidInputError(f"a tree of size {old_size} is no prefix of one of {new_size}")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    for each in hashes:
        if len(each) != HASH_SIZE:
            raise InvalidInputError(f"a hash of {len(each)} bytes instead of {HASH_SIZE}")


def _compare_roots(what: str, computed: bytes, expected: bytes) -> None:
    if computed != expected:
        raise VerificationError(f"{what} gives root {computed.hex()}, expected {expected.hex()}")
