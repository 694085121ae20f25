"""An image is rebuilt from its context: a real worker, real buildah, a real registry on 127.0.0.1.

What is published was built by Debian's buildah outside our sandbox, with its usual capabilities.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.spec.messages import BuildResult, JobFailure, OutputFile, RebuildParams
from tests.fakes.images import Recipe, busybox_image
from tests.fakes.registries import DebianRegistry, debian_registry
from tests.hostile.image_builds import (
    TIMESTAMP,
    Builder,
    File,
    Files,
    context_tar,
    push_context,
    trial_options,
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
        "tool": File(b"#!/bin/sh\n", mode=0o4755),
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


def test_image_is_rebuilt_byte_for_byte_and_replayed(
    worker: Worker, registry: DebianRegistry, builder: Builder, base: str
) -> None:
    files = context(base)
    digest = builder.publish(files, registry, "tools/tool:1", "--format", "oci")
    where = push_context(registry, "tools/tool-context", context_tar(files))
    result = trial(worker, "first", f"{registry.host}/tools/tool", "1", **trial_options(where))
    assert isinstance(result, BuildResult), getattr(result, "detail", "")
    print(*[(f.name, f.level, f.claim, f.differences) for f in result.files], result.seconds, sep="\n")
    assert result.purl == f"pkg:docker/{registry.host}/tools/tool@{digest}"
