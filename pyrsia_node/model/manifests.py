"""Manifests and indexes of container images: what they are and what they point to. Pure.

OCI image specification 1.1 and Docker's schema 2, which differ in names only. Parsing is strict
about what is served or fetched by it (types, digests, sizes, nesting) and blind to everything
else: manifests carry fields of other people's, and their bytes are never written anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import OciDigest

MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""The size that registries must take (distribution specification 1.1, "Pushing manifests")."""

DESCRIPTORS_MAX: Final = 4096
BLOB_BYTES_MAX: Final = 2**53 - 1

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES: Final = (OCI_INDEX, DOCKER_LIST)
EMPTY_CONFIG: Final = "application/vnd.oci.empty.v1+json"

NON_DISTRIBUTABLE: Final = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
"""Layers that only their vendor may distribute: registries need not have them."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content. ``platform`` is ``os/arch[/variant]``, empty where there is none."""

    media: str
    digest: OciDigest
    size: int
    platform: str = ""
    artifact_type: str = ""

    @property
    def is_manifest(self) -> bool:
        """Whether it points to a manifest or index rather than to a blob."""
        return self.media in MANIFESTS or self.media in INDEXES

    @property
    def must_be_here(self) -> bool:
        """Whether a registry that has the manifest must have this content, too."""
        return self.media not in NON_DISTRIBUTABLE


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index. ``config`` is absent in an index; ``parts`` are layers or manifests."""

    media: str
    config: Descriptor | None
    parts: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str
    annotations: Mapping[str, str]

    @property
    def is_index(self) -> bool:
        """Whether ``parts`` are manifests."""
        return self.media in INDEXES

    @property
    def references(self) -> tuple[Descriptor, ...]:
        """Return config and parts: everything that must be there for the manifest to be whole."""
        return (() if self.config is None else (self.config,)) + self.parts


def parse_manifest(data: bytes, *, media: str = "") -> Manifest:
    """Return what the bytes of a manifest say.

    Args:
        data: The bytes as pushed or fetched.
        media: What ``Content-Type`` says, without parameters; empty if nothing does.

    Raises:
        InvalidInputError: Too long, no JSON, of a type that is none of ours, or a descriptor is
            out of form. Of what ``media`` and the document say, both must agree.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise InvalidInputError(f"manifest of {len(data)} bytes exceeds {MANIFEST_BYTES_MAX}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"manifest is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInputError("manifest is no JSON object")
    if value.get("schemaVersion") != 2 or isinstance(value.get("schemaVersion"), bool):
        raise InvalidInputError("manifest is not of schemaVersion 2")
    found = _media_of(value, media)
    is_index = found in INDEXES
    # One document must not be a manifest to one reader and an index to another.
    if ("manifests" in value) != is_index or (is_index and "layers" in value):
        raise InvalidInputError(f"manifest says it is {found} and has other members")
    config = None if is_index else _descriptor(value.get("config"), "config")
    return Manifest(
        media=found,
        config=config,
        parts=_descriptors(value, "manifests" if is_index else "layers"),
        subject=None if value.get("subject") is None else _descriptor(value["subject"], "subject"),
        artifact_type=_artifact_type(value, config),
        annotations=_annotations(value),
    )


def _media_of(value: Mapping[str, object], media: str) -> str:
    said = value.get("mediaType")
    if said is not None and not isinstance(said, str):
        raise InvalidInputError("manifest.mediaType is no text")
    if said and media and said != media:
        raise InvalidInputError(f"Content-Type is {media!r:.100}, mediaType {said!r:.100}")
    # mediaType is optional in OCI documents; the members tell a manifest from an index.
    guess = OCI_INDEX if "manifests" in value else OCI_MANIFEST
    found = said or media or guess
    if found not in MANIFESTS and found not in INDEXES:
        raise InvalidInputError(f"manifests of type {found!r:.100} are not served here")
    return found


def _artifact_type(value: Mapping[str, object], config: Descriptor | None) -> str:
    said = value.get("artifactType", "")
    if not isinstance(said, str) or not _is_unicode(said):
        raise InvalidInputError("manifest.artifactType is no text")
    # Distribution specification 1.1, "Listing Referrers": else the type of the config.
    return said or (config.media if config is not None else "")


def _annotations(value: Mapping[str, object]) -> dict[str, str]:
    found = value.get("annotations")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInputError("manifest.annotations is no object")
    annotations: dict[str, str] = {}
    for key, text in found.items():
        if not isinstance(text, str) or not _is_unicode(key + text):
            raise InvalidInputError(f"manifest.annotations: {key!r:.80} is no text")
        annotations[key] = text
    return annotations


def _descriptors(value: Mapping[str, object], key: str) -> tuple[Descriptor, ...]:
    found = value.get(key, [])
    if not isinstance(found, list) or len(found) > DESCRIPTORS_MAX:
        raise InvalidInputError(f"manifest.{key} is no list of at most {DESCRIPTORS_MAX}")
    return tuple(_descriptor(each, key) for each in found)


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InvalidInputError(f"manifest.{where} is no descriptor")
    media, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media, str) or not 0 < len(media) <= 255 or not _is_unicode(media):
        raise InvalidInputError(f"manifest.{where}.mediaType is no media type")
    if not isinstance(digest, str):
        raise InvalidInputError(f"manifest.{where}.digest is no text")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= BLOB_BYTES_MAX:
        raise InvalidInputError(f"manifest.{where}.size is no number of bytes")
    artifact_type = value.get("artifactType", "")
    return Descriptor(
        media=media,
        digest=OciDigest.parse(digest),
        size=size,
        platform=_platform(value.get("platform")),
        artifact_type=artifact_type if isinstance(artifact_type, str) else "",
    )


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: JSON's escapes can spell half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _platform(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    parts = [value.get("os"), value.get("architecture"), value.get("variant")]
    return "/".join(part for part in parts if isinstance(part, str) and part)
