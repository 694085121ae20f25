"""``devnet``: a whole network on this machine, to try out."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.table import Table

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import NODES_MAX, PLAN_FILE, parse_registry, with_registries
from pyrsia_node.schema.upstreams import RegistryUpstream


@click.command()
@click.option("--authorized", type=click.IntRange(1, NODES_MAX), default=4, show_default=True)
@click.option("--regular", type=click.IntRange(0, NODES_MAX), default=2, show_default=True)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the nodes live; an existing network there is started again [a temporary folder].",
)
@click.option("--base-port", type=click.IntRange(1024, 65000), help="The first of the ports.")
@click.option(
    "--upstream-registry",
    "registries",
    multiple=True,
    metavar="HOST=URL",
    help="A registry that new nodes import images from; the first is the default.",
)
@click.option("--keep", is_flag=True, help="Do not remove the temporary folder at the end.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def devnet(
    *,
    authorized: int,
    regular: int,
    folder: Path | None,
    base_port: int | None,
    registries: Sequence[str],
    keep: bool,
    form: str,
) -> None:
    """Run a network of nodes on loopback until Ctrl-C or SIGTERM.

    Each node is a set of processes of its own with its own data directory, log file and ports.
    """
    upstreams = [parse_registry(each) for each in registries]
    with ExitStack() as stack:
        if folder is None:
            temporary = Path(tempfile.mkdtemp(prefix="pyrsia-devnet-"))
            if not keep:
                stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            folder = temporary / "nodes"
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            with _open(folder, authorized, regular, base_port, upstreams) as cluster:
                cluster.start()
                cluster.wait_ready()
                cluster.wait_connected()
                _show(cluster, folder, form)
                signal.pause()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Make SIGTERM end the network as Ctrl-C does, at whatever stage it is."""
    raise KeyboardInterrupt


def _show(cluster: Cluster, folder: Path, form: str) -> None:
    if form == "json":
        click.echo(cluster.plan.to_json(), nl=False)
    else:
        _print_table(cluster, folder)


def _open(
    folder: Path,
    authorized: int,
    regular: int,
    base_port: int | None,
    upstreams: Sequence[RegistryUpstream],
) -> Cluster:
    if (folder / PLAN_FILE).exists():
        return Cluster.load(folder.absolute())
    return Cluster.create(
        folder.absolute(),
        authorized=authorized,
        regular=regular,
        base_port=base_port,
        configure=partial(with_registries, registries=upstreams),
    )


def _print_table(cluster: Cluster, folder: Path) -> None:
    table = Table("node", "for clients", "for nodes", "processes", "log file")
    for node in cluster.plan.nodes:
        pids = " ".join(f"{name}={pid}" for name, pid in cluster.pids(node.label).items())
        table.add_row(node.label, node.http_url, node.p2p_address, pids, node.log_file)
    console = Console()
    console.print(table)
    console.print(f"network     {cluster.plan.name} {cluster.plan.network}")
    console.print(f"trust file  {cluster.plan.trust}")
    console.print(f"everything  {folder / PLAN_FILE}")
    console.print("Ctrl-C stops it")
