"""A core that joins from a snapshot: it answers its gateway while the history is on its way.

Only what a client's request needs is here: who this node is, where entries stand and their proofs,
and who has the bytes. Everything else waits until the chain is there and ``core.node`` runs.
Design: docs/design/catchup.md, "Serving while joining"; the methods: docs/spec/links.md.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from importlib import metadata
from typing import Final

import trio

from consensus.quorum import faults, quorum
from consensus.types import NodeId
from pyrsia_node.core.router import CoreRouter
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import MemberRecord
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import Clock, KeyValueStore, PeerId
from pyrsia_node.replica.head_start import HeadFinder, HeadStart, closed_of
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.joining import (
    CLOSED_PAGE_MAX,
    FRAME_TEXT_MAX,
    ClosedPage,
    ClosedParams,
    Closing,
    EntriesParams,
    FindParams,
    FoundLeaves,
    JoiningState,
    PlacedLeaves,
)
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import (
    AnnounceParams,
    DigestParams,
    Done,
    Handler,
    Holders,
    NoParams,
    SetMember,
    Status,
    typed,
)
from pyrsia_node.store.files import write_atomic

_LOG = logging.getLogger("pyrsia.core.joining")

OTHERS: Final = "this node is joining its network and has no log yet: try again"
"""What is answered for every method that needs the chain."""

HEAD_RETRY_S: Final = 2.0
"""Pause between two looks for a published head."""


class HeadStartMethods:
    """What the gateway asks before this node has published a head of its own."""

    def __init__(self, started: Callable[[], HeadStart]) -> None:
        """Answer from what ``started`` returns; it raises UnavailableError before there is any."""
        self._started = started

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "joining": typed(NoParams, self._joining),
            "closed": typed(ClosedParams, self._closed),
            "find": typed(FindParams, self._find),
            "entries": typed(EntriesParams, self._entries),
        }

    async def _joining(self, _params: NoParams) -> JoiningState:
        return JoiningState(note=self._started().head.encode().decode())

    async def _closed(self, params: ClosedParams) -> ClosedPage:
        closed = self._started().closed
        rest = [(key, leaf) for key, leaf in closed.items() if key > params.after]
        page = [Closing(key=key, leaf=leaf) for key, leaf in rest[:CLOSED_PAGE_MAX]]
        return ClosedPage(closed=page, is_last=len(rest) <= CLOSED_PAGE_MAX)

    async def _find(self, params: FindParams) -> FoundLeaves:
        found = await self._started().find(params.ecosystem, params.name)
        return FoundLeaves(entries=list(found.entries), statements=list(found.statements))

    async def _entries(self, params: EntriesParams) -> PlacedLeaves:
        found: list[str] = []
        length = 0
        for each in await self._started().entries(params.leaves):
            text = base64.b64encode(each.encode()).decode("ascii")
            length += len(text)
            if found and length > FRAME_TEXT_MAX:
                break
            found.append(text)
        return PlacedLeaves(placed=found)


class JoiningNode:
    """Answers ``run/core.sock`` of a node without history."""

    def __init__(
        self,
        layout: Layout,
        config: Config,
        *,
        genesis: Genesis,
        network: Network,
        store: KeyValueStore,
        clock: Clock,
    ) -> None:
        """Answer over ``network``; ``store`` is filled by whoever joins."""
        self._layout = layout
        self._config = config
        self._genesis = genesis
        self._network = network
        self._store = store
        self._start: HeadStart | None = None
        self._header: Header | None = None
        self._closed_known = trio.Event()
        self._router = CoreRouter(
            network,
            attesters=lambda _sha256: [each.id for each in self._members()],
            peer_of=self._peer_of,
            clock=clock,
        )

    def closed_known(self, header: Header) -> None:
        """Note that the store holds what the snapshot of ``header`` says is closed."""
        self._header = header
        self._closed_known.set()

    async def run(self) -> None:
        """Find a head once the snapshot's statements are here, then wait to be cancelled."""
        await self._closed_known.wait()
        while self._start is None:
            try:
                await self._find_head()
            except NotFoundError as error:
                _LOG.info("cannot serve before the history is here: %s", error)
                await trio.sleep(HEAD_RETRY_S)

    async def _find_head(self) -> None:
        assert self._header is not None
        finder = HeadFinder(self._network, self._genesis)
        file, trust, head = await finder.find(size_min=self._header.size)
        # The gateway reads the sets from this file, and believes none that is not proved there.
        await trio.to_thread.run_sync(write_atomic, self._layout.trust, file.encode())
        self._start = HeadStart(
            self._network, trust=trust, head=head, closed=closed_of(self._store)
        )
        _LOG.info("serving under the head of size %d while joining", head.checkpoint.size)

    @property
    def start(self) -> HeadStart | None:
        """What this node serves by, once there is a head."""
        return self._start

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "status": typed(NoParams, self._status),
            "holders": typed(DigestParams, self._holders),
            "announce": typed(AnnounceParams, self._announce),
        } | HeadStartMethods(self._started).table()

    # ------------------------------------------------------------ answers

    async def _holders(self, params: DigestParams) -> Holders:
        return Holders(holders=await self._router.holders(params.sha256))

    async def _announce(self, params: AnnounceParams) -> Done:
        await self._router.announce(params.sha256, complete=params.complete)
        return Done()

    async def _status(self, _params: NoParams) -> Status:
        members = self._members()
        connected = {str(peer) for peer in self._network.connected()}
        target = f" at height {self._header.height}" if self._header is not None else ""
        n = len(members)
        return Status(
            peer_id=self._network.peer_id,
            label=self._config.node.label,
            role="authorized" if self._config.node.role == "authorized" else "regular",
            network=self._genesis.network_id.hex(),
            network_name=self._genesis.name,
            height=0,
            size=0,
            root="0" * 64,
            published_size=0,
            view=0,
            leader="",
            leader_label="",
            set=[
                SetMember(
                    id=each.id, label=each.label, connected=self._peer_of(each.id) in connected
                )
                for each in members
            ],
            n=n,
            f=faults(n),
            q=quorum(n),
            note=f"this node is joining from a snapshot{target}: it serves what peers can prove",
            peers_count=len(connected),
            open_requests=0,
            pending_transactions=0,
            addresses=list(self._network.addresses),
            version=metadata.version("pyrsia"),
        )

    # ------------------------------------------------------------ inside

    def _started(self) -> HeadStart:
        if self._start is None:
            raise UnavailableError("this node is joining and cannot serve yet: try again")
        return self._start

    def _members(self) -> tuple[MemberRecord, ...]:
        start = self._start
        return (start.trust.current if start is not None else self._genesis.set_leaf()).members

    def _peer_of(self, node: NodeId) -> PeerId:
        record = next((each for each in self._members() if each.id == node), None)
        return PeerId(peer_id_of(record.keys.p2p) if record is not None else node)
