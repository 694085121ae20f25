"""From the image that a sandbox made to what the node is told: parts, digests, levels.

What came out is hostile: manifest, config and layers are read by our own strict readers, and the
config must name exactly these layers. Layers of the base never come out: the base's own blobs stand
in their places, and the manifest names them, as it does where a registry already has them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildpipelines.compare.image import (
    Forms,
    Image,
    ImageComparison,
    ReadLayer,
    compare_images,
)
from buildpipelines.compare.verdict import Comparison
from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.image import (
    Blob,
    ImageConfig,
    ImageManifest,
    Json,
    check_layers,
    parse_image_config,
    parse_image_manifest,
)
from buildpipelines.extract.layer import LayerReader
from buildpipelines.inputs.registries import Registries
from buildpipelines.recipes.dockerfile import INDEX_HISTORY
from buildpipelines.recipes.images import part_name
from buildpipelines.spec.messages import OutputFile
from buildpipelines.stabilize.layer import Layer, level1
from buildpipelines.worker.image_inputs import FetchedImage
from buildpipelines.worker.workspace import JobFolder


@dataclass(frozen=True, slots=True)
class Part:
    """One blob of an image: what it is, where its bytes are, and its normal forms."""

    role: str
    media: str
    sha256: str
    path: Path
    forms: Forms


@dataclass(frozen=True, slots=True)
class ImageOnDisk:
    """An image that was read whole, and its parts: manifest, config, layers, in this order."""

    image: Image
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AssessedImage:
    """A built image, described for the node."""

    level: int
    files: tuple[OutputFile, ...]


async def read_published(
    published: FetchedImage, base: FetchedImage | None, registries: Registries
) -> ImageOnDisk:
    """Fetch and read the layers of the published image that are not the base's own blobs.

    Raises:
        BuildFailure: SOURCE_UNAVAILABLE.
        ArchiveError: one of its layers is malformed; such an image equals no build.
    """
    shared = _shared_blobs(published.manifest.layers, base)
    paths = [
        await registries.blob(published.pin, layer.sha256, layer.size)
        for layer in published.manifest.layers
    ]
    return await asyncio.to_thread(_read_published, published, paths, shared)


def _read_published(published: FetchedImage, paths: Sequence[Path], shared: int) -> ImageOnDisk:
    layers, diff_ids = [], list(published.config.diff_ids[:shared])
    for number, (blob, path) in enumerate(zip(published.manifest.layers, paths, strict=True)):
        layer = None if number < shared else read_layer(path)
        diff_ids += [] if layer is None else [layer.diff_id]
        layers.append(ReadLayer(blob.sha256, layer))
    check_layers(published.config, diff_ids)
    image = Image(published.sha256, published.manifest, published.config, tuple(layers))
    config_path = published.blobs[published.manifest.config.sha256]
    return _on_disk(image, published.blobs[published.sha256], config_path, paths)


async def read_built(
    made: Sequence[Path],
    base: FetchedImage | None,
    published: FetchedImage,
    *,
    with_index: bool = False,
) -> ImageOnDisk:
    """Read what the sandbox sent out; where it has the base's layers, those take their places.

    Args:
        made: Manifest, config and the layers above the base.
        base: The image at the bottom, if any.
        published: What it will be compared with.
        with_index: Whether the history has lines of the argument that told steps of the index.

    Raises:
        BuildFailure: it is no image of one reading.
    """
    try:
        return await asyncio.to_thread(_read_built, made, base, published, with_index)
    except ArchiveError as error:
        raise BuildFailure("BUILD_FAILED", error.cause, f"the built image: {error}") from error


def _read_built(
    made: Sequence[Path],
    base: FetchedImage | None,
    published: FetchedImage,
    with_index: bool,  # noqa: FBT001 - private, called once
) -> ImageOnDisk:
    found = {path.name: path for path in made}
    if not {"manifest.json", "config.json"} <= found.keys():
        raise ArchiveError("no image", "manifest or config is missing")
    config_data = found["config.json"].read_bytes()
    config = parse_image_config(config_data)
    manifest = parse_image_manifest(found["manifest.json"].read_bytes())
    if hashlib.sha256(config_data).hexdigest() != manifest.config.sha256:
        raise ArchiveError("image config", "it is not the config that the manifest names")
    if with_index:
        config_data = _without_index(config)
        found["config.json"].write_bytes(config_data)
        config = parse_image_config(config_data)
    inherited = _inherited(config.diff_ids, base)
    if with_index or inherited:
        layers = () if base is None else base.manifest.layers[:inherited]
        data = _rewritten(manifest, config_data, layers)
        found["manifest.json"].write_bytes(data)
        manifest = parse_image_manifest(data)
    shared = _shared_blobs(published.manifest.layers, base)
    read, paths, diff_ids = [], [], []
    for number, blob in enumerate(manifest.layers):
        if number < inherited:
            assert base is not None
            path = base.blobs[blob.sha256]
            # Read only where the published image packed the base's layer anew.
            layer = None if number < shared else read_layer(path)
            diff_ids.append(config.diff_ids[number] if layer is None else layer.diff_id)
        else:
            path = found.get(f"layer-{number:03}", Path())
            if not path.is_file() or _digest(path) != blob.sha256:
                raise ArchiveError("no image", f"layer {number} is not what the manifest names")
            layer = read_layer(path)
            diff_ids.append(layer.diff_id)
        read.append(ReadLayer(blob.sha256, layer))
        paths.append(path)
    check_layers(config, diff_ids)
    sha256 = _digest(found["manifest.json"])
    image = Image(sha256, manifest, config, tuple(read))
    return _on_disk(image, found["manifest.json"], found["config.json"], paths)


async def assess_image(
    built: ImageOnDisk, published: ImageOnDisk | None, fetched: FetchedImage, folder: JobFolder
) -> AssessedImage:
    """Compare a built image with the published one and describe every part of it.

    Args:
        built: What the sandbox made.
        published: What the upstream offers; None where it cannot be read.
        fetched: The published image's manifest, whether or not its layers can be read.
        folder: Where copies for the node to adopt are put.
    """
    return await asyncio.to_thread(_assess, built, published, fetched, folder)


def _assess(
    built: ImageOnDisk, published: ImageOnDisk | None, fetched: FetchedImage, folder: JobFolder
) -> AssessedImage:
    if published is None:
        compared = _unreadable(len(built.image.layers))
        theirs: tuple[tuple[str, Path | None], ...] = (
            (fetched.sha256, fetched.blobs[fetched.sha256]),
            (fetched.manifest.config.sha256, fetched.blobs[fetched.manifest.config.sha256]),
            *((layer.sha256, None) for layer in fetched.manifest.layers),
        )
    else:
        compared = compare_images(built.image, published.image)
        theirs = tuple((part.sha256, part.path) for part in published.parts)
    comparisons = (compared.manifest, compared.config, *compared.layers)
    is_base = [False, False, *(layer.layer is None for layer in built.image.layers)]
    files: dict[str, OutputFile] = {}
    for number, part in enumerate(built.parts):
        upstream = theirs[number] if number < len(theirs) else None
        file = _described(
            part,
            upstream,
            comparisons[number],
            folder,
            is_base=is_base[number],
            whole=compared.level,
        )
        files[file.name] = file
    return AssessedImage(compared.level, tuple(sorted(files.values(), key=lambda f: f.name)))


def _described(
    part: Part,
    upstream: tuple[str, Path | None] | None,
    comparison: Comparison,
    folder: JobFolder,
    *,
    is_base: bool,
    whole: int,
) -> OutputFile:
    """Describe one part. In an image that differs, every part with other bytes is our own."""
    sha256, theirs = upstream if upstream is not None else ("", None)
    is_same = sha256 == part.sha256
    level = 0 if is_same else 3 if whole == 3 else comparison.level
    name = part_name(part.role, part.sha256 if whole == 3 else sha256)
    words = comparison.differences
    if level == 3 and not words:
        words = ("the same, in an image that differs",)
    copy = _copied(part.path, folder.out / name, folder)
    upstream_copy = None
    if not is_same and theirs is not None:
        (folder.root / "upstream").mkdir(exist_ok=True)
        upstream_copy = _copied(
            theirs, folder.root / "upstream" / part_name(part.role, sha256), folder
        )
    return OutputFile(
        name=name,
        path=str(copy),
        size=copy.stat().st_size,
        sha256=part.sha256,
        l1=part.forms.l1,
        l2=part.forms.l2,
        media=part.media,
        claim="mirrored" if is_base and is_same else "rebuilt",
        upstream_sha256=sha256 or None,
        upstream_path=None if upstream_copy is None else str(upstream_copy),
        level=level if sha256 else None,
        differences=words,
    )


def read_layer(path: Path) -> Layer:
    """Read a layer from disk to its end; raises ArchiveError."""
    with path.open("rb") as file:
        reader = LayerReader(file.read)
        listing = level1(reader.entries())
        return Layer(listing, reader.diff_id)


def _unreadable(layers: int) -> ImageComparison:
    words = Comparison(3, ("the published image is refused: it has no one reading",))
    return ImageComparison(3, words, words, (words,) * layers)


def _shared_blobs(layers: Sequence[Blob], base: FetchedImage | None) -> int:
    """Return how many leading layers are the very blobs of the base."""
    count = 0
    for ours, theirs in zip(layers, base.manifest.layers if base is not None else (), strict=False):
        if ours.sha256 != theirs.sha256:
            break
        count += 1
    return count


def _inherited(diff_ids: Sequence[str], base: FetchedImage | None) -> int:
    """Return how many leading layers are the base's: all of them or none."""
    theirs = () if base is None else base.config.diff_ids
    return len(theirs) if tuple(diff_ids[: len(theirs)]) == theirs else 0


def _rewritten(manifest: ImageManifest, config: bytes, layers: Sequence[Blob]) -> bytes:
    """Return the manifest with this config, and with the base's blobs in their places."""
    document: Json = dict(manifest.document)
    listed, told = document["layers"], document["config"]
    assert isinstance(listed, list)
    assert isinstance(told, dict)
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    document["config"] = {**told, "digest": digest, "size": len(config)}
    base = [
        {**old, "digest": f"sha256:{new.sha256}", "size": new.size}
        for old, new in zip(listed, layers, strict=False)
    ]
    document["layers"] = [*base, *listed[len(layers) :]]
    return _written(document)


def _without_index(config: ImageConfig) -> bytes:
    """Return the config without the lines that our own build argument left in the history."""
    document: Json = dict(config.document)
    history = document.get("history")
    if isinstance(history, list):
        document["history"] = [
            step
            for step in history
            if not (isinstance(step, dict) and step.get("created_by") == INDEX_HISTORY)
        ]
    return _written(document)


def _written(document: Json) -> bytes:
    """Return JSON as buildah writes it: Go escapes what could end a script."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _on_disk(image: Image, manifest: Path, config: Path, layers: Sequence[Path]) -> ImageOnDisk:
    parts = [
        Part("root", image.manifest.media, image.sha256, manifest, image.forms()),
        Part(
            "config",
            image.manifest.config.media,
            image.manifest.config.sha256,
            config,
            image.config_forms(),
        ),
    ]
    for blob, layer, path in zip(image.manifest.layers, image.layers, layers, strict=True):
        parts.append(Part("layer", blob.media, blob.sha256, path, layer.forms()))
    return ImageOnDisk(image, tuple(parts))


def _copied(source: Path, target: Path, folder: JobFolder) -> Path:
    """Put a file where the node adopts it from: what we made as it is, the cache's as a copy."""
    if not target.exists():
        if source.is_relative_to(folder.root):
            target.hardlink_to(source)
        else:
            shutil.copyfile(source, target)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
