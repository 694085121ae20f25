"""What a node remembers of Maven's files, beside the log and the blob store.

Nothing here makes a byte trusted or a name public: a row says under which path an upstream's file
was taken in, and what was found when its bytes were checked. All of it can be had again, from the
log or from the upstream, so losing it costs requests and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Digests:
    """What was computed over bytes that were checked; all hex. ``pieces`` is the piece root."""

    sha256: str
    size: int
    pieces: str
    sha1: str
    md5: str
    sha512: str

    def of(self, kind: str) -> str:
        """Return the digest that a checksum file of extension ``kind`` holds."""
        found = {"sha1": self.sha1, "md5": self.md5, "sha256": self.sha256, "sha512": self.sha512}
        return found[kind]


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that an upstream gave under a path.

    Attributes:
        path: where in a repository it lies.
        upstream: the id of the upstream that gave it.
        digests: of its bytes.
        checked: the checksum that the upstream published and that fits, such as "sha1"; "" where
            it published none and the operator lets that pass.
        modified_s: the upstream's own time of it, Unix seconds, 0 if it gave none.
        kept_ms: when it was taken in, Unix milliseconds.
    """

    path: str
    upstream: str
    digests: Digests
    checked: str
    modified_s: int
    kept_ms: int


@dataclass(frozen=True, slots=True)
class KeptListing:
    """An upstream's ``maven-metadata.xml`` as it last was.

    Attributes:
        path: where in a repository it lies.
        upstream: the id of the upstream that gave it.
        body: its bytes; b"" says that there was none.
        etag: the upstream's, "" if it gave none.
        modified: the upstream's ``Last-Modified`` as it was sent, "" if it gave none.
        asked_ms: when the upstream last said so, Unix milliseconds.
    """

    path: str
    upstream: str
    body: bytes
    etag: str
    modified: str
    asked_ms: int


class MavenDb(Protocol):
    """Rows by path. Every method may be called from any thread and may block on the disk.

    What was written survives the end of the process, however sudden; a power cut may take the
    newest rows, in order. All raise UnavailableError (disk full, busy) or CorruptStateError.
    """

    def digests(self, sha256: str) -> Digests | None:
        """Return what is known of these bytes."""
        ...

    def note_digests(self, digests: Digests) -> None:
        """Remember what was computed."""
        ...

    def file(self, path: str) -> KeptFile | None:
        """Return the file that was taken in under a path."""
        ...

    def keep_file(self, file: KeptFile) -> None:
        """Remember a file whose blob is stored, with its digests; replaces an earlier one."""
        ...

    def listing(self, path: str, upstream: str) -> KeptListing | None:
        """Return what an upstream's listing last was."""
        ...

    def keep_listing(self, listing: KeptListing) -> None:
        """Remember a listing; replaces the one before.

        Their number and sum of bytes are bounded: those kept longest ago go first.
        """
        ...

    def files(self, *, after: str, limit: int) -> list[KeptFile]:
        """Return kept files by path > ``after``, in order, for checks and for people."""
        ...
