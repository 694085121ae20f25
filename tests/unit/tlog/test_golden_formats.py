"""Our wire formats stay what they were; see tests/vectors/tlog/README.md."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.tlog.checkpoint import SignedCheckpoint, cosigner_key
from pyrsia_node.tlog.tile import Tile, encode_bundle
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, EMPTY_ROOT, leaf_hash
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import SmallLog, cosigned, log_signed

GOLDEN = tomllib.loads((Path(__file__).parents[2] / "vectors/tlog/golden.toml").read_text())
FOUR = identities(4)
# What the values were made from: a network of today's default parameters would have another id.
GENESIS = replace(genesis_of(FOUR), params=replace(DEFAULT_PARAMS, k={"pypi": 0}))
LOG = SmallLog(GENESIS.origin, (GENESIS.encode(), GENESIS.set_leaf().encode(), b"third"))


def test_wire_formats_are_the_golden_ones() -> None:
    head = LOG.head()
    lines = (log_signed(head, FOUR[0]), *(cosigned(head, one) for one in FOUR[:3]))
    signed = SignedCheckpoint(head, lines)
    record = FOUR[0].member.record
    file = TrustFile(GENESIS.encode())
    hashes = [leaf_hash(leaf) for leaf in LOG.leaves]
    assert {
        "cosigner_vkey": cosigner_key(record.label, record.keys.cosign).format(),
        "signed_checkpoint": signed.encode().decode(),
        "entry_proof": LOG.proof(2, signed).encode().decode(),
        "frontier": EMPTY_FRONTIER.extend(hashes).encode().hex(),
        "empty_root": EMPTY_ROOT.hex(),
        "bundle": encode_bundle([b"", b"a", b"bc"]).hex(),
        "tile_path": Tile(None, 1234067, 8).path(),
        "policy": Trust.establish(file).policy(),
        "trust_file_sha256": sha256_of(file.encode()),
    } == GOLDEN["values"]
