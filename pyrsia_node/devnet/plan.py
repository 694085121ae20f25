"""What a development network consists of: nodes, ports, files. Written once, read at a restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network, write_genesis
from pyrsia_node.devnet.ports import LOOPBACK, free_ports
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.oci_terms import check_host
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    FaultSection,
    HttpSection,
    NodeSection,
    P2pSection,
)
from pyrsia_node.schema.upstreams import RegistryUpstream

PLAN_FILE: Final = "devnet.json"
NODES_MAX: Final = 32

CLASS_MS: Final[Mapping[str, int]] = {"S": 120_000, "M": 300_000, "L": 900_000}
"""Deadlines of builds: short enough to wait for, long enough for two cores and seven nodes."""

DEVNET_PARAMS: Final = replace(DEFAULT_PARAMS, class_ms=CLASS_MS)
"""What a development network's genesis fixes."""

_PORTS_PER_NODE: Final = 3
_BOOTSTRAP_MAX: Final = 4

Configure = Callable[[Config], Config]


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node of the network. Addresses are those that its configuration asks for."""

    label: str
    role: str
    peer_id: str
    data: str
    log_file: str
    http_url: str
    data_url: str
    p2p_address: str

    @property
    def layout(self) -> Layout:
        """The node's data directory."""
        return Layout(Path(self.data))


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The whole network, as ``devnet.json`` tells it."""

    name: str
    network: str
    genesis: str
    trust: str
    nodes: tuple[PlannedNode, ...]

    def to_json(self) -> str:
        """Return the text of ``devnet.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_registry(text: str) -> RegistryUpstream:
    """Return the registry that ``HOST=URL`` names; it may live on this machine.

    Raises:
        InvalidInputError: It is not of that form.
    """
    host, _, url = text.partition("=")
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError(f"registry {text!r:.200} is not HOST=URL with http:// or https://")
    return RegistryUpstream(check_host(host), url.rstrip("/"), allow_private=True, importable=True)


def with_registries(config: Config, registries: Sequence[RegistryUpstream]) -> Config:
    """Return a configuration whose images come from these registries, the first by default."""
    if not registries:
        return config
    docker = replace(
        config.docker, default_registry=registries[0].host, upstreams=tuple(registries)
    )
    return replace(config, docker=docker)


def read_plan(folder: Path) -> NetworkPlan:
    """Return the network that was made in ``folder``.

    Raises:
        NotFoundError: none was.
        InvalidInputError: its ``devnet.json`` is damaged.
    """
    path = folder / PLAN_FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        nodes = tuple(PlannedNode(**node) for node in document.pop("nodes"))
        return NetworkPlan(nodes=nodes, **document)
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing: no development network was made there") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidInputError(f"{path} is damaged: {error}") from error


def make_network(
    folder: Path,
    *,
    authorized: int,
    regular: int,
    founders: int | None = None,
    base_port: int | None = None,
    name: str = "devnet",
    configure: Configure = lambda config: config,
    params: Params = DEVNET_PARAMS,
    address_of: Callable[[str], str] = lambda _label: LOOPBACK,
) -> NetworkPlan:
    """Make the data directories and the genesis of a network, on loopback by default.

    Args:
        folder: where everything goes; it must be new or empty.
        authorized: members, or nodes that may become members, at least 1.
        regular: other nodes.
        founders: how many of the authorized nodes the genesis names; the others, which are
            candidates until members admit them, come later. None is all.
        base_port: the first of three ports a node; None looks for free ones.
        name: of the network; it must begin with "devnet" for faults to be possible.
        configure: last word on each node's configuration.
        params: what the genesis fixes.
        address_of: the IPv4 address of a label's machine, or of its network namespace.

    Raises:
        InvalidInputError: numbers out of range, or the folder is in use.
        UnavailableError: not enough ports are free.
    """
    if authorized < 1 or regular < 0 or authorized + regular > NODES_MAX:
        raise InvalidInputError(
            f"{authorized} authorized and {regular} regular nodes; allowed: at least 1 authorized, "
            f"together at most {NODES_MAX}"
        )
    if founders is not None and not 1 <= founders <= authorized:
        raise InvalidInputError(f"{founders} founders of {authorized} authorized nodes")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    labels = [f"authorized-{n + 1}" for n in range(authorized)]
    labels += [f"regular-{n + 1}" for n in range(regular)]
    ports = free_ports(_PORTS_PER_NODE * len(labels), base=base_port)
    nodes = [
        _make_node(folder, label, address_of(label), ports[3 * n : 3 * n + 3], configure)
        for n, label in enumerate(labels)
    ]
    members = [node for node in nodes if node.role == "authorized"]
    first = members[:founders]
    # To try things out, a network of one or two rebuilds packages as well.
    needed = min(params.min_authorized, len(members))
    genesis = found_network(
        name,
        [node.layout.member_record for node in first],
        clock=SystemClock(),
        params=replace(params, min_authorized=needed),
    )
    path = folder / "genesis.json"
    trust = write_genesis(genesis, path)
    for node in nodes:
        others = [member.p2p_address for member in members if member is not node]
        join_network(node.layout, genesis, others[:_BOOTSTRAP_MAX])
    plan = NetworkPlan(name, genesis.network_id.hex(), str(path), str(trust), tuple(nodes))
    (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
    return plan


def _make_node(
    folder: Path, label: str, address: str, ports: list[int], configure: Configure
) -> PlannedNode:
    http_port, data_port, p2p_port = ports
    role = label.partition("-")[0]
    data_url = f"https://{address}:{data_port}"
    listen = f"/ip4/{address}/tcp/{p2p_port}"
    config = configure(
        Config(
            node=NodeSection(label, role),
            http=HttpSection(port=http_port),
            data=DataSection(host=address, port=data_port, url=data_url),
            p2p=P2pSection(listen=(listen,)),
            build=BuildSection(enabled=role == "authorized", allow=("*",)),
            fault=FaultSection(enabled=True),
        )
    )
    layout = Layout((folder / label).absolute())
    member = initialize(layout, config)
    return PlannedNode(
        label=label,
        role=role,
        peer_id=str(member.record.id),
        data=str(layout.root),
        log_file=str((folder / f"{label}.log").absolute()),
        http_url=f"http://{LOOPBACK}:{http_port}",
        data_url=data_url,
        p2p_address=f"{listen}/p2p/{member.record.id}",
    )
