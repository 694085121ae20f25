"""An image is rebuilt from its context: a real worker, real buildah, a real registry on 127.0.0.1.

What is published was built by Debian's buildah outside our sandbox, with its usual capabilities.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest

from buildpipelines.spec.lock import make_lock
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    OutputFile,
    RebuildParams,
    RecipeValue,
)
from pyrsia_node.builds.composition import compose, files_to_store
from pyrsia_node.schema.links import Stored
from tests.fakes.images import Recipe, busybox_image
from tests.fakes.registries import DebianRegistry, debian_registry
from tests.hostile.image_builds import (
    TIMESTAMP,
    Builder,
    File,
    Files,
    context_tar,
    push_context,
)
from tests.hostile.index import Index, serving_index
from tests.hostile.worker import Worker, running_worker

DOCKERFILE = """\
FROM {base}
ARG WHO=nobody
COPY --chown=33:42 tool /srv/tool
COPY tool /opt/tool
RUN echo "made for $WHO" > /opt/made && mkdir /opt/empty && ln -s made /opt/link \\
    && ln /opt/made /opt/hard && rm /opt/tool
ENV A=b
LABEL org.opencontainers.image.authors="Ada <ada@example.org>" \\
      org.opencontainers.image.description="A tool"
USER 33
CMD ["/opt/tool"]
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[DebianRegistry]:
    with TemporaryDirectory() as name, debian_registry(Path(name)) as registry:
        yield registry


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serving_index() as index:
        yield index


@pytest.fixture(scope="module")
def worker(index: Index, registry: DebianRegistry) -> Iterator[Worker]:
    with TemporaryDirectory() as name:
        option = f"--private-registry={registry.host}={registry.url}"
        with running_worker(Path(name), index.url, option) as worker:
            yield worker


@pytest.fixture(scope="module")
def base(registry: DebianRegistry) -> str:
    digest = registry.push(busybox_image(Recipe(says="base")), "bases/busybox", "1")
    return f"{registry.host}/bases/busybox@{digest}"


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    with TemporaryDirectory() as name:
        builder = Builder(Path(name) / "builder")
        yield builder
        builder.remove()


def context(base: str) -> Files:
    text = DOCKERFILE.format(base=base)
    return {
        "Dockerfile": File(text.encode()),
        "tool": File(b"#!/bin/sh\n", mode=0o755),
    }


def trial(worker: Worker, job: str, name: str, version: str, **options: object) -> object:
    params = {"job": job, "ecosystem": "docker", "name": name, "version": version}
    worker.call("trial", {**params, "seconds_max": 60, "options": options})
    return worker.follow(job).result


def roles(result: BuildResult) -> dict[str, list[OutputFile]]:
    found: dict[str, list[OutputFile]] = {}
    for file in result.files:
        found.setdefault(file.name.partition("-")[0], []).append(file)
    return found


def rebuild(
    worker: Worker, recorded: BuildResult, job: str, **changes: object
) -> BuildResult | JobFailure | None:
    params = RebuildParams(
        job=job,
        purl=recorded.purl,
        source=recorded.source,
        lock=recorded.lock,
        recipe=recorded.recipe,
        toolchain=recorded.toolchain,
        seconds_max=60,
    )
    worker.call("rebuild", dataclasses.replace(params, **changes).document())  # type: ignore[arg-type]  # fields of a test's choice
    return worker.follow(job).result


def built(result: object) -> BuildResult:
    assert isinstance(result, BuildResult), result
    return result


def refused(result: object) -> JobFailure:
    assert isinstance(result, JobFailure), result
    assert result.outcome == "REFUSED", result
    return result


@pytest.fixture(scope="module")
def recorded(
    worker: Worker, registry: DebianRegistry, builder: Builder, base: str
) -> tuple[BuildResult, str]:
    """A trial of an image that buildah published, and the image's digest."""
    files = context(base)
    digest = builder.publish(files, registry, "tools/tool:1", "--format", "oci")
    where = push_context(registry, "tools/tool-context", context_tar(files))
    result = trial(worker, "trial", f"{registry.host}/tools/tool", "1", context=where)
    return built(result), digest


@pytest.fixture(scope="module")
def published(
    registry: DebianRegistry, recorded: tuple[BuildResult, str]
) -> tuple[DebianRegistry, str]:
    """The registry, once the image is there, and the image's digest."""
    return registry, recorded[1]


def test_layers_are_rebuilt_byte_for_byte_and_the_upstreams_image_is_served(
    recorded: tuple[BuildResult, str], registry: DebianRegistry
) -> None:
    result, digest = recorded
    assert result.purl == f"pkg:docker/{registry.host}/tools/tool@{digest}"
    parts = roles(result)
    assert [(file.claim, file.level) for file in parts["layer"]].count(("mirrored", 0)) == 2
    assert [(file.claim, file.level) for file in parts["layer"]].count(("rebuilt", 0)) == 3
    (root,), (config,) = parts["root"], parts["config"]
    assert f"sha256:{root.upstream_sha256}" == digest
    assert root.name == f"root-{digest[7:23]}"
    assert root.level == config.level == 2
    assert all("history" in line for line in config.differences), config.differences
    assert result.recipe["timestamp"] == TIMESTAMP
    assert result.recipe["layers"] is True
    assert result.metadata.author == "Ada"
    assert result.metadata.summary == "A tool"
    assert result.metadata.requires == (
        f"pkg:docker/{registry.host}/bases/busybox@{base_of(result)}",
    )


def base_of(result: BuildResult) -> str:
    roots = [f for f in result.lock.files if f.file.startswith("root-")]
    return next(f"sha256:{f.sha256}" for f in roots if "busybox" in f.project)


def test_two_nodes_agree_on_the_rebuilt_image(
    recorded: tuple[BuildResult, str], worker: Worker
) -> None:
    first, _ = recorded
    again = built(rebuild(worker, first, "again"))
    assert [(f.name, f.l2) for f in again.files] == [(f.name, f.l2) for f in first.files]
    served = [(f.name, f.upstream_sha256) for f in first.files]
    assert [(f.name, f.upstream_sha256) for f in again.files] == served
    assert [f.sha256 for f in again.files] == [f.sha256 for f in first.files]
    # The node moves what it adopts, so each file is there, whole, and named by what it holds.
    for file in again.files:
        assert hashlib.sha256(Path(file.path).read_bytes()).hexdigest() == file.sha256


def test_image_of_another_context_contradicts_and_every_difference_is_named(
    worker: Worker, registry: DebianRegistry, base: str, recorded: tuple[BuildResult, str]
) -> None:
    _, digest = recorded
    files = {**context(base), "tool": File(b"#!/bin/sh\n", mode=0o711)}
    text = files["Dockerfile"].data.replace(b"USER 33", b"USER 34")
    where = push_context(
        registry, "tools/other-context", context_tar({**files, "Dockerfile": File(text)})
    )
    result = built(trial(worker, "other", f"{registry.host}/tools/tool", digest, context=where))
    parts = roles(result)
    (root,), (config,) = parts["root"], parts["config"]
    assert root.level == config.level == 3
    assert root.name == f"root-{root.sha256[:16]}", "what differs is called by its own digest"
    assert f"sha256:{root.upstream_sha256}" == digest
    assert "config.config.User: '34' in the build, '33' published" in config.differences
    document = compose(result, stored(result)).document
    assert (root.name, digest) in [(c.name, f"sha256:{c.sha256}") for c in document.contradicts]
    lines = [line for file in parts["layer"] for line in file.differences]
    assert "srv/tool: mode: 0711 in the build, 0755 published" in lines


@pytest.mark.parametrize(
    ("dockerfile", "cause", "words"),
    [
        ("FROM busybox:1\n", "image not pinned", "line 1: 'busybox:1'"),
        ("# x\n\nARG B=x\nFROM $B\n", "image not pinned", "line 4"),
        ("FROM scratch\nCOPY --from=alpine /x /\n", "image not pinned", "line 2: 'alpine'"),
        ("FROM scratch\nADD https://example.org/x /\n", "Dockerfile", "line 2: ADD of an address"),
        ("# syntax=evil/parser:1\nFROM scratch\n", "Dockerfile", "would have to be fetched"),
        ("", "Dockerfile", "no FROM"),
    ],
)
def test_dockerfile_that_is_not_pinned_is_refused_by_its_line(
    dockerfile: str, cause: str, words: str, worker: Worker, published: tuple[DebianRegistry, str]
) -> None:
    registry, _ = published
    packed = context_tar({"Dockerfile": File(dockerfile.encode())})
    where = push_context(registry, "tools/bad-context", packed)
    job = f"bad-{hashlib.sha256(packed).hexdigest()[:8]}"
    failure = refused(trial(worker, job, f"{registry.host}/tools/tool", "1", context=where))
    assert failure.cause == cause
    assert words in failure.detail


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"toolchain": "0" * 64}, "toolchain"),
        ({"recipe": {"timestamp": 5}}, "recipe"),
        ({"recipe": {"format": "docker"}}, "recipe"),
        ({"recipe": {"args": ("no equals sign",)}}, "request"),
        ({"recipe": {"umask": 0}}, "request"),
        ({"recipe": {"extra": "x"}}, "request"),
        ({"purl": "pkg:docker/docker.io/library/other@sha256:" + "0" * 64}, "request"),
        ({"lock": "less"}, "lock"),
        ({"source": "other"}, "source"),
    ],
)
def test_request_that_the_published_image_does_not_lead_to_is_refused(
    changes: dict[str, object],
    cause: str,
    worker: Worker,
    recorded: tuple[BuildResult, str],
) -> None:
    result, _ = recorded
    full: dict[str, object] = dict(changes)
    if isinstance(changes.get("recipe"), dict):
        full["recipe"] = {**result.recipe, **cast("dict[str, RecipeValue]", changes["recipe"])}
    if "lock" in changes:
        full["lock"] = make_lock(result.lock.files[1:])
    if "source" in changes:
        full["source"] = dataclasses.replace(result.source, size=result.source.size + 1)
    job = f"odd-{hashlib.sha256(repr(changes).encode()).hexdigest()[:8]}"
    assert refused(rebuild(worker, result, job, **full)).cause == cause


STEPS = """\
FROM {base}
COPY tool /opt/tool
RUN cd /proc/self && grep -q 'CapBnd:.0000000000000000' status && grep -q 'NoNewPrivs:.1' status \\
 && ! unshare -U true && ! unshare -m true && ! mount -t tmpfs none /mnt && ! chroot / /bin/true \\
 && ! cat /proc/1/environ && ! ls /proc/1/root/ && ! ls /proc/1/cwd/ && ! chown 5 /opt/tool \\
 && ! mknod /opt/x c 1 3 && ! echo 9 > /proc/sys/user/max_user_namespaces \\
 && ! wget -q http://192.0.2.1/ && ! test -e /build && kill -9 1 ; test -d /proc/1
RUN false
"""


def test_step_of_a_dockerfile_has_no_right_that_a_package_build_lacks(
    worker: Worker, registry: DebianRegistry, base: str, recorded: tuple[BuildResult, str]
) -> None:
    """The one before the last succeeds only if all it tries is denied; the last one fails."""
    files = {"Dockerfile": File(STEPS.format(base=base).encode()), "tool": File(b"x")}
    where = push_context(registry, "tools/hostile-context", context_tar(files))
    result = trial(worker, "hostile", f"{registry.host}/tools/tool", "1", context=where)
    assert isinstance(result, JobFailure), result
    assert "STEP 4/4: RUN false" in result.detail, result.detail
    assert 'building at STEP "RUN false"' in result.detail, result.detail


def stored(result: BuildResult) -> dict[str, Stored]:
    """What a gateway says of the files of a result."""
    found = {}
    for path, sha256, _ in files_to_store(result):
        data = Path(path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256
        found[sha256] = Stored(sha256=sha256, size=len(data), pieces=sha256)
    return found


def test_document_of_a_rebuilt_image_names_the_upstreams_bytes(
    recorded: tuple[BuildResult, str],
) -> None:
    result, digest = recorded
    composed = compose(result, stored(result))
    root = next(file for file in composed.document.files if file.name.startswith("root-"))
    assert (f"sha256:{root.sha256}", root.claim, root.origin) == (digest, "rebuilt", "upstream")
    assert composed.level == 2
    assert composed.document.contradicts == ()


def test_registry_that_the_operator_did_not_name_is_never_asked(worker: Worker) -> None:
    where = "registry.example/a/context@sha256:" + "0" * 64
    result = trial(worker, "stranger", "registry.example/a/b", "1", context=where)
    assert isinstance(result, JobFailure)
    assert (result.outcome, result.cause) == ("SOURCE_UNAVAILABLE", "unknown registry")
    assert "registry.example" in result.detail


def test_worker_tells_that_it_builds_images_and_with_what(worker: Worker) -> None:
    described = worker.call("describe", {})
    pipelines = cast("list[dict[str, object]]", described["pipelines"])
    assert [each["id"] for each in pipelines] == ["docker", "maven", "pypi"]
    document = cast("dict[str, dict[str, str]]", described["image_toolchain_doc"])
    assert "buildah" in document["programs"]
    assert any(name.startswith("buildah:") for name in document["packages"])
    assert described["image_toolchain"] != described["toolchain"]
