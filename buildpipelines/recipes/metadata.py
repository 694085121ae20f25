"""METADATA of a log entry from a wheel's METADATA file or an sdist's PKG-INFO. Pure.

Every node computes this value alone and hashes it, so it may depend on nothing but the bytes: no
mail parser of some Python version, no Unicode table, fixed limits, ASCII-only decisions. E-mail
addresses are left out. Format: Core Metadata 2.4, an RFC 822 header block in UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from buildpipelines.errors import FormatError
from buildpipelines.spec.metadata import Metadata

VERSION: Final = 1
"""Raised with every change of what this module returns; a part of the pipeline's digest."""

METADATA_BYTES_MAX: Final = 4 * 1024 * 1024
HEADER_LINES_MAX: Final = 20_000

_ADDRESS = re.compile(r"<[^<>]*>|[^ ]*@[^ ]*")
_PEOPLE_CHARACTERS_MAX = 4000
_SPACES = re.compile(r"[ \t]+")
_CONTROL = dict.fromkeys((*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")
_HOMEPAGE_LABELS = ("homepage", "home", "website")
_REPOSITORY_LABELS = ("source", "sourcecode", "repository", "code", "github", "gitlab")


def extract_metadata(content: bytes) -> Metadata:
    """Return the agreed facts of a METADATA or PKG-INFO file.

    Fields are cut to fixed lengths in bytes; the canonical JSON of any result stays below 30,000
    bytes.

    Raises:
        FormatError: too large, or without a name or version.
    """
    headers = _parse_headers(content)

    def one(key: str, bytes_max: int) -> str:
        values = headers.get(key, [""])
        return _cut(_clean(values[0]), bytes_max)

    name, version = one("name", 200), one("version", 128)
    if not name or not version:
        raise FormatError("package metadata without a name or a version")
    urls = [_split_url(value) for value in headers.get("project-url", [])]
    return Metadata(
        name=name,
        version=version,
        summary=one("summary", 1000),
        author=_author(headers),
        licence=one("license-expression", 256) or one("license", 256),
        homepage=one("home-page", 500) or _labelled(urls, _HOMEPAGE_LABELS),
        repository=_labelled(urls, _REPOSITORY_LABELS),
        keywords=_keywords(one("keywords", 2000)),
        requires=_bounded(headers.get("requires-dist", []), each=300, total=8000, count=400),
        requires_python=one("requires-python", 128),
        provides_extra=_bounded(headers.get("provides-extra", []), each=64, total=2000, count=200),
    )


def _parse_headers(content: bytes) -> dict[str, list[str]]:
    if len(content) > METADATA_BYTES_MAX:
        raise FormatError(f"package metadata of {len(content)} bytes")
    headers: dict[str, list[str]] = {}
    key = ""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    for line in text.split("\n", HEADER_LINES_MAX)[:HEADER_LINES_MAX]:
        if not line:
            break
        if line[0] in " \t":
            if key:
                headers[key][-1] += " " + line
            continue
        key, colon, value = line.partition(":")
        key = _lower(key)
        if not colon or not key.isascii():
            key = ""
            continue
        headers.setdefault(key, []).append(value)
    return headers


def _lower(text: str) -> str:
    """Lower ASCII letters alone: the rest differs between Unicode tables."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def _clean(text: str) -> str:
    """Return one line of text without control characters and doubled spaces."""
    return _SPACES.sub(" ", text.translate(_CONTROL)).strip(" ")


def _cut(text: str, bytes_max: int) -> str:
    """Cut at a character's end so that at most ``bytes_max`` bytes of UTF-8 stay."""
    return text.encode()[:bytes_max].decode("utf-8", "ignore").strip(" ")


def _author(headers: dict[str, list[str]]) -> str:
    for key in ("author", "author-email", "maintainer", "maintainer-email"):
        for value in headers.get(key, []):
            people = _clean(value[:_PEOPLE_CHARACTERS_MAX]).split(",")
            parts = (_clean(_ADDRESS.sub(" ", person)).strip(' "') for person in people)
            name = ", ".join(part for part in parts if part and part != "UNKNOWN")
            if name:
                return _cut(name, 300)
    return ""


def _split_url(value: str) -> tuple[str, str]:
    label, _, url = value.partition(",")
    letters = "".join(c for c in _lower(label) if "a" <= c <= "z")
    return letters, _cut(_clean(url), 500)


def _labelled(urls: list[tuple[str, str]], labels: Iterable[str]) -> str:
    for wanted in labels:
        for label, url in urls:
            if label == wanted and url:
                return url
    return ""


def _keywords(text: str) -> tuple[str, ...]:
    parts = text.split("," if "," in text else " ")
    return _bounded(parts, each=64, total=1500, count=40)


def _bounded(values: Iterable[str], *, each: int, total: int, count: int) -> tuple[str, ...]:
    """Return the leading values, each cut, until ``total`` bytes or ``count`` values."""
    kept: list[str] = []
    left = total
    for value in values:
        text = _cut(_clean(value), each)
        left -= len(text.encode())
        if left < 0 or len(kept) == count:
            break
        if text:
            kept.append(text)
    return tuple(kept)
