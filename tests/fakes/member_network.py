"""Members in one process: real chains, replicas, drivers and write-ahead logs; links in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

import trio

from consensus import ed25519, wire
from consensus.ingress import Ingress
from consensus.recovery import recover
from consensus.signer import Signer
from consensus.timing import Timing
from consensus.types import Digest, NodeId
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis
from pyrsia_node.ports import (
    Clock,
    KeyValueStore,
    MemberLinks,
    PeerId,
    PeerRequests,
    RequestHandler,
)
from pyrsia_node.replica.amnesia import Asking, VotingGate
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.replica.budget import CheckCounter
from pyrsia_node.replica.continuity import read_log
from pyrsia_node.replica.driver import MemberDriver, Surroundings
from pyrsia_node.replica.evidence import EvidenceLocker, EvidenceReporter, Reporting
from pyrsia_node.replica.follow import Follower
from pyrsia_node.replica.forks import ForkWatch, Watched
from pyrsia_node.replica.frames import FrameKind, frame_kind, pack_frame
from pyrsia_node.replica.pending import PendingTransactions
from pyrsia_node.replica.recall import Recall
from pyrsia_node.replica.serving import ChainAnswers
from pyrsia_node.replica.silence import SilenceFile
from pyrsia_node.replica.transcripts import Transcripts
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog
from pyrsia_node.replica.watch import HeightWatch
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.identities import GENESIS_TIME_MS, Identity, genesis_of, identities

FRAMES_MAX = 10_000


class TrioClock(Clock):
    """Wall time that runs with trio's clock, so that a mock clock moves both."""

    def now_ms(self) -> int:
        return GENESIS_TIME_MS + 1_000 + int(trio.current_time() * 1000) % 10**9

    def monotonic_s(self) -> float:
        return trio.current_time()


class MemberNetwork:
    """All members, and who is cut off."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.members = identities(n)
        self.genesis = genesis_of(self.members, replace(DEFAULT_PARAMS, min_authorized=1))
        self.stores: list[KeyValueStore] = [MemoryKeyValueStore() for _ in self.members]
        self.nodes: dict[NodeId, MemberNode] = {}
        self.down: set[NodeId] = set()
        self.recall_takes_s = 0.0
        for index in range(n):
            self.root(index).mkdir()
            self.shared_memory(index).mkdir()
            self.mark(index).renew()  # as whoever makes keys does

    def root(self, index: int) -> Path:
        """Return the directory that stands for a member's data directory."""
        return self.folder / f"root-{index}"

    def shared_memory(self, index: int) -> Path:
        """Return what a member's machine loses each time that it starts."""
        return self.folder / f"memory-{index}"

    def mark(self, index: int) -> BootMark:
        """Return what a member's machine knows of its log."""
        vote_key = self.members[index].member.record.keys.vote
        return BootMark(self.root(index), vote_key, folder=self.shared_memory(index))

    def machines_start(self, *indexes: int) -> None:
        """Forget what machines of members, or all, know: each start of a machine does that."""
        for index in indexes or range(len(self.members)):
            for path in self.shared_memory(index).iterdir():
                path.unlink()

    def node(self, index: int) -> MemberNode:
        """Make a member from what its store and its log hold; an earlier one must have ended."""
        node = MemberNode(self, index)
        self.nodes[node.me] = node
        return node


class MemberNode(MemberLinks, PeerRequests):
    """One member. ``run`` it in a nursery; cancel to kill it."""

    def __init__(self, network: MemberNetwork, index: int) -> None:
        self.network = network
        self.identity: Identity = network.members[index]
        self.me = self.identity.id
        genesis: Genesis = network.genesis
        self.chain = Chain.open(network.stores[index], genesis)
        self.watch = HeightWatch(self.chain.tip.height)
        self.mempool = Mempool()
        self.clock = TrioClock()
        self.refusals: list[tuple[NodeId, str]] = []
        self.sent: list[tuple[NodeId, bytes]] = []
        self._inbox, self._frames = trio.open_memory_channel[tuple[NodeId, bytes]](FRAMES_MAX)
        self.pending = PendingTransactions(
            store=network.stores[index],
            chain=self.chain,
            mempool=self.mempool,
            clock=self.clock,
            push=self._push,
        )
        chain_id = Digest(genesis.network_id)
        self._recover(network.stores[index], chain_id, network.folder / f"wal-{index}")
        self._make_justice(network.stores[index], chain_id)
        self.driver = self._make_driver(chain_id)
        self.pending.work = self.driver.work_arrived
        self.follower = Follower(
            requests=self,
            chain=self.chain,
            apply=self.driver.apply_decision,
        )
        self.driver.on_catchup = self.follower.hint

    def _recover(self, store: KeyValueStore, chain_id: Digest, wal_folder: Path) -> None:
        """Read the write-ahead log; go on from it, or be silent if it is damaged."""
        wal_folder.mkdir(exist_ok=True)
        self.wal = WriteAheadLog(wal_folder, StoreAnchor(store))
        self.mark = self.network.mark(self.network.members.index(self.identity))
        records, self.damage, continuity = read_log(self.wal, self.mark, self.chain)
        vote_key = self.identity.member.record.keys.vote
        signer = Signer(chain_id, self.me, vote_key, self.identity.sign["vote"], first_height=None)
        self.replica, self.first_effects = recover(
            records,
            me=self.me,
            chain_id=chain_id,
            start=self.chain.start(),
            signer=signer,
            timing=Timing(),
            verify=ed25519.verify,
        )
        self.transcripts = Transcripts(store, self.chain)
        self.recall = Recall(chain=self.chain, replica=self.replica, transcripts=self.transcripts)
        self.gate = VotingGate(
            me=self.me,
            vote_key=vote_key,
            signer=signer,
            file=SilenceFile(wal_folder),
            asking=Asking(
                chain=self.chain,
                requests=self,
                peer_of=PeerId,
                labels=lambda: {
                    member.id: member.member.record.label for member in self.network.members
                },
                set_aside=self.wal.set_aside,
                is_vouched_for=continuity.is_vouched_for,
                settled=continuity.begin,
            ),
            damage=self.damage,
        )

    def _make_justice(self, store: KeyValueStore, chain_id: Digest) -> None:
        self.locker = EvidenceLocker(store)
        self.evidence = EvidenceReporter(
            self.locker,
            Reporting(
                me=self.me,
                network_id=self.network.genesis.network_id,
                sign=self.identity.sign["tx"],
                submit=self.pending.submit,
            ),
        )
        self.checks = CheckCounter(ed25519.verify)
        self.forks = ForkWatch(
            Watched(
                store=store,
                chain=self.chain,
                transcripts=self.transcripts,
                evidence=self.evidence,
                requests=self,
                chain_id=chain_id,
                checks=self.checks,
                halted=self.replica.halt,
            )
        )

    def _make_driver(self, chain_id: Digest) -> MemberDriver:
        ingress = Ingress(
            chain_id,
            self.checks,
            on_refusal=lambda sender, why: self.refusals.append((sender, why)),
        )
        ingress.enter(self.replica.height, self.replica.members)
        return MemberDriver(
            me=self.me,
            replica=self.replica,
            ingress=ingress,
            around=Surroundings(
                chain=self.chain,
                mempool=self.mempool,
                pending=self.pending,
                wal=self.wal,
                links=self,
                requests=self,
                checks=self.checks,
                gate=self.gate,
                forks=self.forks,
                evidence=self.evidence,
                transcripts=self.transcripts,
                clock=self.clock,
                peer_of=PeerId,
                committed=self._committed,
            ),
        )

    async def run(self) -> None:
        """Take part until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self.follower.run)
                nursery.start_soon(self.gate.run)
                nursery.start_soon(self.evidence.run)
                nursery.start_soon(self.forks.run)
                nursery.start_soon(self.driver.run, self.first_effects)
        finally:
            self.wal.close()

    async def until(self, height: int) -> None:
        """Wait until ``height`` is committed here."""
        while self.watch.height < height:
            await self.watch.beyond(self.watch.height)

    async def hear(self, sender: NodeId, frame: bytes) -> None:
        """Take a frame as if ``sender``'s link had brought it."""
        await self._inbox.send((sender, frame))

    def _committed(self, committed: Committed) -> None:
        self.watch.advance(committed.tip.height)

    def _push(self, transaction: bytes) -> None:
        for member in self.network.members:
            if member.id != self.me:
                self.send(PeerId(member.id), pack_frame(FrameKind.TRANSACTION, transaction))

    async def _read(self) -> None:
        async for sender, frame in self._frames:
            if frame_kind(frame) is FrameKind.TRANSACTION:
                try:
                    self.pending.receive(frame[1:])
                except InvalidInputError:
                    continue
            else:
                await self.driver.frame_arrived(sender, frame)

    # ------------------------------------------------------------ MemberLinks

    def set_members(self, peers: Iterable[PeerId]) -> None:
        raise NotImplementedError

    def send(self, to: PeerId, frame: bytes) -> bool:
        self.sent.append((NodeId(to), frame))
        other = self.network.nodes.get(NodeId(to))
        if other is None or {self.me, other.me} & self.network.down:
            return False
        try:
            other._inbox.send_nowait((self.me, frame))
        except trio.WouldBlock:
            return False
        return True

    def frames(self) -> AsyncIterator[tuple[PeerId, bytes]]:
        raise NotImplementedError

    # ------------------------------------------------------------ PeerRequests

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        await trio.sleep(0.001)
        other = self.network.nodes.get(NodeId(to))
        if other is None or {self.me, other.me} & self.network.down:
            raise UnavailableError(f"{to} is away")
        if method == "body":
            body = other.replica.body(Digest(payload))
            if body is None:
                raise NotFoundError("not here")
            return body
        if method == "transcript":
            return other.transcripts.answer(payload)
        if method == "recall":
            with trio.move_on_after(timeout_s) as waiting:
                await trio.sleep(self.network.recall_takes_s)
            if waiting.cancelled_caught:
                raise UnavailableError(f"{to} did not answer within {timeout_s:g} s")
            if not other.gate.may_answer:
                raise UnavailableError("it has forgotten votes itself")
            return other.recall.answer(self.me, payload)
        if method == "tip":
            newest = other.chain.decision(other.chain.tip.height)
            return b"" if newest is None else wire.join_decision(*newest)
        answers = ChainAnswers(other.chain)
        by_method = {
            "head": answers.head,
            "changes": answers.changes,
            "decisions": answers.decisions,
        }
        return await by_method[method](payload)

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        raise NotImplementedError

    def connected(self) -> list[PeerId]:
        return [
            PeerId(other)
            for other in self.network.nodes
            if other != self.me and not {self.me, other} & self.network.down
        ]
