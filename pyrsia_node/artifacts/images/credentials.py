"""Credentials for upstream registries: ``docker.auth_file``, in the format of other clients.

containers-auth.json(5): ``{"auths": {"HOST[/NAMESPACE…]": {"auth": base64(user:password)}}}``; the
longest key that an image's name begins with, at a slash, counts. Docker's own file has the same
form. Credential helpers are programs of others and are not run.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.oci import ImageName

FILE_BYTES_MAX: Final = 256 * 1024
ENTRIES_MAX: Final = 1000
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
"""What Docker's own client calls the registry whose images begin with docker.io."""

_log: Final = logging.getLogger("pyrsia.artifacts.images")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password or token; never shown in a text."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


def parse_auth_file(data: bytes) -> dict[str, Login]:
    """Return logins by key, such as ``registry.example/team``; entries without one are left out.

    Raises:
        InvalidInputError: Too long, or not of that form; never shows what an entry holds.
    """
    if len(data) > FILE_BYTES_MAX:
        raise InvalidInputError(f"auth file of {len(data)} bytes exceeds {FILE_BYTES_MAX}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidInputError("auth file is not JSON") from None
    auths = value.get("auths", {}) if isinstance(value, dict) else None
    if not isinstance(auths, dict) or len(auths) > ENTRIES_MAX:
        raise InvalidInputError(f'auth file: "auths" is no object of at most {ENTRIES_MAX}')
    found: dict[str, Login] = {}
    for key, entry in auths.items():
        login = _login(str(key), entry)
        if login is not None:
            found[_normal(str(key))] = login
    return found


def find_login(logins: Mapping[str, Login], name: ImageName) -> Login | None:
    """Return what the longest fitting key holds."""
    path = str(name)
    while path not in logins:
        path, slash, _ = path.rpartition("/")
        if not slash:
            return None
    return logins[path]


class CredentialFile:
    """The file as it is now: read again when it changed."""

    def __init__(self, path: Path | None) -> None:
        """Read ``path``; without one there are no credentials."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._logins: Mapping[str, Login] = {}

    def login(self, name: ImageName) -> Login | None:
        """Return the login for an image.

        Raises:
            UnavailableError: The file cannot be read: better no answer than one without rights.
        """
        if self._path is None:
            return None
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._logins = self._read(self._path)
                self._stamp = stamp
        except (OSError, InvalidInputError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UnavailableError(f"docker.auth_file {self._path}: {reason}") from error
        return find_login(self._logins, name)

    @staticmethod
    def _read(path: Path) -> Mapping[str, Login]:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(FILE_BYTES_MAX + 1)
        if mode & 0o077:
            _log.warning("%s may be read by others (mode %03o): chmod 600 it", path, mode)
        return parse_auth_file(data)


def _login(key: str, entry: object) -> Login | None:
    if not isinstance(entry, dict):
        raise InvalidInputError(f"auth file: the entry of {key!r:.100} is no object")
    auth = entry.get("auth")
    if not auth:
        return None  # its credentials are with a helper, or it has none
    try:
        text = base64.b64decode(str(auth), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    user, colon, password = text.rstrip("\0").partition(":")
    # What ends up in a header must not be able to begin another one.
    if not colon or not user or any(ch < " " or ch == "\x7f" for ch in text.rstrip("\0")):
        raise InvalidInputError(
            f"auth file: auth of {key!r:.100} is not base64 of user and password"
        )
    return Login(user, password)


def _normal(key: str) -> str:
    """Return a key as image names begin: without scheme and trailing slash."""
    if key.rstrip("/") in {each.rstrip("/") for each in _HUB_KEYS}:
        return "docker.io"
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")
