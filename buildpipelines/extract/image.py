"""Manifest and config of one image, read strictly: JSON of one reading, sizes bounded. Pure.

OCI image specification 1.1 and Docker's schema 2. Indexes are no images here: a rebuild is of one
platform. Layers are another module's (``extract.layer``); that a config names the layers it came
with is checked by :func:`check_layers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from buildpipelines.errors import ArchiveError

DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
LAYERS_MAX: Final = 128
"""What engines can mount; more layers could not be run."""

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
LAYER_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)

Json = dict[str, object]
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Blob:
    """What a descriptor points to. ``sha256`` in hex, ``size`` in bytes."""

    media: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """A manifest with everything in it; ``document`` is the JSON that it was read from."""

    document: Mapping[str, object]
    media: str
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def style(self) -> str:
        """``docker`` or ``oci``: whose media types it uses."""
        return "docker" if self.media == DOCKER_MANIFEST else "oci"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A config; ``diff_ids`` are the SHA-256 of the unpacked layers in hex."""

    document: Mapping[str, object]
    diff_ids: tuple[str, ...]
    platform: str
    created: str


def parse_image_manifest(data: bytes) -> ImageManifest:
    """Read the manifest of one image.

    Raises:
        ArchiveError: malformed, an index, an artifact that is no image, or layers of other types.
    """
    document = parse_json_object(data, "manifest")
    if document.get("schemaVersion") != 2 or "manifests" in document:
        raise ArchiveError("image manifest", "it is no manifest of one image, schemaVersion 2")
    config = _blob(document.get("config"), "config")
    media = document.get("mediaType") or (
        DOCKER_MANIFEST if config.media == DOCKER_CONFIG else OCI_MANIFEST
    )
    if media not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise ArchiveError("image manifest", f"its type is {media!r:.120}")
    if config.media not in (OCI_CONFIG, DOCKER_CONFIG):
        raise ArchiveError("image manifest", f"its config is of type {config.media!r:.120}")
    layers = _list(document.get("layers"), "layers")
    if len(layers) > LAYERS_MAX:
        raise ArchiveError("image manifest", f"{len(layers)} layers; {LAYERS_MAX} at most")
    found = tuple(_blob(layer, "layers") for layer in layers)
    for layer in found:
        if layer.media not in LAYER_TYPES:
            raise ArchiveError("layer compression", f"a layer is of type {layer.media!r:.120}")
    return ImageManifest(document, media, config, found)


def parse_image_config(data: bytes) -> ImageConfig:
    """Read the config of an image; raises ArchiveError."""
    document = parse_json_object(data, "config")
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise ArchiveError("image config", "rootfs is not of type layers")
    diff_ids = _list(rootfs.get("diff_ids"), "diff_ids")
    if not all(isinstance(each, str) and _DIGEST.match(each) for each in diff_ids):
        raise ArchiveError("image config", "a diff_id is no sha256 digest")
    parts = [document.get(key) for key in ("os", "architecture", "variant")]
    created = document.get("created", "")
    return ImageConfig(
        document=document,
        diff_ids=tuple(cast("str", each).removeprefix("sha256:") for each in diff_ids),
        platform="/".join(part for part in parts if isinstance(part, str) and part),
        created=created if isinstance(created, str) else "",
    )


def check_layers(config: ImageConfig, diff_ids: Sequence[str]) -> None:
    """Check that a config names exactly the layers that came with it; raises ArchiveError."""
    if list(config.diff_ids) != list(diff_ids):
        raise ArchiveError("image config", "its diff_ids are not those of the layers")


def parse_digest(value: object) -> str:
    """Return the hex digits of ``sha256:…``; they may become a path. Raises ArchiveError."""
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise ArchiveError("image manifest", f"{value!r:.100} is no sha256 digest")
    return value.removeprefix("sha256:")


def parse_json_object(data: bytes, what: str) -> Json:
    """Read a JSON object that every reader reads alike.

    Raises:
        ArchiveError: too long, not JSON, a key twice in one object, or a number with a fraction.
    """
    cause = f"image {what}"
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ArchiveError(cause, f"{len(data)} bytes; {DOCUMENT_BYTES_MAX} at most")

    def unique(pairs: list[tuple[str, object]]) -> Json:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ArchiveError(cause, "an object has one key twice")
        return found

    def refuse(number: str) -> NoReturn:
        raise ArchiveError(cause, f"the number {number:.40} is no integer")

    try:
        value: object = json.loads(
            data.decode(), object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse
        )
        json.dumps(value, ensure_ascii=False).encode()  # No lone surrogates either.
    except (ValueError, RecursionError) as error:
        raise ArchiveError(cause, f"not JSON: {error!s:.120}") from error
    if not isinstance(value, dict):
        raise ArchiveError(cause, "no JSON object")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ArchiveError("image manifest", f"{where} is no list")
    return value


def _blob(value: object, where: str) -> Blob:
    if isinstance(value, dict):
        media, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if (
            isinstance(media, str)
            and isinstance(digest, str)
            and _DIGEST.match(digest)
            and type(size) is int
            and 0 <= size < 2**53
        ):
            return Blob(media, digest.removeprefix("sha256:"), size)
    raise ArchiveError("image manifest", f"{where}: no descriptor with a sha256 digest and a size")
