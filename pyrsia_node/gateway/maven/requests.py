"""What a request below ``/maven2`` asks for: a file or listing, and what of it. Pure.

The path is read as it was sent. Each segment is decoded by itself and must be written in one of two
ways, plain or with every special character encoded: what is encoded without need, or twice, hides
something. docs/spec/maven-api.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.maven import (
    METADATA,
    PATH_LENGTH_MAX,
    MavenFile,
    MavenListing,
    locate,
    without_checksum,
)

PREFIX: Final = b"/maven2"
SIGNATURE: Final = ".asc"
PROOF: Final = ".tlog-proof"
STATEMENT: Final = ".intoto.jsonl"
_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")
_SIDECARS: Final = (SIGNATURE, PROOF, STATEMENT)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file or listing; of it perhaps a ``sidecar``; of either perhaps a ``checksum``."""

    what: MavenFile | MavenListing
    sidecar: str = ""
    checksum: str = ""


def read_path(raw_path: bytes) -> Wanted:
    """Return what a path asks for.

    Raises:
        NotFoundError: Nothing can be there; says why.
    """
    raw = raw_path.removeprefix(PREFIX).removeprefix(b"/")
    if len(raw) > PATH_LENGTH_MAX:
        raise NotFoundError(f"a path has at most {PATH_LENGTH_MAX} bytes")
    *folder, name = [_decoded(segment) for segment in raw.split(b"/")]
    if not name:
        raise NotFoundError("folders are not listed here; ask for files")
    try:
        return _read(folder, name)
    except InvalidInputError as error:
        raise NotFoundError(str(error)) from error


def _read(folder: list[str], name: str) -> Wanted:
    name, checksum = without_checksum(name)
    if name == METADATA:
        return Wanted(locate([*folder, name]), checksum=checksum)
    sidecar = next((each for each in _SIDECARS if name.endswith(each)), "")
    if name.removesuffix(sidecar) == METADATA:
        raise InvalidInputError(f"there is no {sidecar} of {METADATA}: it is made for each answer")
    if checksum and sidecar not in ("", SIGNATURE):
        raise InvalidInputError(f"there are no checksums of {sidecar} files")
    return Wanted(locate([*folder, name.removesuffix(sidecar)]), sidecar, checksum)


def _decoded(raw: bytes) -> str:
    """Return a segment as text.

    Raises:
        NotFoundError: It is not written in a normal form.
    """
    try:
        text = unquote_to_bytes(raw).decode("ascii")
        spelled = raw.decode("ascii")
    except UnicodeDecodeError:
        raise NotFoundError("names of a Maven repository are ASCII") from None
    # Digits of an escape may be written small (RFC 3986, 6.2.2.1).
    escaped = _ESCAPE.sub(lambda found: found[0].upper(), spelled)
    if spelled != text and escaped != quote(text, safe=""):
        raise NotFoundError("the path encodes what needs no encoding")
    return text
