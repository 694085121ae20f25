"""No derived leaf can exceed the limit, however large the legal inputs are.

A block that had to contain an illegal leaf would stop the log for ever.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from consensus.quorum import faults
from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Document
from pyrsia_node.model.items import MOVED
from pyrsia_node.model.leaves import (
    Accepted,
    Attestor,
    Cause,
    Difference,
    Diverged,
    Expired,
    Failed,
    Header,
    LateDivergence,
    Level,
    Outcome,
    ResultClass,
    Unsealed,
    encode_outcome,
)
from pyrsia_node.model.limits import (
    CAUSE_LENGTH_MAX,
    DOC_BYTES_MAX,
    LABEL_LENGTH_MAX,
    LEAF_BYTES_MAX,
    MEMBER_ID_LENGTH_MAX,
    MEMBERS_MAX,
)
from pyrsia_node.model.members import KEY_NAMES, MemberKeys, MemberRecord, SetLeaf
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl
from pyrsia_node.model.transactions import FAILURES
from tests.fakes.block_runner import BlockRunner
from tests.strategies import build_bodies as make
from tests.strategies.identities import identities

LARGEST = canonical.INTEGER_MAX
DIGEST = sha256_of(b"")
IDS = [NodeId(f"{number:0{MEMBER_ID_LENGTH_MAX}d}") for number in range(MEMBERS_MAX)]
LONGEST_PURL = Purl.parse("pkg:other/" + "a" * (PURL_LENGTH_MAX - 14) + "/b@1")
LONGEST_OUTCOME = max(FAILURES, key=len)


def largest_document() -> Document:
    """Return a document of exactly the largest size, in characters that JSON escapes."""
    document = make.document()
    for text in ("\x01", "x"):  # six bytes a character first, then single ones
        room = DOC_BYTES_MAX - len(document.encode())
        width = 6 if text == "\x01" else 1
        per_text = 7_998 // width
        metadata = document.metadata
        chunks = []
        while room > 3 + width:
            length = min(per_text, (room - 3) // width)
            chunks.append(text * length)
            room -= 3 + width * length
        document = dataclasses.replace(
            document,
            metadata=dataclasses.replace(metadata, keywords=(*metadata.keywords, *chunks)),
        )
    missing = DOC_BYTES_MAX - len(document.encode())
    summary = document.metadata.summary + "y" * missing
    return dataclasses.replace(
        document, metadata=dataclasses.replace(document.metadata, summary=summary)
    )


def accepted(attestors: int) -> Accepted:
    """Return ACCEPTED of a full set: some agree, all others differ."""
    return Accepted(
        request=DIGEST,
        document=largest_document(),
        k=MEMBERS_MAX,
        level=2,
        attestors=tuple(Attestor(each, LARGEST, 2) for each in IDS[:attestors]),
        differ=tuple(Difference(each, DIGEST) for each in IDS[attestors:]),
    )


LARGEST_OUTCOMES: list[Outcome] = [
    *(accepted(k) for k in (faults(MEMBERS_MAX) + 1, MEMBERS_MAX)),
    Diverged(
        DIGEST, LONGEST_PURL, tuple(ResultClass((DIGEST,) * 3, (each,), DIGEST) for each in IDS)
    ),
    Failed(
        DIGEST,
        LONGEST_PURL,
        tuple(Cause(each, LONGEST_OUTCOME, "c" * CAUSE_LENGTH_MAX) for each in IDS),
    ),
    Failed(
        DIGEST,
        LONGEST_PURL,
        tuple(
            Cause(each, MOVED, "c" * CAUSE_LENGTH_MAX, f"sha512:{'0' * 128}", LARGEST)
            for each in IDS
        ),
    ),
    Expired(DIGEST, LONGEST_PURL, tuple(IDS)),
    Unsealed(DIGEST, tuple(IDS)),
    Level(DIGEST, 2),
    LateDivergence(DIGEST, IDS[0], DIGEST),
]


@pytest.mark.parametrize("outcome", LARGEST_OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_no_derived_leaf_can_exceed_the_limit(outcome: Outcome) -> None:
    assert len(encode_outcome(outcome)) <= LEAF_BYTES_MAX


def test_set_leaf_of_the_largest_set_fits_with_the_longest_labels() -> None:
    """Every member record has the same length but for its label: these are the longest."""
    keys = [bytes([n % 256, n // 256]) * 16 for n in range(5 * MEMBERS_MAX)]
    members = tuple(
        MemberRecord(
            each, f"{n:0{LABEL_LENGTH_MAX}d}", MemberKeys(*keys[5 * n : 5 * n + len(KEY_NAMES)])
        )
        for n, each in enumerate(IDS)
    )
    leaf = SetLeaf(LARGEST, DIGEST, members).encode()
    assert len(leaf) <= LEAF_BYTES_MAX


def test_largest_document_of_this_test_is_really_the_largest() -> None:
    document = largest_document()
    assert len(document.encode()) == DOC_BYTES_MAX
    assert Document.from_json(document.to_json()) == document


def test_header_is_far_below_the_limit() -> None:
    header = Header(
        DIGEST, LARGEST, DIGEST, LARGEST, DIGEST, 2**32 - 1, IDS[0], LARGEST, LARGEST, DIGEST,
        DIGEST, DIGEST, DIGEST, LARGEST, DIGEST,
    )  # fmt: skip
    assert len(header.encode()) < 2_000


def test_machine_accepts_the_largest_document() -> None:
    runner = BlockRunner(7)
    document = largest_document()
    req = runner.open(make.request(runner.members[0]))
    # Two differ, five agree at the highest level.
    batches = [
        make.batch(
            voter,
            1,
            make.built(req, document, level=2)
            if number > 1
            else make.built(req, make.document(".x"), own=f"{number}"),
        )
        for number, voter in enumerate(runner.members)
    ]
    execution = runner.run(*batches, make.result(runner.members[6], req, document))
    [leaf] = execution.leaves
    assert DOC_BYTES_MAX < len(leaf) <= LEAF_BYTES_MAX


def test_ids_of_real_members_are_no_longer_than_the_limit() -> None:
    lengths = {len(one.id) for one in identities(7)}
    assert lengths == {MEMBER_ID_LENGTH_MAX}
    assert all(a < b for a, b in itertools.pairwise(IDS))
