"""``ping``, ``status``, ``list``, ``config``: the node that the command talks to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option, say
from pyrsia_cli.proving import forget_foreign_head
from pyrsia_cli.settings import (
    Settings,
    edited,
    load_settings,
    save_settings,
    settings_path,
    write_whole,
)
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.schema.http import NodeStatus, ShortStatus
from pyrsia_node.schema.links import Peers, Status
from pyrsia_node.tlog.trust import Trust, TrustFile


@click.command()
def ping() -> None:
    """Ask whether a node answers. Exit 5 when none does."""
    settings = load_settings(settings_path())
    with NodeApi(settings) as api:
        found = api.get("/status", ShortStatus)
    say(f"Connection successful: {found.peer_id} at {settings.url}")


@click.command()
@format_option
def status(output_format: str) -> None:
    """Show the node, its network, and what a lost node would cost.

    `fault tolerance` says how many authorized nodes may be lost; an authorized node adds what
    those cost that are away now. A line ALARM says what is wrong, and where to go on.

    \b
    pyrsia status
    pyrsia status --format json | jq -r .note        the fault tolerance
    pyrsia status --format json | jq -r .peer_id     for `pyrsia authorize --peer`, elsewhere

    Exit codes: 0 the node answered, with alarms or without; 5 it does not answer, or only half of
    it does.
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        told = api.get("/api/v1/status", NodeStatus)
    if told.core == "down":
        raise UnavailableError(
            f"the node serves packages, but its core does not answer ({told.reason});"
            " it is started again by itself: ask again in some seconds"
        )
    found = Status.parse(told.dump())
    members = [f"{m.label}{'' if m.connected else ' (away)'}" for m in found.set]
    rows: list[Row] = [
        {"what": "node", "value": f"{found.label} ({found.role}) {found.peer_id}"},
        {"what": "network", "value": f"{found.network_name} {found.network}"},
        {"what": "connected peers count", "value": found.peers_count},
        {"what": "height", "value": found.height},
        {"what": "log size", "value": f"{found.size} (published {found.published_size})"},
        {"what": "root", "value": found.root},
        {"what": "authorized nodes", "value": members},
        {"what": "fault tolerance", "value": found.note},
        {"what": "leader", "value": f"{found.leader_label} (view {found.view})"},
        {"what": "open requests", "value": found.open_requests},
        {"what": "addresses", "value": found.addresses},
        *({"what": "ALARM", "value": alarm} for alarm in found.alarms),
    ]
    emit(rows, ("what", "value"), output_format, document=found.dump())


@click.command("list")
@format_option
def list_peers(output_format: str) -> None:
    """List the nodes that this node knows."""
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get("/api/v1/peers", Peers)
    rows = [peer.dump() for peer in found.peers]
    columns = ("label", "role", "connected", "height", "peer_id", "data_url")
    emit(rows, columns, output_format, document=found.dump())


@click.group(invoke_without_command=True)
@click.option("-s", "--show", is_flag=True, help="Print the settings file.")
@click.option("-r", "--remove", is_flag=True, help="Delete the settings file.")
@click.pass_context
def config(context: click.Context, *, show: bool, remove: bool) -> None:
    """Say which node to talk to and whom to trust."""
    if context.invoked_subcommand is not None:
        return
    path = settings_path()
    if remove:
        path.unlink(missing_ok=True)
        say(f"{path} removed")
    elif show:
        say(f"# {path}", *_lines(load_settings(path)))
    else:
        click.echo(context.get_help())


@config.command("show")
def config_show() -> None:
    """Print the settings and where they stand."""
    path = settings_path()
    say(f"# {path}", *_lines(load_settings(path)))


@config.command("edit")
@click.option("-H", "--host", help="The node's host.")
@click.option("-p", "--port", type=int, help="The node's HTTP port.")
@click.option("--token-file", help="The node's admin token, for commands that change something.")
@click.option("--tls/--no-tls", default=None, help="Whether the node speaks HTTPS.")
@click.option(
    "--ca-file", help="PEM file with the certificates that count, for a node of one's own."
)
def config_edit(
    host: str | None,
    port: int | None,
    token_file: str | None,
    *,
    tls: bool | None,
    ca_file: str | None,
) -> None:
    """Change settings.

    If some are not allowed, all of these are named, and nothing is changed.
    """
    given = {"host": host, "port": port, "token_file": token_file, "tls": tls, "ca_file": ca_file}
    values = {key: value for key, value in given.items() if value is not None}
    if not values:
        raise InvalidInputError(
            "say what to change: --host, --port, --token-file, --tls or --ca-file"
        )
    path = settings_path()
    save_settings(path, edited(load_settings(path), dict(values), source="config edit"))
    say(f"Node configuration saved: {path}")


@config.command("trust")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option("--from-node", is_flag=True, help="Take the node's own trust file.")
@click.option("--network-id", default="", help="The network id, known from elsewhere.")
def config_trust(file: str | None, *, from_node: bool, network_id: str) -> None:
    """Say whose signatures count.

    Give a trust FILE, or take the node's with a network id to compare. The network id is the
    SHA-256 of the genesis. Get it from an admin, a release or a colleague, not from the node
    itself: whoever gives you the id decides whom you trust.

    \b
    pyrsia config trust example.trust
    pyrsia config trust --from-node --network-id 5e1d12c0...
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    if from_node == (file is not None):
        raise InvalidInputError("give either a trust file, or --from-node with --network-id")
    if from_node and not network_id:
        raise InvalidInputError("--from-node needs --network-id: a node cannot vouch for itself")
    expected = bytes.fromhex(parse_sha256(network_id)) if network_id else None
    if from_node:
        with NodeApi(settings) as api:
            data = api.get_text("/api/v1/trust")
        path = settings_path().with_name("network.trust")
    else:
        path = Path(file or "").resolve()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        trust = Trust.establish(TrustFile.parse(data), network_id=expected)
    except InvalidInputError as error:
        source = settings.url if from_node else path
        raise InvalidInputError(f"{source}: {error}") from error
    if from_node:
        write_whole(path, data.decode())
        forget_foreign_head(path)
    save_settings(settings_path(), edited(settings, {"trust": str(path)}, source="config trust"))
    names = ", ".join(member.label for member in trust.current.members)
    say(f"Trusting {trust.origin}: {trust.current.quorum} of {names}")


def _lines(settings: Settings) -> list[str]:
    return [f"{key} = {value!r}" for key, value in asdict(settings).items()]
