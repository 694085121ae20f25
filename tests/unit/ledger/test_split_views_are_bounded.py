"""How many split views are kept, whoever makes them up."""

from __future__ import annotations

import pytest

from pyrsia_node.ledger.split_views import SPLIT_VIEWS_MAX, SplitViews
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.split_view import SplitViewProof
from tests.strategies.identities import Identity, identities
from tests.strategies.small_logs import cosigned

FOUR = identities(4)
ORIGIN = "net-00000000/log"


def head(size: int, *signers: Identity) -> SignedCheckpoint:
    checkpoint = Checkpoint(ORIGIN, size, bytes([size % 256]) * 32)
    return SignedCheckpoint(checkpoint, tuple(cosigned(checkpoint, one) for one in signers))


OURS = head(5, *FOUR)


def keep(views: SplitViews, theirs: SignedCheckpoint, *, judged: bool) -> None:
    if judged:
        views.complete(SplitViewProof((OURS, theirs)))
    else:
        views.add(theirs, ours=OURS, our_root=None)


@pytest.mark.parametrize("judged", [False, True])
def test_one_traitor_can_neither_fill_the_disk_nor_keep_a_quorum_out(*, judged: bool) -> None:
    views = SplitViews(None)
    for size in range(10, 10 + 2 * SPLIT_VIEWS_MAX):
        keep(views, head(size, FOUR[0]), judged=judged)
    assert len(views.proofs) == len(views.views) == SPLIT_VIEWS_MAX
    keep(views, head(200, *FOUR[:3]), judged=judged)
    assert len(views.proofs) == SPLIT_VIEWS_MAX + 1
    assert {view.label for view in views.views} == {one.member.record.label for one in FOUR[:3]}
    keep(views, head(201, *FOUR[:3]), judged=judged)
    assert len(views.proofs) == SPLIT_VIEWS_MAX + 1


def test_what_is_known_already_is_no_news() -> None:
    views = SplitViews(None)
    for _ in range(3):
        keep(views, head(9, *FOUR[:2]), judged=True)
        keep(views, head(9, FOUR[1]), judged=False)
    assert [view.label for view in views.views] == [one.member.record.label for one in FOUR[:2]]
