"""Count and bound what all processes of one sandbox use together.

Three ways, the best that works is taken and named in the environment record: a cgroup of version
2, cgroups of version 1 (memory and pids; hybrid machines too), or resource limits with a watcher.
Every sandbox is attached while only our own guest runs in it, before it is told its job, so there
is no moment in which hostile code is not counted. Killing is done by the sandbox's pid namespace;
the cgroup is a second net. Reference: kernel documentation, cgroup-v1/memory, cgroup-v1/pids,
cgroup-v2.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from buildpipelines.sandbox.limits import SandboxLimits

Kind = Literal["cgroup2", "cgroup1", "rlimit"]

MEMORY_LIMIT = "memory limit"
PROCESS_LIMIT = "process limit"
_PREFIX = "pyrsia-build-"
_CONTROLLERS = ("memory", "pids")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Confinement(Protocol):
    """The bounds around one sandbox."""

    kind: Kind

    def attach(self, pids: Iterable[int]) -> None:
        """Put processes under the bounds; their later children follow."""
        ...

    def breach(self) -> str | None:
        """Return which bound was hit ("memory limit", "process limit"), or None."""
        ...

    def close(self) -> bool:
        """End what is left; return whether every trace is gone (ask again after a moment)."""
        ...


def descendants(pid: int) -> list[int]:
    """Return ``pid`` and all processes below it that can be seen now."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        for task in _names(Path(f"/proc/{current}/task")):
            children = Path(f"/proc/{current}/task/{task}/children")
            with contextlib.suppress(OSError):
                queue += [int(child) for child in children.read_text().split()]
    return found


class CgroupConfinement:
    """One group per controller (version 1), or one group for both (version 2)."""

    def __init__(self, kind: Kind, groups: dict[str, Path], limits: SandboxLimits) -> None:
        """Make the groups; ``groups`` maps "memory" and "pids" to folders.

        Raises:
            OSError: the folders or their limits cannot be written.
        """
        self.kind: Kind = kind
        self._groups = groups
        for path in {*groups.values()}:
            path.mkdir()
        memory = "memory.max" if kind == "cgroup2" else "memory.limit_in_bytes"
        (groups["memory"] / memory).write_text(str(limits.memory_bytes))
        (groups["pids"] / "pids.max").write_text(str(limits.processes))
        if kind == "cgroup2":
            with contextlib.suppress(OSError):  # no swap accounting, then no swap limit
                (groups["memory"] / "memory.swap.max").write_text("0")

    def attach(self, pids: Iterable[int]) -> None:
        """Move processes in; one that has ended meanwhile is no loss."""
        for pid in pids:
            for path in {*self._groups.values()}:
                with contextlib.suppress(ProcessLookupError):
                    (path / "cgroup.procs").write_text(str(pid))

    def breach(self) -> str | None:
        """Read the kernel's own counters of refused forks and killed processes."""
        events = "memory.events" if self.kind == "cgroup2" else "memory.oom_control"
        if _counter(self._groups["memory"] / events, "oom_kill"):
            return MEMORY_LIMIT
        if _counter(self._groups["pids"] / "pids.events", "max"):
            return PROCESS_LIMIT
        return None

    def close(self) -> bool:
        """Kill what is left, then remove the groups; one whose dead are not yet reaped is busy."""
        is_gone = True
        for path in {*self._groups.values()}:
            with contextlib.suppress(OSError):
                for pid in (path / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                is_gone = False
        return is_gone


class RlimitConfinement:
    """No cgroup: each process has limits of its own, and this watcher sums them up."""

    kind: Kind = "rlimit"

    def __init__(self, limits: SandboxLimits) -> None:
        """Watch with these limits; nothing is created."""
        self._limits = limits
        self._root: int | None = None

    def attach(self, pids: Iterable[int]) -> None:
        """Remember the sandbox's first process, the root of the watched tree."""
        self._root = next(iter(pids))

    def breach(self) -> str | None:
        """Count the tasks of the tree and sum up their memory."""
        if self._root is None:
            return None
        pids = descendants(self._root)
        if sum(len(_names(Path(f"/proc/{pid}/task"))) for pid in pids) >= self._limits.processes:
            return PROCESS_LIMIT
        if sum(_memory_bytes(pid) for pid in pids) > self._limits.memory_bytes:
            return MEMORY_LIMIT
        return None

    def close(self) -> bool:
        """Nothing was created."""
        return True


class Confiner:
    """Knows which way works on this machine and makes confinements."""

    def __init__(
        self, *, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> None:
        """Find out what works; ``root`` and ``own`` are where the kernel shows cgroups."""
        self._parents: dict[str, Path] | None = None
        self.kind: Kind = "rlimit"
        for kind, parents in (
            ("cgroup2", _version2_parents(root, own)),
            ("cgroup1", _version1_parents(root, own)),
        ):
            if parents is not None and self._works(kind, parents):  # type: ignore[arg-type]  # tuple of literals
                break

    def _works(self, kind: Kind, parents: dict[str, Path]) -> bool:
        _remove_leftovers({*parents.values()})
        self.kind, self._parents = kind, parents
        try:
            self.make("probe", SandboxLimits()).close()
        except OSError:
            self.kind, self._parents = "rlimit", None
            return False
        return True

    def make(self, name: str, limits: SandboxLimits) -> Confinement:
        """Return the bounds for one sandbox; ``name`` is unique in this process."""
        if self._parents is None:
            return RlimitConfinement(limits)
        groups = {
            key: path / f"{_PREFIX}{os.getpid()}-{name}" for key, path in self._parents.items()
        }
        return CgroupConfinement(self.kind, groups, limits)


def _version1_parents(root: Path, own: Path) -> dict[str, Path] | None:
    paths = _own_paths(own)
    if any(controller not in paths for controller in _CONTROLLERS):
        return None
    return {c: root / c / paths[c].lstrip("/") for c in _CONTROLLERS}


def _version2_parents(root: Path, own: Path) -> dict[str, Path] | None:
    """Return our own group if it may have children that count memory and processes.

    A group with processes may not hand controllers to its children, so this process first moves
    itself into a leaf. That works where the group was delegated to us (systemd: Delegate=yes).
    """
    path = _own_paths(own).get("")
    if path is None:
        return None
    group = root / path.lstrip("/")
    try:
        if not set(_CONTROLLERS) <= set((group / "cgroup.controllers").read_text().split()):
            return None
        if path != "/":
            leaf = group / "pyrsia-worker"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (group / "cgroup.subtree_control").write_text("+memory +pids")
    except OSError:
        return None
    return dict.fromkeys(_CONTROLLERS, group)


def _own_paths(own: Path) -> dict[str, str]:
    """Return the path of our group by controller; "" is the version 2 tree."""
    paths: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _remove_leftovers(parents: set[Path]) -> None:
    """Remove groups that a killed worker left; their names begin with the worker's pid."""
    for parent in parents:
        for name in _names(parent):
            owner = name.removeprefix(_PREFIX).partition("-")[0]
            if name.startswith(_PREFIX) and not Path(f"/proc/{owner}").exists():
                with contextlib.suppress(OSError):
                    (parent / name).rmdir()


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _counter(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value.split()[0])
    except OSError:
        pass
    return 0


def _memory_bytes(pid: int) -> int:
    """Return a process's own memory and its share of what it has in common with others.

    Of another user's process only its resident pages can be told, shared ones in full.
    """
    shared_out = _counter(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024
    if shared_out:
        return shared_out
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
