"""The context of an image build, checked and written again as a plain tar.

A context is a gzipped tar with a Dockerfile. It is read to its end by our own strict reader, and
only what was written here is ever unpacked: plain entries below one folder, owned by root, with
the permission bits that they came with, because ``COPY`` keeps those. Not read here: what the
Dockerfile says (``recipes.dockerfile``).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.gzip import GzipReader
from buildpipelines.extract.limits import ArchiveLimits, Budget
from buildpipelines.extract.sdist import TAR_TYPES, ChunkStream
from buildpipelines.extract.tar import Member, TarReader

CONTEXT_TOP: Final = "context"
DOCKERFILE_BYTES_MAX: Final = 256 * 1024
CONTEXT_LIMITS: Final = ArchiveLimits(total_bytes_max=2 * 1024**3, file_bytes_max=1024**3)


def repack_context(
    read: Callable[[int], bytes],
    tar: tarfile.TarFile,
    *,
    dockerfile: str,
    limits: ArchiveLimits = CONTEXT_LIMITS,
) -> str:
    """Write a context's entries below :data:`CONTEXT_TOP` and return the Dockerfile's text.

    Args:
        read: Reads the packed context; b"" at its end.
        tar: Where to write.
        dockerfile: The Dockerfile's path inside the context.
        limits: What the context may hold.

    Raises:
        ArchiveError: malformed or hostile, or it has no such Dockerfile.
    """
    budget = Budget(limits)
    reader = TarReader(GzipReader(read, budget).read, limits, budget, top=(CONTEXT_TOP,))
    wanted = (CONTEXT_TOP, *dockerfile.split("/"))
    text: str | None = None
    for member in reader.members():
        if member.path == wanted and member.kind == "file":
            content = _small(member, reader.chunks())
            text = _decoded(content, dockerfile)
            _add(member, iter((content,)), tar)
        else:
            _add(member, reader.chunks(), tar)
    if text is None:
        raise ArchiveError("no Dockerfile", f"the context has no file {dockerfile!r:.200}")
    return text


def _add(member: Member, chunks: Iterator[bytes], tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("/".join(member.path))
    info.type = TAR_TYPES[member.kind]
    info.mode, info.mtime = member.mode, member.mtime
    info.linkname, info.size = member.link, member.size
    tar.addfile(info, io.BufferedReader(ChunkStream(chunks)) if member.kind == "file" else None)


def _small(member: Member, chunks: Iterator[bytes]) -> bytes:
    if member.size > DOCKERFILE_BYTES_MAX:
        raise ArchiveError("archive too large", f"a Dockerfile of {member.size} bytes")
    return b"".join(chunks)


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError("no Dockerfile", f"{name!r:.200} is not UTF-8") from error
