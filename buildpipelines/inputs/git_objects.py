"""From a git commit to our canonical tar, without a checkout: no filters, no attributes, no hooks.

Objects come out of ``git cat-file --batch`` and are hashed here again, so the way from the commit
to each byte of each file does not depend on what git makes of a hostile repository. Trees are read
by rules of our own: files, folders and links; submodules, LFS pointers and ``.git`` are refused by
name. Blocking; runs in a thread. Object format: git's documentation, "Git Objects", SHA-1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import ArchiveLimits, check_path
from buildpipelines.extract.source import SourceFacts, SourceTar

COMMIT_BYTES_MAX: Final = 1024 * 1024
TREE_BYTES_MAX: Final = 8 * 1024 * 1024
LINK_BYTES_MAX: Final = 1024
POINTER_BYTES_MAX: Final = 1024
CHUNK_BYTES: Final = 256 * 1024
_HEADER_BYTES_MAX: Final = 256

_HEADER: Final = re.compile(rb"([0-9a-f]{40}) (commit|tree|blob|tag) ([0-9]{1,15})\n\Z")
_COMMITTER: Final = re.compile(
    rb"^committer [^\n]{0,1000}> ([0-9]{1,12}) [+-][0-9]{4}$", re.MULTILINE
)
_TREE: Final = re.compile(rb"tree ([0-9a-f]{40})\n")
_LFS: Final = b"version https://git-lfs.github.com/spec/"

_FILES: Final = {b"100644": False, b"100664": False, b"100755": True}
"""Modes of files, and whether they may be run. The second is of very old repositories."""
_FOLDERS: Final = (b"40000", b"040000")
_LINK: Final = b"120000"
_SUBMODULE: Final = b"160000"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree; ``path`` in steps from the root."""

    path: tuple[str, ...]
    mode: bytes
    oid: str


class ObjectReader:
    """Asks a running ``git cat-file --batch`` for one object after another."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        """Use the process's two ends, both buffered or not."""
        self._requests = requests
        self._answers = answers

    def read(self, oid: str, kind: str, size_max: int) -> bytes:
        """Return an object's content; raises ArchiveError if it is not that, or larger."""
        size = self.begin(oid, kind, size_max)
        return b"".join(self.chunks(oid, kind, size))

    def begin(self, oid: str, kind: str, size_max: int) -> int:
        """Ask for an object and return its size; all of ``chunks`` must be read next."""
        self._requests.write(f"{oid}\n".encode())
        self._requests.flush()
        line = self._answers.readline(_HEADER_BYTES_MAX)
        match = _HEADER.match(line)
        if match is None or match[1].decode() != oid or match[2].decode() != kind:
            raise ArchiveError("source damaged", f"{oid} is no {kind}: {line[:100]!r}")
        size = int(match[3])
        if size > size_max:
            raise ArchiveError("archive too large", f"{kind} {oid} has {size} bytes")
        return size

    def chunks(self, oid: str, kind: str, size: int) -> Iterator[bytes]:
        """Yield the content that ``begin`` announced; raises ArchiveError if it is another's."""
        digest = hashlib.sha1(f"{kind} {size}\0".encode(), usedforsecurity=False)
        left = size
        while left:
            data = self._answers.read(min(left, CHUNK_BYTES))
            if not data:
                raise ArchiveError("archive cut", f"{kind} {oid} ends early")
            left -= len(data)
            digest.update(data)
            yield data
        if self._answers.read(1) != b"\n" or digest.hexdigest() != oid:
            raise ArchiveError("source damaged", f"{kind} {oid} has other bytes than its name says")


def write_tree(
    reader: ObjectReader, commit: str, out: BinaryIO, limits: ArchiveLimits
) -> SourceFacts:
    """Write the tree of a commit as a canonical tar, sorted by name.

    ``newest`` of the result is the commit's own time.

    Raises:
        ArchiveError: the repository breaks a rule; the cause names which.
    """
    content = reader.read(commit, "commit", COMMIT_BYTES_MAX)
    tree = _TREE.match(content)
    header = content.partition(b"\n\n")[0]
    time = _COMMITTER.search(header)
    if tree is None or time is None:
        raise ArchiveError("source damaged", f"commit {commit} does not parse")
    tar = SourceTar(out, limits)
    entries = _entries(reader, tree[1].decode(), limits)
    for entry in sorted(entries, key=lambda each: "/".join(each.path).encode()):
        _write(entry, reader, tar, limits)
    if not tar.facts.entries:
        raise ArchiveError("source layout", "the tree is empty")
    tar.close()
    tar.facts.newest = int(time[1])
    return tar.facts


def _entries(reader: ObjectReader, root: str, limits: ArchiveLimits) -> list[TreeEntry]:
    """Return everything below a tree; a tree that repeats itself ends at the limits."""
    found: dict[tuple[str, ...], TreeEntry] = {}
    folders: list[tuple[tuple[str, ...], str]] = [((), root)]
    while folders:
        path, oid = folders.pop()
        for entry in parse_tree(reader.read(oid, "tree", TREE_BYTES_MAX), path, limits):
            if entry.path in found:
                raise ArchiveError("duplicate name", repr("/".join(entry.path)[:300]))
            found[entry.path] = entry
            if len(found) > limits.entries_max:
                raise ArchiveError("too many entries", f"more than {limits.entries_max}")
            if entry.mode in _FOLDERS:
                folders.append((entry.path, entry.oid))
    return list(found.values())


def parse_tree(content: bytes, path: tuple[str, ...], limits: ArchiveLimits) -> Iterator[TreeEntry]:
    """Yield the entries of one tree object, all of them checked.

    Args:
        content: The object.
        path: Where the tree stands.
        limits: Bounds of paths.

    Raises:
        ArchiveError: it does not parse, a name that no archive may have, or a submodule.
    """
    place = 0
    while place < len(content):
        space = content.find(b" ", place, place + 8)
        end = content.find(b"\0", space) if space >= 0 else -1
        oid = content[end + 1 : end + 21]
        if end < 0 or len(oid) != 20:
            raise ArchiveError("source damaged", "a git tree does not parse")
        yield _checked(content[place:space], content[space + 1 : end], oid.hex(), path, limits)
        place = end + 21


def _checked(
    mode: bytes, raw: bytes, oid: str, path: tuple[str, ...], limits: ArchiveLimits
) -> TreeEntry:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError("entry name", f"{raw[:200]!r} is not UTF-8") from error
    steps = (*path, name)
    shown = "/".join(steps)
    if name in ("", ".", "..") or "/" in name or check_path(shown, limits) != steps:
        raise ArchiveError("entry name", repr(shown[:300]))
    if name.lower() == ".git":
        raise ArchiveError("entry name", f"{shown!r:.300} would be a repository of its own")
    if mode == _SUBMODULE:
        raise ArchiveError("submodule", f"{shown!r:.300} is a submodule; those are not fetched")
    if mode not in (*_FILES, *_FOLDERS, _LINK):
        raise ArchiveError("entry type", f"{shown!r:.300} has mode {mode!r}")
    return TreeEntry(steps, mode, oid)


def _write(entry: TreeEntry, reader: ObjectReader, tar: SourceTar, limits: ArchiveLimits) -> None:
    if entry.mode in _FOLDERS:
        tar.folder(entry.path)
        return
    if entry.mode == _LINK:
        target = reader.read(entry.oid, "blob", LINK_BYTES_MAX)
        try:
            tar.link(entry.path, target.decode())
        except UnicodeDecodeError as error:
            raise ArchiveError("entry name", f"{target[:200]!r} is not UTF-8") from error
        return
    size = reader.begin(entry.oid, "blob", limits.file_bytes_max)
    chunks = reader.chunks(entry.oid, "blob", size)
    if size <= POINTER_BYTES_MAX:
        content = b"".join(chunks)
        if content.startswith(_LFS):
            raise ArchiveError("git lfs", f"{'/'.join(entry.path)!r:.300} is an LFS pointer")
        chunks = iter((content,))
    tar.file(entry.path, size=size, is_executable=_FILES[entry.mode], chunks=chunks)
