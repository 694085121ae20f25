"""A trial records, a rebuild replays: a real worker, real sandboxes, an index on 127.0.0.1.

The releases are made by the tests; one of them is a C extension that setuptools builds with the
machine's compiler.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast

import pytest

from buildpipelines.spec.lock import LockedFile, make_lock
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    OutputFile,
    RebuildParams,
)
from tests.hostile.index import Index, serving_index
from tests.hostile.sdists import (
    PYPROJECT,
    backend,
    file_member,
    installed_closure,
    installed_wheel,
    record_digest,
    sdist,
    tar_gz,
    wheel,
)
from tests.hostile.worker import Worker, running_worker

CUTOFF_TIME = "2024-05-01T10:00:00.123456Z"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serving_index() as index:
        yield index


@pytest.fixture(scope="module")
def worker(index: Index) -> Iterator[Worker]:
    with TemporaryDirectory() as name, running_worker(Path(name), index.url) as worker:
        yield worker


@pytest.fixture(scope="module")
def other_worker(index: Index) -> Iterator[Worker]:
    with TemporaryDirectory() as name, running_worker(Path(name), index.url) as worker:
        yield worker


def trial(worker: Worker, name: str) -> BuildResult:
    status = worker.trial(name)
    assert isinstance(status.result, BuildResult), status
    return status.result


def rebuild(
    worker: Worker, recorded: BuildResult, job: str, **changes: object
) -> BuildResult | JobFailure:
    params = RebuildParams(
        job=job,
        purl=recorded.purl,
        source=recorded.source,
        lock=recorded.lock,
        recipe=recorded.recipe,
        toolchain=recorded.toolchain,
        seconds_max=50,
    )
    params = dataclasses.replace(params, **changes)  # type: ignore[arg-type]  # checked by the tests
    worker.call("rebuild", params.document())
    status = worker.follow(job)
    assert status.result is not None
    return status.result


def built(result: BuildResult | JobFailure) -> OutputFile:
    assert isinstance(result, BuildResult), result
    return next(f for f in result.files if f.claim == "rebuilt")


def refused(result: BuildResult | JobFailure) -> str:
    assert isinstance(result, JobFailure), result
    return f"{result.outcome}: {result.cause}"


def publish(index: Index, name: str) -> bytes:
    """Publish a release whose wheel is what its source gives; return the wheel."""
    index.add(name, f"{name}-1.0.tar.gz", sdist(name, "1.0"), CUTOFF_TIME)
    with TemporaryDirectory() as folder:
        scope: dict[str, object] = {}
        exec(backend(name, "1.0"), scope)  # noqa: S102 - our own, the one that the sandbox runs
        build_wheel = cast("Callable[[str], str]", scope["build_wheel"])
        file = build_wheel(folder)
        data = (Path(folder) / file).read_bytes()
    index.add(name, file, data, CUTOFF_TIME)
    return data


def rewritten(data: bytes, *, changes: dict[str, bytes], time: tuple[int, ...]) -> bytes:
    """Return a wheel with other times, and other contents that RECORD does not cover."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            info = zipfile.ZipInfo(entry.filename, time)  # type: ignore[arg-type]
            info.external_attr = entry.external_attr
            new.writestr(info, changes.get(entry.filename, old.read(entry)))
    return out.getvalue()


def test_release_that_repeats_reaches_level_0_and_lists_its_source(
    worker: Worker, index: Index
) -> None:
    published = publish(index, "exact")
    result = trial(worker, "exact")
    file = built(result)
    assert (file.level, file.differences) == (0, ())
    assert file.sha256 == file.upstream_sha256 == hashlib.sha256(published).hexdigest()
    assert file.upstream_path is not None
    assert Path(file.upstream_path).read_bytes() == published
    source = next(f for f in result.files if f.claim == "mirrored")
    assert hashlib.sha256(Path(source.path).read_bytes()).hexdigest() == result.source.sha256
    assert result.purl == "pkg:pypi/exact@1.0"
    assert result.recipe["cutoff"] == "2024-05-01T10:00:00Z"
    assert [f.file for f in result.lock.files] == ["exact-1.0.tar.gz"]
    assert "ada@" not in str(result.metadata)


def test_rebuild_by_another_worker_repeats_the_recorded_build(
    worker: Worker, other_worker: Worker, index: Index
) -> None:
    publish(index, "repeated")
    recorded = trial(worker, "repeated")
    replayed = rebuild(other_worker, recorded, "repeated")
    assert isinstance(replayed, BuildResult)
    assert built(replayed).sha256 == built(recorded).sha256
    assert replayed.metadata == recorded.metadata
    assert replayed.lock == recorded.lock


def test_published_wheel_with_other_times_is_equal_at_level_1(worker: Worker, index: Index) -> None:
    published = publish(index, "times")
    file = "times-1.0-py3-none-any.whl"
    index.add("times", file, rewritten(published, changes={}, time=(2021, 2, 3, 4, 5, 6)))
    result = built(trial(worker, "times"))
    assert result.level == 1
    assert "2021-02-03 04:05:06 published" in result.differences[0]


def test_what_carries_the_current_time_carries_the_published_one(
    worker: Worker, other_worker: Worker, index: Index
) -> None:
    # As many back ends do: sources keep their times, what is written anew has that of the run.
    code = backend("clocked", "1.0").replace(
        b"(2020, 1, 1, 0, 0, 0)",
        b"(2019, 1, 1, 0, 0, 0) if name.endswith('.py') else time.localtime()[:6]",
    )
    members = {"pyproject.toml": PYPROJECT, "backend.py": b"import time\n" + code}
    data = tar_gz([file_member(f"clocked-1.0/{n}", text) for n, text in members.items()])
    index.add("clocked", "clocked-1.0.tar.gz", data, CUTOFF_TIME)
    file = "clocked-1.0-py3-none-any.whl"
    scope: dict[str, object] = {"time": SimpleNamespace(localtime=lambda: (2022, 3, 4, 5, 6, 8))}
    exec(code, scope)  # noqa: S102 - our own back end, at another time
    with TemporaryDirectory() as folder:
        cast("Callable[[str], str]", scope["build_wheel"])(folder)
        index.add("clocked", file, (Path(folder) / file).read_bytes(), CUTOFF_TIME)
    recorded = trial(worker, "clocked")
    assert (recorded.recipe["epoch"], recorded.recipe["clock"]) == ("unset", 1_646_370_368)
    assert built(recorded).level == 0
    assert built(rebuild(other_worker, recorded, "clocked")).level == 0


def test_published_wheel_with_other_content_contradicts_its_source(
    worker: Worker, index: Index
) -> None:
    published = publish(index, "backdoor")
    name = "backdoor/__init__.py"
    old, new = b"value = 42\n", b"value = 43\n"
    with zipfile.ZipFile(io.BytesIO(published)) as archive:
        record = archive.read("backdoor-1.0.dist-info/RECORD")
    digests = (record_digest(old).encode(), record_digest(new).encode())
    changes = {name: new, "backdoor-1.0.dist-info/RECORD": record.replace(*digests)}
    evil = rewritten(published, changes=changes, time=(2020, 1, 1, 0, 0, 0))
    index.add("backdoor", "backdoor-1.0-py3-none-any.whl", evil)
    result = built(trial(worker, "backdoor"))
    assert result.level == 3
    assert result.upstream_sha256 == hashlib.sha256(evil).hexdigest()
    line = f"{name}: line 1: 'value = 42' in the build, 'value = 43' published"
    assert result.differences[0] == line


def test_published_wheel_that_breaks_the_format_counts_as_different(
    worker: Worker, index: Index
) -> None:
    published = publish(index, "confused")
    index.add("confused", "confused-1.0-py3-none-any.whl", published + b"trailing")
    result = built(trial(worker, "confused"))
    assert result.level == 3
    assert "the published file is refused: not zip" in result.differences[0]


def test_tampering_workers_get_different_digests(worker: Worker, index: Index) -> None:
    publish(index, "tampered")
    recorded = trial(worker, "tampered")
    results = [
        built(rebuild(worker, recorded, f"tampered-{number}", tamper=f"node {number}"))
        for number in (1, 2)
    ]
    assert len({built(recorded).sha256, *(r.sha256 for r in results)}) == 3
    assert len({built(recorded).l2, *(r.l2 for r in results)}) == 3
    assert [r.level for r in results] == [3, 3]


C_SOURCE = b"""#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native", __FILE__, -1, 0};
PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&module); }
"""
COMPILE = """
import subprocess, sysconfig
TAG = "cp311-cp311-linux_x86_64"
command = [*sysconfig.get_config_var("CC").split(), "-shared", "-fPIC", "-g", "-O2"]
command += ["-I", sysconfig.get_path("include"), "-o", "native.so", os.path.abspath("native.c")]
subprocess.run(command, check=True)
EXTRA["native.so"] = open("native.so", "rb").read()
"""


def test_native_package_repeats_byte_for_byte_in_two_work_folders(
    worker: Worker, other_worker: Worker, index: Index
) -> None:
    index.add(
        "native", "native-1.0.tar.gz", sdist("native", "1.0", COMPILE, {"native.c": C_SOURCE})
    )
    recorded = trial(worker, "native")
    file = built(recorded)
    assert file.name == "native-1.0-cp311-cp311-linux_x86_64.whl"
    assert (file.level, file.upstream_sha256, file.upstream_path) == (None, None, None)
    replayed = built(rebuild(other_worker, recorded, "native"))
    assert replayed.sha256 == file.sha256
    with zipfile.ZipFile(replayed.path) as archive:
        # Debug information names the source's path: only a fixed path makes it repeat.
        assert b"/build/src/native-1.0" in archive.read("native.so")


def publish_back_end(index: Index) -> set[str]:
    wheels = installed_closure("hatchling")
    for project, (file, data) in wheels.items():
        index.add(project, file, data, CUTOFF_TIME)
    return set(wheels)


def hatchling_sdist(name: str) -> bytes:
    project = f"""[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.0"
requires-python = ">=3.8"
authors = [{{ name = "Ada Lovelace", email = "ada@example.com" }}]
"""
    top = f"{name}-1.0"
    return tar_gz(
        [
            file_member(f"{top}/pyproject.toml", project.encode()),
            file_member(f"{top}/{name}/__init__.py", b"value = 42\n"),
            file_member(f"{top}/PKG-INFO", f"Name: {name}\nVersion: 1.0\n".encode()),
        ]
    )


def test_real_back_end_is_recorded_in_the_lock_and_replayed_from_it(
    worker: Worker, other_worker: Worker, index: Index
) -> None:
    index.add("hatched", "hatched-1.0.tar.gz", hatchling_sdist("hatched"), CUTOFF_TIME)
    back_end = publish_back_end(index)
    newer = installed_wheel("pluggy")[1]
    index.add("pluggy", "pluggy-999-py3-none-any.whl", newer, "2025-01-01T00:00:00Z")
    recorded = trial(worker, "hatched")
    assert {f.project for f in recorded.lock.files} == {*back_end, "hatched"}
    assert "pluggy-999-py3-none-any.whl" not in {f.file for f in recorded.lock.files}
    replayed = rebuild(other_worker, recorded, "hatched")
    assert built(replayed).sha256 == built(recorded).sha256
    assert isinstance(replayed, BuildResult)
    assert replayed.metadata.author == "Ada Lovelace"


def test_lock_that_a_members_own_index_contradicts_is_refused(worker: Worker, index: Index) -> None:
    publish(index, "locked")
    recorded = trial(worker, "locked")
    poison = LockedFile("pypi", "poison", "poison-1.0.tar.gz", "a" * 64, 9, "2024-01-01T00:00:00Z")
    index.add("poison", "poison-1.0.tar.gz", b"the true", "2024-01-01T00:00:00Z")
    index.add("poison", "poison-2.0.tar.gz", b"too new!", "2030-01-01T00:00:00Z")
    digest = hashlib.sha256(b"too new!").hexdigest()
    cases = {
        "lock hash": poison,
        "lock unknown file": dataclasses.replace(poison, file="poison-9.tar.gz"),
        "lock ecosystem": dataclasses.replace(poison, ecosystem="npm"),
        "lock too new": LockedFile("pypi", "poison", "poison-2.0.tar.gz", digest, 8),
    }
    for cause, file in cases.items():
        lock = make_lock((*recorded.lock.files, file))
        job = "locked-" + cause.replace(" ", "-")
        assert refused(rebuild(worker, recorded, job, lock=lock)) == f"REFUSED: {cause}"


def test_request_that_does_not_fit_this_machine_or_release_is_refused(
    worker: Worker, index: Index
) -> None:
    publish(index, "fitting")
    recorded = trial(worker, "fitting")
    recipe = dict(recorded.recipe)
    cases: dict[str, dict[str, object]] = {
        "toolchain": {"toolchain": "0" * 64},
        "source": {"source": dataclasses.replace(recorded.source, sha256="1" * 64)},
        "cutoff": {"recipe": recipe | {"cutoff": "2029-01-01T00:00:00Z"}},
        "reference": {"recipe": recipe | {"reference": "other-1.0-py3-none-any.whl"}},
        "request": {"recipe": recipe | {"umask": "777"}},
    }
    for cause, changes in cases.items():
        result = rebuild(worker, recorded, f"fitting-{cause}", **changes)
        assert refused(result) == f"REFUSED: {cause}"


def test_release_that_cannot_be_had_says_so_and_names_what_there_is(
    worker: Worker, index: Index
) -> None:
    index.add("wheelonly", "wheelonly-1.0-py3-none-any.whl", b"")
    index.add("broken", "broken-1.0.tar.gz", sdist("broken", "1.0"))
    index.corrupt.add("broken-1.0.tar.gz")
    causes = {
        "absent": "unknown package",
        "wheelonly": "no source",
        "broken": "input has another hash",
    }
    for name, cause in causes.items():
        result = worker.trial(name).result
        assert isinstance(result, JobFailure)
        assert (result.outcome, result.cause) == ("SOURCE_UNAVAILABLE", cause)
    result = worker.trial("wheelonly", "2.0").result
    assert isinstance(result, JobFailure)
    assert result.cause == "unknown version"
    assert "wheelonly-1.0-py3-none-any.whl" in result.detail


def test_second_recipe_is_tried_when_the_first_cannot_build(worker: Worker, index: Index) -> None:
    # The published wheel names a version of its back end that no index has.
    file = "unpinned-1.0-py3-none-any.whl"
    published = wheel({}, stem="unpinned-1.0", generator="hatchling 0.0.1")
    index.add("unpinned", file, published, CUTOFF_TIME)
    index.add("unpinned", "unpinned-1.0.tar.gz", hatchling_sdist("unpinned"), CUTOFF_TIME)
    publish_back_end(index)
    result = trial(worker, "unpinned")
    assert result.recipe["constraints"] == ()
    assert built(result).level == 3
    log = Path(result.log_path).read_text()
    assert "attempt 1: hatchling==0.0.1" in log
    assert "attempt 1: BUILD_FAILED: build requirements" in log
