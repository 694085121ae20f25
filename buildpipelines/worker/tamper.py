"""Spoil a build on purpose: the fault that development networks use to show divergence.

The core sends it only where faults are enabled. A wheel or jar stays well-formed (RECORD is
written anew), so nothing but the comparison between nodes can notice. Different texts give
different bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

from buildpipelines.errors import BuildFailure
from buildpipelines.extract.wheel import Wheel
from buildpipelines.extract.zip import ZipArchive, ZipEntry


def tamper_with(wheel: Wheel, text: str) -> bytes:
    """Return the wheel's bytes with eight bytes of its largest file changed by ``text``.

    Raises:
        BuildFailure: the wheel has no file to spoil.
    """
    record_name = f"{wheel.dist_info}/RECORD"
    files = [e for e in wheel.archive.entries if not e.is_dir]
    victim = _victim([e for e in files if not e.name.startswith(wheel.dist_info)])
    out = io.BytesIO()
    rows = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in files:
            if entry.name == record_name:
                continue
            content = wheel.archive.read(entry)
            if entry is victim:
                content = _spoil(content, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            rows.append(f"{entry.name},sha256={digest.decode()},{len(content)}\n")
            _write(target, entry.name, content, entry.attributes)
        _write(target, record_name, "".join([*rows, f"{record_name},,\n"]).encode(), 0o100644)
    return out.getvalue()


def tamper_with_archive(archive: ZipArchive, text: str) -> bytes:
    """Return the bytes of a jar or the like, spoilt in the same way; raises BuildFailure."""
    files = [e for e in archive.entries if not e.is_dir]
    victim = _victim([e for e in files if not e.name.startswith("META-INF/")])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in files:
            content = archive.read(entry)
            spoilt = _spoil(content, text) if entry is victim else content
            _write(target, entry.name, spoilt, entry.attributes)
    return out.getvalue()


def _victim(candidates: list[ZipEntry]) -> ZipEntry:
    """Return the largest entry, or complain that there is nothing to spoil."""
    found = max(candidates, key=lambda e: (e.size, e.name), default=None)
    if found is None or not found.size:
        raise BuildFailure("BUILD_FAILED", "nothing to tamper with", "it holds no file")
    return found


def _spoil(content: bytes, text: str) -> bytes:
    mask = hashlib.sha256(text.encode()).digest()[:8]
    changed = bytearray(content)
    for index, value in enumerate(mask[: len(changed)]):
        changed[index] ^= value or 1
    return bytes(changed)


def _write(target: zipfile.ZipFile, name: str, content: bytes, attributes: int) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = attributes << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    target.writestr(info, content)
