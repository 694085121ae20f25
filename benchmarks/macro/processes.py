"""What a node's processes cost, as the kernel counts it: memory, processor time, waiting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def descendants(root: int) -> dict[int, str]:
    """Return the names of a process and of all below it, by process id."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _parent(entry)
            if parent is not None:
                below.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found[pid] = _role(pid)
        waiting += below.get(pid, [])
    return found


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _role(pid: int) -> str:
    """Name a process by the module that it runs, else by its program."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    program = Path(words[0]).name
    if program.startswith("python") and "-m" in words:
        return words[words.index("-m") + 1]
    return program


@dataclass(frozen=True)
class Memory:
    """Bytes: resident, and resident with shared pages divided among those who share them.

    Of the latter, ``anonymous`` is what the process made itself; the rest are pages of files, which
    the kernel takes back when it needs them.
    """

    rss: int
    pss: int
    anonymous: int


def memory_of(pid: int) -> Memory:
    """Return a process's memory."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, value = line.partition(":")
        fields[key] = int(value.split()[0]) * 1024
    return Memory(rss=fields["Rss"], pss=fields["Pss"], anonymous=fields["Pss_Anon"])


def thread_times(pid: int) -> dict[int, float]:
    """Return the seconds on a processor of each of a process's threads, by thread id."""
    found: dict[int, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        stat = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(stat[11]) + int(stat[12])) / _TICKS_PER_S
    return found


def database_s(pid: int) -> float:
    """Return the seconds on a processor of a core's threads that run no Python: the database's.

    They have the name of the process, while trio names those that it starts.
    """
    tasks = Path(f"/proc/{pid}/task")
    name = (tasks / str(pid) / "comm").read_text()
    return sum(
        used
        for thread, used in thread_times(pid).items()
        if thread != pid and (tasks / str(thread) / "comm").read_text() == name
    )


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds on a processor, and seconds ready to run while others had the processors."""

    used_s: float
    waited_s: float

    @classmethod
    def of(cls, pids: Iterable[int]) -> Self:
        """Return the sum over processes since they started; waiting counts main threads."""
        used_s = waited_s = 0.0
        for pid in pids:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used_s += (int(stat[11]) + int(stat[12])) / _TICKS_PER_S
            waited_s += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        return cls(used_s, waited_s)

    def __sub__(self, earlier: ProcessorTime) -> ProcessorTime:
        """Return what was added since."""
        return ProcessorTime(self.used_s - earlier.used_s, self.waited_s - earlier.waited_s)


def busy_s() -> float:
    """Return the seconds that the machine's processors have worked, whoever for."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, *interrupts = (int(word) for word in words[:7])
    return (user + nice + system + sum(interrupts)) / _TICKS_PER_S
