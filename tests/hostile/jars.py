"""Jars made by tests: well-formed ones, signed ones, and compiled classes of a few bytes."""

from __future__ import annotations

import base64
import hashlib
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.hostile.zips import zipped

MANIFEST: Final = "META-INF/MANIFEST.MF"
BLOCK: Final = bytes.fromhex("301a06092a864886f70d010702") + bytes(15)
"""The outline of a PKCS #7 signed-data structure: what it says is judged by nobody here."""


def manifest_first(names: list[str]) -> list[str]:
    """Return names in the order that the ``jar`` tool writes."""
    return sorted(names, key=lambda name: (name != MANIFEST, name))


def jar(
    files: Mapping[str, bytes],
    *,
    manifest: bytes | None = b"Manifest-Version: 1.0\r\n\r\n",
    edit: Callable[[zipfile.ZipInfo], None] | None = None,
    order: Callable[[list[str]], list[str]] = manifest_first,
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """Return a jar of ``files`` and a manifest; ``edit`` may change every entry's header."""
    contents = dict(files)
    if manifest is not None:
        contents[MANIFEST] = manifest
    return zipped(contents, edit=edit, order=order, compression=compression)


def sha256(data: bytes) -> str:
    """Return a digest as manifests write it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def signed(files: Mapping[str, bytes], *, signer: str = "ME") -> tuple[dict[str, bytes], bytes]:
    """Return the files of a signed jar and its manifest."""
    sections = "".join(
        f"Name: {name}\r\nSHA-256-Digest: {sha256(data)}\r\n\r\n"
        for name, data in sorted(files.items())
    )
    manifest = f"Manifest-Version: 1.0\r\nMain-Class: a.Main\r\n\r\n{sections}".encode()
    signature = (
        "Signature-Version: 1.0\r\nCreated-By: 17 (A. Vendor)\r\n"
        f"SHA-256-Digest-Manifest: {sha256(manifest)}\r\n\r\n{sections}"
    ).encode()
    added = {f"META-INF/{signer}.SF": signature, f"META-INF/{signer}.RSA": BLOCK}
    return {**files, **added}, manifest


def plain_manifest() -> bytes:
    """Return the manifest that ``signed`` starts from."""
    return b"Manifest-Version: 1.0\r\nMain-Class: a.Main\r\n\r\n"


def attribute(name: int, data: bytes) -> bytes:
    """Return an attribute of a class; ``name`` is an index into its constants."""
    return struct.pack(">HL", name, len(data)) + data


def class_file(
    *,
    major: int = 61,
    methods: Mapping[str, bytes] | None = None,
    lines: Sequence[int] = (),
    strings: Sequence[str] = (),
    first: Sequence[str] = (),
) -> bytes:
    """Return a compiled class ``a/Main`` with methods without parameters.

    Args:
        major: The release of the format; 61 is Java 17.
        methods: Instructions by name.
        lines: Line numbers of each method's start, one table entry each.
        strings: Texts that the class holds besides.
        first: Texts at the start of its constants, which change all numbers.
    """
    methods = {"run": b"\xb1"} if methods is None else methods
    texts = [*first, "a/Main", "java/lang/Object", "Code", "LineNumberTable", "()V"]
    texts += [*methods, *strings]
    index = {text: number for number, text in enumerate(texts, 1)}
    pool = b"".join(
        b"\x01" + struct.pack(">H", len(text.encode())) + text.encode() for text in texts
    )
    pool += b"\x07" + struct.pack(">H", index["a/Main"])
    pool += b"\x07" + struct.pack(">H", index["java/lang/Object"])
    count = len(texts) + 3
    body = struct.pack(">4H", 0x21, count - 2, count - 1, 0) + struct.pack(">H", 0)
    body += struct.pack(">H", len(methods))
    for name, code in methods.items():
        table = b"".join(struct.pack(">2H", 0, line) for line in lines)
        debug = attribute(index["LineNumberTable"], struct.pack(">H", len(lines)) + table)
        inner = struct.pack(">2HL", 1, 1, len(code)) + code + struct.pack(">2H", 0, 1) + debug
        body += struct.pack(">4H", 1, index[name], index["()V"], 1)
        body += attribute(index["Code"], inner)
    body += struct.pack(">H", 0)
    return b"\xca\xfe\xba\xbe" + struct.pack(">3H", 0, major, count) + pool + body
