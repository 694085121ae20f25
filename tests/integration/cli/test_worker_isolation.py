"""The build worker cannot reach the node's keys, whoever runs the node (ARCHITECTURE.md 2).

A real bubblewrap starts a real Python, which plays a worker taken over by a build.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio

from pyrsia_node.cli import cgroup_delegation
from pyrsia_node.cli.children import ChildSpec, start_child
from pyrsia_node.cli.visibility import Need, mount_arguments
from pyrsia_node.cli.worker import isolated_spec, prepare_build_folder, worker_spec, worker_uid
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import WORKER_UID_DEFAULT, BuildSection, NodeSection
from pyrsia_node.schema.upstreams import RegistryUpstream

ORDINARY_UID = 64001
# The user of the node and of its worker. Everybody can run the node of an ordinary user; only
# root can give the worker a user of its own.
NODES = (
    [
        pytest.param((ORDINARY_UID, None), id="ordinary user"),
        pytest.param((0, WORKER_UID_DEFAULT), id="root"),
    ]
    if os.geteuid() == 0
    else [pytest.param((os.geteuid(), None), id="ordinary user")]
)

INTRUDER = textwrap.dedent(
    """
    import ctypes, json, os, subprocess, sys
    data, node = sys.argv[1], sys.argv[2]
    def attempt(what):
        try:
            return repr(what())
        except OSError as error:
            return type(error).__name__
    def read(path):
        with open(path, "rb") as file:
            return file.read()
    def unmount():
        if ctypes.CDLL(None, use_errno=True).umount2((data + "/keys").encode(), 2):
            raise OSError(ctypes.get_errno(), "umount2")
        return read(data + "/keys/node.key")
    bwrap = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL",
             "--clearenv", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink",
             "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "/usr/bin/true"]
    with open(data + "/build/jobs/own", "w") as own:
        own.write("mine")
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(json.dumps({
        "key": attempt(lambda: read(data + "/keys/node.key")),
        "key of the node's root": attempt(lambda: read(f"/proc/{node}/root{data}/keys/node.key")),
        "memory of the node": attempt(lambda: read(f"/proc/{node}/environ")),
        "key behind the mount": attempt(unmount),
        "token": attempt(lambda: read(data + "/admin.token")),
        "seen": sorted(os.listdir(data)),
        "run": attempt(lambda: os.listdir(data + "/run")),
        "uid": os.getuid(),
        "capabilities": status["CapEff"].strip(),
        "environment": sorted(os.environ),
        "nested": subprocess.run(bwrap, capture_output=True).returncode,
        "cgroups": open("/proc/self/cgroup").read(),
    }))
    """
)


@dataclass(frozen=True)
class Node:
    """A data directory, and a process of the user whose node this is.

    ``own_uid`` is the user of the node; ``uid`` the one that its worker gets, None for the same.
    """

    layout: Layout
    own_uid: int
    uid: int | None
    pid: int


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that every user may enter, unlike pytest's own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest, open_folder: Path) -> Iterator[Node]:
    own_uid, uid = request.param
    layout = Layout(open_folder / "data")
    for path, mode in layout.folders():
        path.mkdir(mode=mode)
    layout.node_key.write_text("s3cr3t")
    layout.node_key.chmod(0o600)
    (layout.root / "admin.token").write_text("s3cr3t")
    for path in [layout.root, *layout.root.rglob("*")]:
        os.chown(path, own_uid, -1)
    prepare_build_folder(layout, uid)
    with subprocess.Popen(["/bin/sleep", "600"], user=own_uid) as process:
        yield Node(layout, own_uid, uid, process.pid)
        process.kill()


def as_user_of(node: Node, spec: ChildSpec) -> ChildSpec:
    """Let root play an ordinary user, who may not be able to enter the folder of this Python."""
    if node.own_uid == os.geteuid():
        return spec
    command = ["/usr/bin/python3" if word == sys.executable else word for word in spec.command]
    become = ["/usr/bin/setpriv", f"--reuid={node.own_uid}", "--clear-groups"]
    return replace(spec, command=[*become, f"--regid={node.own_uid}", "--", *command])


def intrude(node: Node, *cgroups: Path) -> dict[str, Any]:
    spec = isolated_spec(
        node.layout,
        ["-c", INTRUDER, str(node.layout.root), str(node.pid)],
        {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "AWS_SECRET": "s3cr3t"},
        uid=node.uid,
        cgroups=cgroups,
    )
    spec = as_user_of(node, spec)
    lines: list[str] = []

    async def run() -> None:
        ended = await start_child(spec).run(lambda _name, line: lines.append(line))
        assert ended.code == 0, lines

    trio.run(run)
    report: dict[str, Any] = json.loads(lines[-1])
    return report


def test_worker_cannot_open_the_keys_by_any_path(node: Node) -> None:
    report = intrude(node)
    for path in ("key", "key of the node's root", "memory of the node", "key behind the mount"):
        assert report[path] in {"FileNotFoundError", "PermissionError"}, path
    assert report["token"] == "FileNotFoundError"
    assert report["run"] == "FileNotFoundError"
    assert report["seen"] == ["build"]


def test_worker_has_no_privileges_and_no_environment_of_ours(node: Node) -> None:
    report = intrude(node)
    assert int(report["capabilities"], 16) == 0
    assert report["uid"] == (node.own_uid if node.uid is None else node.uid)
    assert "SSL_CERT_FILE" in report["environment"]
    assert "AWS_SECRET" not in report["environment"]


def test_worker_can_still_do_its_work(node: Node) -> None:
    report = intrude(node)
    assert report["nested"] == 0  # it can start the sandboxes of builds
    assert (node.layout.build_jobs / "own").read_text() == "mine"


def test_worker_is_told_its_folder_and_its_limits(tmp_path: Path) -> None:
    build = BuildSection(parallel=3, memory_bytes_max=256 * 1024**2, seconds_max=60)
    command = worker_spec(Layout(tmp_path), build, {}, uid=None).command
    assert command[command.index("-m") :] == [
        *("-m", "buildpipelines.worker"),
        *("--socket", f"{tmp_path}/build/worker.sock", "--work", f"{tmp_path}/build/jobs"),
        *("--parallel", "3", "--memory-mib", "256", "--seconds", "60"),
        *("--contract-socket", f"{tmp_path}/build/pipeline.sock"),
    ]


def test_worker_is_told_the_registries_of_images_and_which_may_be_private(tmp_path: Path) -> None:
    upstreams = (
        RegistryUpstream("registry.example", "https://registry.example"),
        RegistryUpstream("own.example", "http://10.0.0.1:5000", allow_private=True),
        RegistryUpstream("*", ""),
    )
    spec = worker_spec(Layout(tmp_path), BuildSection(), {}, uid=None, upstreams=upstreams)
    assert spec.command[-4:] == [
        *("--registry", "registry.example=https://registry.example"),
        *("--private-registry", "own.example=http://10.0.0.1:5000"),
    ]


def test_worker_is_told_the_repositories_that_builds_may_use_and_no_password(
    tmp_path: Path,
) -> None:
    repositories = (
        MavenUpstream("central", "https://repository.example/maven2"),
        MavenUpstream("team", "http://10.0.0.1/maven", allow_private=True, importable=True),
        MavenUpstream("secret", "http://10.0.0.2/maven", allow_private=True),
        MavenUpstream("paid", "https://user:word@repository.example/paid"),
    )
    build = BuildSection(private_sources=("127.0.0.1:8443",))
    spec = worker_spec(Layout(tmp_path), build, {}, uid=None, repositories=repositories)
    first = spec.command.index("--maven-repository")
    assert spec.command[first:] == [
        *("--maven-repository", "central=https://repository.example/maven2"),
        *("--private-maven-repository", "team=http://10.0.0.1/maven"),
        *("--private-source", "127.0.0.1:8443"),
    ]


def test_worker_is_told_where_the_pipeline_contract_is_spoken_and_to_whom(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    quiet = worker_spec(layout, BuildSection(), {}, uid=None).command
    first = quiet.index("--contract-socket")
    assert quiet[first:] == ["--contract-socket", str(tmp_path / "build/pipeline.sock")]
    build = BuildSection(contract_listen="127.0.0.1:8080", external="https://pipeline.example")
    near = replace(build, external="http://10.0.0.1", external_private=True)
    for each, option in ((build, "--external-pipeline"), (near, "--private-external-pipeline")):
        command = worker_spec(layout, each, {}, uid=None).command
        assert command[first + 2 :] == [
            *("--contract-listen", "127.0.0.1:8080"),
            *(option, each.external),
        ]


def test_worker_of_root_inherits_user_ids_for_images_and_no_right(tmp_path: Path) -> None:
    """The namespace is the build user's own to enter, and he stays without any capability."""
    ordinary = worker_spec(Layout(tmp_path), BuildSection(), {}, uid=None)
    assert not any(word.endswith("ids.py") for word in ordinary.command)
    if os.geteuid() != 0:
        return  # Nobody but root can give ids out, so there is nothing more to see.
    program = (
        "import os; from buildpipelines.sandbox import ids;"
        "caps = [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapBnd')];"
        "print(ids.inherited() is not None, os.getuid(), *caps)"
    )
    layout = Layout(tmp_path)
    tmp_path.chmod(0o755)
    prepare_build_folder(layout, WORKER_UID_DEFAULT)
    spec = worker_spec(layout, BuildSection(), {}, uid=WORKER_UID_DEFAULT)
    command = [*spec.command[: spec.command.index("-m")], "-c", program]
    done = subprocess.run(
        command, env=spec.environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", str(WORKER_UID_DEFAULT), "0" * 16]


def test_worker_reaches_its_folder_below_one_that_is_closed_to_it(
    node: Node, open_folder: Path
) -> None:
    os.chown(open_folder, node.own_uid, -1)
    open_folder.chmod(0o700)
    assert intrude(node)["seen"] == ["build"]


def test_another_user_reaches_what_lies_deep_below_a_closed_folder(open_folder: Path) -> None:
    """A checkout in root's home: bubblewrap makes folders on the way for their owner only."""
    program = open_folder / "checkout" / "venv" / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho reached\n")
    program.chmod(0o755)
    open_folder.chmod(0o700)
    command = ["/usr/bin/bwrap", "--dev-bind", "/", "/"]
    command += mount_arguments(
        open_folder / "data", [Need(program.parent)], lambda folder: folder != open_folder
    )
    if os.geteuid() == 0:
        command += ["/usr/bin/setpriv", f"--reuid={WORKER_UID_DEFAULT}", "--clear-groups"]
    else:
        command += ["--unshare-user"]
    (open_folder / "data").mkdir()
    done = subprocess.run(
        [*command, str(program)], capture_output=True, text=True, umask=0o077, check=False
    )
    assert (done.stdout, done.stderr) == ("reached\n", "")


def test_worker_opens_the_certificates_that_are_named_in_a_closed_folder(
    open_folder: Path,
) -> None:
    layout = Layout(open_folder / "data")
    layout.build.mkdir(parents=True)
    authority = open_folder / "home" / "authority.pem"
    authority.parent.mkdir()
    authority.write_text("trusted\n")
    authority.chmod(0o644)
    authority.parent.chmod(0o700)
    uid = WORKER_UID_DEFAULT if os.geteuid() == 0 else None
    reading = ["-c", "import os; print(open(os.environ['SSL_CERT_FILE']).read(), end='')"]
    spec = isolated_spec(layout, reading, {"SSL_CERT_FILE": str(authority)}, uid=uid)
    done = subprocess.run(
        spec.command, env=spec.environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("trusted\n", "")


BUILDER = textwrap.dedent(
    """
    import subprocess, time
    bwrap = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session",
             "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink",
             "usr/lib64", "/lib64", "/usr/bin/sh", "-c", "echo up; exec sleep 600"]
    build = subprocess.Popen(bwrap, stdout=subprocess.PIPE)
    build.stdout.readline()
    print("up", flush=True)
    time.sleep(600)
    """
)


def below(pid: int) -> list[int]:
    """Return the processes below ``pid``."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *below(child)]
    return found


def test_killed_worker_takes_its_sandboxes_along(node: Node) -> None:
    spec = as_user_of(node, isolated_spec(node.layout, ["-c", BUILDER], {}, uid=node.uid))
    seen: list[int] = []

    async def run() -> None:
        child = start_child(spec)

        def kill(_name: str, _line: str) -> None:
            seen.extend(below(child.pid))
            os.kill(child.pid, signal.SIGKILL)

        await child.run(kill)
        with trio.fail_after(10):
            while any(Path(f"/proc/{pid}").exists() for pid in seen):
                await trio.sleep(0.01)

    trio.run(run)
    assert len(seen) >= 3  # the worker, its sandbox, and the build in a session of its own


def test_delegated_groups_are_joined_and_removed(node: Node) -> None:
    """Where there is nobody to delegate to, or the machine does not allow it: none is joined."""
    groups = cgroup_delegation.delegate(node.uid) if node.uid is not None else []
    try:
        report = intrude(node, *groups)
    finally:
        cgroup_delegation.remove(groups)
    for group in groups:
        assert group.name in report["cgroups"]
        assert not group.exists()


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_version_2_group_hands_its_controllers_on_after_we_moved_out_of_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "cgroup",
        {"own/cgroup.controllers": "cpu memory pids\n", "own/cgroup.subtree_control": ""},
    )
    own = tree(tmp_path, {"self": "0::/own\n"}) / "self"
    (group,) = cgroup_delegation.delegate(None, root=root, own=own)
    assert group == root / f"own/pyrsia-worker-{os.getpid()}"
    assert (root / f"own/pyrsia-node-{os.getpid()}/cgroup.procs").read_text() == "0"
    assert (root / "own/cgroup.subtree_control").read_text() == "+memory +pids"
    cgroup_delegation.remove([group])
    assert not group.exists()


def test_version_2_group_that_hands_on_already_is_left_as_it_is(tmp_path: Path) -> None:
    files = {
        "own/cgroup.controllers": "cpu memory pids\n",
        "own/cgroup.subtree_control": "memory pids\n",
        "own/pyrsia-worker-999999999/x": "",
    }
    root = tree(tmp_path / "cgroup", files)
    (root / "own/pyrsia-worker-999999999/x").unlink()
    own = tree(tmp_path, {"self": "0::/own\n"}) / "self"
    (group,) = cgroup_delegation.delegate(None, root=root, own=own)
    # What a killed predecessor left is gone, and nothing else was touched.
    assert sorted(path.name for path in (root / "own").iterdir()) == [
        "cgroup.controllers",
        "cgroup.subtree_control",
        group.name,
    ]


@pytest.mark.parametrize(
    ("controllers", "own_text"),
    [("cpu\n", "0::/own\n"), ("memory pids\n", "0::/elsewhere\n"), ("memory pids\n", "")],
)
def test_machine_without_the_controllers_delegates_nothing(
    tmp_path: Path, controllers: str, own_text: str
) -> None:
    root = tree(tmp_path / "cgroup", {"own/cgroup.controllers": controllers})
    own = tree(tmp_path, {"self": own_text}) / "self"
    assert cgroup_delegation.delegate(os.geteuid(), root=root, own=own) == []


@pytest.mark.parametrize("user", ["0", "root", "no-such-user"])
def test_worker_of_a_root_node_never_runs_as_root(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    config = Config(node=NodeSection("a", "authorized"), build=BuildSection(user=user))
    with pytest.raises(InvalidInputError, match=f'build.user = "{user}"; allowed: '):
        worker_uid(config)


def test_worker_of_an_ordinary_user_keeps_that_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    config = Config(node=NodeSection("a", "authorized"), build=BuildSection(user="nobody"))
    assert worker_uid(config) is None
