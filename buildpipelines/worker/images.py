"""The pipeline of container images: a trial finds recipe and lock, a rebuild replays them.

The sponsor names a published image and the context that it is said to be made from; the build is a
pure function of context, bases, locked packages, recipe and toolchain, and its result is compared
with what is published. Everything that a recipe says and the published image tells, too, is derived
again by each member. Design: docs/design/builds.md, "Images".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.image import LAYERS_MAX
from buildpipelines.inputs.proxy import Inputs, RecordingInputs, ReplayInputs, serving
from buildpipelines.inputs.verify import fetch_locked, verify_locked
from buildpipelines.recipes import images
from buildpipelines.recipes.dockerfile import Pin
from buildpipelines.recipes.images import ImageRecipe, Options
from buildpipelines.sandbox import ids
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.sandbox.run import (
    Progress,
    SandboxJob,
    guest_source,
    image_guest_source,
    run_sandbox,
)
from buildpipelines.spec.lock import Lock, make_lock
from buildpipelines.spec.messages import BuildResult, RebuildParams, TrialParams
from buildpipelines.stabilize import image as image_rules
from buildpipelines.stabilize import layer as layer_rules
from buildpipelines.worker.attempts import name_pipeline, nearest, refusing_format
from buildpipelines.worker.image_inputs import (
    FetchedImage,
    ImageInputs,
    fetch_image,
    fetch_inputs,
)
from buildpipelines.worker.image_outputs import (
    AssessedImage,
    ImageOnDisk,
    assess_image,
    read_built,
    read_published,
)
from buildpipelines.worker.machine import ImageTools, Machine, Report
from buildpipelines.worker.workspace import JobFolder, socket_folder

OUTPUT_BYTES_MAX: Final = 2 * 1024**3
SOCKET_MODE: Final = 0o666
"""The sandbox's user is one of nobody's ids, so the socket is open to who knows its random name;
what it serves is public."""


def pipeline() -> dict[str, object]:
    """Return id, version and digest of this pipeline's rules."""
    rules = {
        "layers": {level: list(names) for level, names in layer_rules.RULES.items()},
        "images": {level: list(names) for level, names in image_rules.RULES.items()},
    }
    return name_pipeline(
        "docker", images.VERSION, rules, guest=guest_source(), image_guest=image_guest_source()
    )


@dataclass(frozen=True, slots=True)
class _Reference:
    """The published image: fetched, and read if it can be."""

    fetched: FetchedImage
    whole: ImageOnDisk | None


@dataclass(frozen=True, slots=True)
class _Built:
    """An attempt that made an image."""

    recipe: ImageRecipe
    assessed: AssessedImage
    lock: Lock


class ImageJob:
    """One trial or rebuild of an image."""

    def __init__(self, machine: Machine, folder: JobFolder, report: Report) -> None:
        """Work in ``folder`` and tell ``report`` about it.

        Raises:
            BuildFailure: REFUSED: this machine cannot build images.
        """
        self._tools = _tools(machine)
        self._machine = machine
        self._folder = folder
        self._report = report
        self._started = asyncio.get_running_loop().time()

    async def trial(self, params: TrialParams) -> BuildResult:
        """Find recipe and lock of a published image.

        Raises:
            BuildFailure: no recipe built it; the cause is that of the most promising one.
        """
        options = refusing_format(lambda: images.parse_options(params.options))
        host, _, repository = params.name.partition("/")
        published = await self._published(host, repository, params.version)
        inputs = await self._inputs(options)
        base = inputs.final_base(options.target)
        reference = await self._reference(published, base)
        plan = images.plan(
            Pin(host, repository, published.sha256),
            published.manifest,
            published.config,
            options,
            dockerfile=inputs.dockerfile,
            base_layers=0 if base is None else len(base.manifest.layers),
        )
        best = await nearest(
            plan,
            lambda number, recipe: self._attempt(number, recipe, inputs, reference),
            self._folder,
            levels=lambda built: (built.assessed.level,),
        )
        return self._result(best, inputs, reference)

    async def rebuild(self, params: RebuildParams) -> BuildResult:
        """Replay a recorded build.

        Raises:
            BuildFailure: REFUSED if request, machine and inputs do not fit together; else why the
                build failed.
        """
        toolchain = self._tools.toolchain.digest
        if params.toolchain != toolchain:
            detail = f"{params.toolchain} is asked for, {toolchain} is here"
            raise BuildFailure("REFUSED", "toolchain", detail)
        recipe = refusing_format(lambda: images.parse_image_recipe(params.recipe))
        image = refusing_format(lambda: images.parse_image_purl(params.purl))
        if image != recipe.image:
            raise BuildFailure("REFUSED", "request", f"{recipe.image} is not {params.purl}")
        self._report.enter("resolve", str(image))
        published = await self._fetched(image)
        options = Options(recipe.context, recipe.dockerfile, recipe.target, recipe.args)
        inputs = await self._inputs(options)
        base = inputs.final_base(recipe.target)
        _check_recipe(recipe, published, inputs)
        _check_lock(params, inputs)
        packages = make_lock(f for f in params.lock.files if f.ecosystem != "docker")
        self._report.enter("inputs", f"{len(packages.files)} locked packages")
        upstream = self._machine.upstream
        known = await verify_locked(packages, upstream, cutoff=recipe.cutoff)
        paths = await fetch_locked(packages, known, upstream)
        reference = await self._reference(published, base)
        made = await self._build(recipe, inputs, ReplayInputs(packages, paths), "build")
        assessed = await self._assess(made, inputs, recipe.target, reference)
        return self._result(_Built(recipe, assessed, params.lock), inputs, reference)

    async def _published(self, host: str, repository: str, version: str) -> FetchedImage:
        self._report.enter("resolve", f"{host}/{repository} {version}")
        if version.startswith("sha256:"):
            pin = Pin(host, repository, version.removeprefix("sha256:"))
        else:
            pin = await self._tools.registries.look(host, repository, version)
        return await self._fetched(pin)

    async def _fetched(self, pin: Pin) -> FetchedImage:
        registries, machine = self._tools.registries, self._tools.toolchain.machine
        return await fetch_image(registries, pin, machine=machine, with_layers=False)

    async def _inputs(self, options: Options) -> ImageInputs:
        self._report.enter("fetch", str(options.context))
        return await fetch_inputs(
            self._tools.registries,
            options,
            machine=self._tools.toolchain.machine,
            folder=self._folder.temporary,
        )

    async def _reference(self, fetched: FetchedImage, base: FetchedImage | None) -> _Reference:
        """Read the published image; one of no single reading equals no build, and is no failure."""
        self._report.enter("fetch", str(fetched.pin))
        try:
            return _Reference(fetched, await read_published(fetched, base, self._tools.registries))
        except ArchiveError as error:
            self._folder.note(f"the published image is refused: {error}")
            return _Reference(fetched, None)

    async def _attempt(
        self, number: int, recipe: ImageRecipe, inputs: ImageInputs, reference: _Reference
    ) -> _Built:
        self._folder.note(f"attempt {number}: {recipe.title()}")
        packages = RecordingInputs(self._machine.upstream, cutoff=recipe.cutoff)
        made = await self._build(recipe, inputs, packages, f"attempt {number}")
        assessed = await self._assess(made, inputs, recipe.target, reference)
        self._folder.note(f"attempt {number}: level {assessed.level}")
        return _Built(recipe, assessed, make_lock((*inputs.locked(), *packages.taken())))

    async def _build(
        self, recipe: ImageRecipe, inputs: ImageInputs, packages: Inputs, stage: str
    ) -> list[Path]:
        """Run one sandbox with one recipe."""
        self._report.enter(stage, recipe.title())
        progress = self._report.sandbox = Progress()
        out = self._folder.root / stage.replace(" ", "-")
        out.mkdir()
        with socket_folder(self._folder, ids.FIRST_ID) as folder:
            proxy_socket = folder / "proxy.sock"
            async with serving(
                packages, proxy_socket, uid=None, watcher=progress, mode=SOCKET_MODE
            ):
                job = SandboxJob(
                    name=f"{self._folder.root.name}-{stage.replace(' ', '-')}",
                    guest=self._guest(recipe, inputs),
                    source=inputs.tar,
                    proxy_socket=proxy_socket,
                    out_dir=out,
                    log_path=self._folder.log,
                    limits=_image_limits(self._machine.limits),
                    files={},
                    uid=self._machine.uid,
                    ids=self._tools.ids,
                    outputs_max=LAYERS_MAX + 2,
                )
                return await run_sandbox(job, self._machine.confiner, progress)

    def _guest(self, recipe: ImageRecipe, inputs: ImageInputs) -> dict[str, object]:
        """Return the job as the guest reads it."""
        base = inputs.final_base(recipe.target)
        media: dict[str, str] = {}
        for image in inputs.bases.values():
            media |= image.media
        diff_ids = [] if base is None else [f"sha256:{each}" for each in base.config.diff_ids]
        return {
            "media": media,
            "hosts": sorted({pin.host for pin in inputs.bases}),
            "base_layers": [diff_ids],
            "has_index": inputs.has_index,
            "timestamp": recipe.timestamp,
            "target": recipe.target,
            "arguments": list(recipe.args),
            "format": recipe.format,
            "layers": recipe.layers,
            "identity_label": recipe.identity_label,
            "umask": recipe.umask,
            # Go reserves more address space than any build uses memory; a cgroup or the watcher,
            # which sums up what is really used, bounds that.
            "limits": {**self._machine.guest_limits(), "AS": 0},
        }

    async def _assess(
        self, made: list[Path], inputs: ImageInputs, target: str, reference: _Reference
    ) -> AssessedImage:
        base = inputs.final_base(target)
        self._report.enter("compare")
        built = await read_built(made, base, reference.fetched, with_index=inputs.has_index)
        return await assess_image(built, reference.whole, reference.fetched, self._folder)

    def _result(self, built: _Built, inputs: ImageInputs, reference: _Reference) -> BuildResult:
        base = inputs.dockerfile.base_of(inputs.dockerfile.final(built.recipe.target))
        seconds = asyncio.get_running_loop().time() - self._started
        return BuildResult(
            purl=images.purl_of_image(built.recipe.image),
            source=inputs.context.source(),
            pipeline=pipeline(),
            toolchain=self._tools.toolchain.digest,
            lock=built.lock,
            recipe=built.recipe.fields(),
            metadata=images.extract_image_metadata(
                built.recipe.image, reference.fetched.config, base
            ),
            files=built.assessed.files,
            environment=self._machine.environment,
            seconds=round(seconds, 3),
            log_path=str(self._folder.log),
        )


def _tools(machine: Machine) -> ImageTools:
    if machine.images is None:
        raise BuildFailure(
            "REFUSED",
            "no image tools",
            "images cannot be built here: buildah or a range of user ids is missing",
        )
    return machine.images


def _check_recipe(recipe: ImageRecipe, published: FetchedImage, inputs: ImageInputs) -> None:
    """Check that a recipe is one of those that the published image itself leads to."""
    base = inputs.final_base(recipe.target)
    options = Options(recipe.context, recipe.dockerfile, recipe.target, recipe.args)
    plan = images.plan(
        recipe.image,
        published.manifest,
        published.config,
        options,
        dockerfile=inputs.dockerfile,
        base_layers=0 if base is None else len(base.manifest.layers),
    )
    if recipe not in {replace(one, umask=recipe.umask) for one in plan}:
        raise BuildFailure("REFUSED", "recipe", "it is not what the published image leads to")


def _check_lock(params: RebuildParams, inputs: ImageInputs) -> None:
    """Check that the lock holds exactly the images that this node found itself, and the source."""
    locked = {each for each in params.lock.files if each.ecosystem == "docker"}
    own = set(inputs.locked())
    if locked != own:
        odd = min(locked ^ own)
        raise BuildFailure("REFUSED", "lock", f"{odd.project} {odd.file} is on one side only")
    if params.source != inputs.context.source():
        raise BuildFailure("REFUSED", "source", f"{params.source.file} is not the context")


def _image_limits(limits: SandboxLimits) -> SandboxLimits:
    return replace(limits, output_bytes=max(limits.output_bytes, OUTPUT_BYTES_MAX))
