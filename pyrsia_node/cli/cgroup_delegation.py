"""Control groups that the build worker may divide among its builds.

Root hands groups over to the worker's user. Under systemd with ``Delegate=yes`` an ordinary user
may do so as well. Everybody else's worker gets none and limits each process of a build alone.
Reference: kernel documentation, cgroup-v1 and cgroup-v2, "Delegation".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "pyrsia-worker-"
_OWN_PREFIX: Final = "pyrsia-node-"
_CONTROLLERS: Final = ("memory", "pids")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")


def delegate(uid: int | None, *, root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUPS) -> list[Path]:
    """Make groups below our own that the worker may divide; return them, [] where impossible.

    Groups that a killed predecessor left are removed first.

    Args:
        uid: the worker's user, None for our own.
        root: where the kernel shows its control groups.
        own: which groups this process is in.
    """
    groups: list[Path] = []
    try:
        for parent in _parents(root, own):
            _remove_abandoned(parent)
            group = parent / f"{_PREFIX}{os.getpid()}"
            group.mkdir(exist_ok=True)
            groups.append(group)
            if uid is not None:
                _hand_over(group, uid)
    except OSError:
        remove(groups)
        return []
    return groups


def remove(groups: list[Path]) -> None:
    """Remove groups whose processes have ended, with what the worker made in them."""
    for group in groups:
        with contextlib.suppress(OSError):
            for child in group.iterdir():
                if child.is_dir():
                    child.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()


def _parents(root: Path, own: Path) -> Iterator[Path]:
    """Yield our groups of version 1 that count memory and processes, or our one of version 2."""
    by_controller: dict[str, str] = {}
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        by_controller |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    if all(name in by_controller for name in _CONTROLLERS):
        yield from (root / name / by_controller[name] for name in _CONTROLLERS)
        return
    parent = root / by_controller.get("", "")
    offered = (parent / "cgroup.controllers").read_text().split()
    if set(_CONTROLLERS) <= set(offered):
        _enable_for_children(parent)
        yield parent


def _enable_for_children(group: Path) -> None:
    """Let a group of version 2 count memory and processes in the groups below it.

    A group may either have processes or hand controllers on ("no internal processes"), so we move
    into a group below first. That needs a group in which nobody else is.
    """
    enabled = (group / "cgroup.subtree_control").read_text().split()
    if set(_CONTROLLERS) <= set(enabled):
        return
    leaf = group / f"{_OWN_PREFIX}{os.getpid()}"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text("0")
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))


def _hand_over(group: Path, uid: int) -> None:
    os.chown(group, uid, uid)
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"):
        with contextlib.suppress(FileNotFoundError):
            os.chown(group / name, uid, uid)


def _remove_abandoned(parent: Path) -> None:
    for prefix in (_PREFIX, _OWN_PREFIX):
        for group in parent.glob(f"{prefix}*"):
            if not Path(f"/proc/{group.name.removeprefix(prefix)}").exists():
                remove([group])
