"""``init``, ``join`` and ``network init``: what has to exist before a node runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pyrsia_node.cli.commands.options import data_option
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import (
    found_network,
    initialize,
    join_network,
    read_genesis,
    write_genesis,
)
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    HttpSection,
    NodeSection,
    P2pSection,
)
from pyrsia_node.store.registry_db import SqliteRegistryDb

_PORT = click.IntRange(0, 65535)
_DEFAULTS = Config(node=NodeSection("defaults", "regular"))


@click.command()
@data_option
@click.option("--label", required=True, help="The node's name: a-z, 0-9, dot and hyphen.")
@click.option(
    "--role",
    type=click.Choice(["authorized", "regular"]),
    required=True,
    help="authorized: votes and rebuilds packages; regular: serves them.",
)
@click.option("--http-port", type=_PORT, default=_DEFAULTS.http.port, show_default=True)
@click.option("--data-host", default=_DEFAULTS.data.host, show_default=True)
@click.option("--data-port", type=_PORT, default=_DEFAULTS.data.port, show_default=True)
@click.option("--data-url", default="", help="The URL that peers are told, if it is another.")
@click.option("--listen", multiple=True, metavar="MULTIADDR", default=_DEFAULTS.p2p.listen)
@click.option("--announce", multiple=True, metavar="MULTIADDR")
def init(
    layout: Layout,
    *,
    label: str,
    role: str,
    http_port: int,
    data_host: str,
    data_port: int,
    data_url: str,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
) -> None:
    """Make a new node: its keys, node.toml, member.record and folders.

    Nothing is ever overwritten. Back up keys/: it is the node's identity.
    """
    config = Config(
        node=NodeSection(label, role),
        http=HttpSection(port=http_port),
        data=DataSection(host=data_host, port=data_port, url=data_url),
        p2p=P2pSection(listen=listen, announce=announce),
        build=BuildSection(enabled=role == "authorized"),
    )
    member = initialize(layout, config)
    SqliteRegistryDb(layout.registry, create=True).close()
    click.echo(f"node          {label} ({role})")
    click.echo(f"peer id       {member.record.id}")
    click.echo(f"data          {layout.root}")
    click.echo(f"configuration {layout.config}")
    click.echo(f"member record {layout.member_record}")
    click.echo("next: `pyrsia-node join GENESIS --peer ADDR`, or give member.record to a founder")


@click.command()
@data_option
@click.argument("genesis_file", type=click.Path(path_type=Path), metavar="GENESIS")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="MULTIADDR",
    help="A node to meet first, with /p2p/PEER at the end; may be repeated.",
)
def join(layout: Layout, genesis_file: Path, peers: tuple[str, ...]) -> None:
    """Bring this node into the network that GENESIS founded."""
    genesis = read_genesis(genesis_file)
    config = join_network(layout, genesis, peers)
    click.echo(f"network       {genesis.name} {genesis.network_id.hex()}")
    click.echo(f"members       {', '.join(m.record.label for m in genesis.members)}")
    click.echo(f"meets first   {', '.join(config.p2p.bootstrap) or 'nobody: give --peer'}")
    click.echo("compare the network id with one that you got another way before you trust it")


@click.group()
def network() -> None:
    """Found a network."""


@network.command("init")
@click.option("--name", required=True, help="The network's name; devnet… is for development.")
@click.option(
    "--member",
    "records",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="RECORD",
    help="A member.record; once for each first member.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("genesis.json"))
@click.option(
    "--min-authorized",
    type=click.IntRange(1),
    default=DEFAULT_PARAMS.min_authorized,
    show_default=True,
    help="Fewest members with which packages are rebuilt.",
)
def network_init(name: str, records: tuple[Path, ...], out: Path, min_authorized: int) -> None:
    """Make the genesis of a new network; its hash is the network id."""
    params = replace(DEFAULT_PARAMS, min_authorized=min_authorized)
    genesis = found_network(name, records, clock=SystemClock(), params=params)
    trust = write_genesis(genesis, out)
    members = ", ".join(member.record.label for member in genesis.members)
    click.echo(f"network       {genesis.name} {genesis.network_id.hex()}")
    click.echo(f"members       {members}")
    click.echo(f"quorum        {genesis.set_leaf().quorum} of {len(genesis.members)}")
    click.echo(f"genesis       {out}")
    click.echo(f"trust file    {trust}")
