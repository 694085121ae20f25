"""The doctor's look at what builds need: a sandbox that starts, limits that hold, programs.

The questions are asked the way the worker is started, as its user and behind its mounts, because
only that answer counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pyrsia_node.cli import cgroup_delegation
from pyrsia_node.cli.findings import Finding, fail, ok, warn
from pyrsia_node.cli.worker import isolated_spec, worker_uid
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout

_PROBE_TIMEOUT_S: Final = 20.0
_COMPILER: Final = "cc"

_TRY_SANDBOX: Final = (
    "import subprocess, sys;"
    "sys.exit(subprocess.run(['bwrap', '--unshare-all', '--unshare-user', '--disable-userns',"
    " '--cap-drop', 'ALL', '--clearenv', '--die-with-parent', '--ro-bind', '/usr', '/usr',"
    " '--symlink', 'usr/bin', '/bin', '--symlink', 'usr/lib', '/lib', '--symlink', 'usr/lib64',"
    " '/lib64', '--proc', '/proc', '--dev', '/dev', '/usr/bin/true']).returncode)"
)
_ASK_LIMITS: Final = (
    "from buildpipelines.sandbox.confine import Confiner; print('kind', Confiner().kind)"
)
_ASK_MAVEN: Final = (
    "from buildpipelines.sandbox.maven_toolchain import read_maven_toolchains;"
    "print('jdks', *(each.jdk for each in read_maven_toolchains()))"
)
_ASK_PIPELINE: Final = (
    "import asyncio;"
    "from buildpipelines.worker.contract_client import parse_pipeline_address, why_no_answer;"
    "print('pipeline', asyncio.run(why_no_answer(parse_pipeline_address"
)
_LIMITS: Final = {
    "cgroup2": "control groups, version 2",
    "cgroup1": "control groups, version 1",
    "rlimit": "resource limits of each process, and a watcher",
}


def examine_sandbox(layout: Layout, config: Config) -> Iterator[Finding]:
    """Yield what can be said about building on this machine."""
    missing = [name for name in ("bwrap", "setpriv") if shutil.which(name) is None]
    if missing:
        advice = "install the packages bubblewrap and util-linux, or set build.enabled = false"
        yield fail("sandbox", f"not installed: {', '.join(missing)}", advice)
        return
    if shutil.which(_COMPILER) is None:
        advice = "install a C compiler and Python's headers to rebuild packages with C code"
        yield warn("compiler", "none found", advice)
    else:
        yield ok("compiler", str(shutil.which(_COMPILER)))
    try:
        uid = worker_uid(config)
    except PyrsiaError as error:
        yield fail("worker's user", str(error), "mend build.user in node.toml")
        return
    yield ok("worker's user", f"{uid}" if uid is not None else "the node's own, without its keys")
    if layout.build_jobs.is_dir():
        yield from _examine_as_worker(layout, uid)
        yield from _examine_maven(layout, config, uid)
        if config.build.external:
            yield _examine_external(layout, config, uid)


def _examine_as_worker(layout: Layout, uid: int | None) -> Iterator[Finding]:
    groups = cgroup_delegation.delegate(uid)
    try:
        code, output = _run_as_worker(layout, uid, groups, _TRY_SANDBOX)
        if code == 0:
            yield ok("sandbox", "bubblewrap starts, with a user namespace and no network")
        else:
            advice = "allow user namespaces (sysctl kernel.unprivileged_userns_clone, AppArmor)"
            yield fail("sandbox", f"bubblewrap does not start: {_last(output)}", advice)
        code, output = _run_as_worker(layout, uid, groups, _ASK_LIMITS)
        kind = _last(output).removeprefix("kind ")
        if code != 0 or kind not in _LIMITS:
            yield fail("limits", f"not found out: {_last(output)}", "report this with the output")
        elif kind == "rlimit":
            advice = "run as root, or under systemd with Delegate=yes, for limits on whole builds"
            yield warn("limits", _LIMITS[kind], advice)
        else:
            yield ok("limits", _LIMITS[kind])
    finally:
        cgroup_delegation.remove(groups)


def _examine_maven(layout: Layout, config: Config, uid: int | None) -> Iterator[Finding]:
    """Yield with which JDKs artifacts of Maven can be rebuilt here."""
    why = "maven.offline is set" if config.maven.offline else ""
    if not any(each.is_public for each in config.maven.upstreams):
        why = "maven.upstreams names nothing for builds"
    if why:
        yield ok("maven", f"artifacts are not rebuilt here: {why}")
        return
    code, output = _run_as_worker(layout, uid, (), _ASK_MAVEN)
    kind, *jdks = _last(output).split(" ")
    missing = [] if shutil.which("git") else ["git"]
    if code != 0 or kind != "jdks":
        yield fail("maven", f"not found out: {_last(output)}", "report this with the output")
    elif not jdks or missing:
        missing += [] if jdks else ["Maven or a JDK below /usr/lib/jvm"]
        advice = "install maven, git and a JDK (Debian: maven, git, openjdk-17-jdk-headless)"
        yield warn("maven", f"not installed: {', '.join(missing)}", advice)
    else:
        yield ok("maven", f"artifacts are rebuilt with JDK {', '.join(jdks)}")


def _examine_external(layout: Layout, config: Config, uid: int | None) -> Finding:
    """Return whether another's pipeline answers the worker as its contract says."""
    url, is_private = config.build.external, config.build.external_private
    program = f"{_ASK_PIPELINE}({url!r}, is_private={is_private}))))"
    code, output = _run_as_worker(layout, uid, (), program)
    kind, _, problem = _last(output).partition(" ")
    if code != 0 or kind != "pipeline":
        return fail("external pipeline", f"not found out: {_last(output)}", "report this")
    if not problem:
        return ok("external pipeline", f"{url} answers")
    advice = "see to it, or take build.external away; near addresses need build.external_private"
    return warn("external pipeline", f"{url}: {problem}", advice)


def _run_as_worker(
    layout: Layout, uid: int | None, groups: Sequence[Path], program: str
) -> tuple[int, str]:
    spec = isolated_spec(layout, ["-c", program], os.environ, uid=uid, cgroups=tuple(groups))
    try:
        done = subprocess.run(
            spec.command,
            env=dict(spec.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def _last(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"no output from {sys.executable}"
