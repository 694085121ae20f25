"""A final block that cannot follow this chain is known until it no longer contradicts it."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.replica.catchup_wire import join_prefixed
from pyrsia_node.replica.contradictions import (
    Contradiction,
    ContradictionLocker,
    reason_against,
)
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make


def chain_of(height: int, *, later_ms: int = 0, store: KeyValueStore | None = None) -> LocalChain:
    local = LocalChain(4, store=store)
    local.now_ms += later_ms
    for number in range(height):
        local.now_ms += 1_000
        local.commit(make.request(local.members[number % 4].id, lock=f"{number}"))
    return local


def decided(local: LocalChain, height: int) -> Contradiction:
    """Return what a follower would keep of a block of another history."""
    decision = local.chain.decision(height)
    assert decision is not None
    return Contradiction(height, *decision, "header: parent is another")


@pytest.fixture
def ours() -> LocalChain:
    return chain_of(1)


@pytest.fixture
def theirs() -> LocalChain:
    return chain_of(3, later_ms=60_000)


def test_what_contradicts_the_next_height_is_found_by_each_start(
    ours: LocalChain, theirs: LocalChain
) -> None:
    found = decided(theirs, 2)
    ContradictionLocker(ours.store).keep(found)
    for _ in range(2):
        assert ContradictionLocker(ours.store).standing(ours.reopen()) == found
    assert "block of height 2 that cannot follow" in found.words
    assert "recover.md" in found.words


def test_another_block_than_the_committed_one_stands_too(
    ours: LocalChain, theirs: LocalChain
) -> None:
    found = decided(theirs, 1)
    ContradictionLocker(ours.store).keep(found)
    assert ContradictionLocker(ours.store).standing(ours.chain) == found
    assert reason_against(ours.chain, found.block, 1).startswith("height 1 is block ")


def test_the_lowest_is_told(ours: LocalChain, theirs: LocalChain) -> None:
    locker = ContradictionLocker(ours.store)
    for height in (2, 1):
        locker.keep(decided(theirs, height))
    standing = locker.standing(ours.chain)
    assert standing is not None
    assert standing.height == 1


def test_a_block_that_follows_after_all_is_forgotten(ours: LocalChain) -> None:
    """It was kept by a release that did not know a rule; this one does."""
    ahead = chain_of(2)
    locker = ContradictionLocker(ours.store)
    locker.keep(decided(ahead, 1))  # committed here, too
    locker.keep(decided(ahead, 2))  # and the next one
    assert locker.standing(ours.chain) is None
    assert list(ours.store.scan(b"catch-up/")) == []


def test_one_beyond_the_next_height_waits_until_the_chain_gets_there(
    ours: LocalChain, theirs: LocalChain
) -> None:
    found = decided(theirs, 3)
    locker = ContradictionLocker(ours.store)
    locker.keep(found)
    assert locker.standing(ours.chain) is None
    ours.now_ms += 1_000
    ours.commit(make.request(ours.members[1].id, lock="more"))
    assert locker.standing(ours.chain) == found


@pytest.mark.parametrize(
    "row", [b"", b"\x00\x00\x00\x09cut", join_prefixed([b"no block", b"", b""])]
)
def test_row_that_is_no_contradiction_is_corruption(ours: LocalChain, row: bytes) -> None:
    ours.store.write([(b"catch-up/contradiction/" + (2).to_bytes(8, "big"), row)], sync=True)
    with pytest.raises(CorruptStateError, match="contradiction of height 2 in the store"):
        ContradictionLocker(ours.store).standing(ours.chain)
