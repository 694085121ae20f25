"""Rows wait by kind, and each kind is given out by itself once there is enough of it."""

from __future__ import annotations

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.waiting_rows import COMPLETE_BYTES_MIN, WaitingRows


def leaf(index: int, size: int) -> tuple[bytes, bytes]:
    return storage.leaf_key(index), bytes(size)


def test_rows_wait_until_there_is_enough_of_their_kind() -> None:
    waiting = WaitingRows()
    waiting.add("leaf", [leaf(1, 600)])
    waiting.add("block", [(storage.block_key(1), bytes(600))])
    assert waiting.take(bytes_min=1000) == []
    waiting.add("leaf", [leaf(2, 600)])
    assert waiting.take(bytes_min=1000) == [[leaf(1, 600), leaf(2, 600)]]
    assert waiting.take(bytes_min=1000) == []
    waiting.add("leaf", [leaf(3, 600)])
    assert waiting.take(bytes_min=1000) == []


def test_no_two_kinds_share_a_batch_and_everything_is_given_out_once() -> None:
    waiting = WaitingRows()
    leaves = [leaf(number, 3) for number in range(5)]
    ends = [(storage.end_key(number), b"") for number in range(5)]
    for one, end in zip(leaves, ends, strict=True):
        waiting.add("leaf", [one])
        waiting.add("end", [end])
    assert waiting.take(bytes_min=0) == [leaves, ends]
    assert waiting.take(bytes_min=0) == []


def test_kind_of_which_no_more_comes_is_due_or_joins_a_wider_one() -> None:
    waiting = WaitingRows()
    much, little = [(b"m", bytes(COMPLETE_BYTES_MIN))], [(b"l", b"")]
    waiting.add("item/a", much)
    waiting.add("item/b", little)
    waiting.complete("item/a", into="item")
    waiting.complete("item/b", into="item")
    waiting.complete("item/c", into="item")
    assert waiting.take() == [much]
    assert waiting.take(bytes_min=0) == [little]


def test_kind_that_is_forgotten_is_given_out_no_more() -> None:
    waiting = WaitingRows()
    waiting.add("item/a", [(b"a", b"")])
    waiting.add("item/b", [(b"b", b"")])
    waiting.forget("item/a")
    waiting.forget("item/a")
    assert waiting.take(bytes_min=0) == [[(b"b", b"")]]
