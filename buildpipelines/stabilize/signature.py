"""Signatures of jars at level 2: who rebuilds cannot sign in the publisher's name. Pure.

The rule ``jar-signature`` takes out what a signature adds, and only where it is one; otherwise
code that reads an odd file of ``META-INF`` would find there what nobody compared:

- ``META-INF/NAME.SF`` and its one block ``META-INF/NAME.RSA`` (``.DSA``, ``.EC``), if the former
  holds digests alone, the digest of this jar's manifest truly among them, and the latter is a
  PKCS #7 signed-data structure of bounded size.
- ``*-Digest`` attributes of the manifest's sections, if they are the true digests of the entries.

Whether the signature itself holds is not judged: it counts for nothing here, and a client that
looks at signatures gets the publisher's own file. Format: JAR File Specification, "Signed JAR".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from buildpipelines.extract.jar import MANIFEST, Jar
from buildpipelines.stabilize.manifest import Attributes, Manifest, parse_manifest

_BLOCK_BYTES_MAX: Final = 64 * 1024
_FILE = re.compile(r"META-INF/([A-Za-z0-9_-]{1,64})\.SF\Z", re.IGNORECASE)
_BLOCK = re.compile(r"META-INF/([A-Za-z0-9_-]{1,64})\.(?:RSA|DSA|EC)\Z", re.IGNORECASE)
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
_ALGORITHMS: Final = {
    "MD5": "md5",
    "SHA": "sha1",
    "SHA1": "sha1",
    "SHA-1": "sha1",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
}
_DIGEST = re.compile(rf"({'|'.join(_ALGORITHMS)})-Digest\Z")
_MANIFEST_DIGEST = re.compile(rf"({'|'.join(_ALGORITHMS)})-Digest-Manifest(-Main-Attributes)?\Z")


def signature_files(jar: Jar) -> frozenset[str]:
    """Return the names of the files that are a signature and nothing else."""
    blocks: dict[str, list[str]] = {}
    for entry in jar.archive.entries:
        if match := _BLOCK.match(entry.name):
            blocks.setdefault(match[1].upper(), []).append(entry.name)
    found: set[str] = set()
    for entry in jar.archive.entries:
        match = _FILE.match(entry.name)
        mine = blocks.get(match[1].upper(), []) if match else []
        if len(mine) == 1 and _is_signature(jar, entry.name) and _is_block(jar, mine[0]):
            found.update((entry.name, mine[0]))
    return frozenset(found)


def without_digests(jar: Jar, manifest: Manifest) -> Manifest:
    """Return a manifest without true digests, nor the sections that held nothing else."""
    sections: dict[str, Attributes] = {}
    for name, attributes in manifest.sections.items():
        kept = {k: v for k, v in attributes.items() if not is_true_digest(jar, name, k, v)}
        if kept or not attributes:
            sections[name] = kept
    return Manifest(manifest.main, sections)


def is_true_digest(jar: Jar, entry_name: str, attribute: str, value: str) -> bool:
    """Tell whether an attribute of a section is the digest of the entry that it names."""
    match = _DIGEST.match(attribute)
    entry = jar.archive.find(entry_name)
    if match is None or entry is None or entry.is_dir:
        return False
    digest = hashlib.new(_ALGORITHMS[match[1]], usedforsecurity=False)
    if _decoded(value, digest.digest_size) is None:
        return False
    for chunk in jar.archive.chunks(entry):
        digest.update(chunk)
    return _decoded(value, digest.digest_size) == digest.digest()


def _is_signature(jar: Jar, name: str) -> bool:
    """Tell whether a file holds digests alone, among them this manifest's."""
    content, manifest = jar.small_file(name), jar.small_file(MANIFEST)
    signature = None if content is None else parse_manifest(content)
    if signature is None or manifest is None:
        return False
    main = dict(signature.main)
    if main.pop("Signature-Version", None) != "1.0":
        return False
    main.pop("Created-By", None)
    has_manifest = False
    for attribute, value in main.items():
        match = _MANIFEST_DIGEST.match(attribute)
        if match is None or not _fits(match[1], value):
            return False
        if match[2] is None:
            own = hashlib.new(_ALGORITHMS[match[1]], manifest, usedforsecurity=False).digest()
            has_manifest = _decoded(value, len(own)) == own
            if not has_manifest:
                return False
    return has_manifest and all(map(_holds_digests_alone, signature.sections.values()))


def _holds_digests_alone(attributes: Attributes) -> bool:
    matches = ((_DIGEST.match(attribute), value) for attribute, value in attributes.items())
    return all(match is not None and _fits(match[1], value) for match, value in matches)


def _is_block(jar: Jar, name: str) -> bool:
    """Tell whether a file is one DER structure of type signed-data, to its last byte."""
    content = jar.small_file(name)
    if content is None or not 16 < len(content) <= _BLOCK_BYTES_MAX or content[0] != 0x30:
        return False
    width = content[1] & 0x7F if content[1] & 0x80 else 0
    length = int.from_bytes(content[2 : 2 + width], "big") if width else content[1]
    start = 2 + width
    return start + length == len(content) and content.startswith(_SIGNED_DATA, start)


def _fits(algorithm: str, value: str) -> bool:
    size = hashlib.new(_ALGORITHMS[algorithm], usedforsecurity=False).digest_size
    return _decoded(value, size) is not None


def _decoded(value: str, size: int) -> bytes | None:
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == size else None
