"""Three blocks of one core, what it acknowledges on the way, and what must hold after a restart.

The core is the product's own (``run_core``), of a network with one member: what others know cannot
help it. It speaks through its control link as to any client.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import trio

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.node import run_core
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.fsck import check
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import read_checkpoint
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import decode_transaction, sign_transaction
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    HttpSection,
    NodeSection,
    P2pSection,
)
from pyrsia_node.store.keys import KeyUse, load_keys
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.strategies.build_bodies import request

BLOCKS: Final = 3
DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.01

CONFIG: Final = Config(
    node=NodeSection("alone", "authorized"),
    http=HttpSection(port=0),
    data=DataSection(host="127.0.0.1", port=0),
    p2p=P2pSection(listen=("/ip4/127.0.0.1/tcp/0",)),
    build=BuildSection(enabled=False),
)

Tell = Callable[[str], None]
"""Takes one line that the client was told; it is out before the next step."""


@dataclass
class Told:
    """What a client was told before the end."""

    taken: set[str] = field(default_factory=set)
    committed: dict[str, tuple[int, int]] = field(default_factory=dict)
    published: int = 0

    @classmethod
    def of(cls, lines: Sequence[str]) -> Told:
        """Read the lines of ``work``; a last one that was cut off was not told."""
        told = cls()
        for line in lines:
            what, *rest = json.loads(line)
            match what:
                case "taken":
                    told.taken.add(rest[0])
                case "committed":
                    told.committed[rest[0]] = (rest[1], rest[2])
                case _:
                    told.published = max(told.published, rest[0])
        return told


def found(folder: Path) -> list[str]:
    """Make the node and its network in ``folder``; return the transactions to order."""
    layout = Layout(folder)
    initialize(layout, CONFIG)
    params = replace(DEFAULT_PARAMS, min_authorized=1)
    records = [layout.member_record]
    genesis = found_network("devnet-faults", records, clock=SystemClock(), params=params)
    join_network(layout, genesis, [])
    return [_transaction(layout, number) for number in range(1, BLOCKS + 1)]


def _transaction(layout: Layout, number: int) -> str:
    genesis = Genesis.decode(layout.genesis.read_bytes())
    body = request(
        genesis.members[0].record.id,
        purl=Purl.pypi("six", f"1.{number}"),
        until=SystemClock().now_ms() + 3_600_000,
        nonce=number,
    )
    signer = load_keys(layout.node_key).signer(KeyUse.TX)
    return sign_transaction(body, network_id=genesis.network_id, sign=signer).encoded.decode()


@asynccontextmanager
async def _core(layout: Layout) -> AsyncIterator[LinkClient]:
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_core, layout, CONFIG, SystemClock())
            link = LinkClient(layout.core_socket, nursery)
            await _until(link, "status", {}, lambda _status: True)
            yield link
            nursery.cancel_scope.cancel()


async def _until(
    link: LinkClient, method: str, params: dict[str, object], is_so: Callable[[Any], bool]
) -> Any:
    """Ask again and again until the answer is as wanted; the scenario has a deadline."""
    while True:
        try:
            answer = await link.call(method, params)
            if is_so(answer):
                return answer
        except PyrsiaError:
            pass  # It is starting, or ending; the core's own error is what counts.
        await trio.sleep(_POLL_S)


async def work(folder: Path, transactions: Sequence[str], tell: Tell) -> None:
    """Order the transactions, a block each, and tell each acknowledgement when it comes."""
    async with _core(Layout(folder)) as link:
        for transaction in transactions:
            answer = await _until(link, "submit", {"transaction": transaction}, lambda _: True)
            tell(json.dumps(["taken", answer["id"]]))
            await _finish(link, str(answer["id"]), tell)


async def _finish(link: LinkClient, transaction: str, tell: Tell) -> None:
    where = await _until(link, "transaction", {"id": transaction}, lambda told: told["committed"])
    tell(json.dumps(["committed", transaction, where["leaf"], where["height"]]))
    status = await _until(
        link, "status", {}, lambda told: told["published_size"] == told["size"] > where["leaf"]
    )
    tell(json.dumps(["published", status["published_size"]]))


async def go_on(folder: Path, transactions: Sequence[str], told: Told) -> list[str]:
    """Start on what the failure left and do the rest; return what was broken by it."""
    wrong: list[str] = []
    ids = [_id_of(folder, each) for each in transactions]
    async with _core(Layout(folder)) as link:
        first = await link.call("status", {})
        if int(str(first["published_size"])) < told.published:
            wrong.append(f"published {told.published}, after it {first['published_size']}")
        for transaction, content in zip(ids, transactions, strict=True):
            # What was taken must come by itself, however the process ended.
            if transaction not in told.taken:
                await _submit_if_new(link, transaction, content)
            await _finish(link, transaction, lambda _line: None)
        for transaction, place in told.committed.items():
            answer = await link.call("transaction", {"id": transaction})
            if (answer["leaf"], answer["height"]) != place:
                wrong.append(f"{transaction} was at {place}, is at {answer}")
        last = await link.call("status", {})
        wrong += [f"alarm: {each}" for each in _list(last["alarms"])]
    return wrong


async def _submit_if_new(link: LinkClient, transaction: str, content: str) -> None:
    """Submit, unless the dead process had taken it and died before it could say so."""
    if not (await link.call("transaction", {"id": transaction}))["committed"]:
        with contextlib.suppress(PyrsiaError):  # ordered in between: the caller sees that
            await link.call("submit", {"transaction": content})


def examine(folder: Path, transactions: Sequence[str]) -> list[str]:
    """Hold the stopped node's files against each other; return what does not fit."""
    layout = Layout(folder)
    genesis = Genesis.decode(layout.genesis.read_bytes())
    ids = [_id_of(folder, each) for each in transactions]
    with LevelDbStore(layout.chain) as store:
        chain = Chain.open(store, genesis)
        trust = Trust.establish(TrustFile(genesis.encode()))
        wrong = [f"fsck: {finding}" for finding in check(folder, chain, trust).findings]
        size = chain.tip.size
        leaves = list(chain.leaves(0, size))
        signed = read_checkpoint(layout.log / "checkpoint")
        if signed is None or signed.checkpoint.size != size:
            wrong.append(f"the chain has {size} leaves, the checkpoint is {signed}")
        if list(TileFiles(layout.log).entries(0, size, size=size)) != leaves:
            wrong.append("the tiles are not the chain's leaves")
        wrong += _compare_index(folder, chain, size, genesis.network_id)
    for each, content in zip(ids, transactions, strict=True):
        count = leaves.count(content.encode())
        if count != 1:
            wrong.append(f"transaction {each} stands {count} times in the log")
    return wrong


def _compare_index(folder: Path, chain: Chain, size: int, network_id: bytes) -> list[str]:
    """Compare the node's index with one that is made anew from the chain."""
    fresh = folder.with_name(f"{folder.name}-fresh")
    fresh.mkdir()
    with (
        IndexWriter.current(folder, network_id=network_id) as index,
        IndexWriter.current(fresh, network_id=network_id) as expected,
    ):
        expected.catch_up(chain, size=size)
        if index.applied_size != size:
            return [f"the index has {index.applied_size} leaves of {size}"]
        same = index.dump_sha256_by_table() == expected.dump_sha256_by_table()
    return [] if same else ["the index is not what the log makes"]


def _id_of(folder: Path, transaction: str) -> str:
    genesis = Genesis.decode(Layout(folder).genesis.read_bytes())
    return decode_transaction(transaction.encode(), network_id=genesis.network_id).id


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
