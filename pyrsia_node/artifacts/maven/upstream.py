"""Upstream Maven repositories: implements ``source.MavenSource``.

They are asked in the operator's order. One that cannot be asked hides those behind it: what comes
from the second because the first is down could be somebody else's file. A file is checked against
the checksum that its upstream publishes before anybody gets a byte of it, because Maven itself only
warns; then it is a shared blob, which peers may have, and its row says where it came from. A file
of a private network, or one that came with a password, is kept apart: peers hear nothing of it.
Absence is believed for a while; listings are asked about again. While an upstream is down, what was
last known counts: listings as they were, and for a day also that there was none. Nothing here is
vouched for by the log; the caller says so to the client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.images.keeping import Keep
from pyrsia_node.artifacts.images.private_blobs import PrivateBlobs
from pyrsia_node.artifacts.maven.absences import STALE_SECONDS, Absences
from pyrsia_node.artifacts.maven.listings import Listing, merge, parse_listing, timestamp
from pyrsia_node.artifacts.maven.remote import RemoteRepository
from pyrsia_node.artifacts.maven.source import Sighting
from pyrsia_node.artifacts.reading import BlobReader, Reader
from pyrsia_node.artifacts.single_flight import SingleFlight
from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.model.errors import (
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.maven import MavenFile
from pyrsia_node.ports import BlobStore, Clock, Router
from pyrsia_node.ports.maven import KeptFile, KeptListing, MavenDb

LISTINGS_KEPT: Final = 256
USE_NOTED_SECONDS: Final = 600.0
"""How often the use of a private file is looked at again."""

FILES_KEPT: Final = 8192
"""Rows that are kept in memory."""


@dataclass(frozen=True, slots=True)
class UpstreamParts:
    """What upstream repositories stand on."""

    store: BlobStore
    db: MavenDb
    private: PrivateBlobs
    fetcher: Fetcher
    router: Router
    clock: Clock


class MavenUpstreams:
    """All repositories that the configuration names."""

    def __init__(
        self,
        parts: UpstreamParts,
        repositories: Sequence[RemoteRepository],
        *,
        fresh_seconds: int,
        negative_seconds: int,
        is_offline: bool = False,
    ) -> None:
        """Wire them.

        Args:
            parts: What they stand on.
            repositories: In the order in which they are asked.
            fresh_seconds: How long a listing is believed without asking again.
            negative_seconds: How long it is believed that a file or listing is absent.
            is_offline: Serve what is here, ask nobody.
        """
        self._parts = parts
        self._repositories = {each.id: each for each in repositories}
        self._fresh_ms = fresh_seconds * 1000
        self._negative_ms = negative_seconds * 1000
        self._is_offline = is_offline
        self._files: OrderedDict[str, KeptFile] = OrderedDict()
        self._absent = Absences(negative_seconds)
        self._used: OrderedDict[str, float] = OrderedDict()
        self._listings: OrderedDict[str, tuple[bytes, Listing]] = OrderedDict()
        self._flights = SingleFlight()
        self._announcing: set[asyncio.Task[None]] = set()

    async def file(self, file: MavenFile) -> KeptFile:
        """Return what was taken in under the file's path; takes it in where nothing was."""
        return await self._known_or_taken(file.path, tuple(self._repositories), is_checked=True)

    async def signature(self, file: MavenFile, upstream: str | None) -> KeptFile:
        """Return the file's detached signature; it has no checksum, being one itself."""
        asked = tuple(self._repositories) if upstream is None else (upstream,)
        return await self._known_or_taken(f"{file.path}.asc", asked, is_checked=False)

    async def open(self, kept: KeptFile) -> Reader:
        """Return a reader of its bytes; peers are asked for them before the upstream is."""
        for _ in range(3):
            # What is evicted between the two looks is fetched anew.
            with contextlib.suppress(NotFoundError, FileNotFoundError):
                await self._note_use(kept)
                return BlobReader(self._parts.store, kept.digests.sha256)
            await self._flights.run(("bytes", kept.path), lambda: self._bring_back(kept))
        raise UnavailableError(f"{kept.path} comes and goes; try again")

    async def listing(self, path: str) -> Sighting:
        """Return what all upstreams together list."""
        return await self._flights.run(("listing", path), lambda: self._listing(path))

    async def close(self) -> None:
        """Stop what is under way and close every connection."""
        await self._flights.close()
        for task in self._announcing:
            task.cancel()
        await asyncio.gather(*self._announcing, return_exceptions=True)
        for each in self._repositories.values():
            await each.close()

    # ------------------------------------------------------------ files

    async def _known_or_taken(
        self, path: str, asked: tuple[str, ...], *, is_checked: bool
    ) -> KeptFile:
        kept = self._files.get(path)
        if kept is not None:
            self._files.move_to_end(path)
            return kept
        self._check_absence(path)
        return await self._flights.run(("file", path), lambda: self._find(path, asked, is_checked))

    async def _find(self, path: str, asked: tuple[str, ...], is_checked: bool) -> KeptFile:  # noqa: FBT001 - a closure's argument, named where it is made
        kept = await asyncio.to_thread(self._parts.db.file, path)
        # A file of a repository that the operator took out of the configuration is not served.
        if kept is None or kept.upstream not in self._repositories:
            kept = await self._take_first(path, asked, is_checked=is_checked)
        self._files[path] = kept
        if len(self._files) > FILES_KEPT:
            self._files.popitem(last=False)
        return kept

    async def _take_first(self, path: str, asked: Sequence[str], *, is_checked: bool) -> KeptFile:
        if self._is_offline:
            raise NotFoundError(f"{path} is not here, and maven.offline is set")
        for upstream in asked:
            try:
                kept = await self._take(self._repositories[upstream], path, is_checked=is_checked)
            except NotFoundError:
                continue
            except UnavailableError as error:
                if not self._absent.was_seen(path, _now()):
                    raise
                # All of them lacked it; clients go on with that, and would stop at an error.
                raise NotFoundError(f"no upstream had {path} when last asked; {error}") from error
            self._absent.forget(path)
            return kept
        self._absent.note(path, _now())
        raise NotFoundError(f"no upstream has {path} ({', '.join(asked)})")

    async def _take(self, repository: RemoteRepository, path: str, *, is_checked: bool) -> KeptFile:
        """Take a file into the store, then write down where it came from.

        A crash between the two leaves a blob without a path: it is evicted in time.
        """
        parts = self._parts
        taken = await repository.take(path, self._keeper(repository), is_checked=is_checked)
        now_ms = parts.clock.now_ms()
        kept = KeptFile(
            path=path,
            upstream=repository.id,
            digests=taken.digests,
            checked=taken.checked,
            # A time that is yet to come tells nothing.
            modified_s=taken.modified_s if taken.modified_s * 1000 <= now_ms else 0,
            kept_ms=now_ms,
        )
        await asyncio.to_thread(parts.db.keep_file, kept)
        if repository.is_public:
            self._announce(kept.digests.sha256)
        return kept

    def _keeper(self, repository: RemoteRepository) -> Keep:
        if repository.is_public:
            return self._parts.store.adopt_pieces
        return self._parts.private.keeper(_origin(repository.id))

    async def _note_use(self, kept: KeptFile) -> None:
        """Keep what is evicted by use, and not by the cache, from being evicted first."""
        repository, sha256 = self._repositories.get(kept.upstream), kept.digests.sha256
        if repository is None or repository.is_public:
            return
        now = asyncio.get_running_loop().time()
        if self._used.get(sha256, -USE_NOTED_SECONDS) <= now - USE_NOTED_SECONDS:
            origin = _origin(repository.id)
            await asyncio.to_thread(self._parts.private.may_serve, origin, sha256)
            self._used[sha256] = now
            if len(self._used) > FILES_KEPT:
                self._used.popitem(last=False)

    async def _bring_back(self, kept: KeptFile) -> None:
        """Fetch bytes again that left the cache: the same ones, from whoever has them."""
        repository = self._repositories[kept.upstream]
        if repository.is_public and await self._from_peers(kept):
            return
        if self._is_offline:
            raise UnavailableError(f"{kept.path} left the cache, and maven.offline is set")
        keep, is_checked = self._keeper(repository), kept.checked != ""
        taken = await repository.take(kept.path, keep, is_checked=is_checked)
        if taken.digests.sha256 != kept.digests.sha256:
            raise VerificationError(
                f"{kept.path} changed at {repository.id}: it had sha256 {kept.digests.sha256}, now "
                f"{taken.digests.sha256}; released files must not change"
            )

    async def _from_peers(self, kept: KeptFile) -> bool:
        digests = kept.digests
        with contextlib.suppress(UnavailableError, VerificationError):
            # Asked first: a download waits for holders to turn up, and the upstream need not.
            if digests.pieces and await self._parts.router.holders(digests.sha256):
                artifact = Artifact(digests.sha256, digests.size, digests.pieces)
                await self._parts.fetcher.ensure(artifact)
                return True
        return False

    def _announce(self, sha256: str) -> None:
        """Tell peers, without anybody waiting for it."""

        async def tell() -> None:
            with contextlib.suppress(PyrsiaError):
                await self._parts.router.announce(sha256, complete=True)

        task = asyncio.ensure_future(tell())
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    # ------------------------------------------------------------ listings

    async def _listing(self, path: str) -> Sighting:
        found: list[Listing] = []
        failure: UnavailableError | VerificationError | None = None
        is_stale = False
        for repository in self._repositories.values():
            kept = await asyncio.to_thread(self._parts.db.listing, path, repository.id)
            if not self._is_fresh(kept) and not self._is_absent(repository.id, path):
                try:
                    kept = await self._ask_listing(repository, path, kept)
                except (UnavailableError, VerificationError) as error:
                    # An old list is better than none: files are checked one by one anyway. That
                    # there was none is worth as much, if only it could not be asked again.
                    is_stale = True
                    if isinstance(error, VerificationError) or not self._was_absent(
                        repository.id, path, kept
                    ):
                        failure = error
            if kept is not None and kept.body:
                found.append(await self._parsed(kept))
        if not found and failure is not None:
            raise failure
        if not found and not is_stale:
            raise NotFoundError(f"no upstream has {path}")
        merged = merge(found)
        if merged.updated > timestamp(self._parts.clock.now_ms()):
            merged = replace(merged, updated="")  # nothing was updated in the future
        return Sighting(merged, is_stale=is_stale)

    async def _parsed(self, kept: KeptListing) -> Listing:
        """Return what a listing says; read once, and where nobody waits for it."""
        key = _listing_key(kept.upstream, kept.path)
        known = self._listings.get(key)
        if known is not None and known[0] == kept.body:
            return known[1]
        listing = await asyncio.to_thread(parse_listing, kept.body)
        self._listings[key] = kept.body, listing
        if len(self._listings) > LISTINGS_KEPT:
            self._listings.popitem(last=False)
        return listing

    def _is_fresh(self, kept: KeptListing | None) -> bool:
        if self._is_offline:
            return True
        if kept is None:
            return False
        age_ms = self._parts.clock.now_ms() - kept.asked_ms
        # A clock that was set back makes everything old, not new for ever.
        return 0 <= age_ms < (self._fresh_ms if kept.body else self._negative_ms)

    async def _ask_listing(
        self, repository: RemoteRepository, path: str, kept: KeptListing | None
    ) -> KeptListing | None:
        """Ask a repository and remember what it says; an absence that was none before in memory.

        Clients may ask for whatever they like, and that must not fill the disk.
        """
        now_ms, key = self._parts.clock.now_ms(), _listing_key(repository.id, path)
        answer = await repository.ask_listing(path, kept)
        if answer is None:
            assert kept is not None
            answer = kept
        elif answer.body:
            await self._parsed(answer)  # before it takes the place of one that was readable
            self._absent.forget(key)
        elif kept is None:
            self._absent.note(key, _now())
            return None
        newest = replace(answer, asked_ms=now_ms)
        await asyncio.to_thread(self._parts.db.keep_listing, newest)
        return newest

    # ------------------------------------------------------------ inside

    def _check_absence(self, path: str) -> None:
        if self._absent.is_believed(path, _now()):
            raise NotFoundError(f"no upstream has {path}, as of a moment ago")

    def _is_absent(self, upstream: str, path: str) -> bool:
        return self._absent.is_believed(_listing_key(upstream, path), _now())

    def _was_absent(self, upstream: str, path: str, kept: KeptListing | None) -> bool:
        """Tell whether an upstream that cannot be asked lacked a listing not long ago."""
        if kept is None:
            return self._absent.was_seen(_listing_key(upstream, path), _now())
        age_ms = self._parts.clock.now_ms() - kept.asked_ms
        return not kept.body and 0 <= age_ms < STALE_SECONDS * 1000


def _now() -> float:
    return asyncio.get_running_loop().time()


def _origin(upstream: str) -> str:
    """Return under which name private blobs of an upstream are kept; no image is called so."""
    return f"maven:{upstream}"


def _listing_key(upstream: str, path: str) -> str:
    """Return the key of an upstream's listing; no path of a file has a space."""
    return f"{upstream} {path}"
