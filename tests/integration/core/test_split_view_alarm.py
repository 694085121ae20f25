"""A running node is shown another tree of its log: alarm, proof on disk, and after a restart.

The traitor is the only member of a network, with its keys on two machines: each copy cosigns a
history of its own. Whole cores and real sockets; the gossip that finds it is the one that runs.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.node import run_core
from pyrsia_node.devnet.ports import free_ports
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import sign_transaction
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.evidence import EvidenceList
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import Status
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    HttpSection,
    NodeSection,
    P2pSection,
)
from pyrsia_node.store.keys import KeyUse, load_keys
from pyrsia_node.tlog.split_view import SplitViewProof
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.integration.core.town import answer_of
from tests.strategies.build_bodies import request


@pytest.fixture(autouse=True)
def _no_socket_is_left() -> Iterator[None]:
    """Find a socket that nobody closed in the test that left it: warnings are errors."""
    yield
    gc.collect()


def config(label: str, role: str, port: int) -> Config:
    return Config(
        node=NodeSection(label, role),
        http=HttpSection(port=0),
        data=DataSection(host="127.0.0.1", port=0),
        p2p=P2pSection(listen=(f"/ip4/127.0.0.1/tcp/{port}",)),
        build=BuildSection(enabled=False),
    )


class World:
    """One member, twice, and a regular node that knows its address."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.member = config("north", "authorized", port)
        self.first, self.second = Layout(folder / "north"), Layout(folder / "twin")
        initialize(self.first, self.member)
        params = replace(DEFAULT_PARAMS, min_authorized=1)
        records = [self.first.member_record]
        self.genesis = found_network("devnet-two", records, clock=SystemClock(), params=params)
        join_network(self.first, self.genesis, [])
        shutil.copytree(self.first.root, self.second.root)
        self.viewer = Layout(folder / "viewer")
        initialize(self.viewer, config("viewer", "regular", 0))
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{self.genesis.members[0].record.id}"
        self.viewing = join_network(self.viewer, self.genesis, [address])

    def wanted(self, number: int) -> str:
        signer = load_keys(self.first.node_key).signer(KeyUse.TX)
        body = request(
            self.genesis.members[0].record.id,
            purl=Purl.pypi("six", f"1.{number}"),
            until=SystemClock().now_ms() + 3_600_000,
            nonce=number,
        )
        signed = sign_transaction(body, network_id=self.genesis.network_id, sign=signer)
        return signed.encoded.decode()


class Core:
    """A core in a task of its own, which ends when it is told to, whatever else runs."""

    def __init__(self, nursery: trio.Nursery, layout: Layout, settings: Config) -> None:
        self._layout, self._settings = layout, settings
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self.link = LinkClient(layout.core_socket, nursery)
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            await run_core(self._layout, self._settings, SystemClock())
        self._ended.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._ended.wait()


async def started(nursery: trio.Nursery, layout: Layout, settings: Config) -> Core:
    """Start a core; return when it answers."""
    core = Core(nursery, layout, settings)
    await answer_of(core.link)
    return core


async def until_published(link: LinkClient, height: int) -> Status:
    while True:
        status = await answer_of(link)
        if status.height >= height and status.published_size == status.size:
            return status
        await trio.sleep(0.02)


async def split_views(link: LinkClient) -> list[str]:
    return [each for each in (await answer_of(link)).alarms if "SPLIT VIEW" in each]


async def until_alarmed(link: LinkClient, what: str) -> list[str]:
    """Wait until an alarm tells of ``what``; return all that there are by then."""
    while True:
        alarms = await split_views(link)
        if any(what in alarm for alarm in alarms):
            return alarms
        await trio.sleep(0.02)


@pytest.mark.parametrize("more", [0, 2], ids=["same size", "longer"])
async def test_a_node_that_is_shown_another_tree_raises_the_alarm_and_keeps_the_proof(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, more: int
) -> None:
    world = World(tmp_path)
    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            member = await started(nursery, world.first, world.member)
            await member.link.call("submit", {"transaction": world.wanted(1)})
            viewer = await started(nursery, world.viewer, world.viewing)
            seen = await until_published(viewer.link, 1)
            assert seen.alarms == []
            await member.stop()

            twin = await started(nursery, world.second, world.member)
            for number in range(1 + more):
                await twin.link.call("submit", {"transaction": world.wanted(2 + number)})
                await until_published(twin.link, 1 + number)
            shown = await answer_of(twin.link)
            assert shown.root != seen.root
            cosigned = f"north cosigned size {shown.size} with root {shown.root}"
            alarms = await until_alarmed(viewer.link, cosigned)
            # One for each head of the other tree that it was shown; the last one is shown for sure.
            assert 1 <= len(alarms) <= 1 + more
            assert all("north cosigned size" in alarm for alarm in alarms)
            assert "split view: north cosigned" in caplog.text
            told = EvidenceList.parse(await viewer.link.call("evidence", {}))
            await twin.stop()
            await viewer.stop()
            trust = Trust.establish(TrustFile(world.genesis.encode()))
            paths = sorted(world.viewer.evidence.glob("split-view-*.json"))
            assert len(paths) == len(told.split_views) == len(alarms)
            for path in paths:
                assert SplitViewProof.decode(path.read_bytes()).judge(trust) == ("north",)
            (line,) = [each for each in told.split_views if each.size == shown.size]
            assert line.file in {path.name for path in paths}
            assert (line.root, line.signed_both, line.is_proved) == (shown.root, ["north"], True)
            assert (line.our_size, line.our_root) == (seen.size, seen.root)

            viewer = await started(nursery, world.viewer, world.viewing)
            assert sorted(await split_views(viewer.link)) == sorted(alarms)
            await viewer.stop()
            nursery.cancel_scope.cancel()
    caplog.clear()  # errors that were logged hold the sockets that they happened to
