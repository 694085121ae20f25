"""Long proofs give way between two of their steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.replica import gentle
from pyrsia_node.tlog.trust import SetChange, Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.identities import identity

CHANGES = 8


@pytest.fixture(scope="module")
def history() -> tuple[Trust, list[SetChange]]:
    """The trust of a genesis, and eight changes of its set."""
    local = LocalChain(1)
    for number in range(CHANGES):
        local.commit(*local.add(identity(300 + number)))
    genesis = Trust.establish(TrustFile(local.genesis.encode(), ()))
    return genesis, list(set_changes(local.chain))


async def test_others_get_their_turn_between_two_changes(
    history: tuple[Trust, list[SetChange]],
) -> None:
    genesis, changes = history
    seen: list[int] = []
    turns = 0

    async def heartbeat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat)
        await trio.lowlevel.checkpoint()
        before = turns
        found = await gentle.extended(genesis, changes)
        seen.append(turns - before)
        nursery.cancel_scope.cancel()
    assert seen[0] >= CHANGES - 1
    assert found == genesis.extended(*changes)


async def test_what_does_not_hold_is_refused_as_in_one_go(
    history: tuple[Trust, list[SetChange]],
) -> None:
    genesis, changes = history
    bad = [*changes[:5], replace(changes[5], certificate=changes[4].certificate)]
    with pytest.raises(VerificationError) as gently:
        await gentle.extended(genesis, bad)
    with pytest.raises(VerificationError) as at_once:
        genesis.extended(*bad)
    assert str(gently.value) == str(at_once.value)
