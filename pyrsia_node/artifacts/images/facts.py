"""What an image says of itself, for the log's metadata: a pure function of its documents.

Every member derives this by itself and all must get the same, so nothing here depends on the
version of Unicode that a Python knows, and every text is bounded. Mail addresses are left out: the
log cannot forget them. Labels: OCI image specification 1.1, "Annotations"; the older label-schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import OciDigest, parse_reference
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.mirroring import ImageFacts

CONFIG_BYTES_MAX: Final = 4 * 1024 * 1024
SUMMARY_LENGTH_MAX: Final = 1000
TEXT_LENGTH_MAX: Final = 200
PLATFORMS_MAX: Final = 64

_OCI: Final = "org.opencontainers.image."
_OLD: Final = "org.label-schema."
_DEFAULT_HOST: Final = "docker.io"
# Explicit ranges, so that all Pythons agree: controls, surrogates, what turns text around or breaks
# lines, the byte order mark.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff0-\uffff\ud800-\udfff]"
)
_SPACES: Final = re.compile(r" {2,}")
_WORD_WITH_AT: Final = re.compile(r"[<(]?[^ ]*@[^ ]*")
_PLATFORM: Final = re.compile(r"[a-z0-9]{1,32}(?:/[A-Za-z0-9._-]{1,32}){1,2}")
_URL: Final = re.compile(r"https?://[!-~]+")


def image_facts(
    config: bytes, annotations: Iterable[Mapping[str, str]], platforms: Iterable[str]
) -> ImageFacts:
    """Return what an image says of itself; empty where it says nothing that fits.

    Args:
        config: The config blob of its first platform; b"" if it has none.
        annotations: Of its manifest, then of its index: the first that has a key counts.
        platforms: ``os/arch[/variant]`` of all its manifests.
    """
    value = _config(config)
    said: dict[str, str] = {}
    for each in (*annotations, _labels(value)):
        for key, text in each.items():
            said.setdefault(key, text)
    author = _first(said, f"{_OCI}authors", "maintainer", "MAINTAINER") or _text(
        value.get("author")
    )
    return ImageFacts(
        summary=_first(
            said, f"{_OCI}description", f"{_OCI}title", f"{_OLD}description", f"{_OLD}name"
        )[:SUMMARY_LENGTH_MAX].strip(" "),
        author=_without_mail(author)[:TEXT_LENGTH_MAX].strip(" "),
        licence=_first(said, f"{_OCI}licenses", f"{_OLD}license")[:TEXT_LENGTH_MAX].strip(" "),
        homepage=_url(said, f"{_OCI}url", f"{_OCI}documentation", f"{_OLD}url"),
        repository=_url(said, f"{_OCI}source", f"{_OLD}vcs-url"),
        keywords=sorted({each for each in platforms if is_platform(each)})[:PLATFORMS_MAX],
        base=_base(said),
    )


def config_platform(config: bytes) -> str:
    """Return ``os/arch[/variant]`` as an image's config says, empty if it does not."""
    value = _config(config)
    parts = [_text(value.get(key)) for key in ("os", "architecture", "variant")]
    platform = "/".join(part for part in parts if part)
    return platform if is_platform(platform) else ""


def is_platform(text: str) -> bool:
    """Tell whether a text is ``os/arch[/variant]`` as the log may hold it."""
    return _PLATFORM.fullmatch(text) is not None


def _config(data: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(data) if 0 < len(data) <= CONFIG_BYTES_MAX else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _labels(config: Mapping[str, object]) -> dict[str, str]:
    inner = config.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {key: text for key, text in labels.items() if isinstance(text, str)}


def _first(said: Mapping[str, str], *keys: str) -> str:
    return next((text for key in keys if (text := _text(said.get(key)))), "")


def _text(value: object) -> str:
    """Return a text in one line, without what could hide or move other text."""
    if not isinstance(value, str):
        return ""
    # Cut before cleaning, too: a label may have megabytes.
    return _SPACES.sub(" ", _UNSAFE.sub(" ", value[: 4 * SUMMARY_LENGTH_MAX])).strip(" ")


def _without_mail(text: str) -> str:
    return _SPACES.sub(" ", _WORD_WITH_AT.sub("", text)).strip(" ,;<>()")


def _url(said: Mapping[str, str], *keys: str) -> str:
    """Return the first that is an address which a page may link to."""
    for key in keys:
        text = _text(said.get(key))
        if len(text) <= TEXT_LENGTH_MAX and _URL.fullmatch(text) and "@" not in text:
            return text
    return ""


def _base(said: Mapping[str, str]) -> list[str]:
    """Return the image that this one is based on, as a package of the log, or nothing."""
    name = _text(said.get(f"{_OCI}base.name"))
    if not name:
        return []
    try:
        found = parse_reference(name, default_host=_DEFAULT_HOST)
        digest = _text(said.get(f"{_OCI}base.digest"))
        version = str(OciDigest.parse(digest)) if digest else found.version
        return [str(Purl.parse(str(found.name.purl(version))))]
    except InvalidInputError:
        return []
