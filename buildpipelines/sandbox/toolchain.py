"""The toolchain manifest: what of the machine a build can see, as a document with a digest.

A build request names the digest; a node with another one attests REFUSED instead of guessing.
The manifest holds the interpreter, pip, every program of a fixed list that ``/usr/bin`` has, and
the versions of the packages that own headers, libraries to link with and the compiler. It is
readable on purpose: two nodes that differ compare the documents and see why.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildFailure
from buildpipelines.sandbox import bwrap
from buildpipelines.spec import canonical

PROGRAMS: Final = (
    "ar",
    "as",
    "c++",
    "cargo",
    "cc",
    "clang",
    "cmake",
    "cython3",
    "g++",
    "gcc",
    "gfortran",
    "git",
    "go",
    "ld",
    "llvm-config",
    "make",
    "meson",
    "ninja",
    "node",
    "pkg-config",
    "python3",
    "rustc",
    "sh",
    "strip",
    "swig",
    "tar",
)
"""Programs that builds look for; which of them exist, and their bytes, change what is built."""

SANDBOX_RULES: Final = 1
"""Raised when the sandbox shows a build something else than before."""

BUILDAH: Final = Path("/usr/bin/buildah")

_PACKAGES = re.compile(
    r"((lib|python|linux-|zlib|uuid|tcl|tk|llvm|default-).*-dev|python3(\.\d+)?(-minimal|-venv|-pip-whl)?|libpython3.*|libc6|libc-bin"
    r"|(gcc|g\+\+|cpp|libgcc|libstdc\+\+)-\d+.*|binutils(-.*)?|coreutils|dash|sed|grep|mawk)\Z"
)
_IMAGE_PACKAGES = re.compile(r"(buildah|libc6|libgpgme11|golang-github-containers-common)\Z")
_FIELD = re.compile(r"^(Package|Version|Architecture|Status): (.*)$", re.MULTILINE)
_PIP_WHEELS: Final = Path("/usr/share/python-wheels")
_DPKG_STATUS: Final = Path("/var/lib/dpkg/status")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """This machine's toolchain; ``document`` is canonical JSON data, ``digest`` its SHA-256."""

    document: Mapping[str, object]
    digest: str
    python: tuple[int, int]
    machine: str
    pip_wheel: str


def read_toolchain() -> Toolchain:
    """Look at the machine. Takes some tenths of a second; do it once, off the event loop.

    Raises:
        BuildFailure: REFUSED: no Python or no pip wheel where the sandbox looks for them.
    """
    python = Path(bwrap.PYTHON).resolve()
    version = re.search(r"python(\d+)\.(\d+)\Z", python.name)
    wheels = sorted(_PIP_WHEELS.glob("pip-*.whl"))
    if version is None or not wheels:
        raise BuildFailure(
            "REFUSED",
            "no toolchain",
            f"{bwrap.PYTHON} or a pip wheel in {_PIP_WHEELS} is missing (apt: python3-venv)",
        )
    machine = platform.machine()
    document: dict[str, object] = {
        "t": "toolchain",
        "v": 1,
        "machine": machine,
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "unknown",
        "python": python.name,
        "pip": {"file": wheels[-1].name, "sha256": _digest(wheels[-1])},
        "programs": dict(_programs()),
        "packages": dict(_packages()),
        "sandbox": {"rules": SANDBOX_RULES, "masked": list(bwrap.MASKED)},
    }
    return Toolchain(
        document=document,
        digest=canonical.digest(document),
        python=(int(version[1]), int(version[2])),
        machine=machine,
        pip_wheel=str(wheels[-1]),
    )


@dataclass(frozen=True, slots=True)
class ImageToolchain:
    """What builds images on this machine, with its digest."""

    document: Mapping[str, object]
    digest: str
    machine: str


def read_image_toolchain() -> ImageToolchain | None:
    """Look at what builds images; None where buildah is not installed.

    Steps run programs of their image, so nothing but buildah and its libraries decides here.
    """
    if not BUILDAH.is_file():
        return None
    machine = platform.machine()
    document: dict[str, object] = {
        "t": "toolchain",
        "v": 1,
        "kind": "image",
        "machine": machine,
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "unknown",
        "programs": {"buildah": _digest(BUILDAH)},
        "packages": dict(_packages(_IMAGE_PACKAGES)),
        "sandbox": {"rules": SANDBOX_RULES, "storage": "vfs", "steps": "chroot"},
    }
    return ImageToolchain(document, canonical.digest(document), machine)


def _programs() -> Iterator[tuple[str, str]]:
    for name in PROGRAMS:
        path = Path("/usr/bin") / name
        if path.is_file():
            yield name, _digest(path)


def _packages(wanted: re.Pattern[str] = _PACKAGES) -> Iterator[tuple[str, str]]:
    """Yield (name:architecture, version) of installed packages that builds can see."""
    try:
        text = _DPKG_STATUS.read_text()
    except OSError:
        return  # no Debian: programs and libc must do
    for stanza in text.split("\n\n"):
        fields = dict(
            re.findall(r"^(Package|Version|Architecture|Status): (.*)$", stanza, re.MULTILINE)
        )
        if fields.get("Status", "").endswith(" installed") and wanted.match(fields["Package"]):
            yield f"{fields['Package']}:{fields['Architecture']}", fields["Version"]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
