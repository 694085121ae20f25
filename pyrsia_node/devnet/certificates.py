"""Self-signed certificates as operators have them, for what stands in on this machine.

Development networks and tests use them; a node's own identity between nodes is another matter
(``pyrsia_node.store.keys``).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOT_BEFORE: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER: Final = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


def write_certificate(
    folder: Path, name: str, *, stem: str, hosts: Sequence[str] = (), passphrase: bytes = b""
) -> tuple[Path, Path]:
    """Write ``STEM.pem`` and ``STEM.key``: a certificate signed by its own key, and that key.

    Args:
        folder: Where the files are written.
        name: The certificate's common name, for people.
        stem: How the files are called.
        hosts: Host names that it is for, besides ``localhost`` and ``127.0.0.1``.
        passphrase: What the key is sealed with; empty for a key that everybody can use.

    Returns:
        The certificate, which everybody may read, and the key, which the owner alone may.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [
        *(x509.DNSName(host) for host in (*hosts, "localhost")),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    sealing: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        sealing = serialization.BestAvailableEncryption(passphrase)
    certificate_file, key_file = folder / f"{stem}.pem", folder / f"{stem}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    # Whoever runs a build worker reads it, under another account.
    certificate_file.chmod(0o644)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)
    )
    key_file.chmod(0o600)
    return certificate_file, key_file
