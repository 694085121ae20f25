"""One core: the chain, its replica or follower, the network, builds, and the links. A root.

Only wiring is here: what a part does is in its own package. Everything that was opened is closed
in reverse order when ``run`` is cancelled.
"""

from __future__ import annotations

import logging
import os
import pwd
from functools import partial
from importlib import metadata
from typing import Final

import trio

from consensus import ed25519
from pyrsia_node.builds.context import BuildContext, Identity
from pyrsia_node.builds.links import Vault, Worker
from pyrsia_node.builds.logged_images import LoggedImages
from pyrsia_node.builds.maven import origin_of
from pyrsia_node.builds.mirror_link import Mirror
from pyrsia_node.builds.records import BuildRecords
from pyrsia_node.builds.service import BuildService
from pyrsia_node.core.assembly import Assembly
from pyrsia_node.core.candidacy import Candidacy
from pyrsia_node.core.first_start import join_if_new
from pyrsia_node.core.joining_node import HeadStartMethods
from pyrsia_node.core.justice import Justice
from pyrsia_node.core.known_peers import KnownPeers
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.link_server import LinkServer
from pyrsia_node.core.member import MemberPart
from pyrsia_node.core.member_methods import MemberMethods
from pyrsia_node.core.methods import CoreMethods, CoreState
from pyrsia_node.core.opened import Opened
from pyrsia_node.core.peer_methods import PeerMethods
from pyrsia_node.core.relay import BlobServer, RelayServer
from pyrsia_node.core.rotation import is_rotated, keys_in_force, member_id
from pyrsia_node.core.router import CoreRouter
from pyrsia_node.core.trust_keeper import TrustKeeper
from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.snapshot import SnapshotKeeper
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import NotFoundError, PyrsiaError, UnavailableError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import Clock, Hint
from pyrsia_node.replica.apply import apply_decision
from pyrsia_node.replica.contradictions import Contradiction, ContradictionLocker
from pyrsia_node.replica.entry_answers import EntryAnswers
from pyrsia_node.replica.follow import Follower
from pyrsia_node.replica.gossip import CHECKPOINT_HINT, HeadGossip
from pyrsia_node.replica.head_start import HeadStart
from pyrsia_node.replica.projection import Projection
from pyrsia_node.replica.verified import VerifiedOnce
from pyrsia_node.replica.watch import HeightWatch
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import WORKER_UID_DEFAULT
from pyrsia_node.store.keys import KeyUse
from pyrsia_node.store.leveldb import LevelDbStore

_LOG = logging.getLogger("pyrsia.core")

DATA_LISTENER_INTERVAL_S: Final = 1.0
DECISION_HINT: Final = "decision"


async def run_core(layout: Layout, config: Config, clock: Clock) -> None:
    """Open everything and serve until cancelled.

    Raises:
        NotFoundError: the data directory lacks something; the text names what makes it.
        CorruptStateError: our own data contradicts itself.
    """
    genesis = _read_genesis(layout)
    settings = _network_config(config, genesis)
    with LevelDbStore(layout.chain) as store:
        joined = await join_if_new(layout, config, store, genesis, settings, clock=clock)
        verify = VerifiedOnce(ed25519.verify)
        chain = Chain.open(store, genesis, verify=verify)
        keys = keys_in_force(layout, chain)
        async with (
            Network.open(settings, keys.p2p_seed(), clock=clock) as network,
            trio.open_nursery() as nursery,
        ):
            opened = Opened(
                layout=layout,
                config=config,
                clock=clock,
                keys=keys,
                store=store,
                chain=chain,
                network=network,
                gateway=LinkClient(layout.gateway_socket, nursery),
                worker=LinkClient(layout.build_socket, nursery, server_uid=_worker_uid(config)),
                me=member_id(chain, keys),
                verify=verify,
            )
            start = joined.start if joined is not None else None
            node = CoreNode(opened, start=start.over(network) if start is not None else None)
            try:
                await node.run()
            finally:
                node.close()
            # After a rotation of keys nobody cancels from outside, and links' tasks never end.
            nursery.cancel_scope.cancel()


def _read_genesis(layout: Layout) -> Genesis:
    try:
        return Genesis.decode(layout.genesis.read_bytes())
    except OSError as error:
        raise NotFoundError(
            f"{layout.genesis} cannot be read ({error.strerror}); `pyrsia-node join` puts it there"
        ) from error


def _network_config(config: Config, genesis: Genesis) -> NetworkConfig:
    return NetworkConfig(
        genesis=genesis.network_id.hex(),
        listen=config.p2p.listen,
        announce=config.p2p.announce,
        bootstrap=config.p2p.bootstrap,
        label=config.node.label,
        role=config.node.role,
        version=metadata.version("pyrsia"),
        gossip=config.p2p.gossip,
    )


def _worker_uid(config: Config) -> int | None:
    """Return the account under which the supervisor starts the build worker; None is our own."""
    if os.geteuid() != 0:
        return None
    user = config.build.user or str(WORKER_UID_DEFAULT)
    return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid


class CoreNode:
    """The running parts of one core."""

    def __init__(self, opened: Opened, *, start: HeadStart | None = None) -> None:
        """Make the parts; nothing runs before ``run``.

        Args:
            opened: What they work on.
            start: What a node that has just joined serves by until it has published a head.
        """
        self._opened = opened
        self._start = start
        chain, keys = opened.chain, opened.keys
        self._watch = HeightWatch(chain.tip.height)
        self._faults: dict[str, str] = {}
        self._catchup_words = ""
        self._trust = TrustKeeper(opened)
        self._snapshots = SnapshotKeeper(opened.store, chain)
        self._publisher = Publisher(
            opened.layout.log,
            trust=self._trust.trust,
            chain=chain,
            log_key=keys.public(KeyUse.LOG),
            log_signer=keys.signer(KeyUse.LOG),
            evidence=opened.layout.evidence,
        )
        self._justice = Justice(
            opened,
            self._submit,
            split_views=self._publisher.contradictions,
            trust=lambda: self._trust.trust,
        )
        self._member = (
            MemberPart(opened, self._justice, self._on_commit) if opened.may_become_member else None
        )
        self._projection = Projection(
            chain=chain,
            tiles=TileWriter(opened.layout.log),
            certificates=CertificateWriter(opened.layout.log),
            index=IndexWriter.current(opened.layout.root, network_id=chain.genesis.network_id),
            publisher=self._publisher,
            requests=opened.network,
            cosigner=self._trust.cosigner,
            broadcast=self._member.broadcast if self._member is not None else _to_nobody,
            clock=opened.clock,
        )
        if self._member is not None:
            self._member.inbox.on_cosignature = self._projection.cosignature_arrived
        self._contradictions = ContradictionLocker(opened.store)
        self._follower = Follower(
            requests=opened.network,
            chain=chain,
            apply=self._apply,
            on_alarm=self._catchup_alarm,
            on_contradiction=self._keep_contradiction,
            contradiction=self._contradictions.standing(chain),
        )
        if self._member is not None:
            self._member.driver.on_catchup = self._follower.hint
        self._heads = HeadGossip(
            chain=chain,
            publisher=self._publisher,
            log=opened.layout.log,
            requests=opened.network,
            publish_hint=opened.network.publish,
            trust=lambda: self._trust.trust,
            on_cosignatures=self._projection.cosignatures_held,
        )
        self._entries = EntryAnswers(chain=chain, log=opened.layout.log, root=opened.layout.root)
        self._images = LoggedImages(opened.layout.root, chain)
        self._builds = self._make_builds()
        self._assembly = Assembly(
            opened, submit=self._submit, is_pending=self._is_pending, beyond=self._watch.beyond
        )
        self._rotated = trio.Event()

    def _make_builds(self) -> BuildService:
        opened, build = self._opened, self._opened.config.build
        context = BuildContext(
            identity=Identity(
                me=opened.me,
                network_id=opened.chain.genesis.network_id,
                sign_transaction=opened.keys.signer(KeyUse.TX),
                sign_wish=opened.keys.signer(KeyUse.P2P),
            ),
            chain=opened.chain,
            records=BuildRecords(opened.store),
            worker=Worker(opened.worker),
            vault=Vault(opened.gateway),
            mirror=Mirror(opened.gateway),
            newest_image=self._images.newest,
            origin_of=lambda purl: origin_of(opened.chain.source_for(purl), purl),
            requests=opened.network,
            clock=opened.clock,
            submit=self._submit,
            is_pending=self._is_pending,
            published_size=lambda: self._publisher.published_size,
            beyond=self._watch.beyond,
            peer_of=opened.peer_of,
            labels=opened.labels,
            is_member=self._is_seated,
            parallel=build.parallel,
            seconds_max=build.seconds_max,
            has_pipeline=bool(build.external),
            unmapped_sources=build.unmapped_sources,
            faults=self._faults,
        )
        return BuildService(
            context,
            builds=self._member is not None and build.enabled,
            sponsors=build.sponsors,
            allow=build.allow,
        )

    def _is_seated(self) -> bool:
        """Whether this node votes: it is in the set, and was made to be."""
        return self._member is not None and self._opened.is_member

    async def _submit(self, transaction: bytes) -> None:
        if self._member is None or not self._opened.is_member:
            raise UnavailableError("only authorized nodes put transactions into the log")
        await self._member.pending.submit(transaction)

    def _is_pending(self, transaction_id: str) -> bool:
        return self._member is not None and self._member.pending.is_pending(transaction_id)

    async def run(self) -> None:
        """Serve until cancelled, or until a block puts other keys of this node in force."""
        network, layout = self._opened.network, self._opened.layout
        router = CoreRouter(
            network,
            attesters=lambda _sha256: list(self._opened.member_peers().values()),
            peer_of=self._opened.peer_of,
            clock=self._opened.clock,
        )
        self._peer_methods().serve_on(network)
        self._justice.serve_on(network)
        self._builds.serve_on(network)
        self._heads.serve_on(network)
        self._entries.serve_on(network)
        self._assembly.serve_on(network)
        Candidacy(self._opened).serve_on(network)
        network.serve_pieces(BlobServer(self._stat_blob).answer)
        known = KnownPeers(self._opened.store, network)
        known.load()
        network.set_height(self._watch.height)
        # Derived files first: whoever asks after this start sees the tip that was committed.
        self._projection.catch_up()
        methods = CoreMethods(self._state(), self._builds, router).table()
        methods |= MemberMethods(self._opened, self._assembly).table()
        methods |= self._justice.table()
        if self._start is not None:
            methods |= HeadStartMethods(partial(_given, self._start)).table()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(LinkServer(layout.core_socket, methods).serve)
            nursery.start_soon(RelayServer(layout.relay_socket, network).serve)
            nursery.start_soon(self._follower.run)
            nursery.start_soon(self._projection.run, self._watch)
            nursery.start_soon(self._projection.pull)
            nursery.start_soon(self._heads.run)
            nursery.start_soon(self._take_hints)
            nursery.start_soon(self._announce_data_listener)
            nursery.start_soon(known.keep)
            nursery.start_soon(self._builds.run)
            nursery.start_soon(self._assembly.run)
            nursery.start_soon(self._justice.run)
            if self._member is not None:
                nursery.start_soon(self._member.run)
            self._projection.cosign_tip()
            _LOG.info("core of %s is up at height %d", self._opened.me, self._watch.height)
            await self._rotated.wait()
            _LOG.warning("this node's keys were rotated: the core starts again with the new ones")
            nursery.cancel_scope.cancel()

    def _state(self) -> CoreState:
        member = self._member
        return CoreState(
            config=self._opened.config,
            chain=self._opened.chain,
            network=self._opened.network,
            publisher=self._publisher,
            replica=member.replica if member is not None else None,
            silence=lambda: member.voter.words if member is not None else "",
            catchup=lambda: self._catchup_words,
            trust_file=lambda: self._trust.words,
            crimes=self._justice.alarms,
            labels=self._opened.labels,
            peer_of=self._opened.peer_of,
            is_seated=self._is_seated,
            open_pending=lambda: len(member.pending.known()) if member is not None else 0,
            submit=self._submit,
            beyond=self._watch.beyond,
            faults=self._faults,
            version=metadata.version("pyrsia"),
        )

    def _peer_methods(self) -> PeerMethods:
        member = self._member
        return PeerMethods(
            chain=self._opened.chain,
            publisher=self._publisher,
            pending=member.pending if member is not None else None,
            find_body=member.find_body if member is not None else lambda _hash: None,
            snapshots=self._snapshots,
        )

    # ------------------------------------------------------------ what others tell and get

    async def _apply(self, decision: bytes, *, is_proved: bool) -> bool:
        """Commit a decision that catch-up found."""
        if self._member is not None:
            return await self._member.driver.apply_decision(decision, is_proved=is_proved)
        self._justice.check_not_halted()
        applied = apply_decision(self._opened.chain, decision, is_proved=is_proved)
        if applied is None:
            return False
        self._on_commit(applied[0])
        return True

    def close(self) -> None:
        """Let go of what is held of the store, which its owner closes next."""
        self._entries.close()
        self._images.close()
        self._snapshots.close()

    def _catchup_alarm(self, text: str) -> None:
        """Show what catch-up found in ``status``; an empty text takes it back."""
        self._catchup_words = text

    def _keep_contradiction(self, found: Contradiction) -> None:
        """Keep the proof of a block that cannot follow this chain; it outlives every restart."""
        self._contradictions.keep(found)
        self._justice.forks.look_at_block(found.block)

    def _on_commit(self, committed: Committed) -> None:
        """Tell everybody who waits; the block is durable."""
        height = committed.tip.height
        if self._trust.follow():
            self._publisher.follow(self._trust.trust)
            if self._member is not None:
                self._member.set_changed()
            if is_rotated(self._opened):
                self._rotated.set()
        self._snapshots.committed()
        self._opened.network.set_height(height)
        self._projection.cosign_tip()
        self._watch.advance(height)
        # One hint a block, from the node that proposed it: everybody's would be a flood that tells
        # nothing more. Should that node be gone, the others find the block at their next pull.
        if Header.decode(committed.leaves[0]).proposer == self._opened.me:
            self._opened.network.publish(DECISION_HINT, height.to_bytes(8, "big"))

    async def _take_hints(self) -> None:
        async for hint in self._opened.network.hints():
            self._take_hint(hint)

    def _take_hint(self, hint: Hint) -> None:
        if hint.topic == CHECKPOINT_HINT:
            self._heads.hint(hint.source, hint.payload)
        if hint.topic != DECISION_HINT or len(hint.payload) != 8:
            return
        height = int.from_bytes(hint.payload, "big")
        # A member decides the next block itself, usually before it could have asked for it.
        if not self._is_seated() or height > self._opened.chain.tip.height + 1:
            self._follower.hint(hint.source, height)

    async def _stat_blob(self, sha256: str) -> dict[str, object]:
        return await self._opened.gateway.call("stat", {"sha256": sha256})

    async def _announce_data_listener(self) -> None:
        """Keep the node record in step with the gateway's data listener."""
        while True:
            try:
                found = await self._opened.gateway.call("data_listener", {})
                self._opened.network.set_data_listener(
                    str(found.get("url", "")), str(found.get("fingerprint", ""))
                )
            except PyrsiaError as error:
                _LOG.debug("data listener: %s", error)
            await trio.sleep(DATA_LISTENER_INTERVAL_S)


def _given(start: HeadStart) -> HeadStart:
    return start


def _to_nobody(_frame: bytes) -> None:
    """Stand in for the member links of a node that is no member."""
