"""A supervisor in a process of its own, so that tests can kill it: `supervise.py FOLDER [ROLE]`.

ROLE is what the children do (child.py): `serve` unless told otherwise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from pyrsia_node.cli.children import ChildSpec
from pyrsia_node.cli.supervisor import Plan, Probe, Supervisor
from pyrsia_node.model.errors import UnavailableError

CHILD = Path(__file__).with_name("child.py")


def spec(name: str, folder: Path, *words: str, stop_timeout_s: float = 5.0) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=[sys.executable, str(CHILD), *words],
        environment={**os.environ},
        folder=folder,
        stop_timeout_s=stop_timeout_s,
    )


async def answer() -> dict[str, object]:
    return {"http_url": "http://127.0.0.1:1"}


async def never_answer() -> dict[str, object]:
    raise UnavailableError("nobody listens")


def plan(folder: Path, *children: ChildSpec, probe: Probe = answer) -> Plan:
    return Plan(
        children=children,
        stop_order=["gateway", "worker", "core"],
        required=frozenset({"core", "gateway"}),
        probe=probe,
        ready_file=folder / "ready.json",
    )


def print_line(name: str, line: str) -> None:
    sys.stdout.write(f"{name}| {line}\n")
    sys.stdout.flush()


def main(folder: Path, role: str = "serve") -> int:
    order = str(folder / "order")
    children = [spec(name, folder, role, order, name) for name in ("core", "gateway", "worker")]
    supervisor = Supervisor(plan(folder, *children), print_line)
    return trio.run(supervisor.run)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
