"""Put a worker together: machine, cache, upstream, jobs. Used by the server and at the shell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.maven_upstream import MavenRepository, MavenUpstream
from buildpipelines.inputs.pipconf import IndexSettings
from buildpipelines.inputs.registries import Registries, Registry
from buildpipelines.inputs.sources import SourceFetcher
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.sandbox import ids, seccomp
from buildpipelines.sandbox.confine import Confiner
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.sandbox.maven_toolchain import has_maven
from buildpipelines.sandbox.precompiled import CompiledPip
from buildpipelines.sandbox.toolchain import Toolchain, read_image_toolchain, read_toolchain
from buildpipelines.spec.messages import RebuildParams, TrialParams
from buildpipelines.worker import external, images, maven
from buildpipelines.worker.contract_client import ContractClient, PipelineAddress
from buildpipelines.worker.external import ExternalJob
from buildpipelines.worker.images import ImageJob
from buildpipelines.worker.jobs import Jobs
from buildpipelines.worker.machine import ExternalTools, ImageTools, Machine, MavenTools
from buildpipelines.worker.maven import MavenJob
from buildpipelines.worker.pypi import PypiJob, pipeline
from buildpipelines.worker.workspace import Workspace

_log = logging.getLogger(__name__)

DEFAULT_BUILD_UID: Final = 64990
"""Whom builds run as when the worker is root: a number that no account is given."""


_Job = PypiJob | ImageJob | MavenJob | ExternalJob

_JOBS: Final[Mapping[str, type[_Job]]] = {
    "pypi": PypiJob,
    "docker": ImageJob,
    "maven": MavenJob,
}


@dataclass(frozen=True, slots=True)
class Options:
    """How a worker runs. ``uid`` is whom builds run as where the worker is root."""

    work: Path
    index: IndexSettings
    limits: SandboxLimits
    uid: int = DEFAULT_BUILD_UID
    parallel: int = 1
    registries: tuple[Registry, ...] = ()
    maven_repositories: tuple[MavenRepository, ...] = ()
    private_sources: tuple[str, ...] = ()
    """HOST[:PORT] of machines at private addresses that sources may come from."""

    certificates: Path | None = None
    """Authorities to trust for sources and repositories; the machine's own where None."""

    external: PipelineAddress | None = None


class Service:
    """What the build link's methods do."""

    def __init__(self, machine: Machine, jobs: Jobs) -> None:
        """Serve builds on ``machine``."""
        self.jobs = jobs
        self._machine = machine

    async def describe(self) -> dict[str, object]:
        """Return what this worker can build, and with what."""
        pipelines = [pipeline()]
        described: dict[str, object] = {
            "pipelines": pipelines,
            "toolchain": self._machine.toolchain.digest,
            "toolchain_doc": dict(self._machine.toolchain.document),
            "environment": dict(self._machine.environment),
        }
        if self._machine.images is not None:
            pipelines.append(images.pipeline())
            described["image_toolchain"] = self._machine.images.toolchain.digest
            described["image_toolchain_doc"] = dict(self._machine.images.toolchain.document)
        if self._machine.maven is not None:
            pipelines.append(maven.pipeline())
            described["maven_toolchains"] = [
                {"digest": each.digest, "document": dict(each.document)}
                for each in await self._machine.maven.toolchains()
            ]
        if self._machine.external is not None:
            pipelines.append(external.pipeline())
            described["external_toolchain_doc"] = dict(external.TOOLCHAIN)
        described["pipelines"] = sorted(pipelines, key=lambda each: str(each["id"]))
        return described

    def trial(self, params: TrialParams) -> None:
        """Queue a recording run; raises FormatError, JobExistsError, TooManyJobsError."""
        job = _JOBS.get(params.ecosystem)
        if job is MavenJob and params.options.get("pipeline") == external.OPTION:
            job = ExternalJob
        if job is None or (job is PypiJob and params.options):
            raise FormatError(
                f"ecosystem {params.ecosystem!r} with these options has no pipeline here;"
                " pypi (without options), docker and maven have"
            )
        self.jobs.start(
            params.job,
            lambda folder, report: job(self._machine, folder, report).trial(params),
            seconds_max=params.seconds_max,
        )

    def rebuild(self, params: RebuildParams) -> None:
        """Queue a replay run; raises FormatError, JobExistsError, TooManyJobsError."""
        kind = params.purl.partition("/")[0].removeprefix("pkg:")
        is_external = params.source.kind == external.MAPPING
        job = _JOBS.get(kind) if not is_external else ExternalJob if kind == "maven" else None
        if job is None:
            what = f"source {params.source.kind!r} of {params.purl!r:.100}"
            raise FormatError(f"{what} has no pipeline here; {', '.join(_JOBS)} have")
        self.jobs.start(
            params.job,
            lambda folder, report: job(self._machine, folder, report).rebuild(params),
            seconds_max=params.seconds_max,
        )


@contextlib.asynccontextmanager
async def running(options: Options) -> AsyncIterator[Service]:
    """Yield a service; on leaving, every job is ended.

    Raises:
        BuildFailure: REFUSED: this machine cannot build.
    """
    toolchain = await asyncio.to_thread(read_toolchain)
    workspace = await asyncio.to_thread(Workspace, options.work)
    confiner = await asyncio.to_thread(Confiner)
    uid = options.uid if os.getuid() == 0 else None
    if uid == 0:
        raise BuildFailure("REFUSED", "build user", "builds never run as root; give another --uid")
    cache = await asyncio.to_thread(InputsCache, workspace.cache)
    pip = CompiledPip(toolchain.pip_wheel)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(pip.close)
        upstream = await stack.enter_async_context(Upstream(options.index, cache))
        registries = await stack.enter_async_context(Registries(options.registries, cache))
        repositories = await stack.enter_async_context(
            MavenUpstream(options.maven_repositories, cache, certificates=options.certificates)
        )
        machine = Machine(
            upstream=upstream,
            toolchain=toolchain,
            pip=pip,
            confiner=confiner,
            limits=options.limits,
            uid=uid,
            environment=_environment(toolchain, confiner, options.limits),
            images=_image_tools(stack, registries, uid),
            maven=await _maven_tools(stack, options, repositories, cache),
            external=await _external_tools(stack, options, repositories),
        )
        jobs = Jobs(workspace, parallel=options.parallel)
        try:
            yield Service(machine, jobs)
        finally:
            await jobs.close()


def _image_tools(
    stack: contextlib.ExitStack | contextlib.AsyncExitStack, registries: Registries, uid: int | None
) -> ImageTools | None:
    """Return what builds of images need, or None: a machine without it builds packages alone."""
    toolchain = read_image_toolchain()
    if toolchain is None:
        return None
    namespace = ids.inherited()
    if namespace is not None:
        stack.callback(os.close, namespace)
    elif uid is not None:
        try:
            namespace = stack.enter_context(ids.opened(uid))
        except OSError as error:
            _log.warning("images cannot be built: no range of user ids: %s", error)
    return None if namespace is None else ImageTools(registries, namespace, toolchain)


async def _external_tools(
    stack: contextlib.AsyncExitStack, options: Options, published: MavenUpstream
) -> ExternalTools | None:
    """Return what asking another's pipeline needs, or None where none was named."""
    if options.external is None:
        return None
    client = await stack.enter_async_context(ContractClient(options.external))
    return ExternalTools(client, published)


async def _maven_tools(
    stack: contextlib.AsyncExitStack, options: Options, upstream: MavenUpstream, cache: InputsCache
) -> MavenTools | None:
    """Return what builds of Maven artifacts need, or None: a machine without it builds others."""
    if not await asyncio.to_thread(has_maven):
        return None
    sources = await stack.enter_async_context(
        SourceFetcher(
            cache, private_hosts=options.private_sources, certificates=options.certificates
        )
    )
    return MavenTools(upstream, sources)


def _environment(
    toolchain: Toolchain, confiner: Confiner, limits: SandboxLimits
) -> dict[str, str | int]:
    """Return what an attestation says about where a build ran; nothing of it enters a root."""
    descriptor = seccomp.open_filter()
    if descriptor is not None:
        os.close(descriptor)
    return {
        "kernel": platform.release(),
        "machine": toolchain.machine,
        "python": f"{toolchain.python[0]}.{toolchain.python[1]}",
        "sandbox": "bwrap",
        "limits": confiner.kind,
        "seccomp": 0 if descriptor is None else 1,
        "memory_bytes": limits.memory_bytes,
        "processes": limits.processes,
    }
