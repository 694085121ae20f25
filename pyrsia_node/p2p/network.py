"""The network as the rest of the node sees it: ports in front, libp2p behind.

``Network.open`` gives a running network and owns every task of it; leaving the context closes
every connection. Implements ``MemberLinks``, ``PeerRequests`` and ``Hints`` of ``ports``. What each
protocol does is in its own module; here they are only put together.
Specification: docs/spec/peer-protocols.md; design: docs/design/p2p.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from libp2p.tools.anyio_service import background_trio_service

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.addresses import is_wildcard, parse_peer_address
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.directory import Directory, KnownPeer
from pyrsia_node.p2p.greeting import HELLO_PROTOCOL, Greeter
from pyrsia_node.p2p.hardening.host import listen, new_host
from pyrsia_node.p2p.hardening.log import forward_log
from pyrsia_node.p2p.hardening.measures import Guard
from pyrsia_node.p2p.hello import Hello
from pyrsia_node.p2p.hints import GossipHints
from pyrsia_node.p2p.holders import HoldersMemory
from pyrsia_node.p2p.holding import HolderExchange
from pyrsia_node.p2p.identity import peer_id_of, public_key_of_seed
from pyrsia_node.p2p.keeper import Keeper
from pyrsia_node.p2p.members import Inbox, MemberStreams
from pyrsia_node.p2p.pieces import Chunks, PieceHandler, Pieces
from pyrsia_node.p2p.records import NodeFacts, NodeRecord, make_record
from pyrsia_node.p2p.requests import Asker
from pyrsia_node.p2p.stats import NetworkStatistics
from pyrsia_node.p2p.ways import Ways
from pyrsia_node.ports import Clock, Hint, PeerId, RequestHandler


class Network:
    """One node's connections and protocols. Make it with ``open``."""

    def __init__(self, config: NetworkConfig, seed32: bytes, clock: Clock) -> None:
        self._config = config
        self._seed = seed32
        self._clock = clock
        self._bootstrap = [parse_peer_address(address) for address in config.bootstrap]
        self._refused = config.refused
        self._height = 0
        self._listening: tuple[str, ...] = ()
        self.peer_id = peer_id_of(public_key_of_seed(seed32))
        self._facts = NodeFacts(
            config.label, config.role, config.announce, config.data_url, config.fingerprint
        )
        self._record = self._sign_record(0)
        self._guard = Guard(config.limits, self._is_welcome, self._is_expected)
        self._guard.off = config.measures_off
        self._host = new_host(seed32, self._guard, config.announce)
        self._ways = ways = Ways(self._host, self._guard)
        self._asker = Asker(ways, f"{config.prefix}/ask/1", config.ask)
        self._members = MemberStreams(ways, f"{config.prefix}/member/1")
        self._pieces = Pieces(ways, f"{config.prefix}/pieces/1", config.pieces)
        self._hints = GossipHints(ways)
        self._holding = HolderExchange(self._asker)
        self._directory = Directory(
            ways, self._asker, config.genesis, self.own_record, self._is_expected
        )
        self._greeter = Greeter(ways.connections, self._guard, self._hello, self._on_welcome)
        self._keeper = Keeper(self.peer_id, ways, ways.until_gone, self._candidates)
        ways.use(self._greeter, self._directory.addresses_of)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: NetworkConfig, seed32: bytes, *, clock: Clock
    ) -> AsyncIterator[Network]:
        """Run a network until the context is left, which takes at most a few seconds.

        Args:
            config: Settings.
            seed32: Seed of the ed25519 key whose public part is the peer id.
            clock: Numbers records and gossip messages, which must grow over restarts.

        Raises:
            UnavailableError: An address to listen on is taken; the text names it.
        """
        network = cls(config, seed32, clock)
        try:
            async with network._running():
                yield network
        except BaseExceptionGroup as group:
            # Nurseries wrap what the body raised; its type is what the caller acts on.
            raise _innermost(group) from None

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        forward_log()
        config, ways = self._config, self._ways
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(background_trio_service(self._host.swarm))
            if config.gossip:
                # Before the first dial: pubsub that is built but does not run makes dials hang.
                gossip = self._hints.running(
                    self._host,
                    topic=f"{config.prefix}/hints",
                    first_sequence=self._clock.now_ms() * 1_000_000,
                )
                await stack.enter_async_context(gossip)
            await stack.enter_async_context(ways.running())
            self._serve_protocols()
            self._listening = tuple(await listen(self._host, config.listen))
            self._renew_record()
            self._keep_connected()
            try:
                yield
            finally:
                self._members.inbox.close()
                self._hints.close()

    def _serve_protocols(self) -> None:
        prefix, ways = self._config.prefix, self._ways
        ways.serve(HELLO_PROTOCOL, self._greeter.answer, to_strangers=True)
        ways.serve(f"{prefix}/ask/1", self._asker.answer)
        ways.serve(f"{prefix}/member/1", self._members.accept)
        ways.serve(f"{prefix}/pieces/1", self._pieces.answer)

    def _keep_connected(self) -> None:
        for peer, address in self._bootstrap:
            self._directory.configure(peer, [address])
        self.set_members(())
        self._ways.spawn(self._directory.run, self.connected)
        self._ways.spawn(self._greeter.run, self._ways.chance)
        company = self._config.company
        self._ways.spawn(self._keeper.explore, lambda: len(self.connected()), company)

    # --------------------------------------------------------------------------- about us

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled, with its peer id; ports are the actual ones."""
        return tuple(f"{address}/p2p/{self.peer_id}" for address in self._announced())

    def own_record(self) -> NodeRecord:
        """Return this node's signed record."""
        return self._record

    def set_height(self, height: int) -> None:
        """Say this height in every later hello."""
        self._height = height

    def set_data_listener(self, url: str, fingerprint: str) -> None:
        """Put the data listener into the node record and tell connected peers.

        Raises:
            InvalidInputError: Not an HTTP(S) address, or not a SHA-256 in hex.
        """
        facts = replace(self._facts, data_url=url, fingerprint=fingerprint)
        if facts != self._facts:
            self._facts = facts
            self._renew_record()
            self._ways.spawn(self._directory.introduce_everywhere, self.connected())

    def _announced(self) -> tuple[str, ...]:
        dialable = tuple(one for one in self._listening if not is_wildcard(one))
        return self._config.announce or dialable

    def _renew_record(self) -> None:
        self._facts = replace(self._facts, addresses=self._announced())
        self._record = self._sign_record(max(self._clock.now_ms(), self._record.seq + 1))

    def _sign_record(self, seq: int) -> NodeRecord:
        genesis = self._config.genesis
        return make_record(self._seed, network=genesis, seq=seq, facts=self._facts)

    def _hello(self) -> Hello:
        config = self._config
        return Hello(config.genesis, self._height, config.role, config.version)

    # ------------------------------------------------------------------- members (a port)

    def set_members(self, peers: Iterable[PeerId]) -> None:
        """Replace whom this node keeps member links with; itself is left out."""
        members = set(peers) - {self.peer_id}
        self._members.set_members(members)
        self._keeper.want(members | {peer for peer, _ in self._bootstrap})

    def send(self, to: PeerId, frame: bytes) -> bool:
        """Queue a frame for a member without waiting.

        Returns:
            False if ``to`` is no member, or an older frame had to be given up for this one.

        Raises:
            InvalidInputError: Empty, over 2 MiB, or beginning with the heartbeat's type 0.
        """
        return self._members.send(to, frame)

    def frames(self) -> Inbox:
        """Return what yields (member, frame) until the network closes; for one consumer."""
        return self._members.inbox

    # ------------------------------------------------------------------ requests (a port)

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        """Return a peer's answer; see ``requests.Asker.ask`` for what it raises."""
        return await self._asker.ask(
            to, method, payload, timeout_s=timeout_s, answer_bytes_max=answer_bytes_max
        )

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        """Answer ``method`` from now on; earlier askers are told that it is unavailable."""
        self._asker.serve(method, handler, request_bytes_max=request_bytes_max)

    def connected(self) -> list[PeerId]:
        """Return the welcomed peers in id order."""
        return self._greeter.welcome()

    # --------------------------------------------------------------------- hints (a port)

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue a hint of at most 4 KiB; dropped where gossip is off or the queue full."""
        self._hints.publish(topic, payload)

    def hints(self) -> AsyncIterator[Hint]:
        """Return what yields hints of others until the network closes; for one consumer."""
        return self._hints.hints()

    # ----------------------------------------------------------------- pieces and holders

    def serve_pieces(self, handler: PieceHandler) -> None:
        """Serve byte ranges and piece hashes from now on."""
        self._pieces.serve(handler)

    def read_piece(
        self, holder: PeerId, sha256: str, *, start: int, length: int, timeout_s: float
    ) -> AbstractAsyncContextManager[Chunks]:
        """Give the unverified chunks of a range; see ``pieces.Pieces.read``."""
        return self._pieces.read(holder, sha256, start=start, length=length, timeout_s=timeout_s)

    async def piece_hashes(self, holder: PeerId, sha256: str, *, timeout_s: float) -> bytes:
        """Return a holder's unverified list of 32-byte piece hashes."""
        return await self._pieces.piece_hashes(holder, sha256, timeout_s=timeout_s)

    @property
    def holders(self) -> HoldersMemory:
        """Whom this node remembers as holders; served to peers by the method ``holders``."""
        return self._holding.memory

    async def ask_holders(self, peer: PeerId, sha256: str) -> list[tuple[PeerId, bool]]:
        """Return whom a peer remembers, with whether each has all of it; raises as ``ask``."""
        return await self._holding.ask(peer, sha256)

    async def tell_have(self, peer: PeerId, sha256: str, *, complete: bool) -> None:
        """Tell a peer that this node has (part of) an artifact; raises as ``ask``."""
        await self._holding.tell(peer, sha256, complete=complete)

    # ---------------------------------------------------------------------------- peers

    def directory(self) -> list[KnownPeer]:
        """Return every known node but this one, in id order."""
        records = {record.peer: record for record in self._directory.records.all()}
        peers = records.keys() | set(self.connected()) | self._keeper.wanted
        return [self._known(peer, records.get(peer)) for peer in sorted(peers)]

    def learn_record(self, raw: bytes) -> NodeRecord:
        """Take in a signed record kept from an earlier run.

        Raises:
            InvalidInputError, VerificationError: It is not one of this network.
        """
        return self._directory.learn(raw)

    def records(self) -> list[NodeRecord]:
        """Return the records of other nodes, to be kept for the next run."""
        return self._directory.records.all()

    def add_addresses(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Remember where a peer may be reached, beside what its record says.

        Raises:
            InvalidInputError: An address does not end with this peer's id.
        """
        parsed = [parse_peer_address(address) for address in addresses]
        if any(named != peer for named, _ in parsed):
            raise InvalidInputError(f"an address does not name the peer {peer}")
        self._directory.configure(peer, [address for _, address in parsed])

    def refuse_peers(self, peers: Iterable[PeerId]) -> None:
        """Replace whom to refuse; those connected now are disconnected."""
        self._refused = frozenset(peers)
        for peer in self._refused & set(self.connected()):
            self._ways.spawn(self._ways.disconnect, peer)

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to a peer; a wanted one is dialled again."""
        await self._ways.disconnect(peer)

    async def until_connected(self, peer: PeerId) -> None:
        """Wait until a peer is connected and welcome; the caller sets the deadline."""
        await self._greeter.until_welcome(peer)

    def statistics(self) -> NetworkStatistics:
        """Return a snapshot for status and metrics."""
        return NetworkStatistics(
            peers=len(self.connected()),
            connections=self._ways.connections().count,
            member_links_up=len(self._members.up()),
            member_rtt_s=dict(self._members.up()),
            records=len(self._directory.records),
            unread_bytes=sum(muxer.unread_bytes for muxer in self._guard.muxers),
            counters=replace(self._ways.counters),
            refusals=dict(self._guard.refusals),
            foreign=dict(self._greeter.foreign),
        )

    def _known(self, peer: PeerId, record: NodeRecord | None) -> KnownPeer:
        hello = self._greeter.hello_of(peer)
        return KnownPeer(
            peer=peer,
            label=record.label if record else "",
            role=record.role if record else hello.role if hello else "",
            addresses=tuple(self._directory.addresses_of(peer)),
            data_url=record.data_url if record else "",
            fingerprint=record.fingerprint if record else "",
            height=hello.height if hello else -1,
            version=hello.version if hello else "",
            connected=hello is not None,
        )

    def _candidates(self) -> list[PeerId]:
        known = (record.peer for record in self._directory.records.all())
        return [peer for peer in known if peer not in self._greeter and self._is_welcome(peer)]

    def _is_welcome(self, peer: str) -> bool:
        return peer not in self._refused

    def _is_expected(self, peer: str) -> bool:
        return peer in self._members.members or peer in self._keeper.wanted

    def _on_welcome(self, peer: PeerId) -> None:
        self._ways.spawn(self._directory.introduce, peer)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
