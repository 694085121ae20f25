"""Where a build's source comes from: a tag of a git repository, or an archive, over https alone.

An address is somebody's word: a mapping of the log, or an operator's. So its form is checked, its
host must be public unless the operator said otherwise, redirects of a repository stay at its host,
and what comes is bounded and written again by our own code. The same address gives the same bytes
on every node. Not decided here: whether this source may be published under a name.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.source import SOURCE_LIMITS, SourceFacts, archive_format, repack_source
from buildpipelines.inputs import git
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.git import COMMIT, GitOrigin
from buildpipelines.inputs.outward import CHUNK_BYTES, Asking, check_busy, is_public, retry
from buildpipelines.spec.lock import LockedFile
from buildpipelines.spec.maven_fields import TAG
from buildpipelines.spec.messages import Source

ARCHIVE_BYTES_MAX: Final = 256 * 1024 * 1024
ARCHIVE_SECONDS: Final = 900.0
LOOK_SECONDS: Final = 60.0
ADDRESS_CHARACTERS_MAX: Final = 256

_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?|\[[0-9a-f:.]{2,45}\])"
_STEP: Final = r"/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~+,=()-]+"
_GIT: Final = re.compile(rf"git\+(https://{_HOST}(?::[0-9]{{1,5}})?(?:{_STEP})+)\Z")
_ARCHIVE: Final = re.compile(
    rf"https://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~+%!,;=:@()-]+)+\Z"
)
_SMART: Final = "application/x-git-upload-pack-advertisement"
_REFS: Final = "/info/refs?service=git-upload-pack"
_AS_GIT: Final = {"User-Agent": "git/pyrsia-build", "Git-Protocol": "version=2"}
"""Some hosts answer nobody else; and in version 2 the answer does not list every reference."""


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """A source that was fetched and checked.

    ``path`` is the file that becomes part of the entry, ``tar`` what a sandbox unpacks (names
    without a top folder); of a tree they are one. ``time`` in seconds: of the commit, or of an
    archive's newest file. ``commit`` and ``tag`` are "" where there is none.
    """

    kind: str
    url: str
    tag: str
    commit: str
    path: Path
    file: str
    sha256: str
    size: int
    tar: Path
    time: int
    entries: int

    def described(self) -> Source:
        """Return it as messages name it."""
        return Source(self.kind, self.file, self.sha256, self.size)

    def locked(self) -> LockedFile:
        """Return the lock's entry for it."""
        return LockedFile("source", "source", self.file, self.sha256, self.size)


class SourceFetcher(Asking):
    """Fetches sources. Use as an async context manager; safe for many jobs."""

    def __init__(
        self,
        cache: InputsCache,
        *,
        private_hosts: Sequence[str] = (),
        certificates: Path | None = None,
    ) -> None:
        """Fetch for one worker.

        Args:
            cache: Where archives go.
            private_hosts: ``HOST`` or ``HOST:PORT``, which may have addresses that are not public.
            certificates: A file of certificates to trust instead of the machine's.
        """
        self._cache = cache
        self._private = frozenset(private_hosts)
        self._certificates = certificates
        super().__init__(certificates=certificates)

    async def tree(
        self, url: str, *, folder: Path, tag: str = "", commit: str = ""
    ) -> FetchedSource:
        """Fetch the tree of a commit.

        Args:
            url: ``git+https://HOST/PATH``.
            folder: Where the tar and what is needed on the way go.
            tag: Resolved now; it must be ``commit`` where both are given.
            commit: 40 hexadecimal digits; enough alone where the server gives any commit.

        Raises:
            BuildFailure: REFUSED or SOURCE_UNAVAILABLE; causes in docs/design/builds.md.
        """
        match = _GIT.match(url)
        if match is None or len(url) > ADDRESS_CHARACTERS_MAX:
            raise _refused("source address", f"{url!r:.300} is not git+https://HOST/PATH")
        if (tag and not TAG.match(tag)) or (commit and not COMMIT.match(commit)):
            raise _refused("source address", f"{tag!r:.210} or {commit!r:.50} names no commit")
        if not tag and not commit:
            raise _refused("source address", "neither a tag nor a commit is given")
        origin = await self._origin(match[1])
        async with git.opened(folder) as repository:
            found = await repository.fetch(origin, tag=tag, commit=commit)
            tar = folder / "source-tree.tar"
            facts = await repository.write(found, tar, SOURCE_LIMITS)
        sha256 = await asyncio.to_thread(_sha256, tar)
        return FetchedSource(
            kind="tree",
            url=url,
            tag=tag,
            commit=found,
            path=tar,
            file=f"source-{sha256[:16]}.tar",
            sha256=sha256,
            size=tar.stat().st_size,
            tar=tar,
            time=facts.newest,
            entries=facts.entries,
        )

    async def archive(self, url: str, *, folder: Path) -> FetchedSource:
        """Fetch an archive as it is, and write it again for the sandbox.

        Args:
            url: ``https://…``; its ending tells the format.
            folder: Where the tar for the sandbox goes.

        Raises:
            BuildFailure: REFUSED or SOURCE_UNAVAILABLE; causes in docs/design/builds.md.
        """
        ending = archive_format(url)
        if not _ARCHIVE.match(url) or len(url) > ADDRESS_CHARACTERS_MAX or ending is None:
            text = f"{url!r:.300} is not https://…, or ends in no known format of archives"
            raise _refused("source address", text)
        is_private, _ = await self._judge(url)
        path = await retry(lambda: self._download(url, is_private=is_private), url)
        tar = folder / "source-archive.tar"
        try:
            facts = await asyncio.to_thread(_repack, path, ending, tar)
        except ArchiveError as error:
            raise _refused(error.cause, f"{url}: {error}") from error
        return FetchedSource(
            kind="archive",
            url=url,
            tag="",
            commit="",
            path=path,
            file=f"source-{path.name[:16]}{ending}",
            sha256=path.name,
            size=path.stat().st_size,
            tar=tar,
            time=facts.newest,
            entries=facts.entries,
        )

    async def _download(self, url: str, *, is_private: bool) -> Path:
        return await self._cache.adopt(
            ARCHIVE_BYTES_MAX, self._stream(url, is_private=is_private), lambda _digests: None
        )

    async def _stream(self, url: str, *, is_private: bool) -> AsyncIterator[bytes]:
        async with self._outward.get(
            url, is_private=is_private, seconds=ARCHIVE_SECONDS, may_follow=_is_https
        ) as answer:
            check_busy(answer.status)
            if answer.status != 200:
                raise _absent("no such archive", f"{url}: status {answer.status}")
            async for data in answer.content.iter_chunked(CHUNK_BYTES):
                yield data

    async def _origin(self, url: str) -> GitOrigin:
        """Follow the repository's redirects ourselves, and judge where they lead."""
        is_private, _ = await self._judge(url)
        base = await retry(lambda: self._look(url, is_private=is_private), url)
        parts = urlsplit(base)
        _, addresses = await self._judge(base)
        host = parts.hostname or ""
        pinned = () if _is_number(host) else addresses
        return GitOrigin(base, host, parts.port or 443, pinned, self._certificates)

    async def _look(self, url: str, *, is_private: bool) -> str:
        """Return the address that a repository really has."""
        netloc = urlsplit(url).netloc

        def is_same_host(other: str) -> bool:
            return _is_https(other) and urlsplit(other).netloc == netloc

        async with self._outward.get(
            f"{url}{_REFS}",
            is_private=is_private,
            seconds=LOOK_SECONDS,
            headers=_AS_GIT,
            may_follow=is_same_host,
        ) as answer:
            check_busy(answer.status)
            if answer.status != 200 or answer.content_type != _SMART:
                text = f"{url}: status {answer.status}, {answer.content_type!r:.100}"
                raise _absent("no such repository", text)
            base = str(answer.url).removesuffix(_REFS)
            if not _GIT.match(f"git+{base}"):
                raise _absent("no such repository", f"{url} leads to {base!r:.300}")
            return base

    async def _judge(self, url: str) -> tuple[bool, tuple[str, ...]]:
        """Return whether a host may be private, and its addresses; refuse it if not allowed."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", _port(url)
        is_private = bool({host, f"{host}:{port}", parts.netloc} & self._private)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _absent("source host", f"{host} is not known: {error}") from error
        addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
        private = [each for each in addresses if not is_public(each)]
        if private and not is_private:
            text = f"{host} is {private[0]}, which is not public; the operator can allow the host"
            raise _refused("private address", text)
        return is_private, addresses


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or 443
    except ValueError as error:
        raise _refused("source address", f"{url!r:.300}: {error}") from error


def _is_https(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _repack(path: Path, ending: str, tar: Path) -> SourceFacts:
    with path.open("rb") as source, tar.open("wb") as out:
        return repack_source(source, ending=ending, out=out)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(cause: str, detail: str) -> BuildFailure:
    return BuildFailure("REFUSED", cause, detail)


def _absent(cause: str, detail: str) -> BuildFailure:
    return BuildFailure("SOURCE_UNAVAILABLE", cause, detail)
