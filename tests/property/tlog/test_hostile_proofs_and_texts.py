"""Mutated proofs are never accepted; parsers let only our error out; encoders round-trip."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog import proofs
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import Note, SignatureLine, VerifierKey
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.text import decode_base64, encode_base64, parse_decimal
from pyrsia_node.tlog.tile import (
    Tile,
    TileHashReader,
    cut_bundle,
    decode_bundle,
    encode_bundle,
    entry_in_bundle,
    hash_in_tile,
)
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, Frontier, Subtree, leaf_hash, split_hashes
from pyrsia_node.tlog.trust import SetChange, Trust, TrustFile
from pyrsia_node.tlog.verify import verify_entry
from tests.strategies.identities import genesis_of, identities

GENESIS = genesis_of(identities(1))
TRUST = Trust.establish(TrustFile(GENESIS.encode()))

MUTATIONS = 5_000  # of each kind of proof

LEAF_HASHES = [leaf_hash(bytes([number])) for number in range(200)]
ROOTS = [EMPTY_FRONTIER.extend(LEAF_HASHES[:size]).root() for size in range(201)]


class OneTile:
    def read_tiles(self, tiles: object) -> list[bytes]:
        assert isinstance(tiles, list)
        return [b"".join(LEAF_HASHES[: tile.width]) for tile in tiles]


def mutated(hashes: list[bytes], rng: random.Random) -> list[bytes]:
    """Return the proof with a bit flipped, a hash dropped, doubled, added or two swapped."""
    changed = list(hashes)
    position = rng.randrange(len(changed) + 1)
    match rng.randrange(5):
        case 0 if changed:
            each = bytearray(changed[position % len(changed)])
            each[rng.randrange(32)] ^= 1 << rng.randrange(8)
            changed[position % len(changed)] = bytes(each)
        case 1 if changed:
            del changed[position % len(changed)]
        case 2 if changed:
            changed.insert(position, changed[position % len(changed)])
        case 3 if len(changed) > 1:
            other = rng.randrange(len(changed))
            here = position % len(changed)
            changed[here], changed[other] = changed[other], changed[here]
        case _:
            changed.insert(position, rng.choice([rng.randbytes(32), *ROOTS[1:]]))
    return changed


def is_refused(check: Callable[[], None]) -> bool:
    try:
        check()
    except (InvalidInputError, VerificationError):
        return True
    return False


def test_no_mutated_inclusion_proof_is_accepted() -> None:
    rng = random.Random(6962)
    tried = accepted = 0
    while tried < MUTATIONS:
        size = rng.randrange(1, 201)
        index = rng.randrange(size)
        good = list(
            proofs.make_inclusion_proof(TileHashReader(OneTile(), size), index=index, size=size)
        )
        claim = {"index": index, "size": size}
        leaf, root, proof = LEAF_HASHES[index], ROOTS[size], good
        match rng.randrange(5):
            case 0:
                claim["index"] = rng.randrange(size)
            case 1:
                leaf = rng.choice(LEAF_HASHES)
            case 2:
                root = rng.choice(ROOTS)
            case _:
                proof = mutated(good, rng)
        if (claim["index"], leaf, root, proof) == (index, LEAF_HASHES[index], ROOTS[size], good):
            continue
        tried += 1
        accepted += not is_refused(
            lambda leaf=leaf, claim=claim, root=root, proof=proof: proofs.verify_inclusion(  # type: ignore[misc]
                leaf, index=claim["index"], size=claim["size"], root=root, proof=proof
            )
        )
    assert (tried, accepted) == (MUTATIONS, 0)


def test_no_mutated_consistency_proof_is_accepted() -> None:
    rng = random.Random(9162)
    tried = accepted = 0
    while tried < MUTATIONS:
        new_size = rng.randrange(1, 201)
        old_size = rng.randrange(1, new_size + 1)
        good = list(
            proofs.make_consistency_proof(
                TileHashReader(OneTile(), new_size), old_size=old_size, new_size=new_size
            )
        )
        old_root, new_root, proof = ROOTS[old_size], ROOTS[new_size], good
        match rng.randrange(4):
            case 0:
                old_root = rng.choice(ROOTS)
            case 1:
                new_root = rng.choice(ROOTS)
            case _:
                proof = mutated(good, rng)
        if (old_root, new_root, proof) == (ROOTS[old_size], ROOTS[new_size], good):
            continue
        tried += 1
        accepted += not is_refused(
            lambda o=old_root, n=new_root, p=proof, a=old_size, b=new_size: (  # type: ignore[misc]
                proofs.verify_consistency(old_size=a, old_root=o, new_size=b, new_root=n, proof=p)
            )
        )
    assert (tried, accepted) == (MUTATIONS, 0)


names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20).filter(
    lambda name: "+" not in name
)
lines = st.builds(
    SignatureLine,
    name=names,
    key_id=st.binary(min_size=4, max_size=4),
    payload=st.binary(min_size=1, max_size=80),
)
hashes = st.binary(min_size=32, max_size=32)
checkpoints = st.builds(Checkpoint, origin=names, size=st.integers(1, 2**53 - 1), root=hashes)
signed_checkpoints = st.builds(
    SignedCheckpoint,
    checkpoint=checkpoints,
    signatures=st.lists(lines, min_size=1, max_size=5).map(tuple),
)
entry_proofs = st.builds(
    EntryProof,
    extra=st.none() | st.binary(max_size=200),
    index=st.integers(0, 2**53 - 2),
    hashes=st.lists(hashes, max_size=54).map(tuple),
    signed=signed_checkpoints,
)


@given(signed_checkpoints)
def test_signed_checkpoints_round_trip(signed: SignedCheckpoint) -> None:
    assert SignedCheckpoint.parse(signed.encode()) == signed


@given(entry_proofs)
def test_entry_proofs_round_trip(proof: EntryProof) -> None:
    assert EntryProof.parse(proof.encode()) == proof


@given(
    st.binary(max_size=99),
    st.lists(
        st.builds(SetChange, st.binary(min_size=1), st.binary(min_size=1), st.binary(min_size=1)),
        max_size=3,
    ),
)
def test_trust_files_round_trip(genesis: bytes, changes: list[SetChange]) -> None:
    file = TrustFile(genesis, tuple(changes))
    assert TrustFile.parse(file.encode()) == file


@given(st.lists(hashes, max_size=40))
def test_frontiers_round_trip(leaf_hashes: list[bytes]) -> None:
    frontier = EMPTY_FRONTIER.extend(leaf_hashes)
    assert Frontier.decode(frontier.encode()) == frontier


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_round_trip(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries), width=len(entries)) == tuple(entries)


@given(st.none() | st.integers(0, 6), st.integers(0, 2**45 - 1), st.integers(1, 256))
def test_tile_paths_round_trip(level: int | None, number: int, width: int) -> None:
    tile = Tile(level, number, width)
    assert Tile.parse(tile.path()) == tile


@given(st.binary(max_size=100))
def test_base64_round_trips(data: bytes) -> None:
    assert decode_base64(encode_base64(data), what="x") == data


READERS: dict[str, Callable[[bytes], object]] = {
    "note": Note.parse,
    "checkpoint": SignedCheckpoint.parse,
    "proof": EntryProof.parse,
    "frontier": Frontier.decode,
    "hashes": split_hashes,
    "bundle": lambda data: decode_bundle(data, width=3),
    "cut bundle": lambda data: cut_bundle(data, width=3),
    "entry in a bundle": lambda data: entry_in_bundle(data, 3),
    "tile": lambda data: hash_in_tile(data, Subtree(3, 5)),
    "tile path": lambda data: Tile.parse(data.decode(errors="replace")),
    "trust": lambda data: Trust.establish(TrustFile.parse(data)),
    "trusted genesis": lambda data: Trust.establish(TrustFile(data)),
    "set change": lambda data: Trust.establish(
        TrustFile(GENESIS.encode(), (SetChange(data, data, data),))
    ),
    "entry": lambda data: verify_entry(data, TRUST),
    "vkey": lambda data: VerifierKey.parse(data.decode(errors="replace")),
    "base64": lambda data: decode_base64(data.decode(errors="replace"), what="x"),
    "decimal": lambda data: parse_decimal(data.decode(errors="replace"), what="x", value_max=2**53),
}


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_only_our_error_escapes_from_arbitrary_bytes(reader: str, data: st.DataObject) -> None:
    raw = data.draw(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
    with contextlib.suppress(InvalidInputError):
        READERS[reader](raw)


@pytest.mark.parametrize("reader", ["note", "checkpoint", "proof"])
@given(proof=entry_proofs, data=st.data())
def test_almost_valid_texts_are_read_as_something_else_or_refused(
    reader: str, proof: EntryProof, data: st.DataObject
) -> None:
    valid = proof.encode() if reader == "proof" else proof.signed.encode()
    position = data.draw(st.integers(0, len(valid)))
    cut = data.draw(st.integers(0, 3))
    insert = data.draw(st.sampled_from([b"", b"\n", b" ", b"=", b"A", b"\0", b"\xe2", b"\r\n"]))
    changed = valid[:position] + insert + valid[position + cut :]
    try:
        value = READERS[reader](changed)
    except InvalidInputError:
        return
    assert isinstance(value, Note | SignedCheckpoint | EntryProof)
    assert value.encode() == changed, "one meaning has one spelling"
