"""A member that sends dear or useless transactions spends its own share, and nobody else's."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.types import NodeId
from pyrsia_node.core import member_inbox
from pyrsia_node.core.member_inbox import MemberInbox
from pyrsia_node.ledger import mempool
from pyrsia_node.ledger.machine.evidence import evidence_of
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.replica.budget import MEMBER_SHARE_MAX, SHARE_BURST_S
from pyrsia_node.replica.frames import FrameKind
from pyrsia_node.replica.pending import PendingTransactions
from tests.fakes.build_site import ChainClock
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies.crimes import crime

FRAME_S = 0.001
"""What the thread's clock says that each frame took."""


class Inbox:
    """Member 0's inbox; every frame that is looked at takes a millisecond."""

    def __init__(self) -> None:
        self.local = LocalChain(4)
        self.traitor, self.honest = (self.local.members[index].id for index in (3, 1))
        self.readings = 0
        self.cosignatures: list[bytes] = []
        self.mempool = Mempool()
        pending = PendingTransactions(
            store=self.local.store,
            chain=self.local.chain,
            mempool=self.mempool,
            clock=ChainClock(self.local),
            push=lambda _transaction: None,
        )
        self.inbox = MemberInbox(pending, n=4, clock=self._clock)
        self.inbox.on_cosignature = self.cosignatures.append

    def _clock(self) -> float:
        self.readings += 1
        return self.readings * FRAME_S

    @property
    def looked_at(self) -> int:
        return self.readings // 2

    def send(self, sender: NodeId, transaction: bytes, now_s: float = 0.0) -> None:
        self.inbox.take(sender, FrameKind.TRANSACTION, transaction, now_s)

    def request(self, author: NodeId, number: int) -> bytes:
        return self.local.sign(make.request(author, nonce=number)).encoded

    def made_up_evidence(self, number: int) -> bytes:
        """Return a well-signed report of a crime that its statements do not prove."""
        proof = crime(
            self.local.members[1],
            "two_notarizations",
            network_id=self.local.network_id,
            voters=self.local.genesis.set_leaf(),
            view=number,
        )
        body = evidence_of(proof, by=self.traitor)
        forged = dataclasses.replace(body.first, signature=bytes(64))
        return self.local.sign(dataclasses.replace(body, first=forged)).encoded


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_flood_of_made_up_evidence_ends_with_its_senders_share(inbox: Inbox) -> None:
    flood = [inbox.made_up_evidence(number) for number in range(20)]
    share = round(MEMBER_SHARE_MAX * SHARE_BURST_S / FRAME_S)
    for number in range(share + 100):
        inbox.send(inbox.traitor, flood[number % 20])
    assert share <= inbox.looked_at <= share + 1
    assert inbox.inbox.dropped >= 99
    assert inbox.mempool.ids() == []
    # A second later a quarter of that second has come back.
    before = inbox.looked_at
    for number in range(share):
        inbox.send(inbox.traitor, flood[number % 20], now_s=1.0)
    assert inbox.looked_at - before <= MEMBER_SHARE_MAX / FRAME_S + 1


def test_nobody_pays_for_another_members_flood(inbox: Inbox) -> None:
    for _ in range(1_000):
        inbox.inbox.take(inbox.traitor, FrameKind.COSIGNATURE, b"noise", 0.0)
    assert inbox.inbox.dropped > 0
    request = inbox.local.sign(make.request(inbox.honest))
    inbox.send(inbox.honest, request.encoded)
    assert inbox.mempool.ids() == [request.id]


async def test_author_whose_lane_is_full_hides_nobody_behind_it_in_one_answer(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mempool, "AUTHOR_COUNT_MAX", 2)
    crowd = [inbox.request(inbox.traitor, number) for number in range(4)]
    honest = inbox.request(inbox.honest, 4)
    await inbox.inbox.take_pulled(inbox.honest, [*crowd, honest])
    assert [inbox.mempool.get(each) for each in inbox.mempool.ids()] == [*crowd[:2], honest]


async def test_answer_full_of_what_there_is_no_room_for_is_soon_left(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mempool, "AUTHOR_COUNT_MAX", 1)
    crowd = [inbox.request(inbox.traitor, number) for number in range(member_inbox.NO_ROOM_MAX + 9)]
    await inbox.inbox.take_pulled(inbox.honest, crowd)
    assert inbox.looked_at == member_inbox.NO_ROOM_MAX + 1


def test_cosignature_that_does_not_hold_is_charged_and_told(inbox: Inbox) -> None:
    def refuse(_payload: bytes) -> None:
        raise VerificationError("does not hold")

    inbox.inbox.on_cosignature = refuse
    with pytest.raises(VerificationError):
        inbox.inbox.take(inbox.traitor, FrameKind.COSIGNATURE, b"noise", 0.0)
    assert inbox.looked_at == 1
