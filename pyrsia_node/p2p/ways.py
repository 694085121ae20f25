"""Ways to peers: implements ``doors.Doors`` over connections, hellos and the directory.

Also where streams of all our protocols come in, and where all tasks of the network live.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from pyrsia_node.model.errors import PyrsiaError, UnavailableError
from pyrsia_node.p2p.connections import Connections
from pyrsia_node.p2p.greeting import Greeter
from pyrsia_node.p2p.hardening.host import HardenedHost
from pyrsia_node.p2p.hardening.measures import Guard
from pyrsia_node.p2p.stats import Counters
from pyrsia_node.p2p.streams import PeerStream
from pyrsia_node.ports import PeerId

_PATIENCE_S: Final = 2.0
"""How long a stream may wait for the hello that travels on another stream."""

_RESTART_S: Final = 1.0
_CLOSE_S: Final = 3.0
_LOG: Final = logging.getLogger("pyrsia.p2p")


class Ways:
    """See ``doors.Doors``."""

    def __init__(self, host: HardenedHost, guard: Guard) -> None:
        self.counters = Counters()
        self._host = host
        self._guard = guard
        self._connections = Connections(host, self)
        self._greeter: Greeter
        self._addresses_of: Callable[[PeerId], list[str]]
        self._departures: dict[PeerId, trio.Event] = {}
        self._nursery: trio.Nursery | None = None

    def use(self, greeter: Greeter, addresses_of: Callable[[PeerId], list[str]]) -> None:
        """Set the parts that need this one to exist first."""
        self._greeter = greeter
        self._addresses_of = addresses_of

    def connections(self) -> Connections:
        """Return the live connections."""
        return self._connections

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run spawned tasks; on the way out stop them and close every connection."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
                    await self._close_all()

    async def _close_all(self) -> None:
        # Together: the library takes a fifth of a second for each.
        async with trio.open_nursery() as nursery:
            for peer in self._host.get_connected_peers():
                nursery.start_soon(self._connections.close, PeerId(peer.to_base58()))
        await self._host.close()

    def spawn(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run an async function until it ends or the network closes.

        What a peer sends must not end the node, so an unexpected error is logged in full and the
        work begun again. Nothing is run once the network closes.
        """
        if self._nursery is not None:
            self._nursery.start_soon(self._persist, work, arguments)

    async def _persist(
        self, work: Callable[..., Awaitable[None]], arguments: tuple[object, ...]
    ) -> None:
        while True:
            try:
                await work(*arguments)
            except PyrsiaError as error:
                _LOG.debug("%s", error)
            except Exception:  # noqa: BLE001  see above
                _LOG.exception("a network task failed and starts again")
                self._guard.refusals["task failed"] += 1
                await trio.sleep(_RESTART_S)
                continue
            return

    def chance(self) -> float:
        """Return a number uniform in [0, 1)."""
        return secrets.randbelow(1 << 32) / (1 << 32)

    def refuse(self, why: str, peer: object) -> None:
        """Count one refusal."""
        self._guard.refuse(why, peer)

    # --------------------------------------------------------------------------- outward

    async def reach(self, peer: PeerId) -> None:
        """Connect to a peer and wait until it is welcome; the caller sets the deadline."""
        if peer in self._greeter:
            return
        if not self._guard.is_welcome(peer):
            raise UnavailableError(f"peer {peer} is refused by this node")
        if peer not in self._connections:
            await self._connections.dial(peer, self._addresses_of(peer))
        await self._until_welcome_or_gone(peer)

    async def _until_welcome_or_gone(self, peer: PeerId) -> None:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self.until_gone(peer)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._greeter.until_welcome(peer)
            nursery.cancel_scope.cancel()
        if peer not in self._greeter:
            theirs = self._greeter.foreign.get(peer)
            why = f"its network has genesis {theirs}" if theirs else "it hung up before its hello"
            raise UnavailableError(f"peer {peer} is of no use: {why}")

    async def until_welcome(self, peer: PeerId) -> None:
        """Wait until a peer is connected and welcomed; the caller sets the deadline."""
        await self._greeter.until_welcome(peer)

    async def until_gone(self, peer: PeerId) -> None:
        """Wait until a peer is not connected; the caller sets the deadline, if any."""
        while peer in self._connections:
            await self._departures.setdefault(peer, trio.Event()).wait()

    async def open_stream(self, peer: PeerId, protocol: str) -> PeerStream:
        """Open a stream to a connected peer, or raise UnavailableError."""
        return await self._connections.open_stream(peer, protocol)

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to a peer."""
        await self._connections.close(peer)

    # ---------------------------------------------------------------------------- inward

    def serve(
        self,
        protocol: str,
        answer: Callable[[PeerStream], Awaitable[None]],
        *,
        to_strangers: bool = False,
    ) -> None:
        """Hand streams of a protocol to ``answer``, those of welcomed peers unless said else."""

        async def handle(raw: INetStream) -> None:
            stream = PeerStream(raw)
            try:
                if to_strangers or await self._is_welcomed(stream.peer):
                    await answer(stream)
                else:
                    self.refuse("stream before hello", stream.peer)
                    await stream.reset()
            except (PyrsiaError, trio.TooSlowError) as error:
                # A peer that went away in the middle did nothing wrong.
                if not isinstance(error, UnavailableError):
                    self.refuse(f"stream ended: {type(error).__name__}", stream.peer)
                _LOG.debug("stream of %s: %s", stream.peer, error)
                await stream.reset()

        self._host.set_stream_handler(TProtocol(protocol), handle)

    async def _is_welcomed(self, peer: PeerId) -> bool:
        with trio.move_on_after(_PATIENCE_S):
            await self._greeter.until_welcome(peer)
        return peer in self._greeter

    def on_connected(self, peer: PeerId, *, dialled: bool) -> None:
        """Say hello, or wait for it (see ``connections.ConnectionEvents``)."""
        self.spawn(self._greeter.greet if dialled else self._greeter.expect, peer)

    def on_disconnected(self, peer: PeerId) -> None:
        """Forget the welcome, wake who waits."""
        self._greeter.forget(peer)
        departure = self._departures.pop(peer, None)
        if departure is not None:
            departure.set()
