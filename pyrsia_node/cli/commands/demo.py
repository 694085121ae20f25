"""``demo``: a whole network does its main job on real packages, in under three minutes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.demo import Demo


@click.command()
@click.option("--keep", is_flag=True, help="Leave the nodes' folders for a look.")
def demo(*, keep: bool) -> None:
    """Show the product at work: rebuild, agree, install, prove, survive, find liars out.

    Starts four authorized and two regular nodes on loopback, and fetches small packages from the
    package index that pip is configured for. Exit 0 when everything was shown, 1 with the reason.
    """
    folder = Path(tempfile.mkdtemp(prefix="pyrsia-demo-"))
    # The build worker's account must be able to reach its own folder below.
    folder.chmod(0o755)
    try:
        with Cluster.create(folder / "nodes", authorized=4, regular=2) as cluster:
            code = Demo(cluster, folder).run()
    finally:
        if keep:
            click.echo(f"kept: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.get_current_context().exit(code)
