"""The process that derives files and index while a node joins: real pipe, real files, real ends."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import trio

from pyrsia_node.core import deriving
from pyrsia_node.core.deriving import LENGTH, derive, derived_lock
from pyrsia_node.core.deriving_link import DerivingLink
from pyrsia_node.core.founding import initialize
from pyrsia_node.ledger.adopting import WholeBlock
from pyrsia_node.ledger.certificates import CertificateFiles, CertificateWriter
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.storage import ChainReader
from pyrsia_node.ledger.tiles import TileFiles, TileWriter
from pyrsia_node.model.errors import CorruptStateError, UnavailableError
from pyrsia_node.model.purl import Purl
from pyrsia_node.replica.catchup_wire import DECISIONS_MAX, encode_range, split_prefixed
from pyrsia_node.replica.serving import ChainAnswers
from pyrsia_node.replica.snapshot_wire import decode_whole_block, encode_whole_block
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import NodeSection
from tests.fakes.executed_log import ExecutedLog
from tests.fakes.local_chain import LocalChain
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.build_bodies import request

PATIENCE_S = 60


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "newcomer")
    initialize(found, Config(node=NodeSection("newcomer", "regular")))
    return found


@pytest.fixture(scope="module")
def local() -> LocalChain:
    """Return a chain of more blocks than a bundle of certificates holds; its set changes."""
    made = ExecutedLog(MemoryKeyValueStore())
    made.block(4)
    made.block(4)
    made.grow(265, changes=2)
    return made.local


async def blocks_of(local: LocalChain) -> list[WholeBlock]:
    answers, blocks = ChainAnswers(local.chain), list[WholeBlock]()
    while len(blocks) < local.chain.tip.height:
        wanted = encode_range(first=len(blocks) + 1, count=100)
        parts = split_prefixed(await answers.history(wanted), items_max=DECISIONS_MAX)
        blocks += [decode_whole_block(each) for each in parts]
    return blocks


async def stream_of(local: LocalChain) -> bytes:
    """Return what a core sends its deriving process."""
    frames = [local.genesis.encode()]
    for each in await blocks_of(local):
        leaves = list(each.leaves)
        frames.append(encode_whole_block(each.certificate, each.parent_certificate, leaves))
    return b"".join(LENGTH.pack(len(each)) + each for each in frames)


def index_dump(path: Path, local: LocalChain) -> str:
    with IndexWriter(path, network_id=local.network_id) as index:
        return index.dump_sha256()


def assert_is_derived(layout: Layout, local: LocalChain, tmp_path: Path) -> None:
    """Hold everything against what the chain itself gives."""
    tip = local.chain.tip
    found = list(TileFiles(layout.log).entries(0, tip.size, size=tip.size))
    assert found == list(local.chain.leaves(0, tip.size))
    TileWriter(layout.log).catch_up(local.chain, size=tip.size, root=tip.root)
    CertificateWriter(tmp_path / "certificates").catch_up(local.chain, height=tip.height)
    ours, theirs = CertificateFiles(layout.log), CertificateFiles(tmp_path / "certificates")
    assert ours.newest() == theirs.newest()
    assert ours.bundle(0) == theirs.bundle(0)
    assert ours.bundle(1, tip.height - 257) == theirs.bundle(1, tip.height - 257)
    with IndexWriter(tmp_path / "index-9.sqlite", network_id=local.network_id) as index:
        index.catch_up(local.chain, size=tip.size)
        expected = index.dump_sha256()
    assert IndexReader(layout.root).applied_size() == tip.size
    assert index_dump(layout.root / "index-1.sqlite", local) == expected


async def test_deriver_writes_what_the_chain_gives(
    layout: Layout, local: LocalChain, tmp_path: Path
) -> None:
    blocks = await blocks_of(local)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            with DerivingLink(layout, local.genesis, nursery) as link:
                for first in range(0, len(blocks), 50):
                    await link.take(blocks[-1].header, blocks[first : first + 50])
                await link.finish()
                assert_is_derived(layout, local, tmp_path)


async def test_deriver_that_was_cut_off_leaves_whole_files_and_the_next_one_goes_on(
    layout: Layout, local: LocalChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deriving, "LEAVES_AT_ONCE", 64)
    stream, size = await stream_of(local), local.chain.tip.size
    reached = 0
    for share in (0.0, 0.3, 0.6, 0.9):
        cut = io.BytesIO(stream[: int(len(stream) * share)])
        with pytest.raises(UnavailableError, match="before the history did"):
            derive(cut, layout, size=size)
        written = TileWriter(layout.log).size  # full tiles: those that are durable
        assert reached <= written < size
        reached = written
    assert reached > 0
    derive(io.BytesIO(stream), layout, size=size)
    assert_is_derived(layout, local, tmp_path)


async def test_deriver_refuses_the_history_of_another_network(
    layout: Layout, local: LocalChain
) -> None:
    other = LocalChain(5)
    other.commit(request(other.members[0].id, purl=Purl.pypi("six", "1.0")))
    derive(io.BytesIO(await stream_of(other)), layout, size=other.chain.tip.size)
    with pytest.raises(CorruptStateError, match="network is"):
        derive(io.BytesIO(await stream_of(local)), layout, size=local.chain.tip.size)


async def test_core_goes_on_when_its_deriver_dies(layout: Layout, local: LocalChain) -> None:
    blocks = await blocks_of(local)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            with DerivingLink(layout, local.genesis, nursery) as link:
                await link.take(blocks[-1].header, blocks[:50])
                assert link.process is not None
                link.process.kill()
                await link.process.wait()
                await link.take(blocks[-1].header, blocks[50:])
                await link.finish()
    with derived_lock(layout):
        pass  # nobody holds it


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent"])
async def test_core_goes_on_without_a_deriver(
    layout: Layout, local: LocalChain, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    blocks = await blocks_of(local)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            with DerivingLink(layout, local.genesis, nursery) as link:
                await link.take(blocks[-1].header, blocks)
                await link.take(blocks[-1].header, blocks)
                await link.finish()


async def test_deriver_ends_with_its_core(layout: Layout, local: LocalChain) -> None:
    blocks = await blocks_of(local)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            with DerivingLink(layout, local.genesis, nursery) as link:
                await link.take(blocks[-1].header, blocks[:50])
                process = link.process
                assert process is not None
            # The pipe that tells of the core is closed now, standard input is still open.
            assert await process.wait() != 0


async def test_chain_that_is_executed_after_all_catches_up_with_files_that_are_ahead(
    layout: Layout, local: LocalChain, tmp_path: Path
) -> None:
    tip = local.chain.tip
    derive(io.BytesIO(await stream_of(local)), layout, size=tip.size)
    reader = ChainReader(local.store)
    tiles, certificates = TileWriter(layout.log), CertificateWriter(layout.log)
    with IndexWriter.current(layout.root, network_id=local.network_id) as index:
        for height in (0, 1, 100, tip.height):
            record = reader.record(height)
            root = bytes.fromhex(record.root)
            tiles.catch_up(local.chain, size=record.size, root=root)
            certificates.catch_up(local.chain, height=height)
            index.catch_up(local.chain, size=record.size)
    assert_is_derived(layout, local, tmp_path)
