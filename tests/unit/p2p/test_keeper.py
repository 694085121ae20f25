"""Whom a node knocks at while it wants company."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.p2p.keeper import Keeper
from pyrsia_node.p2p.stats import Counters
from pyrsia_node.p2p.streams import PeerStream
from pyrsia_node.ports import PeerId

DEAD = [PeerId(f"dead-{number}") for number in range(5)]
LIVING = PeerId("living")


class Street:
    """Doors of which one opens; chance always points at the first."""

    counters = Counters()

    def __init__(self) -> None:
        self.knocks: list[PeerId] = []
        self.connected: set[PeerId] = set()

    def candidates(self) -> list[PeerId]:
        return [peer for peer in (*DEAD, LIVING) if peer not in self.connected]

    async def reach(self, peer: PeerId) -> None:
        self.knocks.append(peer)
        if peer != LIVING:
            raise UnavailableError(f"peer {peer} is not reachable")
        self.connected.add(peer)

    async def until_gone(self, peer: PeerId) -> None:
        while peer in self.connected:
            await trio.sleep(0.1)

    async def until_welcome(self, peer: PeerId) -> None:
        raise AssertionError(f"nobody waits for {peer} here")

    async def open_stream(self, peer: PeerId, protocol: str) -> PeerStream:
        raise AssertionError(f"no {protocol} with {peer} here")

    async def disconnect(self, peer: PeerId) -> None:
        self.connected.discard(peer)

    def refuse(self, why: str, peer: object) -> None:
        raise AssertionError(f"{peer} is refused: {why}")

    def spawn(self, work: Callable[..., object], *arguments: object) -> None:
        raise AssertionError(f"{work} is begun with {arguments}")

    def chance(self) -> float:
        return 0.0


async def explored(street: Street, seconds: float, *, wanted: int = 1) -> None:
    """Let a keeper look for company for so long."""
    keeper = Keeper(PeerId("own"), street, street.until_gone, street.candidates)
    with trio.move_on_after(seconds):
        await keeper.explore(lambda: len(street.connected), wanted)


async def test_a_living_peer_is_reached_once_each_dead_one_was_tried_once(
    autojump_clock: MockClock,
) -> None:
    street = Street()
    await explored(street, 60)
    assert street.knocks == [*DEAD, LIVING]


async def test_company_that_suffices_is_not_added_to(autojump_clock: MockClock) -> None:
    street = Street()
    street.connected.add(LIVING)
    await explored(street, 60)
    assert street.knocks == []


async def test_dead_peers_are_tried_equally_often(autojump_clock: MockClock) -> None:
    street = Street()
    await explored(street, 76, wanted=2)
    assert Counter(street.knocks) == {LIVING: 1} | dict.fromkeys(DEAD, pytest.approx(6, abs=1))
