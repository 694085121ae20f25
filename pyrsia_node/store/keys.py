"""The node's keys: one 32-byte seed on disk, from which every other key is derived.

Each use has a key of its own (HKDF-SHA256 over the seed, one label a use), so a signature made
for one purpose can never pass for another, and one backup saves them all. The file is text,
readable by its owner alone, and never replaced by this module::

    pyrsia-node-key/v1 plain <seed in hex>
    pyrsia-node-key/v1 argon2id <passes> <memory bytes> <salt in hex> <sealed seed in hex>

Not here: the member record (``model.members``), and key rotation.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import nacl.exceptions
import nacl.pwhash.argon2id
import nacl.secret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from consensus import ed25519
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, VerificationError
from pyrsia_node.model.members import KEY_NAMES, MemberKeys
from pyrsia_node.model.signing import Sign
from pyrsia_node.store.files import create_atomic

SEED_SIZE: Final = 32

_FORMAT: Final = "pyrsia-node-key/v1"
_FILE_BYTES_MAX: Final = 1024
_DERIVATION_TAG: Final = b"pyrsia/key/1\0"
_LABEL_OF_TOKENS: Final = b"registry-token"
_MEMORY_BYTES_MAX: Final = 1 << 30
_PASSES_MAX: Final = 16
# A certificate that is pinned by its hash needs no real dates: those of RFC 5280, 4.1.2.5, for
# "no well-defined expiration". Everything in it is fixed, so the hash follows from the seed alone.
_NOT_BEFORE: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_SERIAL: Final = 1


class KeyUse(StrEnum):
    """What a derived key is for; the value is the HKDF label and never changes."""

    P2P = "p2p"
    VOTE = "vote"
    COSIGN = "cosign"
    LOG = "log"
    TX = "tx"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one guess at a passphrase costs: passes over so many bytes of memory."""

    passes: int = nacl.pwhash.argon2id.OPSLIMIT_MODERATE
    memory_bytes: int = nacl.pwhash.argon2id.MEMLIMIT_MODERATE


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """The node's self-signed certificate and what its peers pin.

    ``fingerprint`` is the lowercase hex SHA-256 of the certificate's DER form.
    """

    certificate_pem: bytes
    fingerprint: str
    private_key_pem: bytes = field(repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give certificate and key to a server's context.

        ``ssl`` reads them from files only; these live in memory, so the key never touches a disk.
        """
        descriptor = os.memfd_create("tls-identity", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, self.private_key_pem + self.certificate_pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


class NodeKeys:
    """The keys that a seed stands for. Neither the seed nor a key shows in ``repr``."""

    def __init__(self, seed: bytes) -> None:
        """Derive all keys from the 32-byte ``seed``."""
        assert len(seed) == SEED_SIZE
        self._seeds = {use: _derive(seed, use.value.encode("ascii")) for use in KeyUse}
        self._token_key = _derive(seed, _LABEL_OF_TOKENS)

    def public(self, use: KeyUse) -> bytes:
        """Return the 32-byte Ed25519 public key."""
        return ed25519.public_key(self._seeds[use])

    def signer(self, use: KeyUse) -> Sign:
        """Return the call that signs a message with this key (64 bytes)."""
        return ed25519.signer(self._seeds[use])

    def member_keys(self) -> MemberKeys:
        """Return the five public keys of the member record."""
        return MemberKeys(**{name: self.public(KeyUse(name)) for name in KEY_NAMES})

    def member_signers(self) -> Mapping[str, Sign]:
        """Return the five calls that sign the member record, by key name."""
        return {name: self.signer(KeyUse(name)) for name in KEY_NAMES}

    def p2p_seed(self) -> bytes:
        """Return the private seed of the ``p2p`` key, which libp2p wants in its own form."""
        return self._seeds[KeyUse.P2P]

    def token_key(self) -> bytes:
        """Return the 32-byte key of the registry's tokens: symmetric, and no Ed25519 seed."""
        return self._token_key

    def tls(self) -> TlsIdentity:
        """Return the TLS identity; the same seed gives the same certificate, bit for bit."""
        key = Ed25519PrivateKey.from_private_bytes(self._seeds[KeyUse.TLS])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pyrsia-node")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(_SERIAL)
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .sign(key, None)
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        return TlsIdentity(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            fingerprint=hashlib.sha256(der).hexdigest(),
            private_key_pem=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def create_keys(
    path: Path, *, passphrase: str | None = None, cost: Argon2Cost | None = None
) -> NodeKeys:
    """Make a new seed and write it to ``path``, mode 0600; an existing file is never replaced.

    Args:
        path: The file, in an existing directory.
        passphrase: Seals the seed when given.
        cost: What a guess at the passphrase costs; by default libsodium's "moderate".

    Raises:
        InvalidInputError: Something has that name already, or the passphrase is empty.
    """
    seed = secrets.token_bytes(SEED_SIZE)
    if passphrase is None:
        line = f"{_FORMAT} plain {seed.hex()}\n"
    else:
        line = _seal(seed, passphrase, cost or Argon2Cost())
    try:
        create_atomic(path, line.encode("ascii"), mode=0o600)
    except FileExistsError:
        raise InvalidInputError(
            f"{path} exists: a node's keys are its identity and are never overwritten"
        ) from None
    return NodeKeys(seed)


def load_keys(path: Path, *, passphrase: str | None = None) -> NodeKeys:
    """Return the keys in a file that ``create_keys`` wrote.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: Others may read it, it is not ours or no key file, or it is sealed and
            no passphrase was given.
        VerificationError: The passphrase is wrong, or the sealed seed was changed.
    """
    words = _read_private(path).split(" ")
    try:
        match words:
            case [format_name, "plain", seed_hex] if format_name == _FORMAT:
                seed = _unhex(seed_hex, SEED_SIZE)
            case [format_name, "argon2id", passes, memory, salt, sealed] if format_name == _FORMAT:
                if passphrase is None:
                    raise InvalidInputError(f"{path} is sealed by a passphrase, and none was given")
                seed = _unseal(passphrase, _cost(passes, memory), salt, sealed, path)
            case _:
                raise ValueError(f"does not start with {_FORMAT}")  # noqa: TRY301 - one place says it
    except ValueError as error:
        raise InvalidInputError(f"{path} is no key file: {error}") from None
    return NodeKeys(seed)


def is_sealed(path: Path) -> bool:
    """Tell whether ``load_keys`` will want a passphrase.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: As ``load_keys``.
    """
    return _read_private(path).split(" ")[1:2] == ["argon2id"]


def _derive(seed: bytes, label: bytes) -> bytes:
    info = _DERIVATION_TAG + label
    return HKDF(hashes.SHA256(), SEED_SIZE, salt=None, info=info).derive(seed)


def _read_private(path: Path) -> str:
    """Return the one line of a file that nobody but its owner, this user, can read."""
    try:
        # O_NOFOLLOW: a link in the key folder is somebody's trick, not an administrator's wish.
        # O_NONBLOCK: a pipe in place of the file must not make the start hang.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist: 'pyrsia-node init' makes it") from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        _check_private(path, os.fstat(descriptor))
        content = os.read(descriptor, _FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    text = content.decode("ascii", errors="replace")
    if len(content) > _FILE_BYTES_MAX or not text.endswith("\n"):
        raise InvalidInputError(f"{path} is no key file: it is cut off or too long")
    return text[:-1]


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(f"{path} is no regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise InvalidInputError(f"{path} has mode {mode:04o}; others may read it: chmod 600")
    if status.st_uid != os.geteuid():
        raise InvalidInputError(
            f"{path} belongs to uid {status.st_uid}, this process runs as {os.geteuid()}"
        )


def _seal(seed: bytes, passphrase: str, cost: Argon2Cost) -> str:
    if not passphrase:
        raise InvalidInputError("the passphrase is empty")
    salt = secrets.token_bytes(nacl.pwhash.argon2id.SALTBYTES)
    box = nacl.secret.SecretBox(_stretch(passphrase, salt, cost))
    sealed = bytes(box.encrypt(seed))
    return f"{_FORMAT} argon2id {cost.passes} {cost.memory_bytes} {salt.hex()} {sealed.hex()}\n"


def _unseal(passphrase: str, cost: Argon2Cost, salt_hex: str, sealed_hex: str, path: Path) -> bytes:
    salt = _unhex(salt_hex, nacl.pwhash.argon2id.SALTBYTES)
    overhead = nacl.secret.SecretBox.NONCE_SIZE + nacl.secret.SecretBox.MACBYTES
    sealed = _unhex(sealed_hex, overhead + SEED_SIZE)
    try:
        return nacl.secret.SecretBox(_stretch(passphrase, salt, cost)).decrypt(sealed)
    except nacl.exceptions.CryptoError:
        raise VerificationError(f"{path}: the passphrase is wrong, or the file changed") from None


def _stretch(passphrase: str, salt: bytes, cost: Argon2Cost) -> bytes:
    return nacl.pwhash.argon2id.kdf(
        nacl.secret.SecretBox.KEY_SIZE,
        passphrase.encode(),
        salt,
        opslimit=cost.passes,
        memlimit=cost.memory_bytes,
    )


def _cost(passes: str, memory: str) -> Argon2Cost:
    cost = Argon2Cost(passes=int(passes), memory_bytes=int(memory))
    low = nacl.pwhash.argon2id
    if not (
        low.OPSLIMIT_MIN <= cost.passes <= _PASSES_MAX
        and low.MEMLIMIT_MIN <= cost.memory_bytes <= _MEMORY_BYTES_MAX
    ):
        raise ValueError(f"the cost {passes} {memory} is out of bounds")
    return cost


def _unhex(text: str, size: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes stand where {size} belong")
    return data
