"""A node that was shown another tree meets the others: real chains, real sockets."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError, VerificationError
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.gossip import HINT_NOTE_BYTES_MAX, HeadGossip, fitting
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import SignatureLine
from pyrsia_node.tlog.split_view import SPLIT_VIEW_BYTES_MAX, SplitViewProof
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.integration.p2p.nodes import CONFIG, node
from tests.strategies.build_bodies import request
from tests.strategies.identities import identities
from tests.strategies.small_logs import cosigned

GOSSIP = replace(CONFIG, gossip=True)


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    # The library leaves a socket to the collector when a connection breaks under it.
    yield
    gc.collect()


class Site:
    """A node with a chain of its own, published with the cosignatures of all four members."""

    def __init__(self, folder: Path, *locks: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "log").mkdir(exist_ok=True)
        self.folder = folder
        self.local = LocalChain(4)
        self.trust = Trust.establish(TrustFile(self.local.genesis.encode()))
        self.tiles = TileWriter(folder / "log")
        one = self.local.members[0]
        self.publisher = Publisher(
            folder / "log",
            trust=self.trust,
            chain=self.local.chain,
            log_key=one.member.record.keys.log,
            log_signer=one.sign["log"],
            evidence=folder / "evidence",
        )
        self.roots: set[bytes] = set()
        for lock in locks:
            self.commit(lock)

    def commit(self, lock: str, *, is_cosigned: bool = True) -> None:
        self.local.now_ms += 1000
        self.local.commit(request(self.local.members[0].id, lock=lock))
        tip = self.local.chain.tip
        self.roots.add(bytes(tip.root))
        self.tiles.catch_up(self.local.chain, size=tip.size, root=bytes(tip.root))
        if is_cosigned:
            self.publisher.add(self.head())
        self.publish()

    def head(self) -> SignedCheckpoint:
        tip = self.local.chain.tip
        head = Checkpoint(self.trust.origin, tip.size, bytes(tip.root))
        return SignedCheckpoint(head, tuple(cosigned(head, one) for one in self.local.members))

    def gossip(self, network: Network) -> HeadGossip:
        return HeadGossip(
            chain=self.local.chain,
            publisher=self.publisher,
            log=self.folder / "log",
            requests=network,
            publish_hint=network.publish,
            trust=lambda: self.trust,
            on_cosignatures=self.publish,
        )

    def publish(self) -> None:
        self.publisher.publish(tiles_size=self.tiles.size)

    def proofs(self) -> list[SplitViewProof]:
        files = sorted((self.folder / "evidence").glob("split-view-*.json"))
        return [SplitViewProof.decode(each.read_bytes()) for each in files]

    def incomplete(self) -> list[SplitViewProof]:
        return self.publisher.contradictions.incomplete()

    def culprits(self) -> set[str]:
        return {label for proof in self.proofs() for label in proof.judge(self.trust)}


ALL = {one.member.record.label for one in identities(4)}


@asynccontextmanager
async def running(sites: list[Site], *, gossip: bool = False) -> AsyncIterator[list[Network]]:
    """Run each site's node; each is connected to the one before it."""
    config = GOSSIP if gossip else CONFIG
    async with AsyncExitStack() as stack:
        networks: list[Network] = []
        for number in range(1, len(sites) + 1):
            opened = node(number, *networks[-1:], config=config)
            networks.append(await stack.enter_async_context(opened))
        with trio.fail_after(10):
            for earlier, later in pairwise(networks):
                await later.until_connected(earlier.peer_id)
        async with trio.open_nursery() as nursery:
            for network, site in zip(networks, sites, strict=True):
                heads = site.gossip(network)
                heads.serve_on(network)
                nursery.start_soon(heads.run)
                nursery.start_soon(take_hints, network, heads)
            yield networks
            nursery.cancel_scope.cancel()


async def take_hints(network: Network, heads: HeadGossip) -> None:
    async for hint in network.hints():
        if hint.topic == "checkpoint":
            heads.hint(hint.source, hint.payload)


async def until(condition: Callable[[], bool]) -> float:
    """Wait for a condition; return how long it took."""
    began = trio.current_time()
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.02)
    return trio.current_time() - began


async def test_two_trees_of_one_size_are_found_by_both_sides(tmp_path: Path) -> None:
    sites = [Site(tmp_path / "a", "one", "two"), Site(tmp_path / "b", "one", "other")]
    async with running(sites):
        took = await until(lambda: all(site.culprits() == ALL for site in sites))
    assert took < 10
    for site, other in ((sites[0], sites[1]), (sites[1], sites[0])):
        (view, *_) = site.publisher.split_views
        assert view.theirs.checkpoint == other.head().checkpoint
        assert view.our_root == site.head().checkpoint.root


async def test_a_longer_tree_with_another_past_is_proved_by_two_headers(tmp_path: Path) -> None:
    sites = [Site(tmp_path / "a", "one", "two"), Site(tmp_path / "b", "one", "other", "more")]
    async with running(sites):
        await until(lambda: all(site.culprits() == ALL for site in sites))
    # Heads of one size may have met as well, which proves it without headers.
    (proof,) = [each for each in sites[0].proofs() if each.headers is not None]
    assert {each.checkpoint.size for each in proof.heads} == {6, 8}


async def test_an_alarm_outlives_a_restart(tmp_path: Path) -> None:
    sites = [Site(tmp_path / "a", "one"), Site(tmp_path / "b", "other")]
    async with running(sites):
        await until(lambda: all(site.culprits() == ALL for site in sites))
    again = Site(tmp_path / "a")
    assert {view.label for view in again.publisher.split_views} == ALL


async def test_gossip_carries_a_head_to_nodes_that_never_meet_its_holder(tmp_path: Path) -> None:
    """The first and the last node are connected to the middle one alone."""
    sites = [
        Site(tmp_path / "a", "one", "two"),
        Site(tmp_path / "b"),  # has nothing yet, so it cannot see that the two contradict
        Site(tmp_path / "c", "one", "other"),
    ]
    async with running(sites, gossip=True):
        await until(lambda: bool(sites[0].publisher.split_views and sites[2].publisher.split_views))
    assert sites[0].culprits() == ALL


async def test_nodes_of_one_history_never_raise_an_alarm(tmp_path: Path) -> None:
    sites = [Site(tmp_path / "a", "one"), Site(tmp_path / "b", "one", "two", "three")]
    async with running(sites) as networks:
        heads = sites[0].gossip(networks[0])
        peer = networks[1].peer_id
        await heads.examine(peer, sites[1].head().encode())
        for lock in ("two", "three"):
            sites[0].commit(lock)
            await heads.examine(peer, sites[1].head().encode())
    assert not sites[0].publisher.split_views
    assert not (tmp_path / "a/evidence").exists()


async def test_a_proof_is_passed_on_to_who_never_meets_the_other_side(tmp_path: Path) -> None:
    """A node of either side keeps it as seen from there; one that has neither head waits."""
    sites = [Site(tmp_path / "a", "one", "two"), Site(tmp_path / "b", "one", "other", "more")]
    far = Site(tmp_path / "c", "one", "two")
    across = Site(tmp_path / "d", "one", "other", "more")
    young = Site(tmp_path / "e", "one")
    async with running(sites) as networks:
        await until(lambda: bool(sites[0].proofs()) and not sites[0].incomplete())
        data = await networks[1].ask(
            networks[0].peer_id,
            "split_view",
            b"",
            timeout_s=5.0,
            answer_bytes_max=SPLIT_VIEW_BYTES_MAX,
        )
        told = SplitViewProof.decode(data)
        for site in (far, across, young):
            for _ in range(2):
                site.gossip(networks[0]).learn(told)
    # Which two heads met first is chance: those of one size, or the newest of either side.
    met = {(each.checkpoint.size, each.checkpoint.root) for each in told.heads}
    for site in (far, across):
        (proof,) = site.proofs()
        ours, theirs = [each.checkpoint for each in proof.heads]
        assert {(ours.size, ours.root), (theirs.size, theirs.root)} == met
        assert ours.root in site.roots
        assert theirs.root not in site.roots
        assert {view.label for view in site.publisher.split_views} == site.culprits() == ALL
        assert len(site.publisher.split_views) == len(ALL)
    assert young.proofs() == []


async def test_a_name_that_somebody_wrote_into_a_head_is_not_accused(tmp_path: Path) -> None:
    site, other = Site(tmp_path / "a", "one", "two"), Site(tmp_path / "b", "one", "other", "more")
    traitor, honest = other.local.members[1], other.local.members[0].member.record.label
    head = other.head().checkpoint
    lines = (SignatureLine(honest, b"\0\1\2\3", bytes(72)), cosigned(head, traitor))
    async with running([Site(tmp_path / "c"), other]) as networks:
        heads = site.gossip(networks[0])
        await heads.examine(networks[1].peer_id, SignedCheckpoint(head, lines).encode())
    assert {view.label for view in site.publisher.split_views} == {traitor.member.record.label}
    (proof,) = site.proofs()
    assert proof.headers is not None
    assert [line.name for line in proof.heads[1].signatures] == [traitor.member.record.label]


async def test_a_head_that_gossip_completes_is_published(tmp_path: Path) -> None:
    """Whoever asks for cosignatures afterwards hears nothing new, so nothing else would do it."""
    sites = [Site(tmp_path / "a", "one"), Site(tmp_path / "b")]
    behind = sites[1]
    behind.commit("one", is_cosigned=False)
    assert behind.publisher.published is None
    async with running(sites):
        await until(lambda: behind.publisher.published == sites[0].head().checkpoint)


async def test_a_peer_cannot_make_an_honest_member_look_guilty(tmp_path: Path) -> None:
    """Heads without a member's signature, and answers that prove nothing, raise no alarm."""
    site, other = Site(tmp_path / "a", "one"), Site(tmp_path / "b", "other", "more")
    head = other.head().checkpoint
    stranger = identities(9)[8]
    unsigned = SignedCheckpoint(head, (cosigned(head, stranger),))
    async with running([site, other]) as networks:
        heads = site.gossip(networks[0])
        peer = networks[1].peer_id
        with pytest.raises(VerificationError):
            await heads.examine(peer, unsigned.encode())
        for note in (b"", b"\xff" * 60, other.head().encode()[:-9]):
            with pytest.raises((InvalidInputError, VerificationError)):
                await heads.examine(peer, note)
    assert not site.publisher.split_views


async def test_questions_with_impossible_numbers_are_refused(tmp_path: Path) -> None:
    site, other = Site(tmp_path / "a", "one"), Site(tmp_path / "b", "one")
    async with running([site, other]) as networks:
        to: PeerId = networks[1].peer_id
        for payload in (b"", bytes(15), bytes(16), b"\xff" * 16):
            with pytest.raises(PyrsiaError):
                await networks[0].ask(
                    to, "header_proof", payload, timeout_s=5.0, answer_bytes_max=100_000
                )


def test_a_note_that_is_too_long_for_a_hint_loses_signatures_and_still_holds() -> None:
    members = identities(60)
    head = Checkpoint("net-00000000/log", 5, bytes(range(32)))
    note = SignedCheckpoint(head, tuple(cosigned(head, one) for one in members))
    data = fitting(note, HINT_NOTE_BYTES_MAX)
    assert len(data) <= HINT_NOTE_BYTES_MAX
    fewer = SignedCheckpoint.parse(data)
    assert fewer.checkpoint == head
    assert 10 < len(fewer.signatures) < 60
