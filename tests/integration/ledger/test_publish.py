"""When ``log/checkpoint`` moves, what is in it, and what a split view leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pyrsia_node.ledger.publish import (
    RECENT_MAX,
    WAITING_MAX,
    Cosigner,
    Publisher,
    read_checkpoint,
)
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    VerificationError,
)
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint, cosigner_key, log_key
from pyrsia_node.tlog.note import SignatureLine
from pyrsia_node.tlog.tree import leaf_hash
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.strategies.identities import Identity, genesis_of, identities, identity
from tests.strategies.small_logs import TIME_S, SmallLog, cosigned, with_another_end

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
TRUST = Trust.establish(TrustFile(GENESIS.encode()))
LOG = SmallLog(GENESIS.origin, [b"%d" % number for number in range(400)])
FORK = SmallLog(GENESIS.origin, [b"fork %d" % number for number in range(400)])
ME = identity(9)


@dataclass(frozen=True)
class Tip:
    size: int


@dataclass
class Chain:
    """Blocks of two leaves."""

    tip: Tip = field(default_factory=lambda: Tip(2))

    def grow(self, size: int) -> None:
        self.tip = Tip(size)

    def root_at(self, size: int) -> bytes:
        if size % 2 or size > self.tip.size:
            raise NotFoundError("no block")
        return LOG.head(size).root


@pytest.fixture
def chain() -> Chain:
    return Chain()


def publisher_of(folder: Path, chain: Chain) -> Publisher:
    return Publisher(
        folder,
        trust=TRUST,
        chain=chain,
        log_key=ME.member.record.keys.log,
        log_signer=ME.sign["log"],
    )


def give(publisher: Publisher, size: int, *members: Identity, time_s: int = TIME_S) -> None:
    head = LOG.head(size)
    for member in members:
        publisher.add(SignedCheckpoint(head, (cosigned(head, member, time_s=time_s),)))


def on_disk(folder: Path) -> SignedCheckpoint:
    signed = read_checkpoint(folder / "checkpoint")
    assert signed is not None
    return signed


def test_a_head_is_published_at_the_quorum_and_not_before(tmp_path: Path, chain: Chain) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 2, *FOUR[:2])
    assert publisher.publish(tiles_size=2) is None
    assert not (tmp_path / "checkpoint").exists()
    give(publisher, 2, FOUR[2])
    assert publisher.publish(tiles_size=2) == LOG.head(2)
    assert publisher.published_size == 2
    signed = on_disk(tmp_path)
    assert TRUST.check(signed).labels == tuple(sorted(m.member.record.label for m in FOUR[:3]))
    signed.verified_by([log_key(GENESIS.origin, ME.member.record.keys.log)])


def test_later_cosignatures_are_added_to_the_published_head(tmp_path: Path, chain: Chain) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 2, *FOUR[:3])
    publisher.publish(tiles_size=2)
    give(publisher, 2, FOUR[3])
    assert publisher.publish(tiles_size=2) is None, "the size did not move"
    assert len(TRUST.check(on_disk(tmp_path)).labels) == 4
    written = (tmp_path / "checkpoint").stat().st_mtime_ns
    give(publisher, 2, *FOUR)
    publisher.publish(tiles_size=2)
    assert (tmp_path / "checkpoint").stat().st_mtime_ns == written, "nothing new, no write"


def test_a_newer_cosignature_of_a_member_replaces_its_older_one(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 2, *FOUR)
    publisher.publish(tiles_size=2)
    give(publisher, 2, *FOUR, time_s=TIME_S + 600)
    give(publisher, 2, *FOUR, time_s=TIME_S + 300)
    publisher.publish(tiles_size=2)
    signed = on_disk(tmp_path)
    assert TRUST.check(signed).time_s == TIME_S + 600
    assert len(signed.signatures) == 5


def test_cosignatures_that_come_before_our_own_commit_wait_for_it(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 4, *FOUR)
    assert publisher.publish(tiles_size=4) is None
    with pytest.raises(NotFoundError):
        publisher.note_with_cosignatures(4)
    chain.grow(4)
    assert publisher.publish(tiles_size=2) is None, "its tiles are not there yet"
    assert publisher.publish(tiles_size=4) == LOG.head(4)


def test_cosignatures_that_come_while_the_file_is_written_are_published_next(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 2, *FOUR[:3])
    publication = publisher.prepare(tiles_size=2)
    assert publication is not None
    give(publisher, 2, FOUR[3])
    publication.write()
    publisher.wrote(publication)
    assert publisher.published_size == 2
    assert len(TRUST.check(on_disk(tmp_path)).labels) == 3
    publisher.publish(tiles_size=2)
    assert len(TRUST.check(on_disk(tmp_path)).labels) == 4


def test_the_checkpoint_never_goes_back(tmp_path: Path, chain: Chain) -> None:
    chain.grow(8)
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 6, *FOUR)
    publisher.publish(tiles_size=8)
    give(publisher, 4, *FOUR)
    assert publisher.publish(tiles_size=8) is None
    assert on_disk(tmp_path).checkpoint == LOG.head(6)
    again = publisher_of(tmp_path, chain)
    give(again, 4, *FOUR)
    assert again.publish(tiles_size=8) is None
    assert again.published == LOG.head(6)


def test_a_restart_keeps_the_published_cosignatures_and_adds_to_them(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 2, *FOUR[:3])
    publisher.publish(tiles_size=2)
    again = publisher_of(tmp_path, chain)
    assert again.published_size == 2
    before = (tmp_path / "checkpoint").stat().st_mtime_ns
    assert again.publish(tiles_size=2) is None
    assert (tmp_path / "checkpoint").stat().st_mtime_ns == before
    give(again, 2, FOUR[3])
    again.publish(tiles_size=2)
    assert len(TRUST.check(on_disk(tmp_path)).labels) == 4


def test_a_note_for_others_carries_all_cosignatures_of_its_size(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 2, *FOUR[1:])
    other = publisher_of(tmp_path / "..", chain)
    signed = SignedCheckpoint.parse(publisher.note_with_cosignatures(2))
    assert other.add(signed) == 3
    assert other.add(signed) == 0
    assert other.cosigners(2) == tuple(sorted(m.member.record.label for m in FOUR[1:]))
    with pytest.raises(NotFoundError, match="size 4"):
        publisher.note_with_cosignatures(4)


def test_strangers_lines_are_ignored_and_bad_lines_of_members_refused(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    head = LOG.head(2)
    assert publisher.add(SignedCheckpoint(head, (cosigned(head, identity(7)),))) == 0
    line = cosigned(head, FOUR[0])
    bad = SignatureLine(line.name, line.key_id, with_another_end(line.payload))
    with pytest.raises(VerificationError, match="does not hold"):
        publisher.add(SignedCheckpoint(head, (bad,)))
    other = Checkpoint("other-00000000/log", 2, head.root)
    with pytest.raises(InvalidInputError, match="other-00000000/log"):
        publisher.add(SignedCheckpoint(other, (cosigned(other, FOUR[0]),)))


@pytest.mark.parametrize("size", [2, 3])
def test_a_cosigned_head_that_the_chain_does_not_have_is_a_split_view(
    tmp_path: Path, chain: Chain, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = publisher_of(tmp_path, chain)
    chain.grow(4)
    theirs = FORK.signed(FOUR, size)
    assert publisher.add(theirs) == 0
    assert publisher.publish(tiles_size=4) is None
    assert {each.label for each in publisher.split_views} == {
        one.member.record.label for one in FOUR
    }
    assert publisher.split_views[0].theirs.checkpoint == FORK.head(size)
    assert publisher.split_views[0].our_root == (LOG.head(2).root if size == 2 else None)
    assert "split view: node-" in caplog.text


def test_a_waiting_head_that_turns_out_to_be_a_fork_is_reported(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    publisher.add(FORK.signed(FOUR[:1], 4))
    give(publisher, 4, *FOUR[1:])
    chain.grow(4)
    assert publisher.publish(tiles_size=4) == LOG.head(4)
    assert [each.label for each in publisher.split_views] == [FOUR[0].member.record.label]


def test_a_members_flood_of_heads_is_bounded_and_pushes_out_no_others(
    tmp_path: Path, chain: Chain
) -> None:
    publisher = publisher_of(tmp_path, chain)
    give(publisher, 40, *FOUR[1:])
    hostile = FOUR[0]
    for size in range(90, 2, -1):
        publisher.add(FORK.signed([hostile], size))
    label = hostile.member.record.label
    assert sum(label in publisher.cosigners(size) for size in range(3, 91)) == WAITING_MAX
    chain.grow(40)
    assert publisher.publish(tiles_size=40) == LOG.head(40)


def test_cosignatures_of_old_heads_are_forgotten(tmp_path: Path, chain: Chain) -> None:
    publisher = publisher_of(tmp_path, chain)
    chain.grow(400)
    for size in range(2, 2 * RECENT_MAX + 20, 2):
        give(publisher, size, FOUR[0])
    held = [size for size in range(2, 401) if publisher.cosigners(size)]
    assert len(held) == RECENT_MAX
    assert held[-1] == 2 * RECENT_MAX + 18


@pytest.mark.parametrize("content", [b"", b"x", b"testnet\n1\nAAAA\n\n"])
def test_a_damaged_checkpoint_names_its_path_and_the_repair(
    tmp_path: Path, chain: Chain, content: bytes
) -> None:
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(CorruptStateError, match=r"checkpoint is damaged .* fsck --repair"):
        publisher_of(tmp_path, chain)


def test_a_checkpoint_without_quorum_or_of_a_fork_is_not_taken_over(
    tmp_path: Path, chain: Chain
) -> None:
    (tmp_path / "checkpoint").write_bytes(LOG.signed(FOUR[:2], 2).encode())
    with pytest.raises(CorruptStateError, match="does not hold"):
        publisher_of(tmp_path, chain)
    (tmp_path / "checkpoint").write_bytes(FORK.signed(FOUR, 2).encode())
    with pytest.raises(CorruptStateError, match="two histories"):
        publisher_of(tmp_path, chain)


def test_a_cosigner_never_signs_two_histories() -> None:
    record = FOUR[0].member.record
    cosigner = Cosigner(cosigner_key(record.label, record.keys.cosign), FOUR[0].sign["cosign"])
    signed = cosigner.cosign(LOG.head(4), time_s=TIME_S)
    assert signed.signatures == (cosigned(LOG.head(4), FOUR[0]),)
    cosigner.cosign(LOG.head(4), time_s=TIME_S + 600)
    for bad in (LOG.head(2), FORK.head(4), Checkpoint(GENESIS.origin, 4, leaf_hash(b""))):
        with pytest.raises(CorruptStateError, match="asked to cosign"):
            cosigner.cosign(bad, time_s=TIME_S)
    cosigner.cosign(LOG.head(6), time_s=TIME_S)
