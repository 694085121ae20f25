"""How nodes find each other, know each other, and refuse whom they should."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.p2p.network import Network
from tests.integration.p2p.nodes import CONFIG, node, nodes, peer
from tests.integration.p2p.victim import GENESIS

OTHER_GENESIS = "6b" * 32


async def until(condition: Callable[[], bool], *, seconds: float = 8) -> None:
    """Wait for what no event announces."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.02)


def known_labels(network: Network) -> set[str]:
    return {known.label for known in network.directory()}


async def test_nodes_learn_of_each_other_through_a_third() -> None:
    async with nodes(3) as (first, second, third):
        await until(lambda: "node-2" in known_labels(third))
        assert third.peer_id not in second.connected()
        await third.ask(second.peer_id, "record", b"", timeout_s=5, answer_bytes_max=4096)
        assert third.peer_id in second.connected()
        assert first.connected() == sorted([second.peer_id, third.peer_id])


async def test_the_directory_shows_what_a_peer_says_of_itself() -> None:
    config = replace(CONFIG, role="authorized", version="1.2.3")
    async with node(1, config=config) as first, node(2, first) as second:
        first.set_height(42)
        await second.until_connected(first.peer_id)
        await until(lambda: second.directory()[0].label == "node-1")
        (known,) = second.directory()
        assert (known.peer, known.role, known.version) == (first.peer_id, "authorized", "1.2.3")
        assert known.height in (0, 42)
        assert known.connected
        assert known.addresses[0] in first.addresses[0]


async def test_heights_are_kept_fresh_on_a_living_connection() -> None:
    async with nodes(2) as (first, second):
        first.set_height(7)
        second.set_height(9)
        await until(lambda: second.directory()[0].height == 7)
        await until(lambda: first.directory()[0].height == 9)


async def test_a_changed_data_listener_is_told_at_once() -> None:
    async with nodes(2) as (first, second):
        await until(lambda: "node-1" in known_labels(second))
        first.set_data_listener("https://127.0.0.1:8443", "ab" * 32)
        await until(lambda: second.directory()[0].data_url == "https://127.0.0.1:8443", seconds=3)
        assert second.directory()[0].fingerprint == "ab" * 32


async def test_another_genesis_is_refused_and_both_sides_name_both_hashes_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "pyrsia.p2p")
    async with node(1) as first:
        foreign = replace(CONFIG, genesis=OTHER_GENESIS)
        async with node(2, first, config=foreign) as second:
            await until(lambda: second.statistics().foreign == {first.peer_id: GENESIS})
            await until(lambda: first.statistics().foreign == {second.peer_id: OTHER_GENESIS})
            with pytest.raises(UnavailableError, match=GENESIS), trio.fail_after(5):
                await second._ways.reach(first.peer_id)
            assert first.connected() == second.connected() == []
            await until(lambda: first.statistics().connections == 0)
    told = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(told) == 2
    assert all(GENESIS in text and OTHER_GENESIS in text for text in told)


async def test_a_bootstrap_peer_that_comes_late_is_found() -> None:
    async with node(1) as first:
        (address,) = first.addresses
    async with node(2, config=replace(CONFIG, bootstrap=(address,))) as second:
        await trio.sleep(1.0)
        assert second.connected() == []
        listen = (address.rsplit("/p2p/", 1)[0],)
        async with node(1, config=replace(CONFIG, listen=listen)) as again:
            with trio.fail_after(10):
                await second.until_connected(again.peer_id)


async def test_a_restarted_peer_is_dialled_again() -> None:
    async with node(1) as first:
        (address,) = first.addresses
        listen = (address.rsplit("/p2p/", 1)[0],)
        async with node(2, first) as second:
            await second.until_connected(first.peer_id)
            await first._ways._close_all()
            await until(lambda: first.peer_id not in second.connected())
            async with node(1, config=replace(CONFIG, listen=listen)) as again:
                with trio.fail_after(10):
                    await second.until_connected(again.peer_id)


async def test_a_node_finds_company_when_its_only_configured_peer_is_gone() -> None:
    async with node(1) as survivor, node(2) as newcomer:
        async with node(3) as middle:
            survivor.add_addresses(middle.peer_id, middle.addresses)
            newcomer.add_addresses(middle.peer_id, middle.addresses)
            for one in (survivor, newcomer):
                await one.ask(middle.peer_id, "record", b"", timeout_s=5, answer_bytes_max=4096)
            await until(lambda: "node-1" in known_labels(newcomer), seconds=25)
        with trio.fail_after(20):
            await newcomer.until_connected(survivor.peer_id)


async def test_a_refused_peer_gets_no_connection_in_either_direction() -> None:
    config = replace(CONFIG, refused=frozenset({peer(2)}))
    async with node(1, config=config) as first, node(2, first) as second:
        await until(lambda: first.statistics().refusals.get("peer not welcome", 0) > 0)
        assert second.connected() == []
        first.add_addresses(second.peer_id, second.addresses)
        with pytest.raises(UnavailableError, match="refused by this node"):
            await first.ask(second.peer_id, "record", b"", timeout_s=3, answer_bytes_max=10)


async def test_refusing_a_connected_peer_disconnects_it() -> None:
    async with nodes(2) as (first, second):
        first.refuse_peers({second.peer_id})
        await until(lambda: second.peer_id not in first.connected())


async def test_a_taken_port_is_an_error_that_names_it() -> None:
    async with node(1) as first:
        address = first.addresses[0].rsplit("/p2p/", 1)[0]
        with pytest.raises(UnavailableError, match=address):
            async with node(2, config=replace(CONFIG, listen=(address,))):
                raise AssertionError("two nodes share a port")


async def test_a_wildcard_is_listened_on_and_never_advertised() -> None:
    async with node(1, config=replace(CONFIG, listen=("/ip4/0.0.0.0/tcp/0",))) as first:
        assert first.addresses == ()
        assert first.own_record().addresses == ()
        port = first._listening[0].rsplit("/", 1)[1]
        announce = (f"/ip4/127.0.0.1/tcp/{port}",)
    config = replace(CONFIG, listen=(f"/ip4/0.0.0.0/tcp/{port}",), announce=announce)
    async with node(1, config=config) as first, node(2, first) as second:
        assert first.own_record().addresses == announce
        with trio.fail_after(5):
            await second.until_connected(first.peer_id)


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="the body's own"):
        async with node(1):
            raise KeyError("the body's own")


async def test_records_of_an_earlier_run_are_taken_back() -> None:
    async with nodes(2) as (first, second):
        await until(lambda: bool(second.records()))
        kept = [record.raw for record in second.records()]
        async with node(3) as third:
            for raw in kept:
                third.learn_record(raw)
            await third.ask(first.peer_id, "record", b"", timeout_s=5, answer_bytes_max=4096)
            with pytest.raises(InvalidInputError):
                third.learn_record(kept[0] + b" ")
