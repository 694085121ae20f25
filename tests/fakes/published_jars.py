"""Jars as their projects published them, out of a source distribution of the package index.

``pyspark`` 4.0.0 ships some hundred released jars. Its archive is read as a stream and left as soon
as the wanted ones are seen; what counts is their SHA-256, which stands here. They are kept by it in
a cache folder outside the repository, never in it.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, cast

import httpx
import pypi_simple

_PROJECT: Final = "pyspark"
_VERSION: Final = "4.0.0"
_MEMBER_BYTES_MAX: Final = 32 << 20
_TIMEOUT_S: Final = 120.0

JARS: Final[Mapping[str, str]] = {
    "commons-codec-1.17.2.jar": "4148332728490cef12b29dac4c385f46982f04285132c6fa51ad7267d7dc7a8b",
    "commons-compress-1.27.1.jar": (
        "293d80f54b536b74095dcd7ea3cf0a29bbfc3402519281332495f4420d370d16"
    ),
    "commons-io-2.18.0.jar": "f3ca0f8d63c40e23a56d54101c60d5edee136b42d84bfb85bc7963093109cf8b",
    "commons-lang3-3.17.0.jar": "6ee731df5c8e5a2976a1ca023b6bb320ea8d3539fbe64c8a1d5cb765127c33b4",
    "xz-1.10.jar": "95c63c1a55b22dd6453890a419cc1a640f790bbf7d8ae82db1e30aefefb08888",
    "zstd-jni-1.5.6-9.jar": "e122143e2abb041b6384e43c9a79980fe3d2ff3d9610ea20b29231ea518772b2",
}
"""File names and SHA-256 of what may be asked for."""


class _Stream:
    """The least of a binary file that ``tarfile`` reads from."""

    def __init__(self, answer: httpx.Response) -> None:
        self._chunks = answer.iter_raw(1 << 18)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end."""
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def published_jars(names: Sequence[str]) -> dict[str, Path]:
    """Return where the jars of these names lie, fetched unless the cache has them.

    Raises:
        KeyError: a name is not among ``JARS``.
        AssertionError: the archive lacks one, or has other bytes.
    """
    cache = cache_folder()
    found = {name: cache / JARS[name] / name for name in names}
    missing = {name for name, path in found.items() if not _is_whole(path, JARS[name])}
    if missing:
        _fetch(cache, missing)
    return found


def cache_folder() -> Path:
    """Return the folder of what was fetched: ``PYRSIA_TEST_CACHE``, else below the user's cache."""
    named = os.environ.get("PYRSIA_TEST_CACHE") or "~/.cache/pyrsia-tests"
    folder = Path(named).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _fetch(cache: Path, missing: set[str]) -> None:
    with pypi_simple.PyPISimple() as index:
        [archive] = (
            each
            for each in index.get_project_page(_PROJECT).packages
            if each.version == _VERSION and each.package_type == "sdist"
        )
    with (
        httpx.stream("GET", archive.url, timeout=_TIMEOUT_S, follow_redirects=True) as answer,
        tarfile.open(
            fileobj=cast("IO[bytes]", _Stream(answer.raise_for_status())), mode="r|gz"
        ) as tar,
    ):
        for member in tar:
            name = member.name.rpartition("/")[2]
            if name in missing and member.size <= _MEMBER_BYTES_MAX:
                _keep(cache, name, cast("IO[bytes]", tar.extractfile(member)).read())
                missing.discard(name)
                if not missing:
                    return
    raise AssertionError(f"{_PROJECT} {_VERSION} does not hold {sorted(missing)}")


def _keep(cache: Path, name: str, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    assert found == JARS[name], f"{name} has the digest {found}"
    folder = cache / found
    folder.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as temporary:
        temporary.write(data)
    Path(temporary.name).replace(folder / name)
