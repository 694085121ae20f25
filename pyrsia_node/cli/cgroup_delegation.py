"""Control groups that a worker without privileges may divide among its builds.

Only root can hand them over; everybody else's worker finds out for itself what it may use (a
systemd unit with ``Delegate=yes``, or resource limits). Reference: kernel documentation, cgroup-v1
and cgroup-v2, "Delegation".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "pyrsia-worker-"
_CONTROLLERS: Final = ("memory", "pids")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")


def delegate(uid: int, *, root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUPS) -> list[Path]:
    """Make groups below our own that user ``uid`` may divide; return them, [] where impossible.

    Groups that a killed predecessor left are removed first.

    Args:
        uid: the worker's user.
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
        # A group that has processes may not hand controllers on, so this works for a root group
        # or where ours is already enabled for children.
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{n}" for n in _CONTROLLERS))
        yield parent


def _hand_over(group: Path, uid: int) -> None:
    os.chown(group, uid, uid)
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"):
        with contextlib.suppress(FileNotFoundError):
            os.chown(group / name, uid, uid)


def _remove_abandoned(parent: Path) -> None:
    for group in parent.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{group.name.removeprefix(_PREFIX)}").exists():
            remove([group])
