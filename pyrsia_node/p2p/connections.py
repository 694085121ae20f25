"""Connections to peers: dialled by address, watched, closed. Knows no protocol of ours.

Wraps the hardened host so that no other module meets libp2p's addresses, ids or errors. It never
dials by itself (see ``keeper``) and says nothing to a peer (see ``greeting``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.p2p.hardening.host import HardenedHost
from pyrsia_node.p2p.streams import PeerStream
from pyrsia_node.ports import PeerId

DIAL_S: Final = 5.0
"""Longest attempt at one address, handshakes included."""

_CLOSE_S: Final = 2.0
_LOG: Final = logging.getLogger("pyrsia.p2p")


class ConnectionEvents(Protocol):
    """Who wants to know of connections. Calls must not wait."""

    def on_connected(self, peer: PeerId, *, dialled: bool) -> None:
        """A connection to ``peer`` is up; ``dialled`` if it was our attempt."""
        ...

    def on_disconnected(self, peer: PeerId) -> None:
        """The last connection to ``peer`` has ended."""
        ...


class Connections:
    """The live connections of one host."""

    def __init__(self, host: HardenedHost, events: ConnectionEvents) -> None:
        self._host = host
        self._events = events
        self._dials: dict[PeerId, trio.Event] = {}
        host.get_network().register_notifee(_Notifee(self))

    def __contains__(self, peer: PeerId) -> bool:
        return bool(self._live(peer))

    @property
    def count(self) -> int:
        """How many connections are live."""
        return int(self._host.swarm.get_total_connections())

    async def dial(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Connect to a peer, address by address; no more than one dial per peer runs.

        Raises:
            UnavailableError: None of the addresses led to a peer that proved this id.
        """
        running = self._dials.get(peer)
        if running is not None:
            await running.wait()
        elif peer not in self:
            self._dials[peer] = done = trio.Event()
            try:
                await self._dial_any(peer, addresses)
            finally:
                del self._dials[peer]
                done.set()
        if peer not in self:
            raise UnavailableError(f"peer {peer} is not reachable")

    async def _dial_any(self, peer: PeerId, addresses: Sequence[str]) -> None:
        identity = ID.from_base58(peer)
        failure = "no address is known"
        for address in addresses:
            # A failed dial blocks the peer for a minute; dials have no time limit of their own.
            self._host.swarm.unblock_peer(identity)
            try:
                with trio.fail_after(DIAL_S):
                    await self._host.swarm.dial_addr(Multiaddr(address), identity)
            except trio.TooSlowError:
                failure = f"{address} did not answer within {DIAL_S:.0f} s"
            except Exception as error:  # noqa: BLE001  the library raises what it likes
                failure = f"{address}: {error}"
            else:
                return
        raise UnavailableError(f"peer {peer} is not reachable: {failure}")

    async def open_stream(self, peer: PeerId, protocol: str) -> PeerStream:
        """Open a stream on a live connection; the caller sets the deadline.

        Raises:
            UnavailableError: Not connected, or the peer does not speak the protocol.
        """
        # Never let the library dial: it takes addresses that strangers announced.
        if peer not in self:
            raise UnavailableError(f"peer {peer} is not connected")
        try:
            stream = await self._host.new_stream(ID.from_base58(peer), [TProtocol(protocol)])
        except Exception as error:
            name = protocol.rsplit("/", 2)[-2]
            why = _with_causes(error)
            raise UnavailableError(f"peer {peer} takes no {name} stream: {why}") from error
        return PeerStream(stream)

    async def close(self, peer: PeerId) -> None:
        """Close every connection to a peer; never raises, takes at most two seconds."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
            for connection in self._live(peer):
                try:
                    await connection.close()
                except Exception as error:  # noqa: BLE001  it is closed as far as we can
                    _LOG.debug("closing a connection of %s: %s", peer, error)

    def _live(self, peer: PeerId) -> list[INetConn]:
        connections = self._host.swarm.get_connections(ID.from_base58(peer))
        return [one for one in connections if not one.is_closed]

    def _connected(self, connection: INetConn) -> None:
        peer = PeerId(connection.muxed_conn.peer_id.to_base58())
        outbound = getattr(connection, "direction", None) is Direction.OUTBOUND
        self._events.on_connected(peer, dialled=outbound)

    def _disconnected(self, connection: INetConn) -> None:
        peer = PeerId(connection.muxed_conn.peer_id.to_base58())
        if peer not in self:
            self._host.forget(connection.muxed_conn.peer_id)
            self._events.on_disconnected(peer)


def _with_causes(error: BaseException) -> str:
    """Return what the library says: its outermost error only repeats what was tried."""
    told = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        told.append(str(error))
    return ": ".join(told)


class _Notifee(INotifee):
    """Turns the library's notifications into ours; the other four say nothing to us."""

    def __init__(self, connections: Connections) -> None:
        self._tell_connected: Callable[[INetConn], None] = connections._connected  # noqa: SLF001
        self._tell_disconnected: Callable[[INetConn], None] = connections._disconnected  # noqa: SLF001

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002  its form
        """Pass it on."""
        self._tell_connected(conn)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002  its form
        """Pass it on."""
        self._tell_disconnected(conn)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Ignore it."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Ignore it."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Ignore it."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Ignore it."""
