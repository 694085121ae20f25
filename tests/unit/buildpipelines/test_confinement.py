"""Which way of counting is chosen, on cgroup trees made of plain files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildpipelines.sandbox.confine import Confiner, RlimitConfinement, descendants
from buildpipelines.sandbox.limits import SandboxLimits

LIMITS = SandboxLimits(memory_bytes=123_456, processes=17)


def own(folder: Path, text: str) -> Path:
    path = folder / "cgroup"
    path.write_text(text)
    return path


def test_version_1_groups_are_made_below_our_own(tmp_path: Path) -> None:
    for path in ("memory/here", "pids/there"):
        (tmp_path / path).mkdir(parents=True)
    confiner = Confiner(
        root=tmp_path, own=own(tmp_path, "4:memory:/here\n8:cpu,pids:/there\n0::/\n")
    )
    assert confiner.kind == "cgroup1"
    name = f"pyrsia-build-{os.getpid()}-job"
    confinement = confiner.make("job", LIMITS)
    memory, pids = tmp_path / "memory/here" / name, tmp_path / "pids/there" / name
    assert (memory / "memory.limit_in_bytes").read_text() == "123456"
    assert (pids / "pids.max").read_text() == "17"
    confinement.attach([1, 2])
    assert (memory / "cgroup.procs").read_text() == "2"  # a plain file keeps the last
    assert confinement.breach() is None
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\noom_kill 1\n")
    assert confinement.breach() == "memory limit"
    (memory / "memory.oom_control").write_text("oom_kill 0\n")
    (pids / "pids.events").write_text("max 3\n")
    assert confinement.breach() == "process limit"


def test_version_2_group_that_was_delegated_is_used_first(tmp_path: Path) -> None:
    group = tmp_path / "service"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    confiner = Confiner(root=tmp_path, own=own(tmp_path, "0::/service\n"))
    assert confiner.kind == "cgroup2"
    # A group with processes may hand no controllers on, so we moved into a leaf.
    assert (group / "pyrsia-worker" / "cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids"
    confinement = confiner.make("job", LIMITS)
    made = group / f"pyrsia-build-{os.getpid()}-job"
    assert (made / "memory.max").read_text() == "123456"
    (made / "memory.events").write_text("low 0\noom_kill 2\n")
    assert confinement.breach() == "memory limit"


@pytest.mark.parametrize(
    "text", ["", "0::/\n", "4:memory:/absent\n8:pids:/absent\n", "junk", "4:memory:/\n"]
)
def test_without_a_usable_cgroup_resource_limits_are_used(tmp_path: Path, text: str) -> None:
    confiner = Confiner(root=tmp_path, own=own(tmp_path, text))
    assert confiner.kind == "rlimit"
    assert isinstance(confiner.make("job", LIMITS), RlimitConfinement)


def test_groups_of_a_dead_worker_are_removed_and_those_of_a_living_one_stay(
    tmp_path: Path,
) -> None:
    for controller in ("memory", "pids"):
        for owner in (2**22 + 1, os.getpid()):
            (tmp_path / controller / f"pyrsia-build-{owner}-job").mkdir(parents=True)
    Confiner(root=tmp_path, own=own(tmp_path, "4:memory:/\n8:pids:/\n"))
    left = {p.name for p in (tmp_path / "memory").iterdir() if p.name.endswith("-job")}
    assert left == {f"pyrsia-build-{os.getpid()}-job"}


def test_watcher_counts_tasks_and_memory_of_the_whole_tree() -> None:
    few = RlimitConfinement(SandboxLimits(processes=1))
    assert few.breach() is None
    few.attach([os.getpid()])
    assert few.breach() == "process limit"
    small = RlimitConfinement(SandboxLimits(processes=10_000, memory_bytes=1024))
    small.attach([os.getpid()])
    assert small.breach() == "memory limit"
    assert os.getpid() in descendants(os.getpid())
