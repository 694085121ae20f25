"""Go's own checksum-database code reads our log, and refuses it as soon as a byte is wrong.

The reader in tests/conformance/go is built here with Debian's compiler and golang.org/x/mod; both
are in deploy/debian-packages.txt. Nothing is fetched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.proofs import make_inclusion_proof
from pyrsia_node.tlog.tile import TileHashReader
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.conformance.go_reader import GoReader, Read, build_reader
from tests.fakes.audited_log import AuditedLog


@dataclass(frozen=True)
class Reading:
    """The reader, and a log of ``size`` with a policy and an offline proof beside it."""

    reader: GoReader
    folder: Path
    size: int

    def read(self, folder: Path) -> Read:
        return self.reader.read(
            folder / "log", policy=folder / "policy", proof=folder / "entry.tlog-proof"
        )


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    folder = tmp_path_factory.mktemp("go")
    made = AuditedLog(folder / "node", more=110)
    trust = Trust.establish(TrustFile(made.story.local.genesis.encode()))
    (made.root / "policy").write_text(trust.policy())
    signed = SignedCheckpoint.parse((made.log / "checkpoint").read_bytes())
    size, index = signed.checkpoint.size, made.leaves["six"]
    hashes = make_inclusion_proof(TileHashReader(TileFiles(made.log), size), index=index, size=size)
    proof = EntryProof(
        extra=made.story.chain.leaf(index), index=index, hashes=hashes, signed=signed
    )
    (made.root / "entry.tlog-proof").write_bytes(proof.encode())
    return Reading(build_reader(folder), made.root, size)


def test_go_verifies_checkpoint_entries_proofs_and_an_offline_proof(go: Reading) -> None:
    done = go.read(go.folder)
    assert done.code == 0, done.said
    assert go.size > 256, "more than one tile, so that there are tiles of a second level"
    lines = done.said.splitlines()
    assert lines[0] == f"checkpoint: size {go.size}, 4 cosignatures (quorum 3), 1 of the log"
    assert lines[1] == f"entries: {go.size} lead to the root"
    assert lines[2].endswith("records hold")
    assert lines[4].startswith("offline proof: entry ")
    assert len(lines) == 5


def _flip(name: str, at: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)

    return change


def _change_base64(name: str, at: int) -> Callable[[Path], None]:
    """Put another character of base64 in, whatever stands there."""

    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] = ord("B" if data[at] == ord("A") else "A")
        (folder / name).write_bytes(data)

    return change


def _two_cosigners(folder: Path) -> None:
    path = folder / "log/checkpoint"
    signed = SignedCheckpoint.parse(path.read_bytes())
    path.write_bytes(SignedCheckpoint(signed.checkpoint, signed.signatures[:3]).encode())


WRONGS: Final = {
    "entry": (_flip("log/tile/entries/000", 5_000), "tiles: entry"),
    "length of an entry": (_flip("log/tile/entries/000", 0), "tile/entries/000"),
    "tile of entries": (_flip("log/tile/0/000", 40), "tiles: entry 1 "),
    "tile of tiles": (_flip("log/tile/1/000.p/1", 3), "downloaded inconsistent tile"),
    "quorum": (_two_cosigners, "2 cosignatures, the policy wants 3"),
    "signature": (_change_base64("log/checkpoint", -9), "invalid signature"),
    "entry of the offline proof": (_flip("entry.tlog-proof", 60), "invalid transparency proof"),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_go_refuses_what_was_changed(go: Reading, tmp_path: Path, wrong: str) -> None:
    change, expected = WRONGS[wrong]
    shutil.copytree(go.folder, tmp_path / "copy")
    change(tmp_path / "copy")
    done = go.read(tmp_path / "copy")
    assert done.code == 1
    assert expected in done.said
