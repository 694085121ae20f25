"""Artifacts come from real peers over real sockets: whole, once, and only if they are right."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyrsia_node.artifacts import download
from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.artifacts.standing import GUESSES_MAX
from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.ports import PIECE_SIZE_BYTES, Holder, PeerId
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.partial import Partial
from pyrsia_node.store.pieces import PieceList, piece_root
from pyrsia_node.transfer.client import HttpsPieceSource
from pyrsia_node.transfer.listener import BlobListener, UploadPolicy
from tests.fakes.data_peers import DataPeer, MemoryRouter, data_peer

DATA = random.Random(1).randbytes(5 * PIECE_SIZE_BYTES + 12_345)
SMALL = b"a wheel"
SLOW = UploadPolicy(bytes_per_s=40_000_000)


@dataclass
class Swarm:
    """A fetching node and its peers."""

    peers: list[DataPeer]
    router: MemoryRouter
    store: FileBlobStore
    fetcher: Fetcher
    folder: Path

    def give(self, data: bytes) -> Artifact:
        """Give all peers an artifact."""
        artifacts = {peer.put(self.folder, data) for peer in self.peers}
        assert len(artifacts) == 1
        return artifacts.pop()

    @property
    def bodies(self) -> int:
        """Return how many bodies all peers sent."""
        return sum(peer.behaviour.bodies for peer in self.peers)

    def store_is_clean(self) -> bool:
        """Re-hash everything that the node stored."""
        return not list(self.store.scrub()) and not list((self.folder / "partial").iterdir())


@asynccontextmanager
async def swarm(
    folder: Path, count: int, policy: UploadPolicy | None = None
) -> AsyncIterator[Swarm]:
    """Run ``count`` peers and a fetcher."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(data_peer(folder, f"peer{number}", policy=policy))
            for number in range(count)
        ]
        router = MemoryRouter([peer.holder for peer in peers])
        store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 40)
        source = HttpsPieceSource()
        stack.push_async_callback(source.close)
        fetcher = Fetcher(store, folder / "partial", router, source)
        stack.push_async_callback(fetcher.close)
        yield Swarm(peers, router, store, fetcher, folder)


async def read_all(reader: Reader) -> bytes:
    data = bytearray()
    try:
        while len(data) < reader.size:
            data += await reader.read(len(data), 100_000)
    finally:
        reader.close()
    return bytes(data)


@pytest.mark.parametrize("data", [b"", SMALL, DATA[:PIECE_SIZE_BYTES], DATA])
def test_artifact_arrives_whole_and_is_announced(tmp_path: Path, data: bytes) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 3) as net:
            artifact = net.give(data)
            info = await net.fetcher.ensure(artifact)
            assert (info.sha256, info.size, info.pieces) == (
                artifact.sha256,
                artifact.size,
                artifact.pieces,
            )
            assert Path(net.store.path(artifact.sha256)).read_bytes() == data
            assert net.router.announced[-1] == (artifact.sha256, True)
            assert net.store_is_clean()

    asyncio.run(scenario())


def test_pieces_come_from_several_holders(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 3) as net:
            artifact = net.give(DATA)
            await net.fetcher.ensure(artifact)
            (transfer,) = net.fetcher.transfers()
            assert len(transfer.tally.by_peer) == 3
            assert sum(transfer.tally.by_peer.values()) == 6

    asyncio.run(scenario())


def test_small_artifact_costs_one_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            await net.fetcher.ensure(net.give(SMALL))
            assert net.bodies == 1

    asyncio.run(scenario())


def test_small_artifact_comes_from_the_first_holder_that_is_good(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 4) as net:
            artifact, next_one = net.give(SMALL), net.give(SMALL * 2)
            lying, lacking, refusing, good = net.peers
            lying.behaviour.corrupt = True
            lacking.behaviour.refuse = 404
            refusing.behaviour.refuse = 503
            assert await read_all(await net.fetcher.open(artifact)) == SMALL
            tally = net.fetcher.transfers()[-1].tally
            assert (tally.by_peer, tally.wrong) == ({good.holder.peer: 1}, 1)
            assert tally.refused >= 1
            assert net.store_is_clean()
            # Who lied, or could not be reached, keeps the next file from nobody.
            asked = lying.behaviour.bodies
            refusing.behaviour.refuse = 0
            await net.fetcher.ensure(next_one)
            assert net.fetcher.transfers()[-1].tally.by_peer == {good.holder.peer: 1}
            assert (lying.behaviour.bodies, refusing.behaviour.bodies) == (asked, 0)

    asyncio.run(scenario())


def test_small_artifacts_are_asked_of_who_served_last_and_now_and_then_of_the_router(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 2) as net:
            files = [net.give(SMALL * (number + 1)) for number in range(GUESSES_MAX + 3)]
            for artifact in files:
                await net.fetcher.ensure(artifact)
            assert (net.bodies, net.router.asked) == (len(files), 2)

    asyncio.run(scenario())


def test_empty_artifact_is_no_wrong_guess(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            for content in (SMALL, b"", SMALL * 2):
                await net.fetcher.ensure(net.give(content))
            # Nothing was asked of anybody for the empty one, and the last one is guessed again.
            assert (net.bodies, net.router.asked) == (2, 2)

    asyncio.run(scenario())


def test_holder_that_lacks_what_is_guessed_is_guessed_ever_more_seldom(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 2) as net:
            mostly, other = net.peers
            await net.fetcher.ensure(net.give(SMALL))
            # From now on the router knows better each time than who served last.
            asked = []
            for number in range(40):
                mostly, other = other, mostly
                artifact = mostly.put(tmp_path, SMALL * (number + 2))
                net.router.known = [mostly.holder]
                before = other.behaviour.requests
                await net.fetcher.ensure(artifact)
                asked.append(other.behaviour.requests - before)
            assert net.router.asked == 41
            assert [at for at, count in enumerate(asked) if count] == [0, 3, 8, 17, 34]

    asyncio.run(scenario())


def test_guess_that_was_slow_is_as_a_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "GUESS_SECONDS_MAX", 0.0)

    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            asked = []
            for number in range(9):
                await net.fetcher.ensure(net.give(SMALL * (number + 1)))
                asked.append(net.router.asked)
            # Two files pass before the next guess, then four; each guess brings its file.
            assert asked == [1, 1, 2, 3, 3, 4, 5, 6, 7]
            assert net.bodies == len(asked)

    asyncio.run(scenario())


def test_guessed_holder_that_hangs_up_is_tried_again_only_as_the_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 2) as net:
            first, second = net.peers
            await net.fetcher.ensure(net.give(SMALL))
            first.behaviour.refuse = 503
            await net.fetcher.ensure(net.give(SMALL * 2))
            tally = net.fetcher.transfers()[-1].tally
            assert (tally.by_peer, tally.refused) == ({second.holder.peer: 1}, 1)

    asyncio.run(scenario())


def test_sixteen_clients_at_once_cause_one_download_of_each_piece(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            artifact = net.give(DATA)

            async def client() -> str:
                data = await read_all(await net.fetcher.open(artifact))
                return hashlib.sha256(data).hexdigest()

            digests = await asyncio.gather(*(client() for _ in range(16)))
            assert set(digests) == {artifact.sha256}
            # Six pieces and the piece list, whatever the number of clients.
            assert net.bodies == 7
            await net.fetcher.ensure(artifact)
            assert len(net.fetcher.transfers()) == 1

    asyncio.run(scenario())


def test_client_reads_the_first_pieces_before_the_last_has_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1, SLOW) as net:
            artifact = net.give(DATA)
            reader = await net.fetcher.open(artifact)
            first = await reader.read(0, 1000)
            assert first == DATA[:1000]
            partial = net.fetcher.partial(artifact.sha256)
            assert partial is not None
            assert not partial.have.is_full
            reader.close()
            await net.fetcher.ensure(artifact)

    asyncio.run(scenario())


def test_corrupt_peer_costs_a_retry_and_never_a_wrong_byte(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 3) as net:
            artifact = net.give(DATA)
            net.peers[0].behaviour.corrupt = True
            data = await read_all(await net.fetcher.open(artifact))
            assert data == DATA
            await net.fetcher.ensure(artifact)
            assert net.store_is_clean()
            (transfer,) = net.fetcher.transfers()
            assert transfer.tally.wrong >= 1
            assert net.peers[0].holder.peer not in transfer.tally.by_peer
            # It is remembered: the next artifact does not come from it either.
            asked = net.peers[0].behaviour.bodies
            await net.fetcher.ensure(net.give(SMALL))
            assert net.peers[0].behaviour.bodies == asked

    asyncio.run(scenario())


def test_only_corrupt_peers_give_an_error_and_a_clean_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.artifacts.inquiry.ASK_AGAIN_SECONDS", (0.01,))
    monkeypatch.setattr("pyrsia_node.artifacts.download.ASK_AGAIN_SECONDS", (0.01,))

    async def scenario() -> None:
        async with swarm(tmp_path, 2) as net:
            artifact = net.give(SMALL)
            for peer in net.peers:
                peer.behaviour.corrupt = True
            with pytest.raises(UnavailableError, match="2 wrong answers"):
                await net.fetcher.ensure(artifact)
            assert net.store.stat(artifact.sha256) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", [{"refuse": 503}, {"cut_after": 300_000}, {"refuse": 404}])
def test_failing_holder_costs_pieces_and_never_the_request(
    tmp_path: Path, fault: dict[str, int]
) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 2) as net:
            artifact = net.give(DATA)
            for name, value in fault.items():
                setattr(net.peers[0].behaviour, name, value)
            assert await read_all(await net.fetcher.open(artifact)) == DATA

    asyncio.run(scenario())


def test_holder_with_another_certificate_gets_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.artifacts.inquiry.ASK_AGAIN_SECONDS", ())
    monkeypatch.setattr("pyrsia_node.artifacts.download.ASK_AGAIN_SECONDS", ())

    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            artifact = net.give(SMALL)
            net.router.known = [replace(net.peers[0].holder, fingerprint="0" * 64)]
            with pytest.raises(UnavailableError):
                await net.fetcher.ensure(artifact)
            assert net.bodies == 0

    asyncio.run(scenario())


def test_download_goes_on_when_the_router_is_down_from_peers_that_served_before(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            await net.fetcher.ensure(net.give(SMALL))
            net.router.is_down = True
            artifact = net.give(DATA)
            await net.fetcher.ensure(artifact)

    asyncio.run(scenario())


def test_stopped_download_resumes_with_the_pieces_it_had(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1) as net:
            artifact = net.give(DATA)
            reader = await net.fetcher.open(artifact)
            await reader.read(0, 1)
            reader.close()
            await net.fetcher.close()
            asked = net.bodies
            source = HttpsPieceSource()
            again = Fetcher(net.store, tmp_path / "partial", net.router, source)
            await again.ensure(artifact)
            (transfer,) = again.transfers()
            assert transfer.tally.resumed >= 1
            assert net.bodies - asked == 6 - transfer.tally.resumed
            await again.close()
            await source.close()
            assert net.store_is_clean()

    asyncio.run(scenario())


def test_node_that_is_fetching_gives_its_checked_pieces_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.artifacts.download.LOOK_ROUND_SECONDS", 0.1)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            net = await stack.enter_async_context(swarm(tmp_path, 1))
            artifact = net.give(DATA)
            hashes = net.peers[0].store.piece_hashes(artifact.sha256)
            pieces = PieceList.check(hashes, size=artifact.size, root=artifact.pieces)
            (tmp_path / "middle-partial").mkdir()
            begun = Partial(tmp_path / "middle-partial", artifact.sha256, pieces)
            for index in (0, 1, 2, 3):
                start = index * PIECE_SIZE_BYTES
                begun.write_piece(index, DATA[start : start + PIECE_SIZE_BYTES])
            begun.close()
            middle = Fetcher(
                net.store, tmp_path / "middle-partial", MemoryRouter([]), HttpsPieceSource()
            )
            stack.push_async_callback(middle.close)
            (await middle.open(artifact)).close()
            listener = BlobListener(net.store, middle.partial, UploadPolicy())
            server = HttpServer(listener, limits=HttpLimits())
            await server.start("127.0.0.1", 0)
            stack.push_async_callback(server.stop, grace_seconds=0)
            url = f"http://127.0.0.1:{server.port}"
            fetching = Holder(PeerId("middle"), url, None, complete=False)
            source = HttpsPieceSource(allow_plain=True)
            stack.push_async_callback(source.close)
            # The complete holder is known only once the other one has nothing more to give.
            router = MemoryRouter([fetching])
            last = Fetcher(net.store, tmp_path / "last", router, source)
            stack.push_async_callback(last.close)
            reader = await last.open(artifact)
            for start in range(0, 4 * PIECE_SIZE_BYTES, PIECE_SIZE_BYTES):
                assert await reader.read(start, 10) == DATA[start : start + 10]
            router.known = [fetching, net.peers[0].holder]
            reader.close()
            await last.ensure(artifact)
            tally = last.transfers()[0].tally
            assert tally.by_peer == {"middle": 4, "peer0": 2}

    asyncio.run(scenario())


def test_last_bytes_come_first_when_a_client_asks_for_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with swarm(tmp_path, 1, SLOW) as net:
            artifact = net.give(DATA)
            reader = await net.fetcher.open(artifact)
            tail = await reader.read(artifact.size - 100, 100)
            assert tail == DATA[-100:]
            partial = net.fetcher.partial(artifact.sha256)
            assert partial is not None
            assert len(partial.have) < 6
            reader.close()
            await net.fetcher.ensure(artifact)

    asyncio.run(scenario())


class _ListOnly:
    """Has the piece list of an artifact larger than any disk."""

    async def read_into(self, holder: Holder, sha256: str, start: int, buffer: memoryview) -> None:
        raise AssertionError("no piece is asked for before there is room")

    async def piece_hashes(self, holder: Holder, sha256: str, *, count: int) -> bytes:
        return bytes(count * 32)

    async def have(self, holder: Holder, sha256: str) -> bytes | None:
        return None


def test_artifact_beyond_the_disk_is_refused_with_the_path(tmp_path: Path) -> None:
    async def scenario() -> None:
        size = 1 << 40
        root = piece_root(bytes(size // PIECE_SIZE_BYTES * 32))
        store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=1 << 40)
        router = MemoryRouter([Holder(PeerId("peer"), None, None, complete=True)])
        fetcher = Fetcher(store, tmp_path / "partial", router, _ListOnly())
        with pytest.raises(UnavailableError, match=str(tmp_path / "partial")):
            await fetcher.ensure(Artifact("0" * 64, size, root))
        with pytest.raises(InvalidInputError, match="exceeds the limit"):
            await fetcher.ensure(Artifact("0" * 64, 1 << 60, root))
        await fetcher.close()
        assert list((tmp_path / "partial").iterdir()) == []

    asyncio.run(scenario())
