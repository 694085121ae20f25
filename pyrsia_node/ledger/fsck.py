"""Holds everything on disk that the log consists of against everything else.

The chain is checked from the genesis on: heights, parents, roots, certificates. What is derived is
checked against the chain: tiles, published checkpoint, index. Every finding names the path and the
command that repairs it. ``repair`` derives again what can be derived; it never touches the chain,
nor a checkpoint that a quorum signed and the chain contradicts, for that is evidence.

Only for a node that is not running. What merely lags behind the chain is no finding: the next
start brings it up.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.ledger import index as indexes
from pyrsia_node.ledger.chain_check import check_chain
from pyrsia_node.ledger.findings import Finding
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.ledger.index import IndexWriter, reindex
from pyrsia_node.ledger.publish import CHECKPOINT_FILE, read_checkpoint
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.ledger.tiles import REPAIR, TileFiles, TileWriter
from pyrsia_node.model.errors import CorruptStateError, NotFoundError, PyrsiaError
from pyrsia_node.store.files import sync_directory
from pyrsia_node.tlog.tile import WIDTH, Tile, encode_bundle, fold_perfect, tile_width
from pyrsia_node.tlog.tree import HASH_SIZE, leaf_hash
from pyrsia_node.tlog.trust import Trust

FINDINGS_MAX: Final = 100
"""Findings that one area reports; more would not help anybody."""

_REBUILT: Final = ".rebuilt"
_EVIDENCE: Final = (
    "none: keep this data directory as evidence, tell the other members, and join again with a "
    "fresh one"
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at, and what was wrong."""

    height: int
    size: int
    tiles: int
    index_rows_up_to: int
    published_size: int
    findings: tuple[Finding, ...]


def check(root: Path, chain: CommittedChain, trust: Trust) -> Checked:
    """Check a data directory whose chain is open.

    Args:
        root: The data directory.
        chain: Its chain.
        trust: From its genesis.

    Returns:
        The findings, worst first: chain, checkpoint, tiles, index.
    """
    findings = [*check_chain(chain, trust, root / "core.leveldb")][:FINDINGS_MAX]
    trust = _followed(trust, chain)
    published, checkpoint_findings = _check_checkpoint(root / "log", chain, trust)
    findings += checkpoint_findings
    size = chain.tip.size
    counted = 0
    # A damaged chain would make every derived tile and row look wrong.
    if not findings:
        for finding in _check_tiles(root / "log", chain, needed=min(published, size)):
            if isinstance(finding, Finding):
                findings.append(finding)
                if len(findings) >= FINDINGS_MAX:
                    break
            else:
                counted += 1
    applied, index_findings = _check_index(root, chain, trust.genesis.network_id)
    findings += index_findings
    return Checked(
        height=chain.tip.height,
        size=size,
        tiles=counted,
        index_rows_up_to=applied,
        published_size=published,
        findings=tuple(findings),
    )


def repair(root: Path, chain: CommittedChain, trust: Trust) -> None:
    """Derive tiles and index again, and remove a checkpoint that nobody could believe.

    Order of the durable steps, and what a crash leaves: the new tiles are complete before they
    take the place of the old ones, between two renames there are none (the next start derives
    them); then the index, see ``ledger.index``.

    Raises:
        CorruptStateError: The chain itself is damaged.
    """
    log = root / "log"
    rebuilt = log / _REBUILT
    shutil.rmtree(rebuilt, ignore_errors=True)
    tip = chain.tip
    TileWriter(rebuilt).catch_up(chain, size=tip.size, root=bytes(tip.root))
    shutil.rmtree(log / "tile", ignore_errors=True)
    (rebuilt / "tile").rename(log / "tile")
    sync_directory(log)
    rebuilt.rmdir()
    try:
        signed = read_checkpoint(log / CHECKPOINT_FILE)
        if signed is not None:
            _followed(trust, chain).check(signed)
    except PyrsiaError:
        (log / CHECKPOINT_FILE).unlink()
        sync_directory(log)
    reindex(root, chain, size=tip.size, network_id=trust.genesis.network_id)


def _followed(trust: Trust, chain: CommittedChain) -> Trust:
    """Return the trust that knows the chain's later sets too, as far as the chain proves them."""
    try:
        return trust.extended(*set_changes(chain, first_epoch=len(trust.epochs)))
    except PyrsiaError:
        # The walk over the chain has said what is wrong with it.
        return trust


# ---------------------------------------------------------------- checkpoint


def _check_checkpoint(log: Path, chain: CommittedChain, trust: Trust) -> tuple[int, list[Finding]]:
    path = log / CHECKPOINT_FILE
    try:
        signed = read_checkpoint(path)
        if signed is None:
            return 0, []
        trust.check(signed)
    except PyrsiaError as error:
        return 0, [Finding(path, str(error).partition(": run '")[0], REPAIR)]
    head = signed.checkpoint
    if head.size > chain.tip.size:
        what = f"is of size {head.size}, the chain only of {chain.tip.size}: blocks were lost"
        return head.size, [Finding(path, what, "pyrsia-node run (it fetches them from its peers)")]
    try:
        ours = chain.root_at(head.size).hex()
    except NotFoundError:
        ours = "no block that ends there"
    if ours != head.root.hex():
        what = (
            f"has root {head.root.hex()} at size {head.size}, signed by a quorum; the chain has "
            f"{ours}"
        )
        return 0, [Finding(path, what, _EVIDENCE)]
    return head.size, []


# ---------------------------------------------------------------- tiles


def _check_tiles(log: Path, chain: CommittedChain, *, needed: int) -> Iterator[Finding | None]:
    """Yield a finding for each wrong file, None for each right one.

    Files up to the size ``needed`` must be there; later ones must be right if they are there.
    """
    files = TileFiles(log)
    for tile, content in _expected_tiles(chain, chain.tip.size):
        required = tile_width(tile.level or 0, tile.number, size=needed)
        wanted = tile if required == tile.width else Tile(tile.level, tile.number, required or 1)
        try:
            found = files.read(wanted)
        except NotFoundError:
            if required:
                yield Finding(log / wanted.path(), "is missing", REPAIR)
            continue
        except CorruptStateError as error:
            yield Finding(log / wanted.path(), str(error).partition(": run '")[0], REPAIR)
            continue
        if _prefix_of(content, wanted) == found:
            yield None
        else:
            yield Finding(log / wanted.path(), "differs from the chain", REPAIR)


def _expected_tiles(chain: CommittedChain, size: int) -> Iterator[tuple[Tile, bytes]]:
    """Yield every tile and bundle that a log of ``size`` consists of."""
    levels: list[list[bytes]] = [[]]
    entries: list[bytes] = []
    for position, leaf in enumerate(chain.leaves(0, size)):
        entries.append(leaf)
        levels[0].append(leaf_hash(leaf))
        if len(entries) < WIDTH:
            continue
        yield Tile(None, position // WIDTH), encode_bundle(entries)
        entries = []
        level = 0
        while len(levels[level]) == WIDTH:
            number = ((position + 1) >> (8 * (level + 1))) - 1
            yield Tile(level, number), b"".join(levels[level])
            if level + 1 == len(levels):
                levels.append([])
            levels[level + 1].append(fold_perfect(b"".join(levels[level])))
            levels[level] = []
            level += 1
    if entries:
        yield Tile(None, size // WIDTH, len(entries)), encode_bundle(entries)
    for level, hashes in enumerate(levels):
        if hashes:
            yield Tile(level, size >> (8 * (level + 1)), len(hashes)), b"".join(hashes)


def _prefix_of(content: bytes, tile: Tile) -> bytes:
    if tile.level is not None:
        return content[: tile.width * HASH_SIZE]
    end = 0
    for _ in range(tile.width):
        end += 2 + int.from_bytes(content[end : end + 2], "big")
    return content[:end]


# ---------------------------------------------------------------- index


def _check_index(root: Path, chain: CommittedChain, network_id: bytes) -> tuple[int, list[Finding]]:
    pointer = root / indexes.POINTER
    try:
        name = indexes.read_pointer(root)
        if name is None:
            return 0, []
        if not (root / name).is_file():
            return 0, [Finding(root / name, "is missing", indexes.REPAIR)]
        with IndexWriter(root / name, network_id=network_id) as found:
            applied = found.applied_size
            if applied > chain.tip.size:
                what = f"has rows up to leaf {applied}, the chain ends at {chain.tip.size}"
                return applied, [Finding(root / name, what, indexes.REPAIR)]
            found.check_words()
            expected = _derived_dump(chain, applied, network_id)
            wrong = [
                table
                for table, digest in found.dump_sha256_by_table().items()
                if expected[table] != digest
            ]
    except CorruptStateError as error:
        return 0, [Finding(pointer, str(error).partition(": run '")[0], indexes.REPAIR)]
    if wrong:
        what = f"table {', '.join(wrong)} differs from the log"
        return applied, [Finding(root / name, what, indexes.REPAIR)]
    return applied, []


def _derived_dump(chain: CommittedChain, size: int, network_id: bytes) -> dict[str, str]:
    with IndexWriter(Path(":memory:"), network_id=network_id) as derived:
        try:
            derived.catch_up(chain, size=size)
            return derived.dump_sha256_by_table()
        except (PyrsiaError, sqlite3.Error) as error:
            raise CorruptStateError(f"the chain cannot be indexed: {error}") from None
