"""Whole cores in one process: a network of one admits others, and lets them go, while it runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from consensus.effects import RecordKind
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.node import run_core
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog, height_in
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.integration.core.town import answer_of, config_of, town


@pytest.fixture(autouse=True)
def _no_socket_is_left() -> Iterator[None]:
    """Find a socket that nobody closed in the test that left it: warnings are errors."""
    yield
    gc.collect()


def newest_vote(layout: Layout) -> int:
    """Return the height of the newest vote in a stopped node's write-ahead log."""
    with LevelDbStore(layout.chain) as store:
        records, damage = WriteAheadLog(layout.wal, StoreAnchor(store)).read()
    assert not damage
    return height_in([record for record in records if record.kind is RecordKind.VOTE])


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
        left_at = (await nodes.status("south")).height
        params = {"op": "set_param", "content": {"name": "open_max", "value": 7}}
        with pytest.raises(UnavailableError, match="only authorized nodes"):
            await nodes.links["south"].call("propose", params)
        for value in (6, 7):
            await nodes.set_param("open_max", value, "north")
        while (await nodes.members("south")).params["open_max"] != 7:
            await trio.sleep(0.02)
        await nodes.stop("south")
        assert 0 < newest_vote(nodes.layout("south")) <= left_at


async def test_a_node_that_does_not_want_to_vote_is_no_candidate(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("reader", role="regular")
        with pytest.raises(InvalidInputError, match="reader is no candidate"):
            await nodes.propose("north", "add_node", peer=nodes.ids["reader"])


async def test_a_candidate_that_nobody_can_reach_is_named(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.stop("south")
        params = {"op": "add_node", "content": {"peer": nodes.ids["south"]}}
        with pytest.raises(UnavailableError, match=nodes.ids["south"]):
            await nodes.links["north"].call("propose", params)


async def test_a_motion_that_too_few_approve_lapses(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        params = {"op": "set_param", "content": {"name": "burst", "value": 5}, "heights": 3}
        taken = await nodes.links["north"].call("propose", params)
        while not (await nodes.members("south")).motions:
            await trio.sleep(0.02)
        (motion,) = (await nodes.members("south")).motions
        (approval,) = motion.approvals
        for number in range(4):
            await nodes.advise("south", f"six{number}")
        for label in ("north", "south"):
            assert (await nodes.members(label)).motions == []
        assert (await nodes.status("north")).height > approval.expiry
        with pytest.raises(NotFoundError, match="ask whoever brought it"):
            await nodes.links["south"].call("approve", {"subject": taken["subject"]})
        # Brought again, it needs everybody again: what lapsed counts no more.
        await nodes.propose("south", "set_param", name="burst", value=5)
        while not (await nodes.members("south")).motions:
            await trio.sleep(0.02)
        (motion,) = (await nodes.members("south")).motions
        assert motion.missing == ["north"]
        assert (await nodes.members("south")).params["burst"] != 5


async def test_an_approval_that_comes_too_late_is_not_left_behind(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        south = nodes.ids["south"]
        nobody = south[:-1] + ("y" if south.endswith("x") else "x")
        for op, content, why in (
            ("add_node", {"peer": south}, "is an authorized node already"),
            ("remove_node", {"node": nobody}, "is no authorized node"),
        ):
            with pytest.raises(InvalidInputError, match=why):
                await nodes.links["north"].call("propose", {"op": op, "content": content})
        assert (await nodes.members("north")).motions == []


async def test_a_motion_that_can_never_be_valid_is_refused_by_its_rule(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("reader", role="regular")
        entry = {"purl": "pkg:pypi/six@1.17.0", "entry": 0, "reason": "wrong"}
        for op, content, why in (
            ("set_param", {"name": "foo", "value": 4}, "no parameter is named 'foo'"),
            ("set_param", {"name": "min_authorized", "value": 10**6}, "not 1 to"),
            ("set_param", {"name": "rules", "value": 1}, "not 2 to"),
            ("set_param", {"name": "sealed", "value": 0}, "is 0 already"),
            ("remove_node", {"node": nodes.ids["reader"]}, "is no authorized node"),
            ("remove_node", {"node": nodes.ids["north"]}, "is the last authorized node"),
            ("add_node", {"peer": nodes.ids["reader"]}, "is no candidate"),
            ("withdraw", entry, "entry 0 is no accepted build"),
            ("withdraw", {**entry, "entry": 10**6}, "there is no entry 1000000"),
        ):
            with pytest.raises(InvalidInputError, match=why):
                await nodes.propose("north", op, **content)
        assert (await nodes.members("north")).motions == []
        assert (await nodes.status("north")).height == 0


async def test_a_motion_that_became_impossible_says_so_on_every_node(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        await nodes.enter("reader", role="regular")
        file = {"purl": "pkg:pypi/six@1.17.0", "sha256": "ab" * 32}
        late = await nodes.propose("north", "revoke", **file, reason="harmful")
        for label in ("north", "south"):
            await nodes.propose(label, "revoke", **file, reason="harmful, as its author says")
        for label in ("north", "south", "reader"):
            motions = (await nodes.members(label)).motions
            while [each.subject for each in motions] != [late.subject] or not motions[0].detail:
                await trio.sleep(0.02)
                motions = (await nodes.members(label)).motions
            assert motions[0].detail.endswith("says revoke already")
        with pytest.raises(InvalidInputError, match="says revoke already"):
            await nodes.links["south"].call("approve", {"subject": late.subject})


async def test_a_network_too_small_for_builds_says_so_before_it_tries_one(tmp_path: Path) -> None:
    async with town(tmp_path, builds=True) as nodes:
        params = {"ecosystem": "pypi", "name": "six", "version": "1.17.0"}
        with pytest.raises(InvalidInputError, match="from 3 authorized nodes on"):
            await nodes.links["north"].call("build", params)


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
