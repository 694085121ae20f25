"""Requests between two nodes: answers, errors, limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.p2p.network import Network
from pyrsia_node.p2p.requests import AskLimits
from pyrsia_node.ports import MemberLinks, PeerId, PeerRequests
from tests.integration.p2p.nodes import CONFIG, nodes, peer


async def echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


async def ask(asker: Network, other: Network, method: str, payload: bytes = b"") -> bytes:
    return await asker.ask(
        other.peer_id, method, payload, timeout_s=5, answer_bytes_max=1024 * 1024
    )


async def test_an_answer_comes_back_with_the_asker_named() -> None:
    async with nodes(2) as (first, second):

        async def who(asker: PeerId, payload: bytes) -> bytes:
            return asker.encode() + payload

        first.serve("who", who, request_bytes_max=16)
        assert await ask(second, first, "who", b"!") == second.peer_id.encode() + b"!"


async def test_a_large_answer_crosses_whole() -> None:
    async with nodes(2) as (first, second):
        first.serve("echo", echo, request_bytes_max=1024 * 1024)
        payload = bytes(range(256)) * 4096
        assert await ask(second, first, "echo", payload) == payload


@pytest.mark.parametrize(
    ("raised", "received", "text"),
    [
        (InvalidInputError("no such height"), InvalidInputError, "no such height"),
        (NotFoundError("no such body"), NotFoundError, "no such body"),
        (VerificationError("a is not b"), VerificationError, "a is not b"),
        (UnavailableError("too busy"), UnavailableError, "too busy"),
        (RuntimeError("a secret path"), UnavailableError, "internal error"),
    ],
)
async def test_an_error_crosses_as_its_kind_and_a_defect_as_nothing_but_that(
    raised: Exception, received: type[PyrsiaError], text: str
) -> None:
    async with nodes(2) as (first, second):

        async def fail(_peer: PeerId, _payload: bytes) -> bytes:
            raise raised

        first.serve("fail", fail, request_bytes_max=16)
        with pytest.raises(received, match=text) as caught:
            await ask(second, first, "fail")
        assert "secret" not in str(caught.value)


async def test_a_method_that_is_not_served_is_unavailable() -> None:
    async with nodes(2) as (first, second):
        with pytest.raises(UnavailableError, match="does not answer 'tip'"):
            await ask(second, first, "tip")


async def test_a_request_beyond_the_methods_limit_is_invalid() -> None:
    async with nodes(2) as (first, second):
        first.serve("echo", echo, request_bytes_max=8)
        with pytest.raises(InvalidInputError, match="9 bytes exceeds 8"):
            await ask(second, first, "echo", b"x" * 9)


async def test_an_answer_beyond_what_was_asked_for_is_misbehaviour() -> None:
    async with nodes(2) as (first, second):
        first.serve("echo", echo, request_bytes_max=4096)
        for size in (100, 4000):
            with pytest.raises(PeerMisbehaviorError):
                await second.ask(
                    first.peer_id, "echo", b"x" * size, timeout_s=5, answer_bytes_max=50
                )


async def test_a_slow_answer_is_unavailable_in_time() -> None:
    async with nodes(2) as (first, second):

        async def sleep(_peer: PeerId, _payload: bytes) -> bytes:
            await trio.sleep(3600)
            return b""

        first.serve("sleep", sleep, request_bytes_max=0)
        began = trio.current_time()
        with pytest.raises(UnavailableError, match=r"within 0\.3 s"):
            await second.ask(first.peer_id, "sleep", b"", timeout_s=0.3, answer_bytes_max=0)
        assert trio.current_time() - began < 1.5


async def test_an_unknown_peer_is_unavailable() -> None:
    async with nodes(1) as (first,):
        with pytest.raises(UnavailableError, match="no address is known"):
            await first.ask(peer(9), "tip", b"", timeout_s=1, answer_bytes_max=0)


async def test_one_peers_requests_at_once_are_bounded() -> None:
    config = replace(CONFIG, ask=AskLimits(at_once_per_peer=4))
    async with nodes(2, config) as (first, second):
        while not (first.records() and second.records()):  # their introductions are over
            await trio.sleep(0.05)
        await trio.sleep(0.1)
        release = trio.Event()

        async def hold(_peer: PeerId, _payload: bytes) -> bytes:
            await release.wait()
            return b"held"

        first.serve("hold", hold, request_bytes_max=0)
        outcomes: list[str] = []

        async def one() -> None:
            try:
                outcomes.append((await ask(second, first, "hold")).decode())
            except UnavailableError as error:
                outcomes.append(str(error).rpartition(": ")[2])
                release.set()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert sorted(outcomes) == ["held"] * 4 + ["too many requests at once"]


async def test_one_peers_requests_per_second_are_bounded() -> None:
    config = replace(CONFIG, ask=AskLimits(per_second=2.0))
    async with nodes(2, config) as (first, second):
        first.serve("echo", echo, request_bytes_max=8)
        refused = 0
        for _ in range(20):
            try:
                await ask(second, first, "echo")
            except UnavailableError:
                refused += 1
        assert 0 < refused == first.statistics().refusals["too many requests"]


async def test_a_method_is_served_once() -> None:
    async with nodes(1) as (first,):
        first.serve("echo", echo, request_bytes_max=8)
        with pytest.raises(InvalidInputError, match="served already"):
            first.serve("echo", echo, request_bytes_max=8)


async def test_the_network_is_what_the_ports_ask_for() -> None:
    async with nodes(1) as (first,):
        links: MemberLinks = first
        requests: PeerRequests = first
        links.set_members([])
        assert requests.connected() == []
