"""The trust file is told of before readers refuse it, and one that they refuse is not written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrsia_node.core import trust_keeper
from pyrsia_node.core.trust_keeper import TrustFileOnDisk
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.tlog.trust import TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.identities import identity


@pytest.fixture(scope="module")
def grown() -> TrustFile:
    """Four changes of a set of one to five members."""
    local = LocalChain(1)
    for number in range(4):
        local.commit(*local.add(identity(300 + number)))
    return TrustFile(local.genesis.encode(), tuple(set_changes(local.chain)))


def limit(monkeypatch: pytest.MonkeyPatch, bytes_max: int) -> None:
    monkeypatch.setattr(trust_keeper, "TRUST_BYTES_MAX", bytes_max)


def test_a_short_file_is_written_and_nothing_is_said(tmp_path: Path, grown: TrustFile) -> None:
    disk = TrustFileOnDisk(tmp_path / "trust")
    disk.write(grown)
    assert TrustFile.parse((tmp_path / "trust").read_bytes()) == grown
    assert disk.words == ""


def test_a_file_three_quarters_full_is_written_and_told(
    tmp_path: Path, grown: TrustFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, len(grown.encode()) * 4 // 3)
    disk = TrustFileOnDisk(tmp_path / "trust")
    disk.write(grown)
    assert (tmp_path / "trust").read_bytes() == grown.encode()
    assert f"{len(grown.encode()):,} bytes of the" in disk.words
    assert "it goes on" in disk.words


def test_a_file_that_readers_would_refuse_leaves_them_the_one_before(
    tmp_path: Path, grown: TrustFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TrustFile(grown.genesis, grown.changes[:3])
    limit(monkeypatch, len(before.encode()))
    disk = TrustFileOnDisk(tmp_path / "trust")
    disk.write(before)
    disk.write(grown)
    assert TrustFile.parse((tmp_path / "trust").read_bytes()) == before
    assert "no reader follows the newest set" in disk.words


def test_a_file_that_is_there_already_is_left_alone(tmp_path: Path, grown: TrustFile) -> None:
    TrustFileOnDisk(tmp_path / "trust").write(grown)
    written = (tmp_path / "trust").stat()
    TrustFileOnDisk(tmp_path / "trust").write(grown)
    assert (tmp_path / "trust").stat().st_ino == written.st_ino
