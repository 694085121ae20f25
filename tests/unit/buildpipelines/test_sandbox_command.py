"""What the sandbox's command line promises: nothing of the host but /usr, nothing unsized."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from buildpipelines.sandbox import bwrap, ids, seccomp
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.sandbox.run import guest_source

MOUNTS = bwrap.Mounts(
    proxy_socket="/tmp/p.sock",
    data={"/etc/passwd": 7},
    masked=["/usr/local"],
    has_alternatives=True,
    seccomp_fd=9,
)
WALLS = """--unshare-all --unshare-user --disable-userns --clearenv --new-session
--die-with-parent --as-pid-1 --cap-drop --seccomp"""
LIMITS = SandboxLimits(build_bytes=111, tmp_bytes=222)


def options(uid: int | None = None) -> list[str]:
    return bwrap.command(MOUNTS, LIMITS, uid=uid)


def values(name: str, count: int) -> list[tuple[str, ...]]:
    found = options()
    return [tuple(found[i + 1 : i + 1 + count]) for i, o in enumerate(found) if o == name]


def test_nothing_of_the_host_is_bound_but_usr_and_one_socket() -> None:
    assert values("--ro-bind", 2) == [
        ("/usr", "/usr"),
        ("/etc/alternatives", "/etc/alternatives"),
        ("/tmp/p.sock", bwrap.PROXY_SOCKET_PATH),
    ]
    assert not {"--bind", "--dev-bind", "--share-net", "--setenv"} & set(options())


def test_every_writable_file_system_has_a_size() -> None:
    found = options()
    for index, option in enumerate(found):
        if option == "--tmpfs":
            assert found[index - 2] == "--size"
    assert ("111",) in values("--size", 1)
    assert ("222",) in values("--size", 1)
    assert {("/",), ("/dev",), ("/usr/local",)} <= set(values("--remount-ro", 1))


@pytest.mark.parametrize("option", WALLS.split())
def test_every_wall_stands(option: str) -> None:
    assert option in options()


def test_root_becomes_the_build_user_before_anything_else() -> None:
    found = options(uid=64990)
    assert found[:2] == ["/usr/bin/setpriv", "--reuid=64990"]
    assert found.index("/usr/bin/bwrap") > found.index("--clear-groups")
    assert options()[0] == "/usr/bin/bwrap"


def test_guest_imports_the_standard_library_alone() -> None:
    tree = ast.parse(guest_source())
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {name for name in names if name.split(".")[0] == "buildpipelines"}
    assert "pathlib" in names


IMAGE_WALLS = """--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup --clearenv
--new-session --die-with-parent --as-pid-1 --seccomp"""


@pytest.mark.parametrize("option", IMAGE_WALLS.split())
def test_every_wall_of_an_image_build_stands(option: str) -> None:
    assert option in bwrap.image_command(MOUNTS, LIMITS, uid=None, ids=["enter"])


def test_image_build_enters_its_namespace_as_the_build_user_and_before_anything_is_bound() -> None:
    found = bwrap.image_command(MOUNTS, LIMITS, uid=64990, ids=["enter", "7"])
    assert found[:2] == ["/usr/bin/setpriv", "--reuid=64990"]
    assert found.index("enter") < found.index("/usr/bin/bwrap")
    binds = [found[i + 1] for i, option in enumerate(found) if option == "--ro-bind"]
    assert binds == ["/usr", "/etc/alternatives", "/tmp/p.sock"]
    assert not {"--bind", "--dev-bind", "--share-net", "--setenv"} & set(found)


def test_filter_of_steps_denies_what_the_filter_of_builds_denies() -> None:
    profile = json.loads(seccomp.engine_profile())
    assert profile["syscalls"][0]["names"] == list(seccomp.DENIED)
    assert profile["syscalls"][0]["action"] == "SCMP_ACT_ERRNO"
    assert set(seccomp.DENIED) >= seccomp.MOUNTING


@pytest.mark.parametrize("value", ["", "x", "999999", "-1"])
def test_what_is_no_namespace_is_not_taken_for_one(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ids.VARIABLE, value)
    assert ids.inherited() is None


def test_file_is_not_taken_for_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(__file__).open("rb") as file:
        monkeypatch.setenv(ids.VARIABLE, str(file.fileno()))
        assert ids.inherited() is None
