"""Peers that answer a follower as a test wants: honestly, with lies, late or never."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from consensus import wire
from consensus.types import Certificate
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.model.errors import (
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import BuildRequest
from pyrsia_node.ports import PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica.apply import apply_decision
from pyrsia_node.replica.contradictions import Contradiction
from pyrsia_node.replica.follow import Follower
from pyrsia_node.replica.serving import ChainAnswers
from pyrsia_node.replica.watch import HeightWatch
from tests.fakes.local_chain import LocalChain
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.build_bodies import request

Answer = Callable[[str, bytes], Awaitable[bytes]]
HONEST, HOSTILE = PeerId("honest"), PeerId("hostile")


class Peers(PeerRequests):
    """Answers of scripted peers; remembers who was asked."""

    def __init__(self, answers: Mapping[PeerId, Answer]) -> None:
        self._answers = answers
        self.asked: list[PeerId] = []

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        self.asked.append(to)
        with trio.move_on_after(timeout_s):
            return await self._answers[to](method, payload)
        raise UnavailableError(f"{to} is too slow")

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        raise NotImplementedError

    def connected(self) -> list[PeerId]:
        return list(self._answers)


class Reader:
    """A node that only follows: its own chain, and what waits for it to grow."""

    def __init__(self, source: LocalChain) -> None:
        self.chain = Chain.open(MemoryKeyValueStore(), source.genesis)
        self.watch = HeightWatch(0)
        self.alarms: list[str] = []
        self.contradictions: list[Contradiction] = []

    async def apply(self, decision: bytes, *, is_proved: bool = False) -> bool:
        found = apply_decision(self.chain, decision, is_proved=is_proved)
        if found is None:
            return False
        committed: Committed = found[0]
        self.watch.advance(committed.tip.height)
        return True

    def follow(self, peers: Peers, *, contradiction: Contradiction | None = None) -> Follower:
        return Follower(
            requests=peers,
            chain=self.chain,
            apply=self.apply,
            on_alarm=self.alarms.append,
            on_contradiction=self.contradictions.append,
            contradiction=contradiction,
        )

    async def until(self, height: int) -> None:
        with trio.fail_after(120):
            while self.watch.height < height:
                await self.watch.beyond(self.watch.height)


def request_body(source: LocalChain, number: int) -> BuildRequest:
    sponsor = source.members[number % len(source.members)].id
    return request(sponsor, purl=Purl.pypi("six", f"1.{number}"))


def chain_of(height: int) -> LocalChain:
    source = LocalChain(4)
    for number in range(height):
        source.now_ms += 1_000
        source.commit(request_body(source, number))
    return source


def decision(source: LocalChain, height: int) -> bytes:
    found = source.chain.decision(height)
    assert found is not None
    return wire.join_decision(*found)


def serving(source: LocalChain) -> Answer:
    answers = ChainAnswers(source.chain)

    async def answer(method: str, payload: bytes) -> bytes:
        by_method = {
            "head": answers.head,
            "changes": answers.changes,
            "decisions": answers.decisions,
        }
        return await by_method[method](payload)

    return answer


def saying(answer: bytes) -> Answer:
    async def say(_method: str, _payload: bytes) -> bytes:
        return answer

    return say


def failing(error: Exception) -> Answer:
    async def fail(_method: str, _payload: bytes) -> bytes:
        raise error

    return fail


async def stalling(_method: str, _payload: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


def replayed_tip(source: LocalChain, tip: int) -> bytes:
    """Return the block of the tip under a certificate that claims the height after it."""
    found = source.chain.decision(tip)
    assert found is not None
    held = wire.decode_certificate(found[1], n=4)
    forged = Certificate(
        held.kind,
        type(held.height)(tip + 1),
        held.view,
        held.block_hash,
        held.signers,
        held.signatures,
    )
    return wire.join_decision(found[0], wire.encode_certificate(forged, n=4))
