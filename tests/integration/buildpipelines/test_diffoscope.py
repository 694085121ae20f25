"""A report of diffoscope is quoted within bounds, from a sandbox; whatever it does, nothing fails.

The program is a stand-in that behaves as a test wants; it runs in the real sandbox, in the place
of the real one. The last test asks the real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.sandbox.confine import Confiner
from buildpipelines.sandbox.limits import MIB, SandboxLimits
from buildpipelines.spec.explanation import VALUE_CHARACTERS_MAX
from buildpipelines.worker.diffoscope import PARTS_MAX, PROGRAM, Quoted, Tool, quote
from tests.hostile.jars import class_file, jar

BUILD_UID = 64003
HEAD = """#!/usr/bin/python3 -ISB
import os, signal, socket, sys, time
if "--version" in sys.argv:
    print("diffoscope 999")
    sys.exit(0)
built, published = sys.argv[-2:]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def tool(folder: Path, body: str, *, seconds: float = 20) -> Tool:
    program = folder / "program" / "diffoscope"
    program.parent.mkdir()
    program.write_text(HEAD + body)
    program.chmod(0o755)
    return Tool(
        Confiner(),
        BUILD_UID if os.geteuid() == 0 else None,
        program=str(program),
        visible=(str(program.parent),),
        limits=SandboxLimits(
            seconds=seconds, memory_bytes=128 * MIB, processes=24, tmp_bytes=8 * MIB
        ),
    )


def run(folder: Path, body: str, *, seconds: float = 20) -> Quoted | None:
    built, published = folder / "built.jar", folder / "published.jar"
    built.write_text("one")
    published.write_text("other")
    return asyncio.run(
        quote(tool(folder, body, seconds=seconds), built, published, name="a-1.0.jar")
    )


def said(quoted: Quoted | None) -> str:
    assert quoted is not None
    return "\n".join(difference.built for difference in quoted.differences)


def test_report_is_quoted_with_the_name_of_the_tool(folder: Path) -> None:
    found = run(folder, "print(open(built).read(), open(published).read()); sys.exit(1)")
    assert found is not None
    assert found.tool == "diffoscope 999"
    (difference,) = found.differences
    assert (difference.attribute, difference.built) == ("diffoscope 1", "one other")
    assert (difference.level, difference.rule) == (3, "")


def test_flood_and_escapes_are_cut_and_made_safe(folder: Path) -> None:
    found = run(
        folder,
        "print('\\x1b[2J' + 'x' * 90 + '\\n', end='' ) or None\n"
        "for _ in range(200_000): print('y' * 99)\nsys.exit(1)",
    )
    assert found is not None
    assert len(found.differences) <= PARTS_MAX
    assert all(len(d.built) <= VALUE_CHARACTERS_MAX for d in found.differences)
    assert "\x1b" not in said(found)
    assert "\\x1b[2J" in said(found)


LOOK = """
def can(act):
    try:
        act()
    except OSError:
        return False
    return True
print("network", can(lambda: socket.create_connection(("127.0.0.1", 9), 1)))
print("host", os.path.exists("/etc/shadow") or os.path.exists("/root") or os.path.exists("/home"))
print("write", can(lambda: open(built, "w")) or can(lambda: open("/x", "w")))
print("others", len([p for p in os.listdir("/proc") if p.isdigit()]) > 3)
print("disk", can(lambda: open("/tmp/big", "wb").write(bytes(9 << 20))))
print("environment", sorted(os.environ))
print("id", os.getuid())
sys.exit(1)
"""


def test_program_sees_its_two_files_and_nothing_else(folder: Path) -> None:
    lines = said(run(folder, LOOK)).splitlines()
    assert lines == [
        "network False",
        "host False",
        "write False",
        "others False",
        "disk False",
        "environment ['HOME', 'LC_ALL', 'PATH', 'PWD', 'TZ']",
        "id 1000",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "print('equal'); sys.exit(0)",
        "print('broken'); sys.exit(2)",
        "sys.exit(1)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "x = b'x' * (1 << 30); print(len(x)); sys.exit(1)",
    ],
)
def test_program_that_fails_is_not_quoted(folder: Path, body: str) -> None:
    assert run(folder, body) is None


def test_program_without_an_end_is_ended(folder: Path) -> None:
    start = time.monotonic()
    body = "if os.fork(): time.sleep(600)\nos.setsid(); time.sleep(600)"
    assert run(folder, body, seconds=2) is None
    assert time.monotonic() - start < 60


def test_missing_program_says_nothing(folder: Path) -> None:
    missing = replace(tool(folder, ""), program=str(folder / "none"))
    for name in ("a", "b"):
        (folder / name).write_text(name)
    assert asyncio.run(quote(missing, folder / "a", folder / "b", name="a.jar")) is None


def test_names_of_both_files_are_those_of_the_artifact(folder: Path) -> None:
    body = "import json\nprint(json.dumps([built, published])); sys.exit(1)"
    names = json.loads(said(run(folder, body)))
    assert names == ["/data/built/a-1.0.jar", "/data/published/a-1.0.jar"]


@pytest.mark.nightly
@pytest.mark.timeout(180)
def test_real_program_tells_of_classes_and_texts_what_differs(folder: Path) -> None:
    assert Path(PROGRAM).is_file(), "apt-get install diffoscope-minimal"
    built, published = folder / "built.jar", folder / "published.jar"
    for path, method, text in ((built, "run", b"hello\n"), (published, "walk", b"other\n")):
        path.write_bytes(jar({"Main.class": class_file(methods={method: b"\xb1"}), "text": text}))
    tool = Tool(Confiner(), BUILD_UID if os.geteuid() == 0 else None)
    quoted = asyncio.run(quote(tool, built, published, name="a-1.0.jar"))
    assert quoted is not None
    assert quoted.tool.startswith("diffoscope ")
    lines = said(quoted).splitlines()
    assert {"│ -hello", "│ +other"} <= {*lines}
    assert any("Main.class" in line for line in lines)
    assert not any("failed" in line for line in lines), "what it needs is there"
