"""Rows for tests of the registry's database: blobs, manifests and a push of both."""

from __future__ import annotations

import hashlib

from pyrsia_node.ports.registry import Proxied, RegistryDb, RepositoryBlob, StoredManifest

MEDIA = "application/vnd.oci.image.manifest.v1+json"


def blob(text: str, size: int = 10) -> RepositoryBlob:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return RepositoryBlob(f"sha256:{sha256}", sha256, size)


def manifest(text: str, *needs: RepositoryBlob | StoredManifest, size: int = 5) -> StoredManifest:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    digests = tuple(need.digest for need in needs)
    return StoredManifest(f"sha256:{sha256}", sha256, size, MEDIA, digests)


LAYER, CONFIG = blob("layer", 100), blob("config", 20)
IMAGE = manifest("image", CONFIG, LAYER)


def push(
    db: RegistryDb,
    repository: str,
    *tags: str,
    what: StoredManifest = IMAGE,
    actor: str = "ann",
    now_ms: int = 1000,
) -> None:
    for each in (LAYER, CONFIG):
        db.add_blob(repository, each, now_ms=now_ms)
    db.put_manifest(repository, what, tags, actor=actor, now_ms=now_ms)


def proxied(what: RepositoryBlob, used_ms: int) -> Proxied:
    return Proxied(what.sha256, what.size, "registry.example/x", used_ms)
