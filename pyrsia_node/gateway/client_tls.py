"""TLS on the client port: a certificate of the operator's, taken anew when its files change.

TLS 1.2 and later. Certificate and key are read and checked together, so a half-written renewal is
never used: the old pair stays in force, and the log says why. The files are looked at when a client
connects, at most every ten seconds; no timer wakes an idle node.

The data port has a certificate of its own, which peers pin (wiring.py, ``store.keys``).
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pyrsia_node.model.errors import InvalidInputError

PEM_BYTES_MAX: Final = 256 * 1024
LOOK_SECONDS: Final = 10.0

_log = logging.getLogger("pyrsia.tls")
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Certificate chain and key that belong together."""

    pem: bytes
    names: frozenset[str]


class ClientTls:
    """The server's side of TLS for clients."""

    def __init__(self, certificate: Path, key: Path, monotonic_s: Callable[[], float]) -> None:
        """Read both files.

        Raises:
            InvalidInputError: One cannot be read or is not what it should be, or they do not belong
                together; the text names the file.
        """
        self._certificate = certificate
        self._key = key
        self._monotonic_s = monotonic_s
        self._stamp = self._stamp_now()
        pair = read_pair(certificate, key)
        self.names = pair.names
        self._newest = _context(pair)
        self._looked_at = monotonic_s()
        self.context = _context(pair)
        self.context.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        """Give a connection that shakes hands the newest certificate."""
        if self._monotonic_s() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._monotonic_s()
            self._look()
        connection.context = self._newest

    def _look(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        try:
            self._newest = _context(read_pair(self._certificate, self._key))
        except InvalidInputError as error:
            # Not remembered: a renewal under way is whole at a later look.
            _log.warning("the certificate before stays in force: %s", error)
            return
        self._stamp = stamp
        _log.info("certificate %s was taken anew", self._certificate)

    def _stamp_now(self) -> _Stamp:
        found = []
        for path in (self._certificate, self._key):
            try:
                status = path.stat()
            except OSError:
                return ()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)


def read_pair(certificate: Path, key: Path) -> _Pair:
    """Return what both files hold, if it belongs together; raises InvalidInputError."""
    chain_pem, key_pem = _read(certificate), _read(key)
    try:
        own = x509.load_pem_x509_certificates(chain_pem)[0]
    except (ValueError, IndexError) as error:
        raise InvalidInputError(
            f"http.tls_certificate: {certificate} holds no certificate in PEM form"
        ) from error
    try:
        private = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError as error:
        raise InvalidInputError(
            f"http.tls_key: {key} is sealed by a passphrase, which a service cannot type"
        ) from error
    except ValueError as error:
        raise InvalidInputError(f"http.tls_key: {key} holds no private key in PEM form") from error
    if _public(private.public_key()) != _public(own.public_key()):
        raise InvalidInputError(
            f"http.tls_key: {key} is not the key of the certificate in {certificate}"
        )
    return _Pair(key_pem.rstrip() + b"\n" + chain_pem, _names(own))


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined] # a union of all kinds of keys
    return encoded


def _names(certificate: x509.Certificate) -> frozenset[str]:
    """Return the DNS names that a certificate is for; clients may call the node by them."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    names = found.value.get_values_for_type(x509.DNSName)
    return frozenset(name.lower() for name in names if "*" not in name)


def _context(pair: _Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # ssl reads files only; one in memory holds exactly the bytes that were checked.
    descriptor = os.memfd_create("client-tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pair.pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise InvalidInputError(f"http.tls_certificate: TLS does not take it: {error}") from error
    finally:
        os.close(descriptor)
    return context


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(PEM_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > PEM_BYTES_MAX:
        raise InvalidInputError(f"{path} is longer than {PEM_BYTES_MAX} bytes")
    return data
