"""Swarm and host: inbound slots come back, one stream cannot hurt another [K1 K2 K3 W1 W2 D1].

See the package's docstring for the names in brackets.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, cast

from libp2p.abc import IMuxedConn, INetStream, IRawConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, PeerStoreError
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.stream_muxer.yamux import yamux as yamux_module
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.p2p.addresses import is_wildcard
from pyrsia_node.p2p.hardening.measures import Guard, Limits, Measure, check_version
from pyrsia_node.p2p.hardening.transport import BoundedMuxers, BoundedYamux, GatedNoise

_WINDOW_BYTES_MAX: Final = 4 * 1024 * 1024


class _SilentConnector(AutoConnector):
    """Never dials [A1].

    The library's own aims for the middle between its watermarks, so that even with a low one of
    zero it dials whoever it has heard of and turns a small network into a full mesh.
    """

    async def maybe_connect(self) -> None:
        """Do nothing: whom to dial is the keeper's decision."""

    def record_disconnect(self, peer_id: ID) -> None:
        """Keep no record: only the dialling that never happens would tidy it up."""


class KeepingPeerStore(PeerStore):
    """Peer store that never evicts the host's own key [S1].

    The library evicts peers without addresses first, and the host itself is one: after a thousand
    strangers the node can no longer identify itself or sign gossip.
    """

    def __init__(self, own: ID, guard: Guard) -> None:
        super().__init__()
        self._own = own
        self._guard = guard

    def _enforce_peer_limit(self) -> None:
        own = self.peer_data_map.get(self._own)
        super()._enforce_peer_limit()
        if own is not None and self._guard.has(Measure.KEEP_OWN_KEY):
            self.peer_data_map[self._own] = own


class HardenedSwarm(Swarm):
    """Swarm whose inbound slots come back [W1] and cannot all be taken by one address [D1]."""

    guard: Guard

    def use(self, guard: Guard) -> None:
        """Set the shared guard; once, before the swarm runs."""
        self.guard = guard
        if guard.has(Measure.NO_AUTODIAL):
            self.auto_connector = _SilentConnector(self)
        self._upgrading: Counter[str] = Counter()

    async def _handle_inbound_connection(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr
    ) -> None:
        # D1: idle TCP connections would hold every inbound slot until the upgrade's deadline.
        remote = read_write_closer.get_remote_address()
        address = remote[0] if remote else "unknown"
        limit = self.guard.limits.upgrades_per_address
        if self.guard.has(Measure.LIMIT_UPGRADES) and self._upgrading[address] >= limit:
            self.guard.refuse("too many unfinished handshakes", address)
            await read_write_closer.close()
            return
        await super()._handle_inbound_connection(read_write_closer, maddr)

    async def upgrade_inbound_raw_conn(
        self, raw_conn: IRawConnection, maddr: Multiaddr
    ) -> IMuxedConn:
        """Upgrade, then stay until the connection ends, so that its slot is then released [W1]."""
        remote = raw_conn.get_remote_address()
        address = remote[0] if remote else "unknown"
        self._upgrading[address] += 1
        try:
            muxed = await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        finally:
            self._upgrading[address] -= 1
            if not self._upgrading[address]:
                del self._upgrading[address]
        if not self.guard.has(Measure.RELEASE_INBOUND):
            return muxed
        if self._is_one_stranger_too_many(muxed.peer_id):
            self.guard.refuse("too many strangers", muxed.peer_id)
            await muxed.close()
        # W1: swarm.py waits here for the end of the *swarm*, holding the inbound slot for ever.
        await cast("BoundedYamux", muxed).event_closed.wait()
        raise SwarmException(f"inbound connection of {muxed.peer_id} ended")

    def _is_one_stranger_too_many(self, peer: ID) -> bool:
        if self.guard.is_expected(peer.to_base58()):
            return False
        strangers = sum(
            len(connections)
            for other, connections in self.connections.items()
            if not self.guard.is_expected(other.to_base58())
        )
        return strangers > self.guard.limits.strangers


# ----------------------------------------------------------------------------------------- host


class HardenedHost(BasicHost):
    """Host in which an inbound stream can fail only itself [K1 K2 K3 W2]."""

    guard: Guard
    swarm: HardenedSwarm

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        # K1: multiselect_communicator.py decodes UTF-8 outside its error handling.
        # K2, W2: swarm_connection.py lets a handler's error into the service manager, which then
        # ends the whole service; an end-of-stream escapes quietly and leaves a zombie connection.
        # K3: pubsub.py parses protobuf outside its error handling.
        if not self.guard.has(Measure.CONTAIN_STREAMS):
            await super()._swarm_stream_handler(net_stream)
            return
        muxer = cast("BoundedYamux", net_stream.muxed_conn)
        why = muxer.why_refuse_stream()
        if why:
            self.guard.refuse(why, muxer.peer_id)
            await (muxer.close() if muxer.is_beyond_patience() else net_stream.reset())
            return
        muxer.inbound_streams += 1
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as error:  # noqa: BLE001  any error at all is the stream's own affair
            self.guard.refuse(f"stream failed: {type(error).__name__}", muxer.peer_id)
            await net_stream.reset()
        finally:
            muxer.inbound_streams -= 1

    def forget(self, peer: ID) -> None:
        """Drop what the library remembers of a peer that is gone; addresses we keep ourselves."""
        with suppress(PeerStoreError):
            self.peerstore.clear_peerdata(peer)


def new_host(seed32: bytes, guard: Guard, announce: Sequence[str]) -> HardenedHost:
    """Return a host that runs nothing yet.

    Args:
        seed32: Seed of the ed25519 key that is the host's identity.
        guard: Bounds and gate.
        announce: Addresses to advertise; empty means those listened on but wildcards, which the
            library would advertise as they are.
    """
    check_version()
    # A larger window would only enlarge what an unread stream may hold; 4 MiB carries 40 MB/s
    # over 100 ms. The value also bounds the length that a single data frame may announce.
    yamux_module.MAX_WINDOW_SIZE = _WINDOW_BYTES_MAX
    key_pair = create_new_key_pair(seed32)
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = KeepingPeerStore(peer_id, guard)
    peerstore.add_key_pair(peer_id, key_pair)
    upgrader = TransportUpgrader({NOISE_ID: GatedNoise(key_pair, guard)}, {})
    upgrader.muxer_multistream = BoundedMuxers(guard)
    swarm = HardenedSwarm(
        peer_id,
        peerstore,
        upgrader,
        [TCP()],
        retry_config=RetryConfig(max_retries=0),
        connection_config=_connection_config(guard.limits),
    )
    swarm.use(guard)
    host = HardenedHost(
        swarm,
        addrs_factory=_advertise([Multiaddr(address) for address in announce]),
        disable_identify_address_discovery=True,
    )
    host.guard = guard
    host.swarm = swarm
    return host


def _connection_config(limits: Limits) -> ConnectionConfig:
    return ConnectionConfig(
        max_connections=limits.connections,
        high_watermark=limits.connections,
        min_connections=0,
        low_watermark=0,
        dial_timeout=limits.upgrade_s,
        inbound_upgrade_timeout=limits.upgrade_s,
        outbound_upgrade_timeout=limits.upgrade_s,
        # Without monitoring a frozen peer is never noticed. Connections are closed on silence
        # and never "replaced": who is connected to whom is our dialler's decision.
        enable_health_monitoring=True,
        health_initial_delay=0.0,
        health_check_interval=limits.health_check_s,
        ping_timeout=limits.ping_s,
        abort_connection_on_ping_failure=True,
        min_health_threshold=0.0,
        min_ping_success_rate=0.0,
        max_ping_latency=1e9,
        max_failed_streams=2**31,
    )


def _advertise(
    announce: list[Multiaddr],
) -> Callable[[list[Multiaddr]], list[Multiaddr]]:
    def choose(candidates: list[Multiaddr]) -> list[Multiaddr]:
        return announce or [one for one in candidates if not is_wildcard(str(one))]

    return choose


# ------------------------------------------------------------------------------------ listening


async def listen(host: HardenedHost, addresses: Sequence[str]) -> list[str]:
    """Listen on TCP multiaddresses and return the actual ones.

    The library logs a failed ``listen`` and goes on, and sets SO_REUSEPORT, so that two processes
    of one user share a port with no error. Both become errors here.

    Raises:
        UnavailableError: An address is taken or cannot be bound; the text names it.
    """
    asked = [Multiaddr(address) for address in addresses]
    for address in asked:
        _check_port_is_free(address)
    await host.swarm.listen(*asked)
    actual = [str(address) for address in host.get_transport_addrs()]
    for address in map(str, asked):
        stem = address.removesuffix("/0") if address.endswith("/tcp/0") else address
        if not any(one == stem or one.startswith(stem + "/") for one in actual):
            raise UnavailableError(f"cannot listen on {address}")
    return actual


def _check_port_is_free(address: Multiaddr) -> None:
    protocol, host, _, port = str(address).split("/")[1:5]
    family = socket.AF_INET6 if protocol == "ip6" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise UnavailableError(f"cannot listen on {address}: {error.strerror}") from None
