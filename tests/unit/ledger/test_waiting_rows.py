"""Rows wait by kind, and each kind is given out by itself once there is enough of it."""

from __future__ import annotations

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.waiting_rows import WaitingRows, kind_of
from pyrsia_node.model.digest import Sha256


def leaf(index: int, size: int) -> tuple[bytes, bytes]:
    return storage.leaf_key(index), bytes(size)


def test_kind_of_a_row_is_its_table_and_of_the_state_its_kind_of_key() -> None:
    slash = int.from_bytes(b"/" * 8, "big")
    assert kind_of(storage.leaf_key(slash)) == b"leaf"
    assert kind_of(storage.end_key(slash)) == b"end"
    assert kind_of(storage.transaction_key(Sha256("2f" * 32))) == b"transaction"
    assert kind_of(storage.bucket_key("item/a")) == b"bucket"
    assert kind_of(storage.STATE_PREFIX + b"item/abc/def") == b"item"


def test_rows_wait_until_there_is_enough_of_their_kind() -> None:
    waiting = WaitingRows()
    waiting.add([leaf(1, 600), (storage.block_key(1), bytes(600))])
    assert waiting.take(bytes_min=1000) == []
    waiting.add([leaf(2, 600)])
    assert waiting.take(bytes_min=1000) == [[leaf(1, 600), leaf(2, 600)]]
    assert waiting.take(bytes_min=1000) == []
    waiting.add([leaf(3, 600)])
    assert waiting.take(bytes_min=1000) == []


def test_no_two_kinds_share_a_batch_and_everything_is_given_out_once() -> None:
    waiting = WaitingRows()
    rows = [row for number in range(5) for row in (leaf(number, 3), (storage.end_key(number), b""))]
    waiting.add([*rows, (storage.STATE_PREFIX + b"item/a", b"1")])
    batches = waiting.take(bytes_min=0)
    assert [{kind_of(key) for key, _ in batch} for batch in batches] == [
        {b"leaf"},
        {b"end"},
        {b"item"},
    ]
    assert batches[0] == [leaf(number, 3) for number in range(5)]
    assert waiting.take(bytes_min=0) == []
