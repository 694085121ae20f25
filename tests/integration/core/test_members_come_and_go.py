"""Whole cores in one process: a network of one admits others, and lets them go, while it runs."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.node import run_core
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import Status
from pyrsia_node.schema.motions import Members, MotionTaken
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    HttpSection,
    NodeSection,
    P2pSection,
)
from pyrsia_node.tlog.trust import Trust, TrustFile

# The library leaves sockets to the collector when both ends of a connection end at once.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    # It must not fail another test.
    yield
    gc.collect()


def config_of(label: str, role: str = "authorized") -> Config:
    return Config(
        node=NodeSection(label, role),
        http=HttpSection(port=0),
        data=DataSection(host="127.0.0.1", port=0),
        p2p=P2pSection(listen=("/ip4/127.0.0.1/tcp/0",), gossip=False),
        build=BuildSection(enabled=False),
    )


async def answer_of(link: LinkClient) -> Status:
    """Return a core's status as soon as it answers."""
    while True:
        try:
            return Status.parse(await link.call("status", {}))
        except UnavailableError:
            await trio.sleep(0.02)


class Town:
    """Nodes of one network by label; ``enter`` starts one in the test's nursery."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.nursery = nursery
        self.links: dict[str, LinkClient] = {}
        self.ids: dict[str, str] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        layout = self._made("north")
        self.genesis = found_network("devnet-town", [layout.member_record], clock=SystemClock())
        join_network(layout, self.genesis, [])

    def layout(self, label: str) -> Layout:
        return Layout(self.folder / label)

    def _made(self, label: str, role: str = "authorized") -> Layout:
        self.ids[label] = str(initialize(self.layout(label), config_of(label, role)).record.id)
        return self.layout(label)

    async def enter(self, label: str, *, role: str = "authorized") -> None:
        if label not in self.ids:
            addresses = (await self.status("north")).addresses
            join_network(self._made(label, role), self.genesis, addresses)
        await self.start(label, role=role)

    async def start(self, label: str, *, role: str = "authorized") -> None:
        layout = self.layout(label)
        config = config_of(label, role)
        if label != "north":
            addresses = (await self.status("north")).addresses
            config = replace(config, p2p=replace(config.p2p, bootstrap=tuple(addresses)))
        scope = self._scopes[label] = trio.CancelScope()

        async def run() -> None:
            with scope:
                await run_core(layout, config, SystemClock())

        self.nursery.start_soon(run)
        self.links[label] = LinkClient(layout.core_socket, self.nursery)
        await self.until(label, lambda _status: True)

    async def status(self, label: str) -> Status:
        return Status.parse(await self.links[label].call("status", {}))

    async def members(self, label: str) -> Members:
        return Members.parse(await self.links[label].call("members", {}))

    async def until(self, label: str, is_so: Callable[[Status], bool]) -> Status:
        while not is_so(status := await answer_of(self.links[label])):
            await trio.sleep(0.02)
        return status

    async def propose(self, label: str, op: str, **content: object) -> MotionTaken:
        """Bring a motion as soon as ``label`` can: links between nodes take a moment."""
        while True:
            try:
                params = {"op": op, "content": content}
                return MotionTaken.parse(await self.links[label].call("propose", params))
            except UnavailableError:
                await trio.sleep(0.05)

    async def admit(self, newcomer: str, *by: str) -> None:
        n = (await self.status(by[0])).n
        for label in by:
            await self.propose(label, "add_node", peer=self.ids[newcomer])
        for label in (*by, newcomer):
            await self.until(label, lambda status: status.n == n + 1)


@asynccontextmanager
async def town(folder: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(60))
        nursery = await stack.enter_async_context(trio.open_nursery())
        made = Town(folder, nursery)
        await made.start("north")
        yield made
        nursery.cancel_scope.cancel()


async def test_one_node_admits_a_second_which_votes_without_a_restart(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        # With two members both must vote: the next block proves that the newcomer does.
        taken = await nodes.propose("north", "set_param", name="open_max", value=99)
        assert taken.needed == 2
        shown = await nodes.members("south")
        while not shown.motions or shown.motions[0].content is None:
            await trio.sleep(0.05)
            shown = await nodes.members("south")
        (motion,) = shown.motions
        assert (motion.title, motion.missing) == ("set open_max = 99", ["south"])
        await nodes.links["south"].call("approve", {"subject": motion.subject})
        for label in ("north", "south"):
            while (await nodes.members(label)).params["open_max"] != 99:
                await trio.sleep(0.02)
        assert (await nodes.members("north")).motions == []


async def test_a_removed_member_votes_no_more_and_still_follows(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        for label in ("north", "south"):
            await nodes.propose(label, "remove_node", node=nodes.ids["south"])
        for label in ("north", "south"):
            await nodes.until(label, lambda status: status.n == 1)
        params = {"op": "set_param", "content": {"name": "open_max", "value": 7}}
        with pytest.raises(UnavailableError, match="only authorized nodes"):
            await nodes.links["south"].call("propose", params)
        await nodes.propose("north", "set_param", name="open_max", value=7)
        while (await nodes.members("south")).params["open_max"] != 7:
            await trio.sleep(0.02)


async def test_a_node_that_does_not_want_to_vote_is_no_candidate(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("reader", role="regular")
        with pytest.raises(InvalidInputError, match="reader is no candidate"):
            await nodes.propose("north", "add_node", peer=nodes.ids["reader"])


async def test_the_trust_file_follows_the_set_and_restarts_find_it(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        await nodes.propose("north", "set_param", name="burst", value=5)
        await nodes.propose("south", "set_param", name="burst", value=5)
        for label in ("north", "south"):
            await nodes.until(label, lambda status: status.published_size == status.size)
    text = Layout(tmp_path / "south").trust.read_bytes()
    trust = Trust.establish(TrustFile.parse(text))
    assert [len(epoch.members.members) for epoch in trust.epochs] == [1, 2]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            genesis = Genesis.decode(Layout(tmp_path / "north").genesis.read_bytes())
            assert genesis.network_id == trust.genesis.network_id
            layout = Layout(tmp_path / "south")
            link = LinkClient(layout.core_socket, nursery)
            nursery.start_soon(run_core, layout, config_of("south"), SystemClock())
            status = await answer_of(link)
            assert (status.n, status.published_size) == (2, status.size)
            nursery.cancel_scope.cancel()
