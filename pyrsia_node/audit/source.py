"""Where an audited log is read from: a directory, or another node over HTTP.

A source gives bytes and believes nothing. ``NotFoundError`` means that the publisher does not have
a file, ``UnavailableError`` that it could not be read, ``CorruptStateError`` that what is there
cannot be what its name says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol, Self

import httpx

from pyrsia_node.ledger import certificates
from pyrsia_node.ledger.certificates import CertificateFiles, bundle_path
from pyrsia_node.ledger.publish import CHECKPOINT_FILE
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.tile import BUNDLE_BYTES_MAX, WIDTH, Tile
from pyrsia_node.tlog.tree import HASH_SIZE

_ATTEMPTS: Final = 3
_TIMEOUT_S: Final = 20.0


class LogSource(Protocol):
    """The published files of one log."""

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""
        ...

    def tile(self, tile: Tile) -> bytes:
        """Return a tile or bundle of exactly its width."""
        ...

    def certificates(self, number: int, width: int) -> bytes:
        """Return a bundle of ``width`` certificates."""
        ...

    def newest_certificate(self) -> bytes:
        """Return the newest block's certificate."""
        ...


class DirectorySource:
    """A ``log`` folder, or a data directory that has one."""

    def __init__(self, path: Path) -> None:
        """Read below ``path``.

        Raises:
            NotFoundError: There is no log.
        """
        log = path / "log" if (path / "log").is_dir() else path
        if not (log / CHECKPOINT_FILE).is_file():
            raise NotFoundError(
                f"{path} has no log: neither checkpoint nor log/checkpoint is there"
            )
        self.root: Final = path if log != path else None
        self._name = str(path)
        self._log = log
        self._tiles = TileFiles(log)
        self._certificates = CertificateFiles(log)

    @property
    def name(self) -> str:
        """The directory."""
        return self._name

    def checkpoint(self) -> bytes:
        """Return the checkpoint file; raises CorruptStateError if it is far too long."""
        with (self._log / CHECKPOINT_FILE).open("rb") as file:
            data = file.read(NOTE_BYTES_MAX + 1)
        if len(data) > NOTE_BYTES_MAX:
            raise CorruptStateError(f"{CHECKPOINT_FILE} has more than {NOTE_BYTES_MAX} bytes")
        return data

    def tile(self, tile: Tile) -> bytes:
        """Return a tile; raises NotFoundError or CorruptStateError."""
        return self._tiles.read(tile)

    def certificates(self, number: int, width: int) -> bytes:
        """Return a bundle; raises NotFoundError or CorruptStateError."""
        return self._certificates.bundle(number, width)

    def newest_certificate(self) -> bytes:
        """Return the newest block's certificate; raises NotFoundError."""
        return self._certificates.newest()


class HttpSource:
    """The ``/log/`` of a node, or of a static server. Use as a context manager, or ``close``."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """Read below ``url``, with or without its last ``/log``.

        Raises:
            InvalidInputError: Not an HTTP address.
        """
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidInputError(f"{url!r:.200} is no address: {error}") from None
        if base.scheme not in {"http", "https"} or not base.host:
            raise InvalidInputError(f"{url!r:.200} is no http or https address")
        path = base.path.rstrip("/")
        path = path if path.endswith("/log") else f"{path}/log"
        self._base = str(base.copy_with(path=path, query=None, fragment=None))
        self._name = url
        self._client = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, transport=transport)

    @property
    def name(self) -> str:
        """The address."""
        return self._name

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def checkpoint(self) -> bytes:
        """Return the checkpoint; raises NotFoundError or UnavailableError."""
        return self._get(CHECKPOINT_FILE, NOTE_BYTES_MAX)

    def tile(self, tile: Tile) -> bytes:
        """Return a tile; raises NotFoundError or UnavailableError."""
        bytes_max = BUNDLE_BYTES_MAX if tile.level is None else WIDTH * HASH_SIZE
        return self._get(tile.path(), bytes_max)

    def certificates(self, number: int, width: int) -> bytes:
        """Return a bundle; raises NotFoundError or UnavailableError."""
        return self._get(bundle_path(number, width), certificates.BUNDLE_BYTES_MAX)

    def newest_certificate(self) -> bytes:
        """Return the newest block's certificate; raises NotFoundError or UnavailableError."""
        return self._get(certificates.NEWEST, certificates.NEWEST_BYTES_MAX)

    def _get(self, path: str, bytes_max: int) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._get_once(path, bytes_max)
            except httpx.HTTPError as error:
                if attempt == _ATTEMPTS:
                    raise UnavailableError(f"{self._base}/{path}: {error!r}") from None
        raise AssertionError("the last attempt returns or raises")

    def _get_once(self, path: str, bytes_max: int) -> bytes:
        with self._client.stream("GET", f"{self._base}/{path}") as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise NotFoundError(f"{self._base}/{path} is not there")
            if answer.status_code != httpx.codes.OK:
                raise UnavailableError(f"{self._base}/{path}: status {answer.status_code}")
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > bytes_max:
                    raise CorruptStateError(f"{path} has more than {bytes_max} bytes")
            return bytes(content)
