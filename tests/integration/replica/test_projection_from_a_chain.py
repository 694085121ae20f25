"""Tiles, index and checkpoint follow the chain; hostile cosignatures never end the projection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.ed25519 import public_key, signer
from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import Cosigner, Publisher
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica import projection as projections
from pyrsia_node.replica.frames import FrameKind, frame_kind
from pyrsia_node.replica.projection import NOTE_BYTES_MAX, Projection
from pyrsia_node.replica.watch import HeightWatch
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint, cosign, cosigner_key
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.build_site import ChainClock
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request


class OnePeer(PeerRequests):
    """Answers ``cosignatures`` as it is told to."""

    def __init__(self) -> None:
        self.answers: list[Callable[[], bytes]] = []

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        if not self.answers:
            raise UnavailableError("away")
        return self.answers.pop(0)()

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        raise NotImplementedError

    def connected(self) -> list[PeerId]:
        return [PeerId("peer")]


class Site:
    """Member 0 of a chain of four, deriving into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "log").mkdir(exist_ok=True)
        self.local = LocalChain(4)
        self.local.commit(request(self.local.members[0].id))
        self.peer = OnePeer()
        self.sent: list[bytes] = []
        self.watch = HeightWatch(0)
        seed = bytes(32)
        genesis = self.local.genesis
        self.publisher = Publisher(
            folder / "log",
            trust=Trust.establish(TrustFile(genesis.encode())),
            chain=self.local.chain,
            log_key=public_key(seed),
            log_signer=signer(seed),
        )
        me = self.local.members[0]
        record = me.member.record
        key = cosigner_key(record.label, record.keys.cosign)
        cosigner = Cosigner(key, me.sign["cosign"])
        self.projection = Projection(
            chain=self.local.chain,
            tiles=TileWriter(folder / "log"),
            certificates=CertificateWriter(folder / "log"),
            index=IndexWriter.current(folder, network_id=genesis.network_id),
            publisher=self.publisher,
            requests=self.peer,
            cosigner=lambda _size: cosigner,
            broadcast=self.sent.append,
            clock=ChainClock(self.local),
        )

    def cosigned(self, *members: int, size: int | None = None) -> bytes:
        tip = self.local.chain.tip
        head = Checkpoint(self.local.genesis.origin, size or tip.size, tip.root)
        lines = []
        for index in members:
            one = self.local.members[index]
            key = cosigner_key(one.member.record.label, one.member.record.keys.cosign)
            lines.append(cosign(head, key, one.sign["cosign"], time_s=1_700_000_000))
        return SignedCheckpoint(head, tuple(lines)).encode()

    async def until_published(self) -> None:
        with trio.fail_after(60):
            while self.publisher.published_size < self.local.chain.tip.size:
                await trio.sleep(0.01)


@asynccontextmanager
async def running(site: Site, *more: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.projection.run, site.watch)
        for each in more:
            nursery.start_soon(each)
        yield
        nursery.cancel_scope.cancel()


async def test_a_quorum_of_cosignatures_moves_the_checkpoint_and_less_does_not(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    site.projection.cosign_tip()
    assert [frame_kind(frame) for frame in site.sent] == [FrameKind.COSIGNATURE]
    async with running(site):
        site.watch.advance(1)
        site.projection.cosignature_arrived(site.cosigned(1))
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert site.publisher.published_size == 0
        site.projection.cosignature_arrived(site.cosigned(2))
        await site.until_published()
    assert (tmp_path / "log" / "checkpoint").exists()


async def test_each_block_is_derived_once_however_many_cosignatures_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    derived: list[int] = []

    def catch_up() -> None:
        derived.append(site.local.chain.tip.size)
        Projection.catch_up(site.projection)

    monkeypatch.setattr(site.projection, "catch_up", catch_up)
    async with running(site):
        for height in (1, 2):
            site.projection.cosign_tip()
            site.watch.advance(height)
            for member in (1, 2, 3):
                site.projection.cosignature_arrived(site.cosigned(member))
                await trio.testing.wait_all_tasks_blocked(0.05)
            await site.until_published()
            if height == 1:
                site.local.commit(request(site.local.members[0].id, lock="other", nonce=2))
    assert len(derived) == len(set(derived)) == 2


async def test_cosignatures_that_never_arrived_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "PULL_INTERVAL_S", 0.02)
    site = Site(tmp_path)

    def fail(error: Exception) -> Callable[[], bytes]:
        def raising() -> bytes:
            raise error

        return raising

    site.peer.answers = [
        fail(UnavailableError("away")),
        fail(NotFoundError("none held")),
        fail(PeerMisbehaviorError("peer", "malformed")),
        lambda: b"",
        lambda: b"\xff" * 100,
        lambda: site.cosigned(1, 2, 3)[:-20],
        lambda: site.cosigned(1, 2, 3),
    ]
    async with running(site, site.projection.pull):
        site.watch.advance(1)
        await site.until_published()
    assert site.peer.answers == []


@pytest.mark.parametrize(
    "payload", [b"", b"\x00", b"\xff" * 50, b"a\n1\nAA==\n\n", b"x" * (NOTE_BYTES_MAX + 1)]
)
def test_a_malformed_cosignature_is_our_error(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises((InvalidInputError, VerificationError)):
        Site(tmp_path).projection.cosignature_arrived(payload)


@pytest.mark.parametrize("size", [1, 2**40, 2**53 - 1])
def test_a_cosignature_of_any_size_at_all_is_harmless(tmp_path: Path, size: int) -> None:
    site = Site(tmp_path)
    try:
        site.projection.cosignature_arrived(site.cosigned(1, size=size))
    except (InvalidInputError, VerificationError):
        return
    assert site.publisher.published_size == 0
