"""Makers of contexts and of published images, for tests of rebuilds of images.

Images are published by Debian's buildah as anybody runs it, outside our sandbox: a second,
independent build of the same context.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildpipelines.recipes.images import CONTEXT_MEDIA
from tests.fakes.images import Document, Image
from tests.fakes.registries import DebianRegistry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PYTHON_LIBRARIES = ("m.so.6", "z.so.1", "expat.so.1", "c.so.6")
TIMESTAMP = 1_700_000_000


@dataclass(frozen=True)
class File:
    """A file of a context."""

    data: bytes
    mode: int = 0o644


Files = Mapping[str, File]


def context_tar(files: Files) -> bytes:
    """Return a context as a gzipped tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, file in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(file.data), file.mode, TIMESTAMP
            tar.addfile(info, io.BytesIO(file.data))
    return gzip.compress(out.getvalue(), mtime=0)


def push_context(registry: DebianRegistry, repository: str, packed: bytes) -> str:
    """Push a context as an artifact and return its reference by digest."""
    config = b"{}"
    blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in (config, packed)}
    empty, layer = blobs
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": EMPTY, "digest": empty, "size": len(config)},
        "layers": [{"mediaType": CONTEXT_MEDIA, "digest": layer, "size": len(packed)}],
    }
    image = Image(root=Document(MANIFEST, json.dumps(document).encode()), blobs=blobs)
    registry.push(image, repository)
    return f"{registry.host}/{repository}@{image.digest}"


def python_base(index_url: str) -> Image:
    """Return an image with this machine's Python, a shell and nothing else.

    Its pip takes packages from ``index_url``, as others do from the one that everybody knows.
    """
    libraries = ["/lib64/ld-linux-x86-64.so.2"]
    libraries += [f"/lib/x86_64-linux-gnu/lib{name}" for name in PYTHON_LIBRARIES]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
        tar.add("/usr/bin/busybox", "bin/sh")
        tar.add("/usr/bin/python3.11", "usr/bin/python3", filter=_plain)
        tar.add("/usr/lib/python3.11", "usr/lib/python3.11", filter=_plain)
        # Looked for by pip even where nothing is encrypted.
        certificates = "etc/ssl/certs/ca-certificates.crt"
        tar.add(f"/{certificates}", certificates, filter=_plain)
        settings = f"[global]\nindex-url = {index_url}\n".encode()
        info = tarfile.TarInfo("etc/pip.conf")
        info.size = len(settings)
        tar.addfile(info, io.BytesIO(settings))
        for library in libraries:
            tar.add(library, library.lstrip("/"), filter=_plain)
    layer = out.getvalue()
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "a Python"}],
        }
    ).encode()
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    layers = [{"mediaType": LAYER, "digest": diff_id, "size": len(layer)}]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": len(config)},
        "layers": layers,
    }
    blobs = {diff_id: layer, config_digest: config}
    return Image(root=Document(MANIFEST, json.dumps(document).encode()), blobs=blobs)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out byte code and what differs between machines."""
    if "__pycache__" in info.name or info.name.endswith(("/test", "/dist-packages", ".a")):
        return None
    return info


class Builder:
    """Debian's buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        """Keep the store below ``folder``."""
        folder.mkdir()
        self._folder = folder
        (folder / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        (folder / "registries.conf").write_text(
            '[[registry]]\nlocation = "127.0.0.1"\nprefix = "*.127.0.0.1"\ninsecure = true\n'
        )

    def publish(
        self, files: Files, registry: DebianRegistry, name: str, *options: str, layers: bool = True
    ) -> str:
        """Build a context and push the image as ``REPOSITORY:TAG``; return its digest."""
        context = self._folder / f"context-{name.replace('/', '-').replace(':', '-')}"
        for path, file in files.items():
            target = context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
            target.chmod(file.mode)
            os.utime(target, (TIMESTAMP, TIMESTAMP))
        self._run(
            *("bud", "--isolation", "chroot", "--network", "host", "--tls-verify=false"),
            *(f"--layers={str(layers).lower()}", "--timestamp", str(TIMESTAMP), *options),
            *("--tag", f"localhost/{name}", str(context)),
        )
        digest = self._folder / "digest"
        target_name = f"docker://{registry.host}/{name}"
        push = ("push", "--tls-verify=false", "--digestfile", str(digest))
        self._run(*push, f"localhost/{name}", target_name)
        return digest.read_text()

    def _run(self, command: str, *arguments: str) -> None:
        policy = ("--signature-policy", str(self._folder / "policy.json"))
        store = ("--root", str(self._folder / "store"), "--runroot", str(self._folder / "run"))
        done = subprocess.run(
            ["/usr/bin/buildah", *store, "--storage-driver", "vfs", command, *policy, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._folder),
                "TMPDIR": str(self._folder),
            },
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def remove(self) -> None:
        """Remove the store: its files may be read-only."""
        subprocess.run(["/bin/rm", "-rf", str(self._folder)], check=True, timeout=60)
