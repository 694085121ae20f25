"""A new node joins from a snapshot: row for row the store of a node that executed every block."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from pyrsia_node.ledger.adopting import clear_unfinished, is_unfinished
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.snapshot import Page, SnapshotKeeper
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import BuildRequest
from pyrsia_node.ports import KeyValueStore, PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica import snapshot_wire
from pyrsia_node.replica.joining import Joiner
from pyrsia_node.replica.serving import ChainAnswers, SnapshotAnswers
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.build_bodies import request
from tests.strategies.identities import identity

HONEST, OTHER, HOSTILE = PeerId("honest"), PeerId("other"), PeerId("a hostile one")


class Source:
    """A node that others may join from."""

    def __init__(self, local: LocalChain) -> None:
        self.local = local
        self.keeper = SnapshotKeeper(local.store, local.chain)
        answers, offers = ChainAnswers(local.chain), SnapshotAnswers(self.keeper)
        self.by_method = {
            "changes": answers.changes,
            "history": answers.history,
            "snapshot": offers.snapshot,
            "bucket": offers.bucket,
        }

    async def answer(self, method: str, payload: bytes) -> bytes:
        return await self.by_method[method](payload)


class Spoiler(Source):
    """Answers like its source, but for one method whose answers it changes."""

    def __init__(self, local: LocalChain, method: str, how: str) -> None:
        super().__init__(local)
        self._spoilt, self._how = method, how
        self.asked = 0

    async def answer(self, method: str, payload: bytes) -> bytes:
        right = await super().answer(method, payload)
        if method != self._spoilt:
            return right
        self.asked += 1
        match self._how:
            case "flip":
                middle = len(right) // 2
                return right[:middle] + bytes([right[middle] ^ 1]) + right[middle + 1 :]
            case "cut":
                return right[:-7]
            case "nothing":
                return b""
            case "gone":
                raise UnavailableError("gone")
            case "not found":
                raise NotFoundError("no such thing")
            case "no text":
                name = snapshot_wire.decode_bucket_request(payload).bucket.encode()
                return snapshot_wire.encode_page(Page(((name + b"\xff", b"1"),), is_last=True))
            case "long key":
                name = snapshot_wire.decode_bucket_request(payload).bucket.encode()
                pairs = ((name.ljust(0x10000, b"x"), b"1"),)
                return snapshot_wire.encode_page(Page(pairs, is_last=True))
            case "drip":
                await trio.sleep(15)
                key = b"%s%010d" % (
                    snapshot_wire.decode_bucket_request(payload).bucket.encode(),
                    self.asked,
                )
                return snapshot_wire.encode_page(Page(((key, b"1"),), is_last=False))
            case _:
                await trio.sleep_forever()
                raise AssertionError


class Inventor(Source):
    """Answers every request for a page with the same bytes, behind the bucket's name or alone."""

    def __init__(self, local: LocalChain, pairs: list[tuple[bytes, bytes]], rest: bytes) -> None:
        super().__init__(local)
        self._pairs, self._rest = pairs, rest

    async def answer(self, method: str, payload: bytes) -> bytes:
        if method != "bucket":
            return await super().answer(method, payload)
        if not self._pairs:
            return self._rest
        name = snapshot_wire.decode_bucket_request(payload).bucket.encode()
        pairs = tuple((name + key, value) for key, value in self._pairs)
        return snapshot_wire.encode_page(Page(pairs, is_last=not self._rest))


class Peers(PeerRequests):
    def __init__(self, sources: Mapping[PeerId, Source]) -> None:
        self._sources = sources

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        with trio.move_on_after(timeout_s):
            return await self._sources[to].answer(method, payload)
        raise UnavailableError(f"{to} is too slow")

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        raise NotImplementedError

    def connected(self) -> list[PeerId]:
        return list(self._sources)


def wish(local: LocalChain, version: str) -> BuildRequest:
    return request(local.members[0].id, purl=Purl.pypi("six", version))


def network(changes: int = 3) -> LocalChain:
    """Return a chain with as many set changes; its tip carries a snapshot root."""
    local = LocalChain()
    for number in range(changes):
        for each in range(4):
            local.now_ms += 1_000
            local.commit(wish(local, f"1.{number}.{each}"))
        local.commit(*local.add(identity(100 + number)))
    return local


@functools.cache
def finished_network() -> LocalChain:
    """Return one that no test lets grow."""
    return network()


def joiner(sources: Mapping[PeerId, Source], store: KeyValueStore, local: LocalChain) -> Joiner:
    return Joiner(
        requests=Peers(sources),
        store=store,
        genesis=local.genesis,
        trust=Trust.establish(TrustFile(local.genesis.encode())),
        height_min=1,
    )


def rows(store: KeyValueStore) -> dict[bytes, bytes]:
    return dict(store.scan(b""))


async def test_joined_store_is_row_for_row_that_of_a_node_that_executed_everything() -> None:
    local = network()
    store = MemoryKeyValueStore()
    reached = await joiner({HONEST: Source(local), OTHER: Source(local)}, store, local).run()
    assert reached == local.chain.tip.height == 15
    assert rows(store) == rows(local.store)
    joined = Chain.open(store, local.genesis)
    assert joined.tip == local.chain.tip
    local.now_ms += 1_000
    local.commit(wish(local, "2"))
    decision = local.chain.decision(16)
    assert decision is not None
    assert joined.commit(*decision).tip == local.chain.tip


async def test_join_into_a_real_database_survives_its_reopening(tmp_path: Path) -> None:
    local = network()
    with LevelDbStore(tmp_path / "db", create=True) as store:
        assert await joiner({HONEST: Source(local)}, store, local).run() == 15
    with LevelDbStore(tmp_path / "db") as store:
        assert Chain.open(store, local.genesis).tip == local.chain.tip


async def test_snapshot_stays_as_it_was_while_the_chain_grows() -> None:
    local = network()
    source = Source(local)
    for number in range(3):
        local.now_ms += 1_000
        local.commit(wish(local, f"3.{number}"))
        source.keeper.committed()
    store = MemoryKeyValueStore()
    assert await joiner({HONEST: source}, store, local).run() == 15
    assert Chain.open(store, local.genesis).tip.height == 15


SPOILT = [
    *product(
        ["snapshot", "changes", "bucket", "history"],
        ["flip", "cut", "nothing", "gone", "not found", "stall"],
    ),
    ("bucket", "no text"),
    ("bucket", "long key"),
    ("bucket", "drip"),
]


@pytest.mark.parametrize(("method", "how"), SPOILT)
async def test_hostile_peer_costs_time_and_never_a_wrong_row(
    method: str, how: str, autojump_clock: MockClock
) -> None:
    local = finished_network()
    store = MemoryKeyValueStore()
    hostile = Spoiler(local, method, how)
    sources = {HOSTILE: hostile, HONEST: Source(local)}
    with trio.fail_after(1_000):
        reached = await joiner(sources, store, local).run()
    assert hostile.asked
    if reached is None:
        assert rows(store) == {}
        # Asked again, as a restarted node would, with the honest one alone.
        reached = await joiner({HONEST: Source(local)}, store, local).run()
    assert reached == 15
    assert rows(store) == rows(local.store)


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.builds(bytes.ljust, st.binary(max_size=4), st.sampled_from([0, 9, 600, 0x10000])),
        st.binary(max_size=8),
        max_size=3,
    ),
    st.binary(max_size=40),
)
@example({bytes(0x10000): b"1"}, b"")
def test_whatever_pages_a_peer_makes_up_the_node_joins_from_the_honest_one(
    pairs: dict[bytes, bytes], rest: bytes
) -> None:
    local = finished_network()
    store = MemoryKeyValueStore()
    inventor = Inventor(local, sorted(pairs.items()), rest)
    sources = {HOSTILE: inventor, HONEST: Source(local)}
    reached = trio.run(joiner(sources, store, local).run, clock=MockClock(autojump_threshold=0))
    assert reached == 15
    assert rows(store) == rows(local.store)


async def test_nobody_with_a_snapshot_means_that_the_node_executes_the_history() -> None:
    local = LocalChain()
    local.commit(request(local.members[0].id))
    source = Source(local)
    with pytest.raises(NotFoundError, match="no snapshot is here yet"):
        source.keeper.newest()
    store = MemoryKeyValueStore()
    assert await joiner({HONEST: source}, store, local).run() is None
    assert rows(store) == {}
    assert await joiner({}, store, local).run() is None


async def test_interrupted_join_leaves_no_chain_and_is_cleared(autojump_clock: MockClock) -> None:
    local = network()
    store = MemoryKeyValueStore()
    stalls = Spoiler(local, "history", "stall")
    with trio.move_on_after(5):
        await joiner({HOSTILE: stalls}, store, local).run()
    assert is_unfinished(store)
    clear_unfinished(store)
    assert rows(store) == {}
    Chain.open(store, local.genesis)
    clear_unfinished(store)
    assert Chain.open(store, local.genesis).tip.height == 0
