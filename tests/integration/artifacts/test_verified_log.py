"""What the gateway believes of the log's files: what a quorum signed and the tiles prove."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.ed25519 import Verify
from consensus.ingress import verify_certificate
from consensus.types import Certificate, Digest, MemberSet
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.tlog import trust
from pyrsia_node.tlog.trust import TrustFile
from pyrsia_node.tlog.verify import verify_bundle
from tests.fakes.published_log import PublishedLog, document, file_entry
from tests.strategies.identities import identity

NAME = "six-1.17.0-py2.py3-none-any.whl"
FILE = file_entry(NAME, b"the bytes of a wheel")
DOC = document("pkg:pypi/six@1.17.0", FILE)


@pytest.fixture
def published(tmp_path: Path) -> Iterator[PublishedLog]:
    log = PublishedLog(tmp_path / "node")
    yield log
    log.close()


def view(published: PublishedLog) -> VerifiedLog:
    return VerifiedLog(published.root / "log", published.trust)


def newest_bundle(published: PublishedLog) -> Path:
    """Return the widest partial bundle."""
    bundles = (published.root / "log" / "tile" / "entries").rglob("*.p/*")
    return max(bundles, key=lambda path: int(path.name))


def republish(published: PublishedLog) -> None:
    """Replace the checkpoint by an equal one."""
    checkpoint = published.root / "log" / "checkpoint"
    again = checkpoint.with_suffix(".again")
    again.write_bytes(checkpoint.read_bytes())
    again.replace(checkpoint)


def test_accepted_entry_is_proved_with_its_block(published: PublishedLog) -> None:
    index = published.accept(DOC)
    proved = view(published).accepted(index)
    tip = published.local.chain.tip
    assert proved.entry.document == DOC
    assert (proved.height, proved.time_ms) == (tip.height, tip.time_ms)


def test_every_leaf_is_in_its_block(published: PublishedLog) -> None:
    published.accept(DOC)
    log = view(published)
    chain = published.local.chain
    for index in range(chain.tip.size):
        leaf = log.leaf(index)
        assert leaf.data == chain.leaf(index)
        assert (leaf.height, leaf.time_ms) == chain.block_of_leaf(index)


def test_proof_convinces_an_offline_verifier(published: PublishedLog) -> None:
    index = published.accept(DOC)
    proved = verify_bundle(
        view(published).proof(index),
        published.trust,
        file_sha256=FILE.sha256,
        purl="pkg:pypi/six@1.17.0",
        file_name=NAME,
    )
    assert proved.proved.index == index


def test_checkpoint_without_a_quorum_is_not_believed(published: PublishedLog) -> None:
    published.publish(cosigners=2)
    with pytest.raises(UnavailableError, match="2 cosignatures"):
        view(published).head()


def test_log_without_a_checkpoint_is_unavailable(published: PublishedLog) -> None:
    (published.root / "log" / "checkpoint").unlink()
    with pytest.raises(UnavailableError, match="no published checkpoint yet"):
        view(published).head()


def test_head_moves_on_and_proved_entries_stay(published: PublishedLog) -> None:
    log = view(published)
    before = log.head().size
    index = published.accept(DOC)
    assert log.head().size > before
    assert log.accepted(index).entry.document == DOC
    published.accept(document("pkg:pypi/idna@3.10", file_entry("idna-3.10.tar.gz", b"x")))
    # Without its tile the entry could not be proved again: it was proved once for all.
    shutil.rmtree(published.root / "log" / "tile")
    assert log.accepted(index).entry.document == DOC


def test_head_never_goes_back(published: PublishedLog) -> None:
    log = view(published)
    old = (published.root / "log" / "checkpoint").read_bytes()
    published.accept(DOC)
    size = log.head().size
    (published.root / "log" / "checkpoint").write_bytes(old)
    assert log.head().size == size


def test_head_that_does_not_extend_the_last_is_not_believed(
    published: PublishedLog, tmp_path: Path
) -> None:
    log = view(published)
    published.accept(DOC)
    size = log.head().size
    # The same members sign another history: a fork that all of them are guilty of.
    fork = PublishedLog(tmp_path / "fork")
    fork.accept(document("pkg:pypi/idna@3.10", file_entry("idna-3.10.tar.gz", b"x")))
    fork.accept(document("pkg:pypi/idna@3.11", file_entry("idna-3.11.tar.gz", b"y")))
    fork.close()
    shutil.rmtree(published.root / "log")
    shutil.copytree(tmp_path / "fork" / "log", published.root / "log")
    assert log.head().size == size


def test_tampered_entry_is_refused(published: PublishedLog) -> None:
    index = published.accept(DOC)
    bundle = newest_bundle(published)
    content = bundle.read_bytes()
    forged = content.replace(FILE.sha256.encode(), b"0" * 64)
    assert forged != content
    log = view(published)
    bundle.write_bytes(forged)
    with pytest.raises(VerificationError, match="root"):
        log.accepted(index)
    bundle.write_bytes(content)
    assert log.accepted(index).entry.document == DOC


def test_damaged_tile_is_unavailable_and_says_how_to_repair(published: PublishedLog) -> None:
    index = published.accept(DOC)
    bundle = newest_bundle(published)
    bundle.write_bytes(b"\xff")
    with pytest.raises(UnavailableError, match="fsck"):
        view(published).accepted(index)


def test_wrong_hash_of_a_tile_is_not_remembered(published: PublishedLog) -> None:
    index = published.accept(DOC)
    tiles = (published.root / "log" / "tile" / "0").rglob("*.p/*")
    tile = max(tiles, key=lambda path: int(path.name))
    content = tile.read_bytes()
    log = view(published)
    log.head()
    tile.write_bytes(bytes(len(content)))
    with pytest.raises(VerificationError, match="root"):
        log.accepted(index)
    tile.write_bytes(content)
    assert log.accepted(index).entry.document == DOC


def test_head_is_believed_once_the_tile_that_spoke_against_it_is_repaired(
    published: PublishedLog,
) -> None:
    log = view(published)
    before = log.head().size
    published.accept(DOC)
    tiles = (published.root / "log" / "tile" / "0").rglob("*.p/*")
    tile = max(tiles, key=lambda path: int(path.name))
    content = tile.read_bytes()
    tile.write_bytes(bytes(len(content)))
    assert log.head().size == before
    tile.write_bytes(content)
    republish(published)
    assert log.head().size > before


def test_proved_hashes_are_not_read_again(published: PublishedLog) -> None:
    index = published.accept(DOC)
    log = view(published)
    proof = log.proof(index)
    shutil.rmtree(published.root / "log" / "tile" / "0")
    assert log.proof(index) == proof


def test_leaf_that_is_no_accepted_build_is_refused(published: PublishedLog) -> None:
    with pytest.raises(VerificationError, match="entry 0"):
        view(published).accepted(0)
    with pytest.raises(NotFoundError, match="no entry 99"):
        view(published).accepted(99)


def test_each_change_of_the_set_is_proved_once(
    published: PublishedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proved is not proved again at each of a thousand changes that follow."""
    heights: list[int] = []

    def noted(
        certificate: Certificate, members: MemberSet, chain_id: Digest, verify: Verify
    ) -> bool:
        heights.append(certificate.height)
        return verify_certificate(certificate, members, chain_id, verify)

    monkeypatch.setattr(trust, "verify_certificate", noted)
    log, local = view(published), published.local

    def told(file: TrustFile) -> bytes:
        """Have the log read a trust file; return the one that it believes."""
        (published.root / "log" / "trust").write_bytes(file.encode())
        republish(published)
        log.head()
        return log.trust_text()

    file = TrustFile(local.genesis.encode())
    for number in range(3):
        local.commit(*local.add(identity(300 + number)))
        file = TrustFile(file.genesis, tuple(set_changes(local.chain)))
        assert told(file) == file.encode()
    assert heights == [1, 2, 3]
    # A file of another history is not believed, however it begins.
    one, two, three = file.changes
    assert told(TrustFile(file.genesis, (one, three, two))) == file.encode()
