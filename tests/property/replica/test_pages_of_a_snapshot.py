"""Pages of a snapshot survive the wire; of whatever else a peer sends only our errors escape."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyrsia_node.ledger.bucket_intake import BucketIntake
from pyrsia_node.ledger.commitment import KEY_BYTES_MAX
from pyrsia_node.ledger.snapshot import Page
from pyrsia_node.ledger.waiting_rows import WaitingRows
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.replica.catchup_wire import join_prefixed
from pyrsia_node.replica.snapshot_wire import decode_page, encode_page

BUCKET = "item/a"
LENGTHS = st.sampled_from([0, 1, KEY_BYTES_MAX, KEY_BYTES_MAX + 1, 0xFFFF, 0x10000, 0x20000])
KEYS = st.binary(max_size=8) | st.builds(
    lambda tail, length: (BUCKET.encode() + tail).ljust(length, b"x"),
    st.binary(max_size=8),
    LENGTHS,
)
PAIRS = st.lists(st.tuples(KEYS, st.binary(max_size=20)), max_size=6)
LONG = (b"item/a".ljust(0x10000, b"x"), b"1")


def taken_in(answer: bytes) -> None:
    """Take a page in as a joining node does."""
    page = decode_page(answer)
    BucketIntake(BUCKET, bytes(32), WaitingRows()).add(page.pairs)


@given(
    st.dictionaries(st.binary(max_size=KEY_BYTES_MAX), st.binary(max_size=50), min_size=1),
    st.sampled_from([b"last", b"more"]),
)
def test_pages_survive_the_wire(pairs: dict[bytes, bytes], ending: bytes) -> None:
    page = Page(tuple(sorted(pairs.items())), is_last=ending == b"last")
    assert decode_page(encode_page(page)) == page


@given(PAIRS | PAIRS.map(lambda pairs: sorted(dict(pairs).items())))
@example([LONG])
def test_only_our_errors_escape_from_made_up_pairs(pairs: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(PyrsiaError):
        taken_in(encode_page(Page(tuple(pairs), is_last=True)))
    # Nor from the intake alone, whoever hands it its pairs.
    with contextlib.suppress(PyrsiaError):
        BucketIntake(BUCKET, bytes(32), WaitingRows()).add(pairs)


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=20)).map(join_prefixed))
def test_only_our_errors_escape_from_any_bytes(answer: bytes) -> None:
    for each in (answer, b"\x00" + answer, b"\x01" + answer):
        with contextlib.suppress(PyrsiaError):
            taken_in(each)


@pytest.mark.parametrize("length", [KEY_BYTES_MAX + 1, 0x10000])
def test_page_with_a_key_that_is_too_long_is_refused(length: int) -> None:
    answer = encode_page(Page(((b"item/a".ljust(length, b"x"), b"1"),), is_last=True))
    with pytest.raises(InvalidInputError, match=f"a key of {length} bytes exceeds 512"):
        decode_page(answer)
