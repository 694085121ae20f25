"""``fsck`` and ``reindex``: look at a stopped node's data, and derive again what can be derived."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from pyrsia_node.cli.commands.options import data_option
from pyrsia_node.cli.data_lock import hold_data_directory
from pyrsia_node.cli.run import check_whole
from pyrsia_node.core.founding import read_genesis
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.fsck import check, repair
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.ledger.index import reindex as rebuild_index
from pyrsia_node.schema.exit_codes import CORRUPT
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.store.maven_db import put_aside
from pyrsia_node.store.maven_db_check import check_maven_db
from pyrsia_node.store.registry_db_check import check_registry
from pyrsia_node.tlog.trust import Trust, TrustFile


@click.command()
@data_option
@click.option(
    "--repair",
    "is_repairing",
    is_flag=True,
    help="Derive tiles and index again; put a damaged maven.sqlite aside.",
)
@click.option(
    "--bytes",
    "is_hashing",
    is_flag=True,
    help="Also hash every blob again; delete what does not match its name.",
)
def fsck(layout: Layout, *, is_repairing: bool, is_hashing: bool) -> None:
    """Check the chain from its genesis on, everything derived from it, and the registry.

    And maven.sqlite, what was remembered of other repositories: all of it can be had again.
    Only for a stopped node. Each finding names the path and the command that repairs it.
    """
    with _open_chain(layout) as (chain, trust):
        checked = check(layout.root, chain, trust)
        if is_repairing and checked.findings:
            for finding in checked.findings:
                click.echo(f"found: {finding}")
            repair(layout.root, chain, trust)
            checked = check(layout.root, chain, trust)
        damaged = list(_damaged_blobs(layout)) if is_hashing else []
        faults = check_registry(layout.registry, layout.blobs)
        remembered = list(_damaged_memory(layout, is_repairing=is_repairing))
    click.echo(
        f"height {checked.height}, {checked.size} entries, {checked.tiles} tiles, index of "
        f"{checked.index_rows_up_to} entries, checkpoint of {checked.published_size}"
    )
    for finding in checked.findings:
        click.echo(str(finding))
    for line in damaged:
        click.echo(line)
    for fault in faults:
        click.echo(f"{layout.registry}: {fault.what}; repair: {fault.advice}")
    for line in remembered:
        click.echo(line)
    if checked.findings or faults or damaged or remembered:
        click.get_current_context().exit(CORRUPT)
    click.echo("nothing is wrong")


@click.command()
@data_option
def reindex(layout: Layout) -> None:
    """Build the search index again from the log. Only for a stopped node."""
    with _open_chain(layout) as (chain, trust):
        network_id = trust.genesis.network_id
        path = rebuild_index(layout.root, chain, size=chain.tip.size, network_id=network_id)
        click.echo(f"{chain.tip.size} entries in {path}")


def _damaged_memory(layout: Layout, *, is_repairing: bool) -> Iterator[str]:
    """Tell what is wrong with what can be asked for again; put it aside when repairing."""
    faults = check_maven_db(layout.maven)
    if faults and is_repairing:
        click.echo(f"found: {layout.maven}: {faults[0]}; now {put_aside(layout.maven)}")
        return
    for fault in faults:
        yield f"{layout.maven}: {fault}; repair: pyrsia-node fsck --repair"


def _damaged_blobs(layout: Layout) -> Iterator[str]:
    """Delete blobs that do not match their names, and tell each."""
    # No limit: fsck evicts nothing.
    store = FileBlobStore(layout.blobs, cached_bytes_max=2**63)
    for _, what in store.scrub():
        yield f"{what}; repair: done, what the network has is fetched again"


@contextmanager
def _open_chain(layout: Layout) -> Iterator[tuple[Chain, Trust]]:
    check_whole(layout)
    genesis = read_genesis(layout.genesis)
    with hold_data_directory(layout), LevelDbStore(layout.chain) as store:
        chain = Chain.open(store, genesis)
        yield chain, Trust.establish(TrustFile(genesis.encode(), tuple(set_changes(chain))))
