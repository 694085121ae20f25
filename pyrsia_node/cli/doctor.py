"""``pyrsia-node doctor``: look at everything a node depends on and say what to do about it.

Only looks; changes nothing but what a check needs for a moment (a port, a sandbox). Works on a
running node, a stopped one, and a directory that is none yet.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.cli.doctor_clock import examine_clock
from pyrsia_node.cli.doctor_sandbox import examine_sandbox
from pyrsia_node.cli.doctor_votes import examine_votes
from pyrsia_node.cli.findings import Finding, fail, ok, warn
from pyrsia_node.core.founding import read_genesis
from pyrsia_node.core.link_client import call_once
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.ports import Clock
from pyrsia_node.schema.config import Config, check_network
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.config_file import read_config

_GIB: Final = 1024**3
_FREE_BYTES_NEEDED: Final = 1 * _GIB
_FILES_WANTED: Final = 4096
_LINK_TIMEOUT_S: Final = 3.0


def examine(layout: Layout, clock: Clock) -> list[Finding]:
    """Return the findings about the node in ``layout``, an absolute path."""
    findings = [*_examine_python()]
    config = None
    try:
        _, config = read_config(layout)
        findings.append(ok("configuration", f"{layout.config}: {config.node.role} node"))
    except PyrsiaError as error:
        findings.append(fail("configuration", str(error), "mend the file, or make a new node"))
    is_running = _is_running(layout)
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _examine_files(layout, config),
        lambda: _examine_leftovers(layout, is_running=is_running),
        lambda: _examine_disk(layout, config),
        lambda: examine_clock(layout, clock, is_running=is_running),
        lambda: examine_votes(layout, is_running=is_running),
    ]
    if config is not None:
        found = config
        checks.append(lambda: _examine_ports(found, is_running=is_running))
        if config.build.enabled:
            checks.append(lambda: examine_sandbox(layout, found))
        else:
            checks.append(lambda: iter([ok("sandbox", "not needed: this node builds nothing")]))
    for check in checks:
        findings += check()
    return findings


def _examine_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield ok("python", version)
    else:
        yield fail("python", version, "use Python 3.11, 3.12 or 3.13")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FILES_WANTED:
        yield ok("open files", f"{soft} allowed")
    else:
        advice = f"`ulimit -n {_FILES_WANTED}`, or LimitNOFILE= in the unit (hard limit {hard})"
        yield warn("open files", f"{soft} allowed", advice)


def _is_running(layout: Layout) -> bool:
    try:
        trio.run(lambda: call_once(layout.core_socket, "status", {}, timeout_s=_LINK_TIMEOUT_S))
    except PyrsiaError:
        return False
    return True


def _examine_files(layout: Layout, config: Config | None) -> Iterator[Finding]:
    missing = [str(folder) for folder, _ in layout.folders() if not folder.is_dir()]
    if missing:
        advice = "`pyrsia-node init` makes a new node; a lost folder comes from a backup"
        yield fail("folders", f"missing: {', '.join(missing)}", advice)
    else:
        yield ok("folders", f"{layout.root} is complete")
    for path in (layout.keys, layout.node_key):
        if not path.exists():
            yield fail("keys", f"{path} is missing", "restore it, or make a new node")
        elif (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield fail(
                "keys",
                f"{path} has mode {mode:o}: others may read it",
                f"`chmod go-rwx {path}`, and think about who may have read it",
            )
        elif path.stat().st_uid != os.geteuid():
            owner = path.stat().st_uid
            yield warn("keys", f"{path} belongs to user {owner}", "run this as the node's user")
        else:
            yield ok("keys", f"{path}: mode {mode:o}")
    yield from _examine_genesis(layout, config)


def _examine_genesis(layout: Layout, config: Config | None) -> Iterator[Finding]:
    try:
        genesis = read_genesis(layout.genesis)
        if config is not None:
            check_network(config, genesis.name)
    except InvalidInputError as error:
        yield fail("network", str(error), "mend the configuration, or get the right genesis")
    except PyrsiaError as error:
        yield fail("network", str(error), "`pyrsia-node join GENESIS --peer ADDR`")
    else:
        yield ok("network", f"{genesis.name} {genesis.network_id.hex()}")


def _examine_leftovers(layout: Layout, *, is_running: bool) -> Iterator[Finding]:
    if is_running:
        yield ok("leftovers", "the node is running")
        return
    sockets = [path.name for path in layout.run.glob("*.sock")] if layout.run.is_dir() else []
    # Beside the jobs the worker keeps what it fetched, and builds of the pipeline contract.
    jobs = [path.name for path in _list(layout.build_jobs / "jobs")]
    if sockets or jobs:
        what = ", ".join([*sockets, *(f"build job {job}" for job in jobs)])
        advice = "nothing to do: the next start clears what a killed node left"
        yield warn("leftovers", what, advice)
    else:
        yield ok("leftovers", "none")


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _examine_disk(layout: Layout, config: Config | None) -> Iterator[Finding]:
    existing = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / _GIB:.1f} GiB free at {existing}"
    wanted = _FREE_BYTES_NEEDED + (config.cache.bytes_max if config is not None else 0)
    if free < _FREE_BYTES_NEEDED:
        yield fail("disk", found, "free at least 1 GiB: the chain must be able to grow")
    elif free < wanted:
        advice = f"the cache may grow to cache.bytes_max ({wanted / _GIB - 1:.1f} GiB): lower it"
        yield warn("disk", found, advice)
    else:
        yield ok("disk", found)


def _examine_ports(config: Config, *, is_running: bool) -> Iterator[Finding]:
    listeners = [
        ("http", config.http.host, config.http.port),
        ("data", config.data.host, config.data.port),
    ]
    for address in config.p2p.listen:
        _, _, p2p_host, _, p2p_port, *_ = address.split("/")
        listeners.append(("p2p", p2p_host, int(p2p_port)))
    for name, host, port in listeners:
        where = f"{name} {host} port {port or '(chosen by the system)'}"
        problem = None if is_running or port == 0 else _why_not_free(host, port)
        if problem is None:
            yield ok("ports", f"{where}: {'in use by this node' if is_running else 'free'}")
        else:
            advice = f"end what uses it (`ss -ltnp 'sport = :{port}'`) or change node.toml"
            yield fail("ports", f"{where}: {problem}", advice)


def _why_not_free(host: str, port: int) -> str | None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: what only waits for late packets does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return "taken" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
    return None
