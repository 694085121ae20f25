"""The fetches of blobs that run: one for each digest, so many in all, and what failed ones left.

However many clients ask for a blob, it is fetched once. What is public and what is only for some is
fetched apart: who may not have the one must not learn of the other by waiting for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.artifacts.images.incoming_file import incoming_path, sweep
from pyrsia_node.artifacts.images.intake import Fetch, Intake, Way
from pyrsia_node.artifacts.images.keeping import Keep
from pyrsia_node.artifacts.images.registry_client import Patience
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports import BlobInfo, BlobStore

RUNNING_MAX: Final = 64
RUNNING_PER_UPSTREAM_MAX: Final = 32
"""So that one registry that does not answer leaves room for the others."""

THREADS: Final = 3
NAMES_MAX: Final = 10_000
"""SHA-512 names that are remembered."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob to fetch from a registry. ``size`` in bytes if a manifest told it."""

    digest: OciDigest
    upstream: str
    size: int | None = None


class Intakes:
    """The fetches of a gateway."""

    def __init__(self, store: BlobStore, folder: Path, *, left_bytes_max: int) -> None:
        """Bring blobs into ``store``.

        Args:
            store: Where they go.
            folder: Takes them while they come; on the file system of ``store``.
            left_bytes_max: What failed fetches may leave there to be taken up.
        """
        self._store = store
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._left_bytes_max = left_bytes_max
        # Of its own: hashing a large file must not keep pushes and look-ups waiting for a thread.
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="images")
        self._running: dict[tuple[OciDigest, bool], Intake] = {}
        self._by_upstream: Counter[str] = Counter()
        self._sha256: OrderedDict[str, str] = OrderedDict()

    def sha256_of(self, digest: OciDigest) -> str | None:
        """Return the SHA-256 of a digest, if it is one or it was brought in since the start."""
        return digest.hex if digest.algorithm == "sha256" else self._sha256.get(str(digest))

    def note_sha256(self, digest: OciDigest, sha256: str) -> None:
        """Remember the SHA-256 of what was checked against another digest."""
        if digest.algorithm != "sha256":
            self._sha256[str(digest)] = sha256
            if len(self._sha256) > NAMES_MAX:
                self._sha256.popitem(last=False)

    def running(self, digest: OciDigest, *, local: bool) -> Intake | None:
        """Return the fetch of a digest if there is one."""
        return self._running.get((digest, local))

    def begin(
        self, wanted: Wanted, fetch: Fetch, keep: Keep | None = None, *, patience: Patience
    ) -> Intake:
        """Return the running fetch of a blob, or a new one.

        Args:
            wanted: Which.
            fetch: Opens it at the upstream.
            keep: Puts it into the store; without it the blob becomes shared.
            patience: How often a cut is taken up without a new byte in between.

        Raises:
            UnavailableError: Too many are running.
        """
        key = (wanted.digest, keep is not None)
        intake = self._running.get(key)
        if intake is not None and intake.is_joinable:
            return intake
        if (
            self._by_upstream.total() >= RUNNING_MAX
            or self._by_upstream[wanted.upstream] >= RUNNING_PER_UPSTREAM_MAX
        ):
            raise UnavailableError("too many blobs are being fetched just now; try again")
        path = incoming_path(self._folder, wanted.digest, local=keep is not None)
        way = Way(path, self._store, fetch, keep or self._share, self._executor, patience)
        intake = Intake(wanted.digest, way, size=wanted.size)
        self._running[key] = intake
        self._by_upstream[wanted.upstream] += 1
        begun = intake
        intake.finished.add_done_callback(lambda _: self._ended(key, wanted.upstream, begun))
        intake.start()
        return intake

    async def close(self) -> None:
        """Stop all; what is here stays for a later resume."""
        for intake in list(self._running.values()):
            with contextlib.suppress(asyncio.CancelledError):
                await intake.cancel()
        self._executor.shutdown(wait=True)

    def _share(self, path: str, sha256: str, hashes: bytes) -> BlobInfo:
        return self._store.adopt_pieces(path, sha256, hashes)

    def _ended(self, key: tuple[OciDigest, bool], upstream: str, intake: Intake) -> None:
        if self._running.get(key) is intake:
            del self._running[key]
        self._by_upstream -= Counter({upstream: 1})
        if intake.finished.exception() is None:
            self.note_sha256(intake.digest, intake.finished.result().sha256)
        elif intake.written:
            in_use = {each.path for each in self._running.values()}
            with contextlib.suppress(RuntimeError):  # closing: the next failure sweeps
                self._executor.submit(
                    sweep, self._folder, bytes_max=self._left_bytes_max, in_use=in_use
                )
