"""Normal forms of an image's config and manifest at levels 1 and 2. Pure.

- Level 1, the container: how the JSON was written, how the layers were packed (their digests
  follow from that), and whether the media types are Docker's or OCI's.
- Level 2, named metadata: times, the text of the history (which layers are empty stays), what
  names the builder, members that engines do not read from images, empty members, and annotations
  that name the base.

Kept at every level: entrypoint, command, user, environment, working folder, volumes, ports,
labels, stop signal, health check, shell, platform, and every member that is not named above.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

from buildpipelines.extract.image import ImageConfig, ImageManifest, Json

RULES: Final[dict[str, tuple[str, ...]]] = {
    "l1": ("json-format", "manifest-digests", "manifest-media-type", "config-diff-ids"),
    "l2": (
        "config-created",
        "config-history-text",
        "config-builder",
        "config-unused-members",
        "config-empty-members",
        "manifest-base-annotations",
    ),
}
"""Every rule by name; a part of the pipeline's digest, so changing one is seen."""

_BUILDERS: Final = frozenset({"container", "container_config", "docker_version", "id", "parent"})
_BUILDER_LABELS: Final = frozenset({"io.buildah.version"})
_BUILDER_PREFIX: Final = "moby.buildkit."
_HISTORY_TEXT: Final = frozenset({"created", "created_by", "comment"})
_UNUSED: Final = frozenset(
    {
        "Hostname",
        "Domainname",
        "Image",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
    }
)
"""What classic builders copy from the container they worked in; a run never takes it from there."""

_BASE_ANNOTATIONS: Final = frozenset(
    {
        "org.opencontainers.image.base.name",
        "org.opencontainers.image.base.digest",
        "org.opencontainers.image.created",
    }
)


def config_level1(config: ImageConfig) -> Json:
    """Return the config without its diff_ids: the layers are compared themselves."""
    return {key: value for key, value in config.document.items() if key != "rootfs"}


def config_level2(config: ImageConfig) -> Json:
    """Return the config without named metadata."""
    document = {
        key: value
        for key, value in config_level1(config).items()
        if key != "created" and key not in _BUILDERS and not key.startswith(_BUILDER_PREFIX)
    }
    history = document.get("history")
    if isinstance(history, list):
        document["history"] = [_without_text(step) for step in history]
    inner = document.get("config")
    if isinstance(inner, dict):
        document["config"] = _filled({k: v for k, v in inner.items() if k not in _UNUSED})
    return _filled(document)


def manifest_form(
    manifest: ImageManifest, *, level: int, config: str, layers: Sequence[str]
) -> Json:
    """Return the manifest at level 1 or 2 with the normal forms of what it points to.

    Args:
        manifest: As it was read.
        level: 1 or 2.
        config: The digest of the config at that level.
        layers: The digests of the layers at that level.
    """
    document = {
        k: v for k, v in manifest.document.items() if k not in ("schemaVersion", "mediaType")
    }
    annotations = document.get("annotations")
    if level == 2 and isinstance(annotations, dict):
        document["annotations"] = {
            key: value for key, value in annotations.items() if key not in _BASE_ANNOTATIONS
        }
        document = _filled(document)
    document["config"] = _pointer(manifest.document["config"], config)
    listed = manifest.document["layers"]
    assert isinstance(listed, list)
    document["layers"] = [_pointer(d, form) for d, form in zip(listed, layers, strict=True)]
    return document


def form_digest(form: Mapping[str, object], kind: str) -> str:
    """Return the hex SHA-256 of a normal form; ``kind`` such as "config-l1" is part of it."""
    text = json.dumps({"t": kind, "v": 1, "form": form}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _pointer(descriptor: object, form: str) -> Json:
    """Return a descriptor with a normal form in the place of digest, size and type."""
    assert isinstance(descriptor, dict)
    kept = {k: v for k, v in descriptor.items() if k not in ("mediaType", "digest", "size")}
    return {**kept, "form": form}


def _without_text(step: object) -> object:
    if not isinstance(step, dict):
        return step
    return {key: value for key, value in step.items() if key not in _HISTORY_TEXT}


def _filled(document: Mapping[str, object]) -> Json:
    """Return the members that say something; the builder's labels are none of the image's."""
    found: Json = {}
    for key, value in document.items():
        if key == "Labels" and isinstance(value, dict):
            value = {k: v for k, v in value.items() if k not in _BUILDER_LABELS}  # noqa: PLW2901 - the same thing, trimmed
        if value not in (None, "", [], {}) and value is not False:
            found[key] = value
    return found
