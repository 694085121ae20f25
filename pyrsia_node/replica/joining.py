"""Brings a new node to the newest snapshot of its network without executing the history.

Peers offer a header that carries ``snapshot_root``, and the hashes of the state's buckets. Set
changes are proved first, then the header, then the hashes under its root; after that every bucket
and every range of blocks stands by itself, so they come from any peer, several at once, and a liar
is found at once. Nothing of it is a chain before all is there (``ledger.adopting``). When nobody
offers a snapshot, or those who did fail, the node executes the history instead, as ever.
Design: docs/design/catchup.md, "Snapshots"; wire form: docs/spec/peer-protocols.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from pyrsia_node.ledger.adopting import Adoption, WholeBlock, clear_unfinished
from pyrsia_node.ledger.bucket_intake import BucketIntake
from pyrsia_node.ledger.commitment import SERVING_KINDS
from pyrsia_node.ledger.durable import Rows
from pyrsia_node.ledger.snapshot import Offer
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.ports import KeyValueStore, PeerId, PeerRequests
from pyrsia_node.replica import catchup_wire, gentle, snapshot_wire
from pyrsia_node.replica.catchup_wire import ANSWER_BYTES_MAX, DECISIONS_MAX
from pyrsia_node.replica.plan import Ask, CatchupPlan
from pyrsia_node.replica.proving import UnknownSetError, prove_head, prove_history
from pyrsia_node.replica.snapshot_wire import BucketRequest
from pyrsia_node.tlog.trust import Trust

_LOG = logging.getLogger("pyrsia.replica.joining")

OFFERS_MAX: Final = 8
"""Peers that are asked for an offer."""

PARALLEL_BUCKETS: Final = 2
"""More would not come sooner, and hold up the history, on which the most work is waiting."""

ASK_TIMEOUT_S: Final = 20.0
BUCKET_BYTES_MAX: Final = 256 * 1024 * 1024
"""Most bytes of one bucket that are taken from a peer."""

BUCKET_S: Final = 60.0
BUCKET_BYTES_PER_S: Final = 256 * 1024
"""How long a bucket may take: so long, and a second more for each of so many bytes that came."""

ROWS_AT_ONCE: Final = 500
"""Fewer are written without a thread: it would take longer than they do."""

OnBlocks = Callable[[Header, Sequence[WholeBlock]], Awaitable[None]]
"""Gets the snapshot's header and the next blocks in order of height, as soon as they are proved and
adopted. History waits for it, so it bounds what is kept in memory."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A proved header with the buckets under its root, and who offered them."""

    header: Header
    buckets: dict[str, bytes]
    peers: list[PeerId]


async def _nobody_asks(_target: Header, _blocks: Sequence[WholeBlock]) -> None:
    pass


class Joiner:
    """One attempt to join from a snapshot."""

    def __init__(
        self,
        *,
        requests: PeerRequests,
        store: KeyValueStore,
        genesis: Genesis,
        trust: Trust,
        height_min: int,
        on_chosen: Callable[[], None] = lambda: None,
        on_closed_known: Callable[[Header], None] = lambda _header: None,
        on_blocks: OnBlocks = _nobody_asks,
    ) -> None:
        """Join into ``store``, which holds no chain.

        Args:
            requests: How peers are asked.
            store: Becomes the chain.
            genesis: The network's.
            trust: The sets proved so far; at least that of the genesis.
            height_min: Snapshots of lower heights are not worth it.
            on_chosen: Called when there is a snapshot worth joining from, before it is fetched.
            on_closed_known: Gets the snapshot's header once ``store`` holds everything that it says
                of what the network withdrew and revoked; may be called again after a failure.
            on_blocks: See ``OnBlocks``.
        """
        self._requests = requests
        self._store = store
        self._genesis = genesis
        self._trust = trust
        self._height_min = height_min
        self._on_chosen = on_chosen
        self._on_closed_known = on_closed_known
        self._on_blocks = on_blocks

    async def run(self) -> int | None:
        """Join; return the height reached, or None where that was not possible.

        The store then holds a chain of that height, or nothing.

        Raises:
            CorruptStateError: The store cannot be written.
        """
        clear_unfinished(self._store)
        target = await self._choose()
        if target is None:
            return None
        self._on_chosen()
        _LOG.info("joining at height %d from %s", target.header.height, ", ".join(target.peers))
        problems: list[BaseException] = []
        try:
            await self._adopt(target)
        except* (UnavailableError, VerificationError, InvalidInputError) as group:
            problems.extend(group.exceptions)
        if not problems:
            return target.header.height
        _LOG.warning("joining from a snapshot failed: %s", problems[0])
        clear_unfinished(self._store)
        return None

    async def _adopt(self, target: _Target) -> None:
        adoption = Adoption(self._store, self._genesis, target.header, target.buckets)
        writer = _Writer(adoption)
        async with trio.open_nursery() as nursery:
            buckets = _Buckets(self._requests, writer, target, self._on_closed_known)
            nursery.start_soon(buckets.run)
            history = _History(self._requests, writer, target, self._trust, self._on_blocks)
            nursery.start_soon(history.run)
        await writer.write_all()
        adoption.finish()

    # ------------------------------------------------------------ whose snapshot

    async def _choose(self) -> _Target | None:
        """Return the highest snapshot that is proved."""
        offers: list[tuple[PeerId, Offer]] = []
        async with trio.open_nursery() as nursery:
            for peer in self._requests.connected()[:OFFERS_MAX]:
                nursery.start_soon(self._ask_offer, peer, offers)
        targets: dict[bytes, _Target] = {}
        for peer, offer in sorted(offers, key=lambda each: each[0]):
            try:
                header = await self._proved(peer, offer)
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                _LOG.warning("the snapshot that %s offers does not hold: %s", peer, error)
                continue
            if header.height >= self._height_min:
                found = _Target(header, dict(offer.buckets), [])
                targets.setdefault(offer.header, found).peers.append(peer)
        return max(targets.values(), key=lambda each: each.header.height, default=None)

    async def _ask_offer(self, peer: PeerId, offers: list[tuple[PeerId, Offer]]) -> None:
        try:
            answer = await _ask(self._requests, peer, "snapshot", b"")
            offers.append((peer, snapshot_wire.decode_offer(answer)))
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.debug("no snapshot from %s: %s", peer, error)

    async def _proved(self, peer: PeerId, offer: Offer) -> Header:
        """Return the offered header, proved; the peer shows set changes that are not known."""
        header: Header | None = None
        while header is None:
            try:
                header = prove_head(self._trust, offer.header, offer.certificate)
            except UnknownSetError:
                request = catchup_wire.encode_first_epoch(self._trust.current.epoch + 1)
                answer = await _ask(self._requests, peer, "changes", request)
                changes = catchup_wire.decode_changes(answer)
                if not changes:
                    raise
                self._trust = await gentle.extended(self._trust, changes)
        # Made here so that a made-up list of buckets is its sender's fault, not the snapshot's.
        Adoption(self._store, self._genesis, header, dict(offer.buckets))
        return header


class _Writer:
    """Writes what is adopted: in a thread where it is much, so that fetching goes on meanwhile."""

    def __init__(self, adoption: Adoption) -> None:
        self.adoption = adoption
        self._turn = trio.Lock()

    async def write_full(self) -> None:
        """Write what is worth it; waits for the write before, which bounds what is in memory."""
        async with self._turn:
            await self._write(self.adoption.take_full())

    async def write_all(self) -> None:
        """Write everything that was added, so that it can be read."""
        async with self._turn:
            await self._write(self.adoption.take_all())

    async def remove(self, intake: BucketIntake) -> None:
        """Remove what was taken in of a bucket that its sender had wrong, and may have written."""
        async with self._turn:
            while self.adoption.remove_bucket(intake):
                await trio.lowlevel.checkpoint()

    async def _write(self, batches: Sequence[Rows]) -> None:
        if sum(map(len, batches)) < ROWS_AT_ONCE:
            self.adoption.write(batches)
        else:
            await trio.to_thread.run_sync(self.adoption.write, batches)


class _Buckets:
    """Fetches the state: several buckets at once, what serving needs first."""

    def __init__(
        self,
        requests: PeerRequests,
        writer: _Writer,
        target: _Target,
        on_closed_known: Callable[[Header], None],
    ) -> None:
        self._requests = requests
        self._adoption = writer.adoption
        self._writer = writer
        self._header = target.header
        self._height = target.header.height
        self._peers = list(target.peers)
        self._on_closed_known = on_closed_known
        self._waiting: list[str] = []

    async def run(self) -> None:
        names = sorted(self._adoption.missing)
        await self._fetch_all([name for name in names if _is_for_serving(name)])
        await self._writer.write_all()
        self._on_closed_known(self._header)
        await self._fetch_all([name for name in names if not _is_for_serving(name)])
        # Nothing more comes that would fill up the kinds of the state.
        await self._writer.write_all()

    async def _fetch_all(self, names: list[str]) -> None:
        self._waiting = names
        async with trio.open_nursery() as nursery:
            for _ in range(PARALLEL_BUCKETS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while self._waiting:
            name = self._waiting.pop(0)
            while name in self._adoption.missing:
                await self._fetch(name)

    async def _fetch(self, name: str) -> None:
        """Fetch a bucket from the peer whose turn it is; one that fails is asked no more."""
        if not self._peers:
            raise UnavailableError("nobody is left who sends the state of the snapshot")
        peer = self._peers.pop(0)
        self._peers.append(peer)
        intake = self._adoption.begin_bucket(name)
        try:
            await self._pages(peer, name, intake)
            self._adoption.finish_bucket(name, intake)
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.warning("bucket %s from %s: %s", name, peer, error)
            if peer in self._peers:
                self._peers.remove(peer)
            await self._writer.remove(intake)
        await self._writer.write_full()

    async def _pages(self, peer: PeerId, name: str, intake: BucketIntake) -> None:
        after = b""
        size = 0
        started_s = trio.current_time()
        while size <= BUCKET_BYTES_MAX:
            if trio.current_time() - started_s > BUCKET_S + size / BUCKET_BYTES_PER_S:
                raise UnavailableError(f"bucket {name} comes too slowly: {size} bytes so far")
            request = snapshot_wire.encode_bucket_request(BucketRequest(self._height, name, after))
            answer = await _ask(self._requests, peer, "bucket", request)
            page = snapshot_wire.decode_page(answer)
            intake.add(page.pairs)
            await self._writer.write_full()
            size += len(answer)
            if page.is_last:
                return
            after = page.pairs[-1][0]
        raise InvalidInputError(f"bucket {name} has more than {BUCKET_BYTES_MAX} bytes")


class _History:
    """Fetches the blocks with all their leaves: several ranges at once, applied in order."""

    def __init__(
        self,
        requests: PeerRequests,
        writer: _Writer,
        target: _Target,
        trust: Trust,
        on_blocks: OnBlocks,
    ) -> None:
        self._requests = requests
        self._adoption = writer.adoption
        self._writer = writer
        self._trust = trust
        self._plan = CatchupPlan(0)
        self._plan.aim(target.header.height)
        self._target = target.header
        self._height = target.header.height
        self._on_blocks = on_blocks
        self._ranges: dict[int, list[WholeBlock]] = {}
        self._wake = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while self._adoption.height < self._height:
                self._plan.connected(self._requests.connected(), trio.current_time())
                self._plan.advanced(self._adoption.height)
                for ask in self._plan.next_asks(trio.current_time()):
                    nursery.start_soon(self._perform, ask)
                if not await self._take_next():
                    with trio.move_on_after(self._plan.wait_s(trio.current_time())):
                        await self._wake.wait()
                    self._wake = trio.Event()
            nursery.cancel_scope.cancel()

    async def _perform(self, ask: Ask) -> None:
        try:
            await self._ask_blocks(ask)
        except CorruptStateError:
            raise
        except UnavailableError as error:
            _LOG.debug("history from %s: %s", ask.peer, error)
            self._plan.failed(ask, trio.current_time(), lied=False)
        except PyrsiaError as error:
            _LOG.warning("history that %s sent does not hold: %s", ask.peer, error)
            self._plan.failed(ask, trio.current_time(), lied=True)
        self._wake.set()

    async def _ask_blocks(self, ask: Ask) -> None:
        request = catchup_wire.encode_range(
            first=ask.first, count=ask.count, bytes_max=ask.bytes_max
        )
        answer = await _ask(self._requests, ask.peer, "history", request)
        parts = catchup_wire.split_prefixed(answer, items_max=DECISIONS_MAX)
        if not parts:
            self._plan.nothing_there(ask, trio.current_time())
            return
        blocks = [snapshot_wire.decode_whole_block(each) for each in parts]
        prove_history(self._trust, blocks, first=ask.first)
        # Whole ranges of two peers may overlap when one was slow; the longer one is kept.
        if len(blocks) > len(self._ranges.get(ask.first, [])):
            self._ranges[ask.first] = blocks
        last = ask.first + len(blocks) - 1
        self._plan.blocks_proved(ask, last=last, size=len(answer), now=trio.current_time())

    async def _take_next(self) -> bool:
        height = self._adoption.height + 1
        for first, blocks in list(self._ranges.items()):
            if first + len(blocks) <= height:
                del self._ranges[first]
            elif first <= height:
                rest = blocks[height - first : self._height - first + 1]
                self._adoption.add_blocks(rest)
                await self._writer.write_full()
                await self._on_blocks(self._target, rest)
                return True
        return False


async def _ask(requests: PeerRequests, peer: PeerId, method: str, payload: bytes) -> bytes:
    return await requests.ask(
        peer, method, payload, timeout_s=ASK_TIMEOUT_S, answer_bytes_max=2 * ANSWER_BYTES_MAX
    )


def _is_for_serving(name: str) -> bool:
    return name.split("/", maxsplit=1)[0] in SERVING_KINDS
