"""The process that stays: ``python -m pyrsia_node.cli.supervise --data DIR``.

``pyrsia-node run`` checks the node with everything it takes to check signatures and databases, and
then becomes this program, which needs little more than an event loop: it lives as long as the node.
"""

from __future__ import annotations

import argparse
import os
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
from pyrsia_node.core.link_client import call_once
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.exit_codes import exit_code_of
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.config_file import read_config
from pyrsia_node.store.parent import watch_parent

STOP_ORDER: Final = ("gateway", "worker", "core")
"""First nobody asks any more, then nothing is built any more, then the last votes are written."""

_PROBE_TIMEOUT_S: Final = 5.0

_GRACE_S: Final = 40.0
"""What an orderly stop of all children may take; longer than their time limits together."""

_STATUS_FACTS: Final = ("peer_id", "label", "role", "network", "network_name", "addresses")


def main() -> int:
    """Supervise the node until it is stopped; return the exit code."""
    parser = argparse.ArgumentParser(prog="pyrsia_node.cli.supervise")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    layout = Layout(parser.parse_args().data.absolute())
    try:
        watch_parent(grace_s=_GRACE_S)
        return supervise(layout, _print_line)
    except PyrsiaError as error:
        sys.stderr.write(f"pyrsia-node: {error}\n")
        return exit_code_of(error)


def supervise(layout: Layout, print_line: PrintLine) -> int:
    """Run the node in ``layout`` until it is stopped; return the exit code.

    Args:
        layout: the data directory, as an absolute path; it was checked to be whole.
        print_line: takes every line of every process.

    Raises:
        NotFoundError, InvalidInputError: the configuration is missing or wrong.
        UnavailableError: another process holds the data directory.
    """
    _, config = read_config(layout)
    with hold_data_directory(layout):
        cgroups = _prepare_worker(layout, config)
        try:
            supervisor = Supervisor(_plan(layout, config, tuple(cgroups)), print_line)
            return trio.run(supervisor.run)
        finally:
            cgroup_delegation.remove(cgroups)


def _print_line(name: str, line: str) -> None:
    sys.stderr.write(f"{name:<7} | {line}\n")
    sys.stderr.flush()


def _prepare_worker(layout: Layout, config: Config) -> list[Path]:
    """Make the worker's folder its own; return the control groups that it may divide."""
    if not config.build.enabled:
        return []
    uid = worker_uid(config)
    prepare_build_folder(layout, uid)
    return cgroup_delegation.delegate(uid)


def _plan(layout: Layout, config: Config, cgroups: tuple[Path, ...]) -> Plan:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    children = [_child(layout, name, environment) for name in ("core", "gateway")]
    if config.build.enabled:
        uid = worker_uid(config)
        children.append(
            worker_spec(
                layout,
                config.build,
                environment,
                uid=uid,
                cgroups=cgroups,
                upstreams=config.docker.upstreams,
                repositories=() if config.maven.offline else config.maven.upstreams,
            )
        )
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


if __name__ == "__main__":
    sys.exit(main())
