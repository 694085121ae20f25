"""Makers of image layers, well-made and hostile, from the standard library's tar writer alone."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field

KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


@dataclass(frozen=True)
class Item:
    """One entry of a layer."""

    path: str
    kind: str = "file"
    content: bytes = b""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    names: tuple[str, str] = ("", "")
    mtime: float = 1_000_000_000
    link: str = ""
    device: tuple[int, int] = (0, 0)
    pax: dict[str, str] = field(default_factory=dict)


def layer(items: Sequence[Item], *, style: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a plain layer with these entries in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as tar:
        for item in items:
            info = tarfile.TarInfo(item.path)
            info.type = KINDS[item.kind]
            info.size = len(item.content)
            info.mode, info.mtime, info.linkname = item.mode, item.mtime, item.link
            info.uid, info.gid = item.owner
            info.uname, info.gname = item.names
            info.devmajor, info.devminor = item.device
            info.pax_headers = dict(item.pax)
            tar.addfile(info, io.BytesIO(item.content))
    return out.getvalue()


def packed(data: bytes, *, level: int = 6) -> bytes:
    """Return a layer as gzip."""
    return gzip.compress(data, compresslevel=level, mtime=0)
