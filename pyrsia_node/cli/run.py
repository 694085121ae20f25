"""``pyrsia-node run``: check that the node is whole, then supervise its three processes.

Nothing is created here that `init` or `join` should have made: what is missing is named together
with the command that makes it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.cli import cgroup_delegation
from pyrsia_node.cli.children import ChildSpec, PrintLine
from pyrsia_node.cli.data_lock import hold_data_directory
from pyrsia_node.cli.supervisor import Plan, Supervisor
from pyrsia_node.cli.worker import prepare_build_folder, worker_spec, worker_uid
from pyrsia_node.core.founding import read_config, read_genesis
from pyrsia_node.core.link_client import call_once
from pyrsia_node.gateway.pip_config import pip_index_url
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.schema.config import Config, check_network
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.parent import watch_parent

STOP_ORDER: Final = ("gateway", "worker", "core")
"""First nobody asks any more, then nothing is built any more, then the last votes are written."""

_PROBE_TIMEOUT_S: Final = 5.0

_GRACE_S: Final = 40.0
"""What an orderly stop of all children may take; longer than their time limits together."""


def run_node(layout: Layout, print_line: PrintLine) -> int:
    """Run the node until it is stopped; return the exit code.

    Args:
        layout: the data directory, as an absolute path.
        print_line: takes every line of every process.

    Raises:
        NotFoundError: something is missing; the text names the command that makes it.
        InvalidInputError: the configuration, or a file's mode, is wrong.
        UnavailableError: another process holds the data directory.
    """
    watch_parent(grace_s=_GRACE_S)
    config = check_whole(layout)
    with hold_data_directory(layout):
        cgroups = _prepare_worker(layout, config)
        try:
            supervisor = Supervisor(_plan(layout, config, tuple(cgroups)), print_line)
            return trio.run(supervisor.run)
        finally:
            cgroup_delegation.remove(cgroups)


def check_whole(layout: Layout) -> Config:
    """Check that nothing is missing to run; return the configuration.

    Raises:
        NotFoundError: something is missing; the text names the command that makes it.
        InvalidInputError: the configuration, or the key file's mode, is wrong.
        VerificationError: the genesis carries a signature that does not hold.
    """
    _, config = read_config(layout)
    for folder, _ in layout.folders():
        if not folder.is_dir():
            raise NotFoundError(
                f"{folder} is missing, and a running node makes no folder of its own: restore it "
                "from a backup, or make a new node with `pyrsia-node init`"
            )
    if not layout.node_key.exists():
        raise NotFoundError(
            f"{layout.node_key} is missing: it is the node's identity; restore it from a backup, "
            "or make a new node with `pyrsia-node init`"
        )
    if stat.S_IMODE(layout.node_key.stat().st_mode) & 0o077:
        raise InvalidInputError(
            f"{layout.node_key} can be read by others; `chmod 600 {layout.node_key}`, and think "
            "about who may have read it"
        )
    if not layout.genesis.exists():
        raise NotFoundError(
            f"{layout.genesis} is missing: the node is in no network yet; `pyrsia-node join "
            f"GENESIS --data {layout.root}` brings it into one, `pyrsia-node network init` founds "
            "one"
        )
    check_network(config, read_genesis(layout.genesis).name)
    return config


def _prepare_worker(layout: Layout, config: Config) -> list[Path]:
    """Make the worker's folder its own; return the control groups that it may divide."""
    if not config.build.enabled:
        return []
    uid = worker_uid(config)
    prepare_build_folder(layout, uid)
    return cgroup_delegation.delegate(uid) if uid is not None else []


def _plan(layout: Layout, config: Config, cgroups: tuple[Path, ...]) -> Plan:
    environment = {
        **os.environ,
        # Asked here once, as the user whose configuration it is: the worker may be another.
        "PIP_INDEX_URL": config.pypi.upstream or pip_index_url(os.environ, Path.home()),
        "PYTHONUNBUFFERED": "1",
    }
    # -O would be inherited from here, and the processes refuse it.
    environment.pop("PYTHONOPTIMIZE", None)
    children = [_child(layout, name, environment) for name in ("core", "gateway")]
    if config.build.enabled:
        uid = worker_uid(config)
        children.append(worker_spec(layout, config.build, environment, uid=uid, cgroups=cgroups))

    return Plan(
        children=children,
        stop_order=STOP_ORDER,
        required=frozenset({"core", "gateway"}),
        probe=partial(_probe, layout),
        ready_file=layout.ready,
    )


def _child(layout: Layout, name: str, environment: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(
        name=name,
        # -P: what lies in the folder that the node is started from must never be imported.
        command=[sys.executable, "-P", "-m", f"pyrsia_node.{name}", "--data", str(layout.root)],
        environment=environment,
        folder=layout.root,
    )


async def _probe(layout: Layout) -> Mapping[str, object]:
    """Ask both processes; return what the readiness file tells of them."""
    status = await call_once(layout.core_socket, "status", {}, timeout_s=_PROBE_TIMEOUT_S)
    gateway = await call_once(layout.gateway_socket, "ping", {}, timeout_s=_PROBE_TIMEOUT_S)
    facts: dict[str, object] = {name: status[name] for name in _STATUS_FACTS if name in status}
    return {**facts, **gateway}


_STATUS_FACTS: Final = ("peer_id", "label", "role", "network", "network_name", "addresses")
