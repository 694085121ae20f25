"""A key is rotated while work waits: whenever the member starts again, the log goes on.

Between the block that rotates its key and its next start a member still holds the old one, and
what waits to be ordered asks for its vote. Real logs of votes, chains and drivers; links in memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.membership import MembershipOperation
from pyrsia_node.model.transactions import Transaction, sign_transaction
from tests.fakes.member_network import MemberNode
from tests.integration.replica.story import OWN, Story, heights_voted
from tests.strategies import member_bodies as change
from tests.strategies.identities import identity

WISHES = {
    "open_max": 99,
    "burst": 5,
    "rate_per_hour": 77,
    "class_ms.S": 420_000,
    "class_ms.M": 4_200_000,
}
"""Parameters that wait to be changed, one a block, when the block with the rotation commits."""


@pytest.fixture
def fast_clock() -> MockClock:
    # Not one that jumps: it would jump whenever a log is being synced, and every timer would fire.
    return MockClock(rate=25)


class Rotation:
    """Members of which one gets new keys in the middle of other work, which another brings."""

    def __init__(self, folder: Path, n: int, *, rotated: int = 0) -> None:
        self.story = Story(folder, n)
        self.rotated = rotated
        self.author = 0 if rotated else n - 1
        members = self.story.network.members
        self.others = [index for index in range(n) if index != rotated]
        self.after = change.renewed(members[rotated].member.record, identity(500))

    async def first_life(
        self, *, blocks: int, ends_after_s: float, others_go_on: bool
    ) -> list[MemberNode]:
        """Let the rotation commit under load, and the rotated member end so long after it.

        ``blocks`` come before: they decide who leads the height after the rotation. All others
        end at the same time, or they go on for a moment without it.
        """
        async with self.story.life(*self.others) as others:
            async with self.story.life(self.rotated) as (own,):
                await self.story.commit([own, *others], blocks)
                await self.ask([own, *others])
                while own.chain.tip.set_leaf.epoch == 0:
                    await own.watch.beyond(own.watch.height)
                await trio.sleep(ends_after_s)
            if others_go_on:
                await trio.sleep(0.5)
        return [own, *others]

    async def ask(self, nodes: list[MemberNode]) -> None:
        """Bring the rotation and, with it, everything that shall wait behind it."""
        members, chain_id = self.story.network.members, self.story.network.genesis.network_id
        tip = nodes[self.rotated].chain.tip
        head = Head(tip.size, Sha256(tip.root.hex()))
        rotation = change.rotate(self.after, chain_id, height=tip.height, head=head)
        wishes: list[MembershipOperation] = [
            change.set_param(members[self.author].id, name, value, nonce=number)
            for number, (name, value) in enumerate(WISHES.items())
        ]
        for node, member in zip(nodes, members, strict=True):
            for wish in (rotation, *wishes):
                await self._submit(node, change.approve(member.id, wish, chain_id, expiry=500))
        await self._submit(nodes[self.rotated], rotation)
        for wish in wishes:
            await self._submit(nodes[self.author], wish)

    async def _submit(self, node: MemberNode, body: Transaction) -> None:
        network_id = self.story.network.genesis.network_id
        signed = sign_transaction(body, network_id=network_id, sign=node.identity.sign["tx"])
        await node.pending.submit(signed.encoded)

    def put_new_keys_in_force(self) -> None:
        """Do what the next start of the member does: hold the keys that the set names."""
        members = list(self.story.network.members)
        members[self.rotated] = self.after
        self.story.network.members = tuple(members)

    async def second_life(self) -> list[MemberNode]:
        """Let everything that waits be carried out, and some more."""
        async with self.story.life(*range(len(self.others) + 1)) as nodes:
            await self.carry_out(nodes)
        return nodes

    async def carry_out(self, nodes: list[MemberNode]) -> None:
        """Wait until nothing waits, and have two more blocks committed by everybody."""
        for node in nodes:
            while not _has_all_wishes(node):
                await node.watch.beyond(node.watch.height)
        await self.story.commit(nodes, 2)


def _has_all_wishes(node: MemberNode) -> bool:
    found = node.chain.params
    return all(found.value_of(name) == value for name, value in WISHES.items())


@pytest.mark.parametrize("others", ["go on", "start again"])
@pytest.mark.parametrize(("blocks", "ends_after_s"), [(1, 0.05), (1, 0.3), (2, 0.0), (2, 2.0)])
@pytest.mark.parametrize("n", [2, 3, 4])
async def test_log_goes_on_whenever_the_rotated_member_starts_again(
    *, n: int, blocks: int, ends_after_s: float, others: str, tmp_path: Path, fast_clock: MockClock
) -> None:
    rotation = Rotation(tmp_path, n)
    first = await rotation.first_life(
        blocks=blocks, ends_after_s=ends_after_s, others_go_on=others == "go on"
    )
    rotation.put_new_keys_in_force()
    second = await rotation.second_life()
    for node in first + second:
        assert not [why for _, why in node.refusals if "not signed" in why]
    rotation.story.assert_nobody_contradicted_itself()


async def test_member_whose_new_keys_are_not_there_votes_for_nothing_and_follows(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    rotation = Rotation(tmp_path, 4, rotated=OWN)
    story = rotation.story
    # Its core runs on; the others carry out all that waits, and more.
    async with story.life(*range(4)) as nodes:
        await rotation.ask(nodes)
        await rotation.carry_out(nodes)
        own = nodes[OWN]
        rotated = own.chain.tip.epoch_height
        assert max(heights_voted(own)) <= rotated < own.chain.tip.height
    # It starts again, and still holds the old keys.
    async with story.life(*range(4)) as nodes:
        await story.commit(nodes, 2)
        assert heights_voted(nodes[OWN]) == set()
    # The new keys are put in their place: with another one down, nothing commits without them.
    rotation.put_new_keys_in_force()
    async with story.life(*range(4)) as nodes:
        own = nodes[OWN]
        await story.commit(nodes, 1)
        story.network.down.add(nodes[1].me)
        await story.commit([nodes[0], nodes[2], own], 2)
        assert own.chain.tip.height in heights_voted(own)
        story.network.down.clear()
    assert not [why for node in story.lives for _, why in node.refusals if "not signed" in why]
    story.assert_nobody_contradicted_itself()
