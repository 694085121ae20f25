"""What proves a split view, and what does not."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Header
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import SignatureLine
from pyrsia_node.tlog.split_view import SplitViewProof
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import SmallLog, cosigned

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
TRUST = Trust.establish(TrustFile(GENESIS.encode()))
LABELS = [one.member.record.label for one in FOUR]


def header(height: int, index: int, time_ms: int) -> bytes:
    digest = Sha256("ab" * 32)
    return Header(
        network=Sha256(GENESIS.network_id.hex()),
        height=height,
        parent=digest,
        prev_size=index,
        prev_root=digest,
        view=0,
        proposer=FOUR[0].id,
        time_ms=time_ms,
        n_leaves=1,
        body_root=digest,
        state_root=digest,
        set=digest,
        next_set=digest,
        prev_epoch_height=0,
        parent_cert=digest,
    ).encode()


def log_of(time_ms: int, blocks: int) -> SmallLog:
    leaves = [b"genesis", b"set"]
    for height in range(1, blocks + 1):
        leaves += [header(height, len(leaves), time_ms + height), b"leaf"]
    return SmallLog(GENESIS.origin, leaves)


OURS, THEIRS = log_of(1_000, 3), log_of(2_000, 4)


def proof_of(first: SmallLog, second: SmallLog, *, at: tuple[int, int] = (4, 4)) -> SplitViewProof:
    heads = first.signed(FOUR[:3]), second.signed(FOUR[1:])
    return SplitViewProof(heads, (first.proof(at[0], heads[0]), second.proof(at[1], heads[1])))


def test_two_roots_of_one_size_name_who_signed_both() -> None:
    heads = OURS.signed(FOUR[:3], 4), THEIRS.signed(FOUR[2:], 4)
    assert SplitViewProof(heads).judge(TRUST) == (LABELS[2],)


def test_two_groups_without_a_common_member_contradict_each_other_all_the_same() -> None:
    heads = OURS.signed(FOUR[:2], 4), THEIRS.signed(FOUR[2:], 4)
    assert SplitViewProof(heads).judge(TRUST) == ()


def test_two_headers_of_one_height_prove_it_for_heads_of_any_size() -> None:
    assert proof_of(OURS, THEIRS).judge(TRUST) == tuple(sorted(LABELS[1:3]))


def test_a_longer_head_of_the_same_history_is_no_split_view() -> None:
    longer = log_of(1_000, 4)
    with pytest.raises(VerificationError, match="the same block of height 2"):
        proof_of(OURS, longer).judge(TRUST)
    with pytest.raises(VerificationError, match="the same root"):
        SplitViewProof((OURS.signed(FOUR, 4), longer.signed(FOUR, 4))).judge(TRUST)


def test_headers_of_two_heights_contradict_nothing() -> None:
    with pytest.raises(VerificationError, match="heights 2 and 3 contradict nothing"):
        proof_of(OURS, THEIRS, at=(4, 6)).judge(TRUST)


def test_heads_of_two_sizes_need_their_headers() -> None:
    whole = proof_of(OURS, THEIRS)
    with pytest.raises(VerificationError, match="no header under each"):
        SplitViewProof(whole.heads).judge(TRUST)
    assert whole.headers is not None
    swapped = SplitViewProof(whole.heads, (whole.headers[1], whole.headers[0]))
    with pytest.raises(VerificationError, match="not proved under the head"):
        swapped.judge(TRUST)


def test_a_header_that_lies_about_its_place_proves_nothing() -> None:
    moved = [*THEIRS.leaves]
    moved[4] = header(2, 40, 9_000)
    with pytest.raises(VerificationError, match="stands at 4, says 40"):
        proof_of(OURS, SmallLog(GENESIS.origin, moved)).judge(TRUST)


def test_a_header_that_the_head_does_not_have_proves_nothing() -> None:
    whole = proof_of(OURS, THEIRS)
    assert whole.headers is not None
    forged = replace(whole.headers[1], extra=header(2, 4, 9_000))
    with pytest.raises(VerificationError):
        SplitViewProof(whole.heads, (whole.headers[0], forged)).judge(TRUST)


def test_nobody_but_members_can_be_made_guilty() -> None:
    stranger = identities(9)[8]
    heads = OURS.signed(FOUR, 4), THEIRS.signed([stranger], 4)
    with pytest.raises(VerificationError):
        SplitViewProof(heads).judge(TRUST)
    head = THEIRS.head(4)
    line = cosigned(head, FOUR[0])
    bad = replace(line, payload=line.payload[:-1] + bytes([line.payload[-1] ^ 1]))
    with pytest.raises(VerificationError):
        SplitViewProof((heads[0], SignedCheckpoint(head, (bad,)))).judge(TRUST)


def test_lines_under_a_members_name_that_it_did_not_sign_are_left_out() -> None:
    """Notes may hold lines of unknown keys, so anybody can write an honest name into one."""
    heads = OURS.signed(FOUR[:3], 4), THEIRS.signed(FOUR[2:3], 4)
    framed = SignatureLine(LABELS[1], b"\0\1\2\3", bytes(72))
    with_line = SignedCheckpoint(heads[1].checkpoint, (framed, *heads[1].signatures))
    proof = SplitViewProof((heads[0], with_line))
    assert proof.judge(TRUST) == (LABELS[2],)
    assert proof.of_members(TRUST) == SplitViewProof(heads)


def test_the_headers_prove_the_same_without_such_lines_and_from_the_other_side() -> None:
    proof = proof_of(OURS, THEIRS)
    assert proof.of_members(TRUST) == proof
    other = proof.reversed()
    assert other.judge(TRUST) == proof.judge(TRUST)
    assert other.heads == (proof.heads[1], proof.heads[0])
    assert other.reversed() == proof


def test_a_head_of_another_log_is_refused() -> None:
    head = Checkpoint("other-00000000/log", 4, bytes(32))
    other = SignedCheckpoint(head, (cosigned(head, FOUR[0]),))
    with pytest.raises(VerificationError, match="other-00000000/log"):
        SplitViewProof((OURS.signed(FOUR, 4), other)).judge(TRUST)


def test_a_proof_is_read_back_as_it_was_written() -> None:
    for proof in (
        proof_of(OURS, THEIRS),
        SplitViewProof((OURS.signed(FOUR, 4), THEIRS.signed(FOUR, 4))),
    ):
        again = SplitViewProof.decode(proof.encode())
        assert again == proof
        assert again.encode() == proof.encode()


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_damaged_bytes_raise_only_our_errors(at: int, byte: int) -> None:
    data = bytearray(ENCODED)
    data[at % len(data)] = byte
    with contextlib.suppress(InvalidInputError, VerificationError):
        SplitViewProof.decode(bytes(data)).judge(TRUST)


ENCODED = proof_of(OURS, THEIRS).encode()


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_our_error(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        SplitViewProof.decode(data)
