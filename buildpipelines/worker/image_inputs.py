"""The inputs of an image's build: context, bases and the published image, each by digest.

Whatever is fetched was asked for by digest, so it says nothing about trust where it came from.
What a build may read is its context and its bases; together they are its lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.context import repack_context
from buildpipelines.extract.image import (
    Blob,
    ImageConfig,
    ImageManifest,
    parse_digest,
    parse_image_config,
    parse_image_manifest,
    parse_json_object,
)
from buildpipelines.inputs.registries import Registries
from buildpipelines.recipes.dockerfile import (
    Dockerfile,
    Pin,
    read_dockerfile,
    with_index_argument,
)
from buildpipelines.recipes.images import CONTEXT_MEDIA, Options, locked_part
from buildpipelines.spec.lock import FILE_BYTES_MAX, LockedFile
from buildpipelines.spec.messages import Source

ARCHITECTURES: Final[Mapping[str, str]] = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """Manifest and config of an image for this machine; ``blobs`` has what was fetched, by digest.

    ``pin`` names what was asked for, perhaps an index; ``sha256`` is the manifest of one platform.
    """

    pin: Pin
    sha256: str
    manifest: ImageManifest
    config: ImageConfig
    media: Mapping[str, str]
    blobs: Mapping[str, Path]

    def locked(self) -> tuple[LockedFile, ...]:
        """Return the lock's entries of everything that the image consists of."""
        parts = [("root", self.pin.sha256, self._size(self.pin.sha256))]
        if self.sha256 != self.pin.sha256:
            parts.append(("manifest", self.sha256, self._size(self.sha256)))
        config = self.manifest.config
        parts.append(("config", config.sha256, config.size))
        parts += [("layer", layer.sha256, layer.size) for layer in self.manifest.layers]
        return tuple(locked_part(self.pin, *part) for part in parts)

    def _size(self, sha256: str) -> int:
        return self.blobs[sha256].stat().st_size


@dataclass(frozen=True, slots=True)
class Context:
    """A fetched context. ``tar`` holds it unpacked and checked, and all blobs of the bases."""

    pin: Pin
    layer: Blob
    path: Path
    root_size: int

    def source(self) -> Source:
        """Return it as the source of the build."""
        return Source("context", self.file_name(), self.layer.sha256, self.layer.size)

    def file_name(self) -> str:
        """Return what the context's file is called."""
        return f"context-{self.layer.sha256[:16]}.tar.gz"

    def locked(self) -> tuple[LockedFile, ...]:
        """Return the lock's entries of the context."""
        root = locked_part(self.pin, "root", self.pin.sha256, self.root_size)
        layer = locked_part(self.pin, "context", self.layer.sha256, self.layer.size)
        return root, LockedFile(
            layer.ecosystem, layer.project, self.file_name(), layer.sha256, layer.size
        )


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """Everything that a build reads, and the tar that carries it into the sandbox."""

    context: Context
    dockerfile: Dockerfile
    bases: Mapping[Pin, FetchedImage]
    tar: Path
    has_index: bool
    """Whether steps are told of the index, by an argument that the requester did not give."""

    def locked(self) -> tuple[LockedFile, ...]:
        """Return the lock's entries of context and bases."""
        found = list(self.context.locked())
        for base in self.bases.values():
            found += base.locked()
        return tuple(found)

    def final_base(self, target: str) -> FetchedImage | None:
        """Return the image at the bottom of the stage that the build ends with; None is scratch."""
        pin = self.dockerfile.base_of(self.dockerfile.final(target))
        return None if pin is None else self.bases[pin]


async def fetch_image(
    registries: Registries, pin: Pin, *, machine: str, with_layers: bool
) -> FetchedImage:
    """Fetch an image for a machine; an index is followed to its manifest for that machine.

    Raises:
        BuildFailure: SOURCE_UNAVAILABLE, or REFUSED where it is no image for this machine.
    """
    path = await registries.manifest(pin)
    data = await asyncio.to_thread(path.read_bytes)
    media, blobs, sha256 = {pin.sha256: _media(data, pin)}, {pin.sha256: path}, pin.sha256
    if (child := _platform_manifest(data, pin, machine)) is not None:
        sha256 = child
        child_path = await registries.manifest(Pin(pin.host, pin.repository, child))
        data = await asyncio.to_thread(child_path.read_bytes)
        media[child], blobs[child] = _media(data, pin), child_path
    with refusing(f"{pin}"):
        manifest = parse_image_manifest(data)
    config_path = await registries.blob(pin, manifest.config.sha256, manifest.config.size)
    blobs[manifest.config.sha256] = config_path
    with refusing(f"{pin}"):
        config = parse_image_config(await asyncio.to_thread(config_path.read_bytes))
        if len(config.diff_ids) != len(manifest.layers):
            raise ArchiveError("image config", "it names another number of layers")
    if not config.platform.startswith(f"linux/{ARCHITECTURES.get(machine, machine)}"):
        detail = f"{pin} is for {config.platform}, this machine is {machine}"
        raise BuildFailure("REFUSED", "platform", detail)
    for layer in manifest.layers if with_layers else ():
        if layer.sha256 not in blobs:
            blobs[layer.sha256] = await registries.blob(pin, layer.sha256, layer.size)
    return FetchedImage(pin, sha256, manifest, config, media, blobs)


async def fetch_inputs(
    registries: Registries, options: Options, *, machine: str, folder: Path
) -> ImageInputs:
    """Fetch a context and the bases that its Dockerfile names, and write them as one tar.

    Raises:
        BuildFailure: SOURCE_UNAVAILABLE, or REFUSED with what is wrong with context or Dockerfile.
    """
    context = await _fetch_context(registries, options.context)
    tar = folder / "inputs.tar"
    text = await asyncio.to_thread(_write_context, context, tar, options.dockerfile)
    dockerfile = read_dockerfile(text)
    steps = with_index_argument(text)
    bases = {
        pin: await fetch_image(registries, pin, machine=machine, with_layers=True)
        for pin in dockerfile.pins
    }
    await asyncio.to_thread(_append, tar, bases, steps)
    return ImageInputs(context, dockerfile, bases, tar, has_index=steps != text)


async def _fetch_context(registries: Registries, pin: Pin) -> Context:
    path = await registries.manifest(pin)
    with refusing(f"the context {pin}"):
        document = parse_json_object(await asyncio.to_thread(path.read_bytes), "manifest")
        layers = document.get("layers")
        if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
            raise ArchiveError("context", "its manifest has not exactly one layer")
        layer = cast("Mapping[str, object]", layers[0])
        sha256, size = parse_digest(layer.get("digest")), layer.get("size")
        if layer.get("mediaType") != CONTEXT_MEDIA:
            raise ArchiveError("context", f"its layer is not of type {CONTEXT_MEDIA}")
        if type(size) is not int or not 0 < size <= FILE_BYTES_MAX:
            raise ArchiveError("context", "its layer's size is no number of bytes")
    blob = Blob(CONTEXT_MEDIA, sha256, size)
    return Context(pin, blob, await registries.blob(pin, sha256, size), path.stat().st_size)


def _write_context(context: Context, tar: Path, dockerfile: str) -> str:
    with (
        refusing(f"the context {context.pin}"),
        context.path.open("rb") as source,
        tarfile.open(tar, mode="w", format=tarfile.PAX_FORMAT) as out,
    ):
        return repack_context(source.read, out, dockerfile=dockerfile)


def _append(tar: Path, bases: Mapping[Pin, FetchedImage], dockerfile: str) -> None:
    """Add the Dockerfile to build by, which stands beside the context, and the bases' blobs."""
    written: set[str] = set()
    with tarfile.open(tar, mode="a", format=tarfile.PAX_FORMAT) as out:
        data = dockerfile.encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(data)
        out.addfile(info, io.BytesIO(data))
        for base in bases.values():
            for sha256, path in base.blobs.items():
                if sha256 in written:
                    continue
                written.add(sha256)
                info = tarfile.TarInfo(f"blobs/{sha256}")
                with path.open("rb") as file:
                    info.size = path.stat().st_size
                    out.addfile(info, file)


def _media(data: bytes, pin: Pin) -> str:
    with refusing(f"{pin}"):
        document = parse_json_object(data, "manifest")
    media = document.get("mediaType")
    if isinstance(media, str):
        return media[:200]
    is_index = "manifests" in document
    return f"application/vnd.oci.image.{'index' if is_index else 'manifest'}.v1+json"


def _platform_manifest(data: bytes, pin: Pin, machine: str) -> str | None:
    """Return the manifest for a machine that an index names; None where ``data`` is no index."""
    with refusing(f"{pin}"):
        listed = parse_json_object(data, "manifest").get("manifests")
        if listed is None:
            return None
        wanted = ("linux", ARCHITECTURES.get(machine, machine))
        for each in listed if isinstance(listed, list) else ():
            platform = each.get("platform") if isinstance(each, dict) else None
            if not isinstance(platform, dict):
                continue
            if (platform.get("os"), platform.get("architecture")) == wanted:
                return parse_digest(each.get("digest"))
    raise BuildFailure("REFUSED", "platform", f"{pin} has no manifest for {'/'.join(wanted)}")


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn a malformed document or archive into a refusal that says which it was."""
    try:
        yield
    except ArchiveError as error:
        raise BuildFailure("REFUSED", error.cause, f"{what}: {error}") from error
