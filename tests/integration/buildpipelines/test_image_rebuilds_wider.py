"""More ways to build an image: locked packages in steps, stages, Docker's types, one layer.

Longer than what `make test` may take, so it runs with `make e2e`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.image_survey import image_order, rebuild_image
from buildpipelines.inputs.pipconf import index_settings
from buildpipelines.inputs.registries import Registry
from buildpipelines.sandbox.ids import COUNT, FIRST_ID
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.spec.messages import BuildResult, JobFailure, RecipeValue
from buildpipelines.two_nodes import TwoNodes
from buildpipelines.worker.service import Options
from tests.fakes.images import busybox_image
from tests.fakes.registries import DebianRegistry, debian_registry
from tests.hostile.image_builds import Builder, File, Files, context_tar, push_context, python_base
from tests.hostile.index import Index, serving_index
from tests.hostile.sdists import wheel
from tests.hostile.worker import running_worker

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

ORDINARY_UID = 64001
UPLOADED = "2023-05-01T10:00:00.000000Z"  # before the images' own time


@pytest.fixture(scope="module")
def registry() -> Iterator[DebianRegistry]:
    with TemporaryDirectory() as name, debian_registry(Path(name)) as registry:
        yield registry


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serving_index() as index:
        yield index


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "builder")
    yield builder
    builder.remove()


def rebuilt(
    folder: Path,
    image: str,
    registry: DebianRegistry,
    index: Index,
    options: dict[str, RecipeValue],
) -> tuple[BuildResult, TwoNodes]:
    settings = Options(
        work=folder / "work",
        index=index_settings(index_url=index.url),
        limits=SandboxLimits(seconds=200),
        registries=(Registry(registry.host, registry.url, is_private=True),),
    )
    found = asyncio.run(rebuild_image(f"{registry.host}/{image}", options, settings))
    lines = list(found.lines(image_order))
    assert isinstance(found.trial, BuildResult), found.trial.detail
    assert isinstance(found.rebuild, BuildResult), lines
    return found.trial, found


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        ("dd if=/dev/zero of=/opt/full bs=1M", "disk limit"),
        ("b() { b | b & }; b; sleep 9", "process limit"),
        ("tail -c 900m /dev/zero", "memory limit"),
        ("sleep 60", "idle limit"),
    ],
)
def test_hostile_step_ends_at_a_limit_that_is_named(
    step: str, cause: str, tmp_path: Path, registry: DebianRegistry, index: Index
) -> None:
    base = registry.push(busybox_image(), "bases/busybox", "1")
    text = f"FROM {registry.host}/bases/busybox@{base}\nCOPY x /opt/\nRUN {step}\n"
    packed = context_tar({"Dockerfile": File(text.encode()), "x": File(b"x")})
    where = push_context(registry, "apps/hostile", packed)
    mib = 1024**2
    limits = SandboxLimits(
        seconds=100, idle_seconds=8, build_bytes=64 * mib, processes=60, memory_bytes=256 * mib
    )
    settings = Options(
        work=tmp_path / "work",
        index=index_settings(index_url=index.url),
        limits=limits,
        registries=(Registry(registry.host, registry.url, is_private=True),),
    )
    image = f"{registry.host}/bases/busybox:1"
    found = asyncio.run(rebuild_image(image, {"context": where}, settings))
    assert isinstance(found.trial, JobFailure)
    assert found.trial.cause == cause, found.trial.detail


@pytest.mark.parametrize(
    ("step", "cause"), [("tail -c 900m /dev/zero", "memory limit"), ("sleep 60", "idle limit")]
)
def test_worker_without_any_right_ends_what_runs_under_ids_of_nobody(
    step: str, cause: str, registry: DebianRegistry, index: Index
) -> None:
    """As in a node: the ids are the supervisor's gift, and control groups may be missing."""
    if os.geteuid() != 0:
        return  # Only root can give ids; the node of another user offers no pipeline of images.
    base = registry.push(busybox_image(), "bases/busybox", "1")
    text = f"FROM {registry.host}/bases/busybox@{base}\nCOPY x /opt/\nRUN {step}\n"
    packed = context_tar({"Dockerfile": File(text.encode()), "x": File(b"x")})
    where = push_context(registry, "apps/hostile", packed)
    option = f"--private-registry={registry.host}={registry.url}"
    limits = ("--idle-seconds=8", "--memory-mib=256")
    with (
        TemporaryDirectory() as name,
        running_worker(
            Path(name), index.url, option, *limits, uid=ORDINARY_UID, has_ids=True
        ) as worker,
    ):
        Path(name).chmod(0o755)
        params = {"job": "hostile", "ecosystem": "docker", "seconds_max": 60}
        image = {"name": f"{registry.host}/bases/busybox", "version": "1"}
        worker.call("trial", {**params, **image, "options": {"context": where}})
        result = worker.follow("hostile").result
        assert isinstance(result, JobFailure)
        assert result.cause == cause, result.detail
        assert not processes_of_nobody()


def test_worker_without_user_ids_offers_no_images_and_says_why(index: Index) -> None:
    uid = ORDINARY_UID if os.geteuid() == 0 else None
    with TemporaryDirectory() as name, running_worker(Path(name), index.url, uid=uid) as worker:
        described = worker.call("describe", {})
        assert [each["id"] for each in described["pipelines"]] == ["maven", "pypi"]  # type: ignore[attr-defined]  # JSON
        params = {"job": "image", "ecosystem": "docker", "seconds_max": 60}
        image = {"name": "registry.example/a", "version": "1"}
        context = "registry.example/c@sha256:" + "0" * 64
        worker.call("trial", {**params, **image, "options": {"context": context}})
        result = worker.follow("image").result
        assert isinstance(result, JobFailure)
        assert (result.outcome, result.cause) == ("REFUSED", "no image tools")
        assert "range of user ids" in result.detail


def processes_of_nobody() -> list[str]:
    """Return the processes whose user is one of the range that sandboxes of images have."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            uid = next(x for x in status.read_text().splitlines() if x.startswith("Uid:"))
            if FIRST_ID <= int(uid.split()[1]) < FIRST_ID + COUNT:
                found.append(status.parent.name)
    return found


def levels(result: BuildResult) -> list[int | None]:
    return [f.level for f in result.files if f.name.startswith("layer-") and f.claim == "rebuilt"]


def test_steps_that_install_packages_are_replayed_from_the_lock(
    tmp_path: Path, registry: DebianRegistry, index: Index, builder: Builder
) -> None:
    name = "demo-1.0-py3-none-any.whl"
    index.add("demo", name, wheel({"demo/__init__.py": b"value = 1\n"}, stem="demo-1.0"), UPLOADED)
    python = registry.push(python_base(index.url), "bases/python")
    base = f"{registry.host}/bases/python@{python}"
    pip = next(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    text = (
        f"FROM {base}\nCOPY pip.whl /opt/pip.whl\n"
        "RUN python3 -B /opt/pip.whl/pip install --no-compile --no-cache-dir --target /opt/s demo\n"
    )
    files: Files = {"Dockerfile": File(text.encode()), "pip.whl": File(pip.read_bytes())}
    builder.publish(files, registry, "apps/demo:1", "--format", "oci")
    where = push_context(registry, "apps/demo-context", context_tar(files))
    # What was uploaded after the image was made is not shown: it would be the newest otherwise.
    newer = wheel({"demo/__init__.py": b"value = 2\n"}, stem="demo-1.1")
    index.add("demo", name.replace("1.0", "1.1"), newer, "2029-01-01T00:00:00.000000Z")
    result, found = rebuilt(tmp_path, "apps/demo:1", registry, index, {"context": where})
    assert [f.file for f in result.lock.files if f.ecosystem == "pypi"] == [name]
    assert levels(result) == [0, 0], list(found.lines(image_order))


def test_stages_arguments_and_one_layer_in_dockers_types(
    tmp_path: Path, registry: DebianRegistry, index: Index, builder: Builder
) -> None:
    base = f"{registry.host}/bases/busybox@{registry.push(busybox_image(), 'bases/busybox')}"
    text = (
        f"FROM {base} AS build\nARG WHO\nCOPY note /made/\nRUN echo $WHO > /made/who\n"
        "FROM scratch AS last\nCOPY --from=build /made/ /data/\nCOPY note /data/\nUSER 7\n"
        "FROM last AS never\nRUN false\n"
    )
    files: Files = {"image/Dockerfile": File(text.encode()), "note": File(b"n")}
    arguments = ("--build-arg", "WHO=you", "--target", "last")
    builder.publish(
        files,
        registry,
        "apps/staged:1",
        *("--format", "docker", "--file", "image/Dockerfile", *arguments),
        layers=False,
    )
    where = push_context(registry, "apps/staged-context", context_tar(files))
    options: dict[str, RecipeValue] = {
        "context": where,
        "target": "last",
        "args": ("WHO=you",),
        "dockerfile": "image/Dockerfile",
    }
    result, found = rebuilt(tmp_path, "apps/staged:1", registry, index, options)
    assert result.recipe["format"] == "docker"
    assert result.recipe["layers"] is False
    assert levels(result) == [0], list(found.lines(image_order))
    assert max(file.level or 0 for file in result.files) <= 2
