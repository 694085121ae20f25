"""Source distributions and wheels made by tests: well-formed ones, and every kind of hostile one.

All use a back end of their own that lies in the tree (PEP 517, ``backend-path``), so that no
build needs anything from an index.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.metadata
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.hostile.zips import zipped

PYPROJECT = b"""[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

LOCAL_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files that installing adds to a .dist-info folder."""

BACKEND = """
import base64, hashlib, os, zipfile

NAME, VERSION = {name!r}, {version!r}
TAG, EXTRA = "py3-none-any", {{}}

def misbehave():
    global TAG
{body}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    misbehave()
    stem = NAME.replace("-", "_") + "-" + VERSION
    files = {{
        NAME.replace("-", "_") + "/__init__.py": b"value = 42\\n",
        stem + ".dist-info/METADATA": ("Name: " + NAME + "\\nVersion: " + VERSION + "\\n"
            "Author-email: Ada Lovelace <ada@example.com>\\nSummary: by a test\\n").encode(),
        stem + ".dist-info/WHEEL": b"Wheel-Version: 1.0\\nGenerator: backend 1\\n"
            b"Root-Is-Purelib: true\\nTag: " + TAG.encode() + b"\\n",
        **EXTRA,
    }}
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += name + ",sha256=" + digest + "," + str(len(data)) + "\\n"
    files[stem + ".dist-info/RECORD"] = (record + stem + ".dist-info/RECORD,,\\n").encode()
    path = os.path.join(folder, stem + "-" + TAG + ".whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            wheel.writestr(info, data)
    return os.path.basename(path)
"""


def backend(name: str, version: str, body: str = "pass") -> bytes:
    """Return a back end that runs ``body`` and then makes a valid wheel."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return BACKEND.format(name=name, version=version, body=indented).encode()


def tar_gz(members: list[tuple[tarfile.TarInfo, bytes]], *, level: int = 6) -> bytes:
    """Return a .tar.gz of exactly these members."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), level, mtime=0)


def file_member(
    name: str, data: bytes = b"", *, mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    """Return a plain file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, 1_600_000_000
    return info, data


def other_member(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """Return a member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, link, 1_600_000_000
    return info, b""


def sdist(
    name: str, version: str, body: str = "pass", files: Mapping[str, bytes] | None = None
) -> bytes:
    """Return a source distribution with ``files``, whose back end runs ``body``."""
    top = f"{name}-{version}"
    more = [file_member(f"{top}/{path}", data) for path, data in (files or {}).items()]
    return tar_gz(
        [
            *more,
            file_member(f"{top}/pyproject.toml", PYPROJECT),
            file_member(f"{top}/backend.py", backend(name, version, body)),
            file_member(f"{top}/PKG-INFO", f"Name: {name}\nVersion: {version}\n".encode()),
        ]
    )


def wheel(
    files: Mapping[str, bytes],
    *,
    stem: str = "pkg-1.0",
    generator: str = "maker 1",
    edit: Callable[[zipfile.ZipInfo], None] | None = None,
    record: bytes | None = None,
    order: Callable[[list[str]], list[str]] = sorted,
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """Return a wheel of ``files`` with a true RECORD; ``edit`` may change every entry's header."""
    info_folder = f"{stem}.dist-info"
    contents = dict(files)
    name, _, version = stem.partition("-")
    contents[f"{info_folder}/METADATA"] = f"Name: {name}\nVersion: {version}\n".encode()
    contents[f"{info_folder}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: {generator}\n".encode()
    rows = [
        f"{path},sha256={record_digest(data)},{len(data)}\n"
        for path, data in sorted(contents.items())
        if not path.endswith("/")
    ]
    own = f"{info_folder}/RECORD"
    contents[own] = "".join([*rows, f"{own},,\n"]).encode() if record is None else record
    return zipped(contents, edit=edit, order=order, compression=compression)


def record_digest(data: bytes) -> str:
    """Return a digest as RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def installed_wheel(project: str) -> tuple[str, bytes]:
    """Return (file name, bytes) of a wheel with the files of an installed pure project.

    With it a test can offer a real back end without asking any index.
    """
    found = importlib.metadata.distribution(project)
    stem = f"{project.replace('-', '_')}-{found.version}"
    out = io.BytesIO()
    rows = []
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(found.files or [], key=str):
            name = str(path)
            if "__pycache__" in name or ".." in path.parts or path.name in LOCAL_FILES:
                continue
            data = Path(str(path.locate())).read_bytes()
            rows.append(f"{name},sha256={record_digest(data)},{len(data)}\n")
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
        own = f"{stem}.dist-info/RECORD"
        info = zipfile.ZipInfo(own, (2020, 1, 1, 0, 0, 0))
        archive.writestr(info, "".join([*rows, f"{own},,\n"]))
    return f"{stem}-py3-none-any.whl", out.getvalue()


def installed_closure(project: str) -> dict[str, tuple[str, bytes]]:
    """Return wheels of an installed project and of everything that it needs here, by project."""
    found: dict[str, tuple[str, bytes]] = {}
    wanted = [project]
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in found:
            continue
        found[name] = installed_wheel(name)
        needs = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        wanted += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found
