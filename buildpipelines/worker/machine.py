"""What all jobs of a worker share, and what a running job shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from buildpipelines.inputs.maven_upstream import MavenUpstream
from buildpipelines.inputs.registries import Registries
from buildpipelines.inputs.sources import SourceFetcher
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.sandbox.confine import Confiner
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.sandbox.maven_toolchain import MavenToolchain, read_maven_toolchains
from buildpipelines.sandbox.precompiled import CompiledPip
from buildpipelines.sandbox.run import Progress
from buildpipelines.sandbox.toolchain import ImageToolchain, Toolchain
from buildpipelines.worker.contract_client import ContractClient

NPROC_MARGIN: Final = 32


@dataclass(slots=True)
class Report:
    """What a running job shows: a stage in a word, and what it is doing."""

    stage: str = "queued"
    detail: str = ""
    sandbox: Progress | None = None

    def enter(self, stage: str, detail: str = "") -> None:
        """Start another stage."""
        self.stage, self.detail, self.sandbox = stage, detail, None

    def current_stage(self) -> str:
        """Return the stage, with the sandbox's own while one runs."""
        return self.stage if self.sandbox is None else f"{self.stage}: {self.sandbox.stage}"


@dataclass(frozen=True, slots=True)
class ImageTools:
    """Registries to fetch from, the user namespace to build in, and the toolchain's document."""

    registries: Registries
    ids: int
    toolchain: ImageToolchain


@dataclass(slots=True)
class MavenTools:
    """Repositories and sources to fetch from, and the toolchains of the machine.

    ``variation`` are variables that every build's environment is given besides: an experiment
    with what should make no difference. No option sets them.
    """

    upstream: MavenUpstream
    sources: SourceFetcher
    variation: Mapping[str, str] = field(default_factory=dict)
    _toolchains: tuple[MavenToolchain, ...] = ()
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def toolchains(self) -> tuple[MavenToolchain, ...]:
        """Return the toolchains, the machine's default first; looked at when first asked for.

        Hashing JDKs takes a moment, and a worker that builds no artifact need not spend it.
        """
        async with self._lock:
            if not self._toolchains:
                self._toolchains = await asyncio.to_thread(read_maven_toolchains)
            return self._toolchains


@dataclass(frozen=True, slots=True)
class ExternalTools:
    """Another's pipeline, and the repositories that its answers are compared with."""

    client: ContractClient
    published: MavenUpstream


@dataclass(frozen=True, slots=True)
class Machine:
    """What all jobs of a worker share."""

    upstream: Upstream
    toolchain: Toolchain
    pip: CompiledPip
    confiner: Confiner
    limits: SandboxLimits
    uid: int | None
    environment: dict[str, str | int]
    images: ImageTools | None = None
    """What builds of images need; None where this machine cannot build any."""

    maven: MavenTools | None = None
    """What builds of Maven artifacts need; None where there is no JDK or no Maven."""

    external: ExternalTools | None = None
    """Another's pipeline, asked for claims ``external`` alone; None where there is none."""

    def guest_limits(self) -> dict[str, int]:
        """Return the resource limits that a guest sets on itself; 0 means none."""
        # A cgroup counts real memory and all processes together; these count badly.
        is_counted = self.confiner.kind != "rlimit"
        return {
            "FSIZE": self.limits.build_bytes,
            "AS": 0 if is_counted else self.limits.memory_bytes,
            # Above what the watcher allows, so that it sees the bound broken and names it.
            "NPROC": 0 if is_counted else self.limits.processes + NPROC_MARGIN,
        }
