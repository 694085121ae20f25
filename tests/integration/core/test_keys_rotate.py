"""A member changes its keys while the network runs; killed at any step, it comes back as itself."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from consensus.ed25519 import verify
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import initialize
from pyrsia_node.core.rotation import keys_in_force, make_next_keys, next_keys
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.genesis import Genesis, make_genesis
from pyrsia_node.model.members import SignedMember, sign_member
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import KeyUse, load_keys
from pyrsia_node.store.leveldb import LevelDbStore
from tests.integration.core.town import Town, config_of, town


@pytest.fixture(autouse=True)
def _no_socket_is_left() -> Iterator[None]:
    """Find a socket that nobody closed in the test that left it: warnings are errors."""
    yield
    gc.collect()


def peer_of(layout: Layout) -> str:
    return peer_id_of(load_keys(layout.node_key).public(KeyUse.P2P))


async def rotate(nodes: Town, label: str, *others: str) -> None:
    """Let the others approve new keys of ``label``, and wait until it runs with them."""
    wanted = peer_id_of(make_next_keys(nodes.layout(label)).public(KeyUse.P2P))
    taken = await nodes.propose(label, "rotate_key")
    for other in others:
        await approve(nodes, other, taken.subject)
    await nodes.until(label, lambda status: status.peer_id == wanted)


async def approve(nodes: Town, label: str, subject: str) -> None:
    """Let one node approve a motion as soon as it knows of it."""
    while not any(one.subject == subject for one in (await nodes.members(label)).motions):
        await trio.sleep(0.02)
    while True:
        try:
            await nodes.links[label].call("approve", {"subject": subject})
            break
        except UnavailableError:
            await trio.sleep(0.02)


async def test_a_member_rotates_its_keys_and_votes_on_by_itself(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        before = peer_of(nodes.layout("south"))
        await rotate(nodes, "south", "north")
        layout = nodes.layout("south")
        assert peer_of(layout) != before
        assert not layout.next_key.exists()
        (kept,) = layout.keys.glob("node.key.before-epoch-*")
        assert peer_id_of(load_keys(kept).public(KeyUse.P2P)) == before
        # Of two members both must vote: only with the new keys does this pass.
        await nodes.set_param("open_max", 99, "north", "south")
        shown = await nodes.members("north")
        assert {each.id: each.connected for each in shown.members}[nodes.ids["south"]]
        status = await nodes.until("north", lambda status: all(m.connected for m in status.set))
        assert [each.id for each in status.set] == [each.id for each in shown.members]
        # Its checkpoints are cosigned and published as before.
        await nodes.until("south", lambda status: status.published_size == status.size)


async def test_a_member_whose_new_keys_are_gone_says_so_lives_on_and_votes_once_they_are_back(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        await rotate(nodes, "south", "north")
        layout, new = nodes.layout("south"), peer_of(nodes.layout("south"))
        await nodes.stop("south")
        (kept,) = layout.keys.glob("node.key.before-epoch-*")
        elsewhere = layout.node_key.rename(tmp_path / "elsewhere")
        kept.rename(layout.node_key)
        await nodes.start("south")
        shown = await nodes.until("south", lambda status: bool(status.alarms))
        assert shown.peer_id != new
        (alarm,) = shown.alarms
        assert alarm.startswith("SILENT in consensus: the log names other keys for this node")
        assert f"back as {layout.next_key} and start the node again" in alarm
        assert f"`pyrsia remove --peer {nodes.ids['south']}`" in alarm
        # It stays so, and its core lives; it takes no part in anything.
        wish = {"op": "set_param", "content": {"name": "open_max", "value": 98}}
        with pytest.raises(UnavailableError, match="only authorized nodes"):
            await nodes.links["south"].call("propose", wish)
        assert (await nodes.status("south")).alarms == [alarm]
        await nodes.stop("south")
        elsewhere.rename(layout.next_key)
        await nodes.start("south")
        await nodes.until("south", lambda status: not status.alarms)
        assert peer_of(layout) == new
        # Of two members both must vote.
        await nodes.set_param("open_max", 98, "north", "south")


async def test_without_next_keys_it_says_what_makes_them(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        with pytest.raises(InvalidInputError, match="`pyrsia-node rotate-key --data"):
            await nodes.propose("north", "rotate_key")
        make_next_keys(nodes.layout("north"))
        with pytest.raises(InvalidInputError, match="waits to be put in force already"):
            make_next_keys(nodes.layout("north"))


def committed_rotation(folder: Path) -> tuple[Layout, Genesis]:
    """Make a stopped node whose chain names its next keys, as after the block that orders them."""
    layout = Layout(folder / "node")
    initialize(layout, config_of("north"))
    later = make_next_keys(layout)
    member = sign_member("north", later.member_keys(), later.member_signers())
    genesis = make_genesis(
        "devnet-rotation",
        time_ms=SystemClock().now_ms(),
        members=[member],
        verify=verify,
    )
    layout.genesis.write_bytes(genesis.encode())
    with LevelDbStore(layout.chain) as store:
        Chain.open(store, genesis)
    return layout, genesis


DIES = """
import os, signal, sys
from pathlib import Path
from pyrsia_node.core import rotation
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.leveldb import LevelDbStore

layout, left = Layout(Path(sys.argv[1])), [int(sys.argv[2])]

def dying(step):
    def call(*arguments):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return step(*arguments)
    return call

with LevelDbStore(layout.chain) as store:
    chain = Chain.open(store, Genesis.decode(layout.genesis.read_bytes()))
    os.link, Path.replace = dying(os.link), dying(Path.replace)
    rotation.sync_directory = dying(rotation.sync_directory)
    rotation.keys_in_force(layout, chain)
"""
STEPS = 4
"""Link the old key, sync, rename the next one, sync."""


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_killed_at_any_step_the_next_start_has_the_new_keys_and_keeps_the_old(
    tmp_path: Path, step: int
) -> None:
    layout, genesis = committed_rotation(tmp_path)
    old, new = peer_of(layout), str(genesis.members[0].record.id)
    command = [sys.executable, "-c", DIES, str(layout.root), str(step)]
    done = subprocess.run(command, check=False, timeout=30)
    assert done.returncode == (-signal.SIGKILL if step < STEPS else 0)
    for _ in range(2):
        with LevelDbStore(layout.chain) as store:
            keys = keys_in_force(layout, Chain.open(store, genesis))
        assert peer_id_of(keys.public(KeyUse.P2P)) == peer_of(layout) == new
        assert next_keys(layout) is None
        (kept,) = layout.keys.glob("node.key.before-epoch-*")
        assert peer_id_of(load_keys(kept).public(KeyUse.P2P)) == old


def test_keys_that_no_block_named_stay_unused(tmp_path: Path) -> None:
    layout, genesis = committed_rotation(tmp_path)
    old, later = load_keys(layout.node_key), load_keys(layout.next_key)
    mine = SignedMember.decode(layout.member_record.read_bytes())
    other = replace(genesis, members=(mine,))
    layout.chain.rename(tmp_path / "elsewhere")
    with LevelDbStore(layout.chain, create=True) as store:
        keys = keys_in_force(layout, Chain.open(store, other))
    assert keys.public(KeyUse.VOTE) == old.public(KeyUse.VOTE)
    assert load_keys(layout.next_key).public(KeyUse.VOTE) == later.public(KeyUse.VOTE)
