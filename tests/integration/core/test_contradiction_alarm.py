"""A node that holds a final block that cannot follow its chain says so, also after a restart."""

from __future__ import annotations

from pathlib import Path

import trio

from pyrsia_node.replica.contradictions import Contradiction, ContradictionLocker
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.local_chain import LocalChain
from tests.integration.core.town import town
from tests.strategies.build_bodies import request


def final_block_of_another_history() -> Contradiction:
    other = LocalChain(4)
    other.commit(request(other.members[0].id))
    decision = other.chain.decision(1)
    assert decision is not None
    return Contradiction(1, *decision, "header: network is another")


async def test_the_alarm_of_a_contradiction_outlives_restarts(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        assert (await nodes.status("north")).alarms == []
        await nodes.stop("north")
        layout = nodes.layout("north")
        with LevelDbStore(layout.chain) as store:
            ContradictionLocker(store).keep(final_block_of_another_history())
        for _ in range(2):
            await nodes.start("north")
            with trio.fail_after(30):
                seen = await nodes.until("north", lambda status: bool(status.alarms))
            assert any(
                alarm.startswith("CATCH-UP: ") and "cannot follow this node's chain" in alarm
                for alarm in seen.alarms
            )
            await nodes.stop("north")
