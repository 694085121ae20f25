"""A node that joins serves what peers can prove, long before it has the history."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from pyrsia_node.artifacts.catalog import Catalog, UpstreamPolicy
from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.joining_log import JoiningLog
from pyrsia_node.artifacts.resolver import Resolver, Standing
from pyrsia_node.artifacts.statements import RefusedError
from pyrsia_node.artifacts.upstream_values import UpstreamFile, UpstreamIndex, UpstreamProject
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.first_start import join_if_new
from pyrsia_node.core.founding import initialize
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.peer_methods import PeerMethods
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import Publisher, read_checkpoint
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.snapshot import SnapshotKeeper
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import BlobInfo, PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica.entry_answers import EntryAnswers
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.joining import (
    ClosedPage,
    FoundLeaves,
    JoiningState,
    PlacedLeaves,
)
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import Status
from pyrsia_node.schema.sections import NodeSection
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.keys import KeyUse, create_keys
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from pyrsia_node.transfer.client import HttpsPieceSource
from tests.fakes.data_peers import MemoryRouter
from tests.fakes.executed_log import ExecutedLog
from tests.fakes.memory_store import MemoryKeyValueStore

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(autouse=True)
def _no_socket_is_left() -> Iterator[None]:
    """Find a socket that nobody closed in the test that left it: warnings are errors."""
    yield
    gc.collect()


CONFIG = Config(node=NodeSection("newcomer", "regular"))
TIME_S = 1_700_000_000
GOOD, GONE, BAD = b"good", b"gone", b"bad"


def file_of(name: str) -> str:
    return f"{name}-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def executed() -> ExecutedLog:
    """Return a log with a withdrawn entry, a revoked file, and a set change at its end."""
    log = ExecutedLog(MemoryKeyValueStore())
    log.rotate()
    for name, content in (("good", GOOD), ("gone", GONE), ("bad", BAD)):
        log.plant(name, content, file=file_of(name))
    log.withdraw_package("gone")
    log.revoke_package("bad")
    log.rotate()
    return log


class Link:
    """The gateway's view of a core, over the real socket."""

    def __init__(self, client: LinkClient) -> None:
        self._client = client

    async def joining(self) -> JoiningState:
        return JoiningState.parse(await self._client.call("joining", {}))

    async def closed(self, after: str) -> ClosedPage:
        return ClosedPage.parse(await self._client.call("closed", {"after": after}))

    async def find(self, ecosystem: str, name: str) -> FoundLeaves:
        params = {"ecosystem": ecosystem, "name": name}
        return FoundLeaves.parse(await self._client.call("find", params))

    async def entries(self, leaves: Sequence[int]) -> PlacedLeaves:
        return PlacedLeaves.parse(await self._client.call("entries", {"leaves": list(leaves)}))

    async def status(self) -> Status:
        return Status.parse(await self._client.call("status", {}))


@dataclass
class Joining:
    """A node whose history is held back until ``history`` is set."""

    link: Link
    log: JoiningLog
    history: trio.Event
    joined: trio.Event
    layout: Layout

    async def resolver(self, name: str) -> Resolver:
        """Return the resolver as soon as the node serves."""
        while True:
            try:
                return await self.log.resolver(name)
            except UnavailableError:
                await trio.sleep(0.02)


class HeldHistory(PeerRequests):
    """A network on which nobody gets blocks before an event."""

    def __init__(self, network: Network, event: trio.Event) -> None:
        self._network, self._event = network, event

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        async def held(peer: PeerId, payload: bytes) -> bytes:
            await self._event.wait()
            return await handler(peer, payload)

        chosen = held if method == "history" else handler
        self._network.serve(method, chosen, request_bytes_max=request_bytes_max)

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        return await self._network.ask(
            to, method, payload, timeout_s=timeout_s, answer_bytes_max=answer_bytes_max
        )

    def connected(self) -> list[PeerId]:
        return self._network.connected()


@asynccontextmanager
async def source(
    executed: ExecutedLog, root: Path, history: trio.Event
) -> AsyncIterator[NetworkConfig]:
    """Serve a log over real sockets; yield the settings of a node that knows where."""
    local, log = executed.local, root / "log"
    log.mkdir(parents=True)
    TileWriter(log).catch_up(local.chain, size=local.chain.tip.size, root=local.chain.tip.root)
    with IndexWriter.current(root, network_id=local.network_id) as index:
        index.catch_up(local.chain, size=local.chain.tip.size)
    executed.publish(log, time_s=TIME_S)
    note = read_checkpoint(log / "checkpoint")
    assert note is not None
    keys = create_keys(root / "node.key")
    publisher = Publisher(
        root,
        trust=Trust.establish(TrustFile(local.genesis.encode())),
        chain=local.chain,
        log_key=keys.public(KeyUse.LOG),
        log_signer=keys.signer(KeyUse.LOG),
    )
    keeper = SnapshotKeeper(local.store, local.chain)
    config = NetworkConfig(local.network_id.hex(), gossip=False)
    entries = EntryAnswers(chain=local.chain, log=log, root=root)

    async def checkpoint(_peer: PeerId, _payload: bytes) -> bytes:
        return note.encode()

    async with Network.open(config, bytes([7]) * 32, clock=SystemClock()) as network:
        methods = PeerMethods(
            chain=local.chain,
            publisher=publisher,
            pending=None,
            find_body=lambda _hash: None,
            snapshots=keeper,
        )
        methods.serve_on(HeldHistory(network, history))
        entries.serve_on(network)
        network.serve("checkpoint", checkpoint, request_bytes_max=0)
        bootstrap = network.addresses[:1]
        yield NetworkConfig(local.network_id.hex(), bootstrap=bootstrap, gossip=False)
    keeper.close()
    entries.close()


@asynccontextmanager
async def joining(executed: ExecutedLog, folder: Path) -> AsyncIterator[Joining]:
    history, joined = trio.Event(), trio.Event()
    layout = Layout(folder / "newcomer")
    initialize(layout, CONFIG)
    genesis = executed.local.genesis
    with LevelDbStore(layout.chain) as store, trio.fail_after(150):
        async with (
            source(executed, folder / "source", history) as settings,
            trio.open_nursery() as nursery,
        ):

            async def join() -> None:
                await join_if_new(
                    layout, CONFIG, store, genesis, settings, clock=SystemClock(), height_min=1
                )
                joined.set()

            nursery.start_soon(join)
            link = Link(LinkClient(layout.core_socket, nursery))
            log = JoiningLog(link, layout.trust, genesis=genesis.encode(), ecosystem="pypi")
            yield Joining(link, log, history, joined, layout)
            nursery.cancel_scope.cancel()


async def test_joining_node_serves_proved_entries_before_it_has_any_block(
    executed: ExecutedLog, tmp_path: Path
) -> None:
    async with joining(executed, tmp_path) as node:
        project = (await node.resolver("good")).project("good")
        file = project.files[file_of("good")]
        assert file.file.sha256 == hashlib.sha256(GOOD).hexdigest()
        assert file.standing is Standing.SERVED
        assert not project.is_settled, "more may turn up with the history"
        status = await node.link.status()
        assert status.height == 0
        assert "joining from a snapshot" in status.note
        assert [each.id for each in status.set] == [each.id for each in executed.local.members]
        with pytest.raises(NotFoundError):
            (await node.resolver("unheard-of")).project("unheard-of")


async def test_joining_node_knows_all_that_was_withdrawn_and_revoked_before_the_snapshot(
    executed: ExecutedLog, tmp_path: Path
) -> None:
    async with joining(executed, tmp_path) as node:
        gone = (await node.resolver("gone")).project("gone").files[file_of("gone")]
        assert gone.closed is not None
        assert gone.standing is Standing.WITHDRAWN
        bad = (await node.resolver("bad")).project("bad").files[file_of("bad")]
        assert bad.closed is not None
        assert bad.standing is Standing.REVOKED


async def test_joining_node_knows_revoked_bytes_under_whatever_name_they_come(
    executed: ExecutedLog, tmp_path: Path
) -> None:
    """An upstream may publish them for a package that the log knows nothing of."""
    async with joining(executed, tmp_path) as node:
        await node.resolver("good")
        revoked = await node.log.revocation(sha256_of(BAD))
        assert revoked is not None
        assert revoked.body.kind == "revoke"
        assert await node.log.revocation(sha256_of(GOOD)) is None


class Index(UpstreamIndex):
    """An upstream that publishes one file under a name that the log does not know."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def project(self, name: str) -> UpstreamProject:
        digest, file = sha256_of(self._content), file_of(name)
        line = UpstreamFile(file, "1.0", f"/{file}", digest, len(self._content), None, None, None)
        return UpstreamProject(name, {file: line})

    async def fetch(self, file: UpstreamFile) -> BlobInfo:
        raise UnavailableError(f"{file.name} is not asked for here")


@pytest.mark.parametrize("serve_revoked", [False, True])
async def test_joining_node_refuses_revoked_bytes_that_an_index_publishes(
    executed: ExecutedLog, tmp_path: Path, *, serve_revoked: bool
) -> None:
    async with joining(executed, tmp_path) as node, AsyncExitStack() as stack:
        await node.resolver("good")
        reader = stack.enter_context(closing(IndexReader(node.layout.root)))
        trust = Trust.establish(TrustFile(executed.local.genesis.encode()))
        own = Resolver(
            VerifiedLog(node.layout.log, trust),
            reader,
            ecosystem="pypi",
            serve_revoked=serve_revoked,
        )
        assert not own.is_ready()
        store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=1 << 20)
        fetcher = Fetcher(store, tmp_path / "partial", MemoryRouter([]), HttpsPieceSource())
        log = JoiningLog(
            node.link,
            node.layout.trust,
            genesis=executed.local.genesis.encode(),
            ecosystem="pypi",
            serve_revoked=serve_revoked,
        )
        for content in (GOOD, BAD):
            catalog = Catalog(
                own,
                fetcher,
                store,
                upstream=Index(content),
                policy=UpstreamPolicy(),
                joining=log,
            )
            name, digest = file_of("other"), sha256_of(content)
            file = (await catalog.project("other")).files[name]
            assert (file.yanked is None) is (content == GOOD)
            if content == GOOD or serve_revoked:
                assert (await catalog.file(digest, name)).sha256 == digest
                continue
            assert file.is_refused
            with pytest.raises(RefusedError, match="revoked by the network"):
                await catalog.file(digest, name)


async def test_link_of_a_joining_node_ends_once_the_history_is_here(
    executed: ExecutedLog, tmp_path: Path
) -> None:
    async with joining(executed, tmp_path) as node:
        await node.resolver("good")
        node.history.set()
        await node.joined.wait()
        with pytest.raises(UnavailableError):
            await node.link.status()


class Tampering:
    """A core whose answers are changed on their way to the gateway."""

    def __init__(self, link: Link, how: str) -> None:
        self._link, self._how = link, how

    async def joining(self) -> JoiningState:
        state = await self._link.joining()
        if self._how != "head":
            return state
        lines = state.note.split("\n")
        lines[1] = str(int(lines[1]) + 1)
        return JoiningState(note="\n".join(lines))

    async def closed(self, after: str) -> ClosedPage:
        return await self._link.closed(after)

    async def find(self, ecosystem: str, name: str) -> FoundLeaves:
        found = await self._link.find(ecosystem, name)
        if self._how != "another package":
            return found
        other = await self._link.find(ecosystem, "gone")
        return FoundLeaves(entries=other.entries, statements=found.statements)

    async def entries(self, leaves: Sequence[int]) -> PlacedLeaves:
        found = await self._link.entries(leaves)
        text = found.placed[0]
        match self._how:
            case "leaf":
                # Somewhere inside the leaf, behind the numbers.
                text = text[:200] + ("A" if text[200] != "A" else "B") + text[201:]
            case "no base64":
                text = "?" + text[1:]
            case _:
                pass
        return PlacedLeaves(placed=[text, *found.placed[1:]])


@pytest.mark.parametrize("how", ["head", "leaf", "no base64"])
async def test_gateway_believes_no_core_that_changes_heads_or_entries(
    executed: ExecutedLog, tmp_path: Path, how: str
) -> None:
    async with joining(executed, tmp_path) as node:
        await node.resolver("good")
        genesis = executed.local.genesis.encode()
        log = JoiningLog(
            Tampering(node.link, how), node.layout.trust, genesis=genesis, ecosystem="pypi"
        )
        with pytest.raises((VerificationError, InvalidInputError)):
            await log.resolver("good")


async def test_entries_of_another_package_are_passed_over(
    executed: ExecutedLog, tmp_path: Path
) -> None:
    async with joining(executed, tmp_path) as node:
        await node.resolver("good")
        core = Tampering(node.link, "another package")
        genesis = executed.local.genesis.encode()
        log = JoiningLog(core, node.layout.trust, genesis=genesis, ecosystem="pypi")
        resolver = await log.resolver("good")
        with pytest.raises(NotFoundError):
            resolver.project("good")
