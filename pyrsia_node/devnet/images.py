"""Small real images, made in memory: the same bytes every time on one machine.

The programs are Debian's static busybox for amd64 and, for arm64, a program of three instructions
that ends with success. Clients unpack and run the first; of the second they only need that it is
another platform's. No tool is run: an image is a few JSON documents and tar files.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pyrsia_node.model.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "cat", "echo", "ls", "sha256sum", "true", "wc")
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

Style = Literal["oci", "docker"]
"""Whether media types are those of the OCI specification or of Docker's schema 2."""


@dataclass(frozen=True)
class Document:
    """A manifest or index as it is pushed."""

    media: str
    data: bytes
    platform: str = ""

    @property
    def digest(self) -> str:
        """Return ``sha256:HEX`` of the bytes."""
        return digest_of(self.data)


@dataclass(frozen=True)
class Image:
    """An image with everything that it needs; ``root`` is what a tag would be."""

    root: Document
    blobs: Mapping[str, bytes]
    children: tuple[Document, ...] = ()

    @property
    def digest(self) -> str:
        """Return the digest of the manifest or index that a tag would be."""
        return self.root.digest

    @property
    def size(self) -> int:
        """Return how many bytes of blobs there are."""
        return sum(map(len, self.blobs.values()))


@dataclass
class Recipe:
    """What an image is made of. Other ``says``, another digest."""

    says: str = "hello"
    style: Style = "oci"
    compressed: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    payload: bytes = b""


def digest_of(data: bytes) -> str:
    """Return ``sha256:HEX``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def busybox_image(recipe: Recipe | None = None) -> Image:
    """Return an image for linux/amd64 that runs: ``cat /said`` prints what the recipe says."""
    return _single(recipe or Recipe(), "amd64")


def two_platforms(recipe: Recipe | None = None) -> Image:
    """Return an index (or, in Docker's style, a list) of linux/amd64 and linux/arm64."""
    recipe = recipe or Recipe()
    parts = [_single(recipe, architecture) for architecture in ("amd64", "arm64")]
    descriptors = [
        _descriptor(part.root.media, part.root.data)
        | {"platform": {"architecture": architecture, "os": "linux"}}
        for part, architecture in zip(parts, ("amd64", "arm64"), strict=True)
    ]
    media = OCI_INDEX if recipe.style == "oci" else DOCKER_LIST
    index = {"schemaVersion": 2, "mediaType": media, "manifests": descriptors}
    blobs: dict[str, bytes] = {}
    for part in parts:
        blobs |= part.blobs
    root = Document(media, _json(index))
    return Image(root, blobs, tuple(part.root for part in parts))


def write_layout(folder: Path, image: Image, tag: str) -> Path:
    """Write the image as an OCI layout; tools name it ``oci:FOLDER:TAG``."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    documents = (image.root, *image.children)
    for digest, data in {**image.blobs, **{each.digest: each.data for each in documents}}.items():
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    named = _descriptor(image.root.media, image.root.data)
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [named]}))
    return folder


def _single(recipe: Recipe, architecture: str) -> Image:
    layers = [_program_layer(architecture), _text_layer(recipe.says, recipe.payload)]
    stored = [_gzip(layer) if recipe.compressed else layer for layer in layers]
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/cat", "/said"], "Labels": dict(recipe.labels)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created": "2020-01-01T00:00:00Z"}] * len(layers),
        }
    )
    is_oci = recipe.style == "oci"
    suffix = ("+gzip" if is_oci else ".gzip") if recipe.compressed else ""
    layer_media = (OCI_LAYER if is_oci else DOCKER_LAYER) + suffix
    manifest: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST if is_oci else DOCKER_MANIFEST,
        "config": _descriptor(OCI_CONFIG if is_oci else DOCKER_CONFIG, config),
        "layers": [_descriptor(layer_media, layer) for layer in stored],
    }
    if recipe.annotations:
        manifest["annotations"] = dict(recipe.annotations)
    root = Document(str(manifest["mediaType"]), _json(manifest), f"linux/{architecture}")
    return Image(root, {digest_of(each): each for each in (config, *stored)})


@functools.cache
def _program_layer(architecture: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "etc", "tmp"):
            _add_folder(tar, folder)
        if architecture == "amd64":
            _add_file(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        else:
            _add_file(tar, "bin/busybox", _program_for_arm64(), 0o755)
        for applet in APPLETS:
            _add_link(tar, f"bin/{applet}", "busybox")
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644)
    return buffer.getvalue()


def _text_layer(says: str, payload: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add_file(tar, "said", says.encode() + b"\n", 0o644)
        if payload:
            _add_file(tar, "payload", payload, 0o644)
    return buffer.getvalue()


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(info)


def _add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


def _program_for_arm64() -> bytes:
    # mov x8, #93 (exit); mov x0, #0; svc #0
    code = struct.pack("<3I", 0xD2800BA8, 0xD2800000, 0xD4000001)
    base, start = 0x400000, 0x78
    size = start + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, 183, 1, base + start, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code


@functools.lru_cache(maxsize=16)
def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def _descriptor(media: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media, "digest": digest_of(data), "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
