"""Final certificates as files under ``log/certs/``: what lets a stranger check who decided.

A block's certificate is no leaf. The next block carries it and names its hash, so once that block
is committed all nodes have the same bytes for the height: those go into bundles, which are laid
out and spelled like the entries of tlog-tiles. The newest block's certificate is known to each node
in a form of its own; it stands apart, in ``certs/newest``, and is replaced with each block.

Everything here is derived from the chain and believed by nobody. Order of the durable steps, and
what a crash leaves: a bundle that became full is fsynced, before ``newest`` moves on; a partial
bundle and ``newest`` are renamed into place without fsync and written again by the next start.
Specification: docs/spec/log-formats.md, "Certificates".
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, Protocol

from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, NotFoundError
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.tile import WIDTH, Tile, cut_bundle, decode_bundle, encode_bundle

FOLDER: Final = "certs"
NEWEST: Final = f"{FOLDER}/newest"
REPAIR: Final = "pyrsia-node fsck --repair"

BUNDLE_BYTES_MAX: Final = WIDTH * (2 + 8 * 1024)
"""A bundle of the certificates of the largest member sets."""

NEWEST_BYTES_MAX: Final = 16 * 1024
_WIDTHS_KEPT: Final = 2
_ENTRIES: Final = "tile/entries"


class CertificateSource(Protocol):
    """Where certificates come from: the chain."""

    def certificate(self, height: int) -> bytes:
        """Return what finalized a committed block."""
        ...

    def carried_certificate(self, height: int) -> bytes:
        """Return the certificate of ``height`` that the block after it carries."""
        ...


def bundle_of(height: int) -> tuple[int, int]:
    """Return (number of the bundle, place in it) of a height; height 1 is the first."""
    assert height >= 1
    return divmod(height - 1, WIDTH)


def bundle_path(number: int, width: int = WIDTH) -> str:
    """Return the path of a bundle under the log's prefix, such as ``certs/x001/234.p/7``."""
    return FOLDER + Tile(None, number, width).path().removeprefix(_ENTRIES)


def parse_bundle_path(path: str) -> tuple[int, int]:
    """Return (number, width) of the bundle that ``path`` spells.

    Raises:
        InvalidInputError: Not the path of a bundle of certificates.
    """
    if not path.startswith(f"{FOLDER}/"):
        raise InvalidInputError(f"{path!r:.100} is no path of certificates")
    tile = Tile.parse(_ENTRIES + path.removeprefix(FOLDER))
    return tile.number, tile.width


class CertificateFiles:
    """Reads certificates. Any process may; nothing is locked."""

    def __init__(self, folder: Path) -> None:
        """Read below ``folder``, the log's prefix; it may still be empty."""
        self._folder = folder

    def bundle(self, number: int, width: int = WIDTH) -> bytes:
        """Return a bundle of exactly ``width`` certificates, cut from a wider one if need be.

        Raises:
            NotFoundError: There are not so many.
            CorruptStateError: The file is damaged; names its path.
        """
        for wider in (width, WIDTH, *sorted(self._widths(number))):
            if wider < width:
                continue
            path = self._folder / bundle_path(number, wider)
            data = _read(path, BUNDLE_BYTES_MAX)
            if data is None:
                continue
            try:
                return data if wider == width else cut_bundle(data, width=width)
            except InvalidInputError as error:
                raise CorruptStateError(f"{path} is damaged ({error}): run '{REPAIR}'") from None
        raise NotFoundError(f"{bundle_path(number, width)} is not here")

    def newest(self) -> bytes:
        """Return the newest block's certificate.

        Raises:
            NotFoundError: There is none.
        """
        data = _read(self._folder / NEWEST, NEWEST_BYTES_MAX)
        if data is None:
            raise NotFoundError(f"{NEWEST} is not here")
        return data

    def _widths(self, number: int) -> set[int]:
        place = (self._folder / bundle_path(number, 1)).parent
        try:
            names = [each.name for each in place.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {int(name) for name in names if name.isascii() and name.isdigit()}


class CertificateWriter:
    """Appends certificates to the files. One writer at a time: the core."""

    def __init__(self, folder: Path) -> None:
        """Resume below ``folder``, the log's prefix, after its last full bundle."""
        self._folder = folder
        self._number = _count_full(folder)
        self._held: list[bytes] = []
        self._newest: bytes | None = None

    @property
    def height(self) -> int:
        """The last height whose carried certificate is held or written."""
        return self._number * WIDTH + len(self._held)

    def catch_up(self, source: CertificateSource, *, height: int) -> None:
        """Write what the chain with tip ``height`` has and the files lack."""
        before = self.height
        for each in range(self.height + 1, height):
            self._held.append(source.carried_certificate(each))
            if len(self._held) == WIDTH:
                self._write(bundle_path(self._number), encode_bundle(self._held), sync=True)
                self._remove_partials(keep=0)
                self._number += 1
                self._held.clear()
        if self._held and (self.height != before or self._newest is None):
            path = bundle_path(self._number, len(self._held))
            self._write(path, encode_bundle(self._held), sync=False)
            self._remove_partials(keep=_WIDTHS_KEPT)
        newest = source.certificate(height) if height else None
        if newest is not None and newest != self._newest:
            self._write(NEWEST, newest, sync=False)
            self._newest = newest

    def _write(self, name: str, content: bytes, *, sync: bool) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content, sync=sync)

    def _remove_partials(self, *, keep: int) -> None:
        """Remove narrow files: a reader cuts what it wants from a wider one."""
        place = (self._folder / bundle_path(self._number, 1)).parent
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            widths = sorted(int(each.name) for each in place.iterdir() if each.name.isdigit())
            for width in widths[: len(widths) - keep]:
                (place / str(width)).unlink(missing_ok=True)
            if not keep:
                place.rmdir()


def decode_certificates(data: bytes, *, width: int) -> tuple[bytes, ...]:
    """Return the certificates in a bundle.

    Raises:
        InvalidInputError: Not exactly ``width`` of them.
    """
    if len(data) > BUNDLE_BYTES_MAX:
        raise InvalidInputError(f"bundle of certificates has {len(data)} bytes")
    return decode_bundle(data, width=width)


def _count_full(folder: Path) -> int:
    number = 0
    while (folder / bundle_path(number)).is_file():
        number += 1
    return number


def _read(path: Path, bytes_max: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    if len(data) > bytes_max:
        raise CorruptStateError(f"{path} has more than {bytes_max} bytes: run '{REPAIR}'")
    return data
