"""The METADATA file of a wheel, for PEP 658. Reads a stored wheel; executes nothing of it."""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import Final

from pyrsia_node.model.documents import Metadata
from pyrsia_node.model.errors import NotFoundError

METADATA_BYTES_MAX: Final = 4 * 1024 * 1024
_MEMBER: Final = re.compile(r"[^/]+\.dist-info/METADATA")
_ENTRIES_MAX: Final = 100_000


def read_metadata(path: str) -> bytes:
    """Return the bytes of a wheel's METADATA. Blocks.

    Raises:
        NotFoundError: The file is no wheel, has none or several, or one that is absurdly long.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            members = [each for each in wheel.infolist() if _MEMBER.fullmatch(each.filename)]
            if len(members) != 1 or len(wheel.infolist()) > _ENTRIES_MAX:
                raise NotFoundError(f"the wheel has {len(members)} METADATA files")
            with wheel.open(members[0]) as file:
                # Bounded while inflating: the size that the archive announces may be a lie.
                data = file.read(METADATA_BYTES_MAX + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError, EOFError,
            NotImplementedError) as error:  # fmt: skip
        raise NotFoundError(f"the wheel cannot be read: {error}") from error
    if len(data) > METADATA_BYTES_MAX:
        raise NotFoundError(f"the wheel's METADATA is longer than {METADATA_BYTES_MAX} bytes")
    return data


def metadata_of(metadata: Metadata) -> bytes:
    """Return core metadata (PEP 566) with what the log says that a resolver needs."""
    lines = ["Metadata-Version: 2.1", f"Name: {metadata.name}", f"Version: {metadata.version}"]
    if metadata.requires_python:
        lines.append(f"Requires-Python: {metadata.requires_python}")
    lines += [f"Provides-Extra: {each}" for each in metadata.provides_extra]
    lines += [f"Requires-Dist: {each}" for each in metadata.requires]
    # A text of the log may hold anything; a line break in it must not make a field.
    return "".join(f"{' '.join(line.splitlines())}\n" for line in lines).encode()
