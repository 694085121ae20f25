"""An unchanged head is cosigned again every ten minutes: readers see that it is still new."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import Cosigner, Publisher, read_checkpoint
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import CorruptStateError, UnavailableError
from pyrsia_node.ports import Clock, PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica.frames import FrameKind, frame_kind
from pyrsia_node.replica.projection import RECOSIGN_INTERVAL_S, Projection
from pyrsia_node.replica.watch import HeightWatch
from pyrsia_node.tlog.checkpoint import Checkpoint, cosigner_key
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request
from tests.strategies.identities import GENESIS_TIME_MS, Identity

START_S = GENESIS_TIME_MS // 1000 + 100


class MockedClock(Clock):
    """Wall and monotonic time that run with trio's mock clock."""

    def now_ms(self) -> int:
        return START_S * 1000 + int(trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        return trio.current_time()


class NodesInOnePlace(PeerRequests):
    """Asks one other node for its cosignatures, directly."""

    def __init__(self) -> None:
        self.other: Node | None = None

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        if self.other is None:
            raise UnavailableError("away")
        return self.other.publisher.note_with_cosignatures(int.from_bytes(payload, "big"))

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        raise NotImplementedError

    def connected(self) -> list[PeerId]:
        return [PeerId("other")] if self.other is not None else []


class Node:
    """A real projection and publisher over a chain; a member, or a node that only follows."""

    def __init__(self, folder: Path, local: LocalChain, me: Identity | None) -> None:
        (folder / "log").mkdir(parents=True)
        self.folder = folder
        self.sent: list[bytes] = []
        self.peers = NodesInOnePlace()
        self.watch = HeightWatch(0)
        one = me or local.members[0]
        self.publisher = Publisher(
            folder / "log",
            trust=Trust.establish(TrustFile(local.genesis.encode())),
            chain=local.chain,
            log_key=one.member.record.keys.log,
            log_signer=one.sign["log"],
        )
        cosigner = None
        if me is not None:
            record = me.member.record
            cosigner = Cosigner(cosigner_key(record.label, record.keys.cosign), me.sign["cosign"])
        self.projection = Projection(
            chain=local.chain,
            tiles=TileWriter(folder / "log"),
            certificates=CertificateWriter(folder / "log"),
            index=IndexWriter.current(folder, network_id=local.network_id),
            publisher=self.publisher,
            requests=self.peers,
            cosigner=lambda _size: cosigner,
            broadcast=self.sent.append,
            clock=MockedClock(),
        )

    def time_s(self) -> int:
        signed = read_checkpoint(self.folder / "log" / "checkpoint")
        assert signed is not None
        return self.publisher.published_time_s


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.projection.run, node.watch)
            nursery.start_soon(node.projection.pull)
            node.projection.cosign_tip()
            node.watch.advance(1)
        yield
        nursery.cancel_scope.cancel()


async def deliver(nodes: list[Node]) -> None:
    """Hand every frame to every other node, as the member links do; let all come to rest."""
    for sender in nodes:
        frames, sender.sent[:] = sender.sent[:], []
        for frame in frames:
            assert frame_kind(frame) is FrameKind.COSIGNATURE
            for node in nodes:
                if node is not sender:
                    node.projection.cosignature_arrived(frame[1:])
    await settle()


async def settle() -> None:
    """Wait until worker threads have come back as well; mock time stands still meanwhile."""
    limiter = trio.to_thread.current_default_thread_limiter()
    quiet = 0
    while quiet < 40:
        await trio.to_thread.run_sync(lambda: None)
        await trio.testing.wait_all_tasks_blocked(0.001)
        # On a busy machine a thread takes its time: nothing rests before the last is back.
        quiet = 0 if limiter.borrowed_tokens else quiet + 1


@pytest.fixture
def local() -> LocalChain:
    chain = LocalChain(4)
    chain.commit(request(chain.members[0].id))
    return chain


async def test_an_unchanged_head_carries_newer_times_after_ten_minutes(
    tmp_path: Path, local: LocalChain, mock_clock: trio.testing.MockClock
) -> None:
    members = [Node(tmp_path / str(i), local, one) for i, one in enumerate(local.members)]
    async with running(*members):
        await settle()
        await deliver(members)
        first = [node.time_s() for node in members]
        assert all(START_S <= each <= START_S + 2 for each in first)
        mock_clock.jump(RECOSIGN_INTERVAL_S / 2)
        await settle()
        assert all(not node.sent for node in members), "not before its time"
        mock_clock.jump(RECOSIGN_INTERVAL_S / 2 + 1)
        await settle()
        await deliver(members)
        for node in members:
            assert node.time_s() >= START_S + RECOSIGN_INTERVAL_S
            assert node.publisher.published_size == local.chain.tip.size, "the head is the same"


async def test_a_node_that_is_no_member_asks_for_the_newer_cosignatures(
    tmp_path: Path, local: LocalChain, mock_clock: trio.testing.MockClock
) -> None:
    members = [Node(tmp_path / str(i), local, one) for i, one in enumerate(local.members)]
    reader = Node(tmp_path / "reader", local, None)
    reader.peers.other = members[0]
    async with running(*members, reader):
        await settle()
        await deliver(members)
        mock_clock.jump(2)
        await settle()
        before = reader.time_s()
        mock_clock.jump(RECOSIGN_INTERVAL_S + 70)
        await settle()
        await deliver(members)
        for _ in range(5):
            mock_clock.jump(40)
            await settle()
        assert reader.time_s() >= before + RECOSIGN_INTERVAL_S
        assert reader.sent == []


def test_the_guard_holds_however_often_a_head_is_cosigned(local: LocalChain) -> None:
    one = local.members[0]
    record = one.member.record
    cosigner = Cosigner(cosigner_key(record.label, record.keys.cosign), one.sign["cosign"])
    tip = local.chain.tip
    head = Checkpoint(local.genesis.origin, tip.size, bytes(tip.root))
    for time_s in (1, 601, 1201):
        cosigner.cosign(head, time_s=time_s)
    with pytest.raises(CorruptStateError, match="asked to cosign"):
        cosigner.cosign(Checkpoint(head.origin, head.size, bytes(32)), time_s=1801)
    with pytest.raises(CorruptStateError, match="asked to cosign"):
        cosigner.cosign(Checkpoint(head.origin, head.size - 1, head.root), time_s=1801)
