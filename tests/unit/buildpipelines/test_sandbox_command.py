"""What the sandbox's command line promises: nothing of the host but /usr, nothing unsized."""

from __future__ import annotations

import ast

import pytest

from buildpipelines.sandbox import bwrap
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
