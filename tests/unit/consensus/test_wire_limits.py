"""Every limit of the wire, one step within and one beyond."""

from __future__ import annotations

import pytest

from consensus import wire
from consensus.errors import DecodeError
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    Status,
    View,
    Vote,
)
from tests.unit.consensus.committee import (
    F,
    N,
    X,
    certificate_of,
    member_set,
    names,
    proposal_of,
)

SET = member_set(names(4))


def padded(size: int) -> bytes:
    """A block of exactly ``size`` bytes."""
    parts = [b"h", b""]
    left = size - sum(4 + len(part) for part in parts)
    while left:
        piece = min(left - 4, wire.LEAF_BYTES_MAX)
        if 0 < left - 4 - piece <= 4:
            piece -= 8
        parts.append(bytes(piece))
        left -= 4 + piece
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def test_block_of_one_mebibyte_is_the_largest() -> None:
    largest = padded(wire.BLOCK_BYTES_MAX)
    assert len(largest) == wire.BLOCK_BYTES_MAX
    wire.split_block(largest)
    with pytest.raises(DecodeError, match="1048577 bytes"):
        wire.split_block(padded(wire.BLOCK_BYTES_MAX + 1))


def test_block_has_at_most_5000_transactions() -> None:
    wire.encode_block(b"h", b"", [b"t"] * wire.TRANSACTIONS_MAX)
    with pytest.raises(ValueError, match="more than 5000"):
        wire.encode_block(b"h", b"", [b"t"] * (wire.TRANSACTIONS_MAX + 1))


def test_transaction_and_header_are_leaves_of_at_most_48000_bytes() -> None:
    leaf = bytes(wire.LEAF_BYTES_MAX)
    wire.encode_block(leaf, b"", [leaf])
    for parts in ((leaf + b"x", b"", [b"t"]), (b"h", b"", [leaf + b"x"])):
        with pytest.raises(ValueError, match="48001 bytes"):
            wire.encode_block(*parts)


@pytest.mark.parametrize("parts", [(b"", b"", [b"t"]), (b"h", b"", [b""])])
def test_block_has_no_empty_header_or_transaction(parts: tuple[bytes, bytes, list[bytes]]) -> None:
    with pytest.raises(ValueError, match="empty"):
        wire.encode_block(*parts)


def test_proposal_carries_at_most_64_nullifications() -> None:
    block = wire.encode_block(b"h", b"", [b"t"])
    nulls = tuple(certificate_of(SET, X, view=view) for view in range(65))
    most = proposal_of("m001", SET, block, view=65, nullifications=nulls[:64])
    assert wire.decode_proposal(wire.encode_proposal(most, n=4), n=4) == most
    more = proposal_of("m001", SET, block, view=65, nullifications=nulls)
    with pytest.raises(DecodeError, match="65 items"):
        wire.decode_proposal(wire.encode_proposal(more, n=4), n=4)


def test_largest_proposal_of_the_largest_set_fits_a_frame() -> None:
    n = wire.MEMBERS_MAX
    certificates = (512 * 1024 // wire.certificate_bytes_max(n) + 1) * wire.certificate_bytes_max(n)
    assert wire.BLOCK_BYTES_MAX + certificates + 1024 <= wire.FRAME_BYTES_MAX


def test_status_names_at_most_64_ranges_and_bodies() -> None:
    ranges = tuple((View(2 * one), View(2 * one)) for one in range(64))
    status = Status(Height(1), View(200), ranges, ())
    assert wire.decode_status(wire.encode_status(status)) == status
    data = bytearray(wire.encode_status(status))
    data[13] = 65
    with pytest.raises(DecodeError, match="65 items"):
        wire.decode_status(bytes(data))


@pytest.mark.parametrize(
    "ranges", [((3, 2),), ((0, 1), (1, 4)), ((0, 1), (2, 4)), ((5, 6), (0, 1))]
)
def test_status_ranges_ascend_with_gaps(ranges: tuple[tuple[int, int], ...]) -> None:
    status = Status(Height(1), View(9), tuple((View(a), View(b)) for a, b in ranges), ())
    with pytest.raises(DecodeError, match="out of order"):
        wire.decode_status(wire.encode_status(status))


def test_height_beyond_what_a_header_can_write_is_refused() -> None:
    status = Status(Height(wire.HEIGHT_MAX + 1), View(0), (), ())
    with pytest.raises(DecodeError, match="beyond"):
        wire.decode_status(wire.encode_status(status))


BLOCK = wire.encode_block(b"h", b"", [b"t"])
NAME = wire.block_hash(BLOCK)
OTHER = Digest(b"o" * 32)


@pytest.mark.parametrize(
    ("notarization", "nullifications", "reason"),
    [
        (None, (certificate_of(SET, X, view=1), certificate_of(SET, X, view=0)), "out of order"),
        (None, (certificate_of(SET, X, view=1), certificate_of(SET, X, view=1)), "out of order"),
        (None, (certificate_of(SET, N, view=0, block_hash=NAME),), "among its nullifications"),
        (None, (certificate_of(SET, X, view=0, height=2),), "another height"),
        (None, (certificate_of(SET, X, view=3),), "not before its own"),
        (certificate_of(SET, N, view=3, block_hash=NAME), (), "not before its own"),
        (certificate_of(SET, N, view=0, block_hash=NAME, height=2), (), "another height"),
        (certificate_of(SET, F, view=0, block_hash=NAME), (), "justified by a FINALIZE"),
        (certificate_of(SET, N, view=0, block_hash=OTHER), (), "names another block"),
    ],
)
def test_certificates_that_cannot_justify_a_proposal_are_refused(
    notarization: Certificate | None, nullifications: tuple[Certificate, ...], reason: str
) -> None:
    proposal = proposal_of(
        "m001", SET, BLOCK, view=3, notarization=notarization, nullifications=nullifications
    )
    with pytest.raises(DecodeError, match=reason):
        wire.decode_proposal(wire.encode_proposal(proposal, n=4), n=4)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (certificate_of(SET, N, view=0, block_hash=NAME), "with a NOTARIZE"),
        (certificate_of(SET, F, view=0, block_hash=OTHER), "another block"),
    ],
)
def test_decision_needs_the_finalization_of_its_block(
    certificate: Certificate, reason: str
) -> None:
    data = wire.encode_decision(Decision(BLOCK, certificate), n=4)
    with pytest.raises(DecodeError, match=reason):
        wire.decode_decision(data, n=4)


def test_nullification_names_no_block_and_the_others_name_one() -> None:
    for kind, name in ((X, OTHER), (N, ZERO_DIGEST), (F, ZERO_DIGEST)):
        vote = Vote(kind, Height(1), View(0), name, 0, bytes(64))
        with pytest.raises(DecodeError, match=f"{kind.name} of block"):
            wire.decode_vote(wire.encode_vote(vote))


def test_heights_in_a_log_are_read_without_knowing_the_set() -> None:
    certificate = certificate_of(SET, X, view=1, height=77)
    assert wire.certificate_height(wire.encode_certificate(certificate, n=4)) == 77
    proposal = proposal_of("m001", SET, BLOCK, view=3, height=78)
    assert wire.proposal_height(wire.encode_proposal(proposal, n=4)) == 78
