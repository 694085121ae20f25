"""The log's codec: damage costs the tail or is called amnesia, and never yields a wrong record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.effects import Record, RecordKind
from consensus.wal import PAGE_BYTES, ScanState, encode_batch, scan

records = st.lists(
    st.builds(
        Record,
        st.sampled_from(RecordKind),
        st.one_of(
            st.binary(max_size=200),
            # Payloads of several pages, made of a seed so that examples stay small.
            st.builds(
                lambda seed, size: (seed * size)[:size],
                st.binary(min_size=1),
                st.integers(1, 12_000),
            ),
        ),
    ),
    max_size=4,
)
logs = st.lists(records, min_size=1, max_size=5)
FIRST = 7


def file_of(batches: list[list[Record]], *, spare_pages: int = 3) -> bytes:
    encoded = [encode_batch(FIRST + index, batch) for index, batch in enumerate(batches)]
    return b"".join(encoded) + bytes(PAGE_BYTES * spare_pages)


def is_prefix(found: tuple[Record, ...], batches: list[list[Record]]) -> bool:
    """Whether ``found`` is the records of the first so many batches."""
    sums = [
        [record for batch in batches[:count] for record in batch]
        for count in range(len(batches) + 1)
    ]
    return list(found) in sums


@given(logs)
def test_whole_log_reads_back_clean(batches: list[list[Record]]) -> None:
    content = file_of(batches)
    found = scan(content, FIRST)
    assert list(found.records) == [record for batch in batches for record in batch]
    assert found.next_number == FIRST + len(batches)
    assert found.end_offset == len(content) - 3 * PAGE_BYTES
    assert found.state is ScanState.CLEAN


@given(logs, st.integers(0, 10**6))
def test_file_cut_short_yields_a_prefix(batches: list[list[Record]], at: int) -> None:
    content = file_of(batches)
    cut = at % len(content)
    found = scan(content[:cut], FIRST)
    assert is_prefix(found.records, batches)
    if cut % PAGE_BYTES:
        assert found.state is ScanState.AMNESIA


@given(logs, st.sets(st.integers(0, 40)))
def test_pages_lost_from_the_last_batch_are_a_torn_tail(
    batches: list[list[Record]], lost: set[int]
) -> None:
    whole = file_of(batches[:-1], spare_pages=0)
    last = bytearray(encode_batch(FIRST + len(batches) - 1, batches[-1]))
    pages = {page for page in lost if page * PAGE_BYTES < len(last)}
    for page in pages:
        last[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    found = scan(whole + last + bytes(PAGE_BYTES), FIRST)
    before = [record for batch in batches[:-1] for record in batch]
    if not pages:
        assert list(found.records) == before + batches[-1]
    else:
        assert list(found.records) == before
        is_gone = not any(last)
        assert found.state is (ScanState.CLEAN if is_gone else ScanState.TORN)
        assert found.next_number == FIRST + len(batches) - 1


@given(logs.filter(lambda one: len(one) > 1), st.data())
def test_damage_before_the_last_batch_is_amnesia(
    batches: list[list[Record]], data: st.DataObject
) -> None:
    content = bytearray(file_of(batches))
    last = len(file_of(batches[:-1], spare_pages=0))
    page = data.draw(st.integers(0, last // PAGE_BYTES - 1))
    content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    found = scan(bytes(content), FIRST)
    assert found.state is ScanState.AMNESIA
    assert is_prefix(found.records, batches)


@given(logs, st.integers(0, 10**6), st.integers(1, 255))
def test_flipped_byte_never_changes_a_record(
    batches: list[list[Record]], at: int, flip: int
) -> None:
    content = bytearray(file_of(batches))
    content[at % len(content)] ^= flip
    assert is_prefix(scan(bytes(content), FIRST).records, batches)


@given(st.binary(max_size=3 * PAGE_BYTES))
def test_arbitrary_content_has_no_records(content: bytes) -> None:
    assert scan(content, FIRST).records == ()


@given(records, st.integers(0, PAGE_BYTES))
def test_payload_that_holds_pages_of_a_later_batch_is_no_batch(
    inner: list[Record], shift: int
) -> None:
    """A hostile transaction may hold a whole forged log; torn, it must still be only torn."""
    forged = bytes(shift) + encode_batch(2**40, inner) * 2
    batch = bytearray(encode_batch(FIRST, [Record(RecordKind.BODY, forged)]))
    batch[:PAGE_BYTES] = bytes(PAGE_BYTES)
    found = scan(bytes(batch) + bytes(PAGE_BYTES), FIRST)
    assert found.state in (ScanState.TORN, ScanState.CLEAN)
