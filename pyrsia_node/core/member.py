"""The authority's part of a core: write-ahead log, replica, pending transactions, member frames.

It also runs on a node that waits to be admitted, and on one that was removed: there the replica
only watches, no member link is open, and nothing is ordered. When a block changes the set,
``set_changed`` brings links and duties in line; the replica itself follows with the block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from consensus.ingress import Ingress
from consensus.types import Digest, NodeId
from pyrsia_node.core.justice import Justice
from pyrsia_node.core.member_inbox import MemberInbox
from pyrsia_node.core.member_links import LINGER_S, MemberLinks
from pyrsia_node.core.opened import Opened
from pyrsia_node.core.rotation import missing_keys
from pyrsia_node.core.voting import recover_voter
from pyrsia_node.ledger.chain import Committed
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import CorruptStateError, PyrsiaError
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.budget import SeldomLog
from pyrsia_node.replica.catchup_wire import join_prefixed, split_prefixed
from pyrsia_node.replica.driver import MemberDriver, Surroundings
from pyrsia_node.replica.frames import CONSENSUS_KINDS, FrameKind, frame_kind, pack_frame
from pyrsia_node.replica.pending import PendingTransactions
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog

_LOG = logging.getLogger("pyrsia.core.member")

PULL_INTERVAL_S: Final = 2.0
DUE_INTERVAL_S: Final = 0.5
PENDING_BYTES_MAX: Final = 1024 * 1024 + 65_536
PENDING_IDS_MAX: Final = 5000


class MemberPart:
    """Votes, orders and repeats transactions while this node is a member; watches otherwise.

    ``committed`` is called for every block that this part commits. ``inbox`` takes what members
    send beside consensus.
    """

    def __init__(
        self, opened: Opened, justice: Justice, committed: Callable[[Committed], None]
    ) -> None:
        """Recover the replica from the write-ahead log; nothing is sent before ``run``."""
        self._opened = opened
        self._mempool = Mempool()
        wal = WriteAheadLog(opened.layout.wal, StoreAnchor(opened.store))
        self.pending = PendingTransactions(
            store=opened.store,
            chain=opened.chain,
            mempool=self._mempool,
            clock=opened.clock,
            push=self._push,
        )
        self._links = MemberLinks(opened.network.set_members)
        self.voter = recover_voter(opened, wal, justice.transcripts)
        self.replica = self.voter.replica
        self._refusals = SeldomLog(_log_refusal)
        self.inbox = MemberInbox(self.pending, n=len(self.replica.members.members))
        ingress = Ingress(opened.chain_id, justice.checks, on_refusal=self._refused)
        ingress.enter(self.replica.height, self.replica.members)
        around = Surroundings(
            chain=opened.chain,
            mempool=self._mempool,
            pending=self.pending,
            wal=wal,
            links=opened.network,
            requests=opened.network,
            checks=justice.checks,
            gate=self.voter.gate,
            forks=justice.forks,
            evidence=justice.evidence,
            transcripts=justice.transcripts,
            clock=opened.clock,
            peer_of=opened.peer_of,
            committed=committed,
        )
        self.driver = MemberDriver(
            me=opened.me, replica=self.replica, ingress=ingress, around=around
        )
        self.pending.work = self.driver.work_arrived
        justice.halted = self.replica.halt

    async def run(self) -> None:
        """Vote until cancelled."""
        self.set_changed()
        self._opened.network.serve("recall", self._recall, request_bytes_max=8)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_frames)
            nursery.start_soon(self._let_go)
            nursery.start_soon(self._pull_pending)
            nursery.start_soon(self._watch_deadlines)
            nursery.start_soon(self.voter.gate.run)
            await self.driver.run(self.voter.first_effects)

    def set_changed(self) -> None:
        """Keep links with the members of the next height, if this node is one of them."""
        if words := missing_keys(self._opened):
            _LOG.error("SILENT in consensus: %s", words)
        peers = self._opened.member_peers() if self._opened.is_member else {}
        self._links.changed(peers, now=trio.current_time())
        self.inbox.resize(len(self._opened.chain.tip.members.members))

    async def _let_go(self) -> None:
        """End the links of those who left."""
        while True:
            await trio.sleep(LINGER_S / 2)
            self._links.let_go(now=trio.current_time())

    def broadcast(self, frame: bytes) -> None:
        """Queue a frame for every other member."""
        for peer in self._links.peers:
            if peer != self._opened.network.peer_id:
                self._opened.network.send(peer, frame)

    async def _recall(self, peer: PeerId, question: bytes) -> bytes:
        return self.voter.recall(peer, question)

    def find_body(self, block_hash: Digest) -> bytes | None:
        """Return a certified body of the working height, for a member that lacks it."""
        return self.replica.body(block_hash)

    def _push(self, transaction: bytes) -> None:
        self.broadcast(pack_frame(FrameKind.TRANSACTION, transaction))

    async def _read_frames(self) -> None:
        async for peer, frame in self._opened.network.frames():
            member = self._links.peers.get(peer)
            if member is None:
                continue
            try:
                await self._take(member, frame)
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                self._refused(member, str(error))

    async def _take(self, member: NodeId, frame: bytes) -> None:
        kind = frame_kind(frame)
        if kind in CONSENSUS_KINDS:
            await self.driver.frame_arrived(member, frame)
            return
        self.inbox.take(member, kind, frame[1:], trio.current_time())

    def _refused(self, member: NodeId, why: str) -> None:
        self._refusals.line(member, why, trio.current_time())

    async def _pull_pending(self) -> None:
        """Ask members in turn for transactions that never reached us; repeat our own."""
        turn = 0
        while True:
            await trio.sleep(PULL_INTERVAL_S)
            self.pending.review()
            self.pending.repeat()
            connected = [
                peer for peer in self._opened.network.connected() if peer in self._links.peers
            ]
            if not connected:
                continue
            turn += 1
            peer = connected[turn % len(connected)]
            known = join_prefixed([each.encode() for each in self.pending.known(PENDING_IDS_MAX)])
            try:
                answer = await self._opened.network.ask(
                    peer,
                    "pending",
                    known,
                    timeout_s=5.0,
                    answer_bytes_max=PENDING_BYTES_MAX,
                )
                member = self._links.peers.get(peer)
                if member is not None:
                    transactions = split_prefixed(answer, items_max=PENDING_IDS_MAX)
                    await self.inbox.take_pulled(member, transactions)
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                _LOG.debug("pending transactions: %s", error)

    async def _watch_deadlines(self) -> None:
        """Wake the driver when an outcome falls due: no transaction announces a deadline."""
        while True:
            await trio.sleep(DUE_INTERVAL_S)
            due = self._opened.chain.due_ms()
            if due is not None and due <= self._opened.clock.now_ms():
                self.driver.work_arrived()


def _log_refusal(member: NodeId, why: str, left_out: int) -> None:
    _LOG.warning(
        "member %s sent a frame that does not hold: %s (%d more not shown)", member, why, left_out
    )
