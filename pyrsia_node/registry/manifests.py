"""What the registry writes down of a manifest that was pushed. Pure.

Checks the form (``model.manifests``) and the digest under which the client put it, and says what
must be there for it to be whole. Distribution specification 1.1, "Pushing manifests".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.manifests import MANIFEST_BYTES_MAX, Manifest, parse_manifest
from pyrsia_node.model.oci import OciDigest, check_tag, is_digest
from pyrsia_node.ports.registry import StoredManifest
from pyrsia_node.registry.errors import DigestMismatchError, ManifestInvalidError, TooLargeError

ANNOTATIONS_LENGTH_MAX: Final = 64 * 1024
"""Longer annotations are not repeated in lists of referrers."""

TAGS_MAX: Final = 64
"""Tags of one push; the specification asks for at least 10."""


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest that may be stored, and the tags that shall point to it."""

    stored: StoredManifest
    tags: tuple[str, ...]
    data: bytes


def read_push(
    data: bytes, media: str, reference: str, more_tags: tuple[str, ...] = ()
) -> PushedManifest:
    """Return what to store for a manifest pushed under ``reference``.

    Args:
        data: The body as it came.
        media: ``Content-Type`` without parameters, empty if there was none.
        reference: A tag, or the digest that the client says the bytes have.
        more_tags: Of ``?tag=``; only for a push by digest.

    Raises:
        TooLargeError: Over 4 MiB.
        ManifestInvalidError: No manifest of ours, or a tag is not legal.
        DigestMismatchError: The bytes have another digest than the reference says.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise TooLargeError(f"manifest of {len(data)} bytes exceeds {MANIFEST_BYTES_MAX}")
    sha256 = hashlib.sha256(data).hexdigest()
    digest = f"sha256:{sha256}"
    if is_digest(reference):
        digest = _checked_digest(data, reference)
    try:
        manifest = parse_manifest(data, media=media)
        tags = _tags(reference, more_tags)
    except InvalidInputError as error:
        raise ManifestInvalidError(str(error)) from error
    return PushedManifest(_stored(manifest, digest, sha256, len(data)), tags, data)


def _checked_digest(data: bytes, reference: str) -> str:
    claimed = OciDigest.parse(reference)
    found = hashlib.new(claimed.algorithm, data).hexdigest()
    if found != claimed.hex:
        raise DigestMismatchError(f"the manifest is {claimed.algorithm}:{found}, not {claimed}")
    return reference


def _tags(reference: str, more: tuple[str, ...]) -> tuple[str, ...]:
    by_digest = is_digest(reference)
    if more and not by_digest:
        raise InvalidInputError("?tag= goes with a push by digest, not by tag")
    if len(more) > TAGS_MAX:
        raise InvalidInputError(f"{len(more)} tags at once exceed {TAGS_MAX}")
    named = more if by_digest else (reference,)
    return tuple(dict.fromkeys(check_tag(tag) for tag in named))


def _stored(manifest: Manifest, digest: str, sha256: str, size: int) -> StoredManifest:
    return StoredManifest(
        digest=digest,
        sha256=sha256,
        size=size,
        media=manifest.media,
        needs=tuple(dict.fromkeys(_needs(manifest))),
        subject=None if manifest.subject is None else str(manifest.subject.digest),
        artifact_type=manifest.artifact_type,
        annotations=_annotations(manifest),
    )


def _annotations(manifest: Manifest) -> str:
    """Return the annotations for lists of referrers; where they are too long, none.

    The manifest itself has them. A list of a thousand referrers must not be gigabytes.
    """
    text = json.dumps(
        manifest.annotations, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )
    return text if len(text) <= ANNOTATIONS_LENGTH_MAX else "{}"


def _needs(manifest: Manifest) -> Iterator[str]:
    """Yield what must be there. A subject may come later, its vendor's layers never do."""
    return (str(each.digest) for each in manifest.references if each.must_be_here)
