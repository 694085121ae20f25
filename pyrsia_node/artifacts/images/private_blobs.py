"""Blobs that came through the proxy and are not for everybody: under which names they are served.

They came with credentials, or from a server inside a private network: kept apart from what peers
may have, noted in the registry's database so that garbage collection evicts them by use, and served
only under a name that they came for: an image, or a repository of Maven.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from pyrsia_node.artifacts.images.keeping import Keep
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.model.oci import ImageName
from pyrsia_node.ports import BlobInfo, BlobStore, Clock
from pyrsia_node.ports.registry import Proxied, RegistryDb

LINKS_MAX: Final = 100_000
USE_NOTED_MS: Final = 3_600_000
"""How exactly the database knows the last use."""

_CLAIM_TRIES: Final = 50
_CLAIM_PAUSE_S: Final = 0.02


class PrivateBlobs:
    """Which name each of them came under. Methods block on the database; call them in a thread."""

    def __init__(self, store: BlobStore, db: RegistryDb, clock: Clock) -> None:
        """Keep blobs in ``store`` and their uses in ``db``."""
        self._store = store
        self._db = db
        self._clock = clock
        self._used: OrderedDict[tuple[str, str], int] | None = None

    def keeper(self, name: ImageName | str) -> Keep:
        """Return what puts a blob into the store under one name."""

        def keep(path: str, sha256: str, hashes: bytes) -> BlobInfo:
            # In this order garbage collection at the same time finds each byte either claimed or
            # noted; a crash in between leaves a blob that no row names, which it collects.
            self._claim(sha256)
            info = self._store.adopt_pieces(path, sha256, hashes, local=True)
            self._note(name, sha256, info.size)
            return info

        return keep

    def may_serve(self, name: ImageName | str, sha256: str) -> bool:
        """Tell whether a blob came under this name and is here; notes the use."""
        used = self._links().get((str(name), sha256))
        if used is None:
            return False
        info = self._store.stat(sha256)
        if info is None:
            return False
        if self._clock.now_ms() - used >= USE_NOTED_MS:
            self._note(name, sha256, info.size)
        return True

    def _links(self) -> OrderedDict[tuple[str, str], int]:
        if self._used is None:
            rows = self._db.proxied(limit=LINKS_MAX)
            self._used = OrderedDict(((row.image, row.sha256), row.used_ms) for row in rows)
        return self._used

    def _claim(self, sha256: str) -> None:
        for _ in range(_CLAIM_TRIES):
            try:
                self._db.claim(sha256, now_ms=self._clock.now_ms())
            except UnavailableError:
                time.sleep(_CLAIM_PAUSE_S)  # a removal takes milliseconds; this is a thread
            else:
                return
        raise UnavailableError(f"blob {sha256} is being removed; try again")

    def _note(self, name: ImageName | str, sha256: str, size: int) -> None:
        now_ms = self._clock.now_ms()
        self._db.note_proxied([Proxied(sha256, size, str(name), now_ms)])
        links = self._links()
        links[str(name), sha256] = now_ms
        links.move_to_end((str(name), sha256))
        if len(links) > LINKS_MAX:
            links.popitem(last=False)
