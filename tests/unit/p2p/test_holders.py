"""Holders' memory: newest first, bounded for each and all, forgotten after an hour."""

from __future__ import annotations

from pyrsia_node.p2p.holders import (
    ARTIFACTS_MAX,
    ARTIFACTS_PER_PEER_MAX,
    EXPIRY_S,
    HOLDERS_PER_ARTIFACT_MAX,
    HoldersMemory,
)
from pyrsia_node.ports import PeerId

A, B = PeerId("a"), PeerId("b")


def peers(memory: HoldersMemory, sha256: str, now_s: float = 0) -> list[PeerId]:
    return [holding.peer for holding in memory.holders(sha256, now_s=now_s)]


def test_the_latest_holder_comes_first() -> None:
    memory = HoldersMemory()
    for peer in (A, B, A):
        memory.remember("x", peer, complete=False, now_s=0)
    assert peers(memory, "x") == [A, B]
    memory.forget("x", A)
    memory.forget("x", A)
    assert peers(memory, "x") == [B]
    assert peers(memory, "y") == []


def test_a_holding_expires() -> None:
    memory = HoldersMemory()
    memory.remember("x", A, complete=True, now_s=0)
    memory.remember("x", B, complete=True, now_s=10)
    assert peers(memory, "x", EXPIRY_S + 5) == [B]
    assert peers(memory, "x", EXPIRY_S + 50) == []
    assert len(memory) == 0


def test_an_artifact_keeps_its_latest_holders() -> None:
    memory = HoldersMemory()
    for number in range(HOLDERS_PER_ARTIFACT_MAX + 3):
        memory.remember("x", PeerId(str(number)), complete=True, now_s=0)
    known = peers(memory, "x")
    assert len(known) == HOLDERS_PER_ARTIFACT_MAX
    assert known[-1] == "3"


def test_one_peer_cannot_push_everybody_else_out() -> None:
    memory = HoldersMemory()
    memory.remember("mine", B, complete=True, now_s=0)
    told = [
        memory.remember(f"x{number}", A, complete=True, now_s=0)
        for number in range(ARTIFACTS_PER_PEER_MAX + 5)
    ]
    assert told == [True] * ARTIFACTS_PER_PEER_MAX + [False] * 5
    assert peers(memory, "mine") == [B]
    memory.forget("x0", A)
    assert memory.remember("another", A, complete=True, now_s=0)


def test_the_artifact_touched_longest_ago_goes_first() -> None:
    memory = HoldersMemory()
    for number in range(ARTIFACTS_MAX + 1):
        memory.remember(f"x{number}", PeerId(f"p{number % 50}"), complete=True, now_s=0)
    assert len(memory) == ARTIFACTS_MAX
    assert peers(memory, "x0") == []
    assert peers(memory, "x1") == ["p1"]
