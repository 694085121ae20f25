"""Who is one of us: every connection begins with a hello, and a foreign genesis ends it.

The dialler speaks first. Until a peer has been welcomed no other protocol of ours serves it.
A stranger that connects and says nothing is closed; a node of another network is told both
hashes, remembered for status, and warned about once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from pyrsia_node.model.errors import (
    InvalidInputError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.p2p.connections import Connections
from pyrsia_node.p2p.hardening.measures import Guard
from pyrsia_node.p2p.hello import HELLO_BYTES_MAX, Hello, decode_hello, encode_hello
from pyrsia_node.p2p.streams import PeerStream, answering, asking
from pyrsia_node.ports import PeerId

HELLO_PROTOCOL: Final = "/pyrsia/hello/1"
HELLO_S: Final = 5.0
"""How long an exchange may take, and how long a peer may be connected without one."""

_REFRESH_S: Final = 2.0
_FOREIGN_MAX: Final = 256
_LOG: Final = logging.getLogger("pyrsia.p2p")


class Greeter:
    """Exchanges hellos and knows whom they made welcome."""

    def __init__(
        self,
        connections: Callable[[], Connections],
        guard: Guard,
        own: Callable[[], Hello],
        on_welcome: Callable[[PeerId], None],
    ) -> None:
        """Remember the parts.

        Args:
            connections: Where to open and close.
            guard: Counts refusals.
            own: What to say of this node now.
            on_welcome: Told of each newly welcomed peer.
        """
        self._connections = connections
        self._guard = guard
        self._own = own
        self._on_welcome = on_welcome
        self._welcome: dict[PeerId, Hello] = {}
        self._arrivals: dict[PeerId, trio.Event] = {}
        self.foreign: OrderedDict[PeerId, str] = OrderedDict()

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._welcome

    def welcome(self) -> list[PeerId]:
        """Return the welcomed peers in id order."""
        return sorted(self._welcome)

    def hello_of(self, peer: PeerId) -> Hello | None:
        """Return what a welcomed peer last said."""
        return self._welcome.get(peer)

    async def until_welcome(self, peer: PeerId) -> None:
        """Wait until the peer is connected and welcomed; the caller sets the deadline."""
        while peer not in self._welcome:
            arrival = self._arrivals.setdefault(peer, trio.Event())
            try:
                await arrival.wait()
            finally:
                # Strangers come with as many ids as they like: the last waiter tidies up.
                waiting = arrival.statistics().tasks_waiting
                if not waiting and self._arrivals.get(peer) is arrival:
                    del self._arrivals[peer]

    def forget(self, peer: PeerId) -> None:
        """Note that the peer's last connection has ended."""
        self._welcome.pop(peer, None)

    async def greet(self, peer: PeerId) -> None:
        """Say hello on a connection that we dialled; closes it when that fails.

        Raises:
            PyrsiaError: The peer is not of this network, or broke the protocol, or went away.
        """
        try:
            await self._exchange(peer)
        except PyrsiaError:
            await self._connections().close(peer)
            raise

    async def run(self, chance: Callable[[], float]) -> None:
        """Keep heights fresh: say hello to a random peer every other second, until cancelled."""
        while True:
            await trio.sleep(_REFRESH_S * (0.5 + chance()))
            peers = self.welcome()
            if peers:
                with suppress(PyrsiaError):
                    await self._exchange(peers[int(chance() * len(peers))])

    async def _exchange(self, peer: PeerId) -> None:
        try:
            with trio.fail_after(HELLO_S):
                async with asking(
                    await self._connections().open_stream(peer, HELLO_PROTOCOL)
                ) as stream:
                    await stream.write_frame(encode_hello(self._own()))
                    self._judge(peer, await self._read(stream))
        except trio.TooSlowError:
            raise UnavailableError(f"peer {peer} did not say hello") from None

    async def answer(self, stream: PeerStream) -> None:
        """Serve the hello protocol: answer in any case, so that the other side learns why."""
        async with answering(stream):
            with trio.fail_after(HELLO_S):
                theirs = await self._read(stream)
                await stream.write_frame(encode_hello(self._own()))
            # Before the stream settles: the dialler takes our answer for a welcome.
            with suppress(UnavailableError):
                self._judge(stream.peer, theirs)
        if stream.peer not in self._welcome:
            # The dialler hangs up as soon as it has read our answer; we only make sure.
            await self._connections().close(stream.peer)

    async def expect(self, peer: PeerId) -> None:
        """Close an inbound connection whose dialler does not say hello in time."""
        with trio.move_on_after(HELLO_S) as patience:
            await self.until_welcome(peer)
        if patience.cancelled_caught and peer in self._connections():
            self._guard.refuse("no hello", peer)
            await self._connections().close(peer)

    async def _read(self, stream: PeerStream) -> Hello:
        try:
            return decode_hello(await stream.read_frame(bytes_max=HELLO_BYTES_MAX))
        except InvalidInputError as error:
            raise PeerMisbehaviorError(stream.peer, str(error)) from error

    def _judge(self, peer: PeerId, theirs: Hello) -> None:
        ours = self._own().genesis
        if theirs.genesis != ours:
            self._note_foreign(peer, theirs.genesis, ours)
            raise UnavailableError(
                f"peer {peer} is of the network with genesis {theirs.genesis}, "
                f"this node of the network with genesis {ours}"
            )
        if peer not in self._connections():
            # Its last connection ended meanwhile, and nobody would take the welcome back.
            raise UnavailableError(f"peer {peer} hung up during its hello")
        known = peer in self._welcome
        self._welcome[peer] = theirs
        arrival = self._arrivals.pop(peer, None)
        if arrival is not None:
            arrival.set()
        if not known:
            self._on_welcome(peer)

    def _note_foreign(self, peer: PeerId, theirs: str, ours: str) -> None:
        self._guard.refuse("other genesis", peer)
        if self.foreign.get(peer) == theirs:
            return
        _LOG.warning(
            "peer %s refused: its network has genesis %s, this node's has %s", peer, theirs, ours
        )
        self.foreign[peer] = theirs
        while len(self.foreign) > _FOREIGN_MAX:
            self.foreign.popitem(last=False)
