"""Documents of mirrored images as the log has them, made by hand."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from consensus.types import NodeId
from pyrsia_node.artifacts.statements import ProvedStatement
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Document, FileEntry, Metadata
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.manifests import OCI_MANIFEST
from pyrsia_node.model.oci import ImageName
from pyrsia_node.model.statements import Withdraw
from pyrsia_node.store.pieces import PieceHasher, piece_root

CONFIG_MEDIA = "application/vnd.oci.image.config.v1+json"
LAYER_MEDIA = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_PARAMS = dataclasses.replace(DEFAULT_PARAMS, k={**DEFAULT_PARAMS.k, "docker": 0})
"""Of a network that imports images, whatever the defaults are."""

_MEDIA = {
    "root": OCI_MANIFEST,
    "manifest": OCI_MANIFEST,
    "config": CONFIG_MEDIA,
    "layer": LAYER_MEDIA,
}


def image_file(role: str, data: bytes, *, media: str = "", sha512: bool = False) -> FileEntry:
    """Return what a document says of a part of an image with these bytes."""
    hasher = PieceHasher()
    hasher.update(memoryview(data))
    sha256 = sha256_of(data)
    name = f"sha512-{hashlib.sha512(data).hexdigest()}" if sha512 else sha256[:16]
    return FileEntry(
        name=f"{role}-{name}",
        size=len(data),
        sha256=sha256,
        pieces=piece_root(hasher.finish()),
        media=media or _MEDIA[role],
        claim="mirrored",
        origin="upstream",
    )


def image_document(
    name: ImageName,
    version: str,
    root: bytes | None,
    *,
    layers: Iterable[bytes] = (),
    files: Iterable[FileEntry] = (),
) -> Document:
    """Return the document of an image whose root manifest has these bytes."""
    roots = [] if root is None else [image_file("root", root)]
    parts = [*roots, *(image_file("layer", layer) for layer in layers), *files]
    return Document(
        purl=name.purl(version),
        files=tuple(sorted(parts, key=lambda each: each.name)),
        contradicts=(),
        metadata=Metadata(
            name=str(name),
            version=version,
            summary="An image",
            author="",
            licence="",
            homepage="",
            repository="",
            keywords=("linux/amd64",),
            requires=(),
            requires_python="",
            provides_extra=(),
        ),
    )


def closed_by_withdrawal(index: int, name: ImageName) -> ProvedStatement:
    """Return a statement that withdraws the entry at ``index``."""
    body = Withdraw(NodeId("somebody"), name.purl("1"), index, "built by a thief", "0" * 32)
    return ProvedStatement(index + 50, body)
