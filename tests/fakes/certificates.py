"""Certificates as operators have them: a PEM file, a key file, signed by itself.

The maker is the one of development networks (``pyrsia_node.devnet.certificates``).
"""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.devnet import certificates


def write_certificate(
    folder: Path, name: str = "registry.example", *, passphrase: bytes = b""
) -> tuple[Path, Path]:
    """Write ``tls.pem`` and ``tls.key`` for ``name``, localhost and 127.0.0.1; return both."""
    hosts = (name, "*.wild.example")
    return certificates.write_certificate(
        folder, name, stem="tls", hosts=hosts, passphrase=passphrase
    )
