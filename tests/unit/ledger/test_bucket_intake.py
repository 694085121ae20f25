"""A bucket of a snapshot comes in pages; it counts when its sum is right, else nothing stays."""

from __future__ import annotations

import pytest

from pyrsia_node.ledger import bucket_intake, storage
from pyrsia_node.ledger.bucket_intake import BucketIntake
from pyrsia_node.ledger.commitment import KEY_BYTES_MAX, bucket_hash, sums_of
from pyrsia_node.ledger.waiting_rows import WaitingRows
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from tests.fakes.memory_store import MemoryKeyValueStore

PAIRS = [(b"item/a%d" % number, b"%d" % number) for number in range(6)]
SUM = sums_of((key.decode(), value) for key, value in PAIRS)["item/a"]
WANTED = bucket_hash("item/a", SUM)


def written(waiting: WaitingRows) -> list[tuple[bytes, bytes]]:
    return sorted(row for batch in waiting.take(bytes_min=0) for row in batch)


def test_pages_of_a_bucket_give_its_pairs_and_its_sum() -> None:
    waiting = WaitingRows()
    intake = BucketIntake("item/a", WANTED, waiting)
    intake.add(PAIRS[:2])
    intake.add(PAIRS[2:])
    intake.finish()
    rows = [(storage.STATE_PREFIX + key, value) for key, value in PAIRS]
    assert written(waiting) == sorted([*rows, (storage.bucket_key("item/a"), SUM)])


@pytest.mark.parametrize(
    "pairs", [PAIRS[:-1], [*PAIRS[:-1], (PAIRS[-1][0], b"x")], []], ids=["less", "other", "none"]
)
def test_bucket_with_other_pairs_is_not_counted_in(pairs: list[tuple[bytes, bytes]]) -> None:
    intake = BucketIntake("item/a", WANTED, WaitingRows())
    intake.add(pairs)
    with pytest.raises(VerificationError, match="bucket item/a has hash"):
        intake.finish()


@pytest.mark.parametrize("key", [b"item/b", b"item", b"tally/a", b"", b"item/a\xff"])
def test_key_of_another_bucket_is_refused(key: bytes) -> None:
    intake = BucketIntake("item/a", WANTED, WaitingRows())
    with pytest.raises(InvalidInputError, match="is not of bucket item/a"):
        intake.add([(key, b"")])


def test_key_that_is_too_long_is_refused_and_nothing_of_its_page_is_taken_in() -> None:
    longest = b"item/a".ljust(KEY_BYTES_MAX, b"x")
    intake = BucketIntake("item/a", WANTED, WaitingRows())
    intake.add([(longest, b"")])
    for length in (KEY_BYTES_MAX + 1, 0x10000):
        waiting = WaitingRows()
        with pytest.raises(InvalidInputError, match=f"a key of {length} bytes exceeds 512"):
            BucketIntake("item/a", WANTED, waiting).add(
                [(b"item/a", b""), (longest.ljust(length, b"x"), b"")]
            )
        assert waiting.take(bytes_min=0) == []


@pytest.mark.parametrize("keys", [(b"item/a2", b"item/a1"), (b"item/a2", b"item/a2")])
def test_key_that_goes_back_or_comes_twice_is_refused_in_a_page_and_between_pages(
    keys: tuple[bytes, bytes],
) -> None:
    first, second = keys
    with pytest.raises(InvalidInputError, match="out of order"):
        BucketIntake("item/a", WANTED, WaitingRows()).add([(first, b""), (second, b"")])
    intake = BucketIntake("item/a", WANTED, WaitingRows())
    intake.add([(first, b"")])
    with pytest.raises(InvalidInputError, match="out of order"):
        intake.add([(second, b"")])


def test_what_was_taken_in_of_a_wrong_bucket_is_removed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket_intake, "REMOVED_AT_ONCE", 2)
    store, waiting = MemoryKeyValueStore(), WaitingRows()
    others = [(storage.STATE_PREFIX + b"item/b", b"1"), (storage.leaf_key(1), b"2")]
    store.write(others, sync=False)
    intake = BucketIntake("item/a", WANTED, waiting)
    intake.add(PAIRS[:5])
    for batch in waiting.take(bytes_min=0):
        store.write(batch, sync=False)
    intake.add(PAIRS[5:])
    rounds = 1
    while intake.remove(store):
        rounds += 1
    assert rounds == 3
    assert dict(store.scan(b"")) == dict(others)
    assert waiting.take(bytes_min=0) == []
    assert store.settled == 1


def test_removing_a_bucket_that_is_a_kind_alone_leaves_the_others_of_its_kind() -> None:
    store = MemoryKeyValueStore()
    other = (storage.STATE_PREFIX + b"item/b", b"1")
    store.write([other, (storage.STATE_PREFIX + b"item/", b"2")], sync=False)
    assert not BucketIntake("item/", WANTED, WaitingRows()).remove(store)
    assert list(store.scan(b"")) == [other]
