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
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile


@click.command()
@data_option
@click.option("--repair", "is_repairing", is_flag=True, help="Derive tiles and index again.")
def fsck(layout: Layout, *, is_repairing: bool) -> None:
    """Check the chain from its genesis on, and everything derived from it.

    Only for a stopped node. Each finding names the path and the command that repairs it.
    """
    with _open_chain(layout) as (chain, trust):
        checked = check(layout.root, chain, trust)
        if is_repairing and checked.findings:
            for finding in checked.findings:
                click.echo(f"found: {finding}")
            repair(layout.root, chain, trust)
            checked = check(layout.root, chain, trust)
    click.echo(
        f"height {checked.height}, {checked.size} entries, {checked.tiles} tiles, index of "
        f"{checked.index_rows_up_to} entries, checkpoint of {checked.published_size}"
    )
    for finding in checked.findings:
        click.echo(str(finding))
    if checked.findings:
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


@contextmanager
def _open_chain(layout: Layout) -> Iterator[tuple[Chain, Trust]]:
    check_whole(layout)
    genesis = read_genesis(layout.genesis)
    with hold_data_directory(layout), LevelDbStore(layout.chain) as store:
        chain = Chain.open(store, genesis)
        yield chain, Trust.establish(TrustFile(genesis.encode(), tuple(set_changes(chain))))
