"""Whole cores of one network in this process: nodes come, go and stop by their labels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.node import run_core
from pyrsia_node.model.errors import UnavailableError
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


def config_of(label: str, role: str = "authorized", *, builds: bool = False) -> Config:
    return Config(
        node=NodeSection(label, role),
        http=HttpSection(port=0),
        data=DataSection(host="127.0.0.1", port=0),
        p2p=P2pSection(listen=("/ip4/127.0.0.1/tcp/0",), gossip=False),
        build=BuildSection(enabled=builds),
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

    def __init__(self, folder: Path, nursery: trio.Nursery, *, builds: bool) -> None:
        self._builds = builds
        self.folder = folder
        self.nursery = nursery
        self.links: dict[str, LinkClient] = {}
        self.ids: dict[str, str] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ended: dict[str, trio.Event] = {}
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
        config = config_of(label, role, builds=self._builds)
        if label != "north":
            addresses = (await self.status("north")).addresses
            config = replace(config, p2p=replace(config.p2p, bootstrap=tuple(addresses)))
        scope = self._scopes[label] = trio.CancelScope()
        ended = self._ended[label] = trio.Event()

        async def run() -> None:
            with scope:
                # A core that returns wants to be started again, and the supervisor does.
                while not scope.cancel_called:
                    await run_core(layout, config, SystemClock())
            ended.set()

        self.nursery.start_soon(run)
        self.links[label] = LinkClient(layout.core_socket, self.nursery)
        await self.until(label, lambda _status: True)

    async def stop(self, label: str) -> None:
        """End a node's core, as a clean stop does, and wait until its store is closed."""
        self._scopes[label].cancel()
        await self._ended[label].wait()

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

    async def set_param(self, name: str, value: int, *by: str) -> None:
        """Let these nodes change a parameter; return once they all know."""
        for label in by:
            await self.propose(label, "set_param", name=name, value=value)
        for label in by:
            while (await self.members(label)).params[name] != value:
                await trio.sleep(0.02)

    async def advise(self, label: str, project: str) -> int:
        """Let a member advise against a project; return the height that holds it."""
        content = {"purl": f"pkg:pypi/{project}", "reason": "to have said something", "instead": ""}
        params = {"op": "deprecate", "content": content}
        taken = await self.links[label].call("advise", params)
        while True:
            found = await self.links[label].call("transaction", {"id": taken["transaction"]})
            if found["committed"]:
                return int(str(found["height"]))
            await trio.sleep(0.02)

    async def admit(self, newcomer: str, *by: str) -> None:
        n = (await self.status(by[0])).n
        for label in by:
            await self.propose(label, "add_node", peer=self.ids[newcomer])
        for label in (*by, newcomer):
            await self.until(label, lambda status: status.n == n + 1)


@asynccontextmanager
async def town(folder: Path, *, builds: bool = False) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(60))
        nursery = await stack.enter_async_context(trio.open_nursery())
        made = Town(folder, nursery, builds=builds)
        await made.start("north")
        yield made
        nursery.cancel_scope.cancel()
