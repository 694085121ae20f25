"""Which of our media types an ``Accept`` header prefers. Pure. RFC 9110 12.5.1.

A header that is malformed in parts counts with its good parts; whatever a client sends, an answer
comes out and no exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_RANGE: Final = re.compile(
    r"\s*(?P<type>[!#$%&'*+.^_`|~0-9A-Za-z-]+)/(?P<subtype>[!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    r"\s*(?P<parameters>(?:;[^,]*)?)"
)
_QUALITY: Final = re.compile(
    r";\s*q=(?P<q>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE
)
_RANGES_MAX: Final = 64


def preferred(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the offered type that the client likes best, or None if it takes none of them.

    Args:
        accept: The header's value, several lines joined by commas; None takes anything.
        offered: Media types in lower case, our favourite first: it wins among equals.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_parse(part) for part in accept.split(",")[:_RANGES_MAX]]
    found = [each for each in ranges if each is not None]
    best: tuple[float, str] | None = None
    for media in offered:
        quality = _quality(media, found)
        if quality > 0 and (best is None or quality > best[0]):
            best = quality, media
    return None if best is None else best[1]


def _quality(media: str, ranges: Sequence[tuple[str, str, float]]) -> float:
    """Return the quality of the most specific range that fits."""
    kind, _, sub = media.partition("/")
    fitting = [
        ((r_type != "*") + (r_sub != "*"), quality)
        for r_type, r_sub, quality in ranges
        if r_type in {"*", kind} and r_sub in {"*", sub} and not (r_type == "*" != r_sub)
    ]
    return max(fitting, default=(0, 0.0))[1]


def _parse(part: str) -> tuple[str, str, float] | None:
    match = _RANGE.fullmatch(part)
    if match is None:
        return None
    quality = _QUALITY.search(match["parameters"])
    weight = float(quality["q"]) if quality is not None else 1.0
    if quality is None and re.search(r";\s*q\s*=", match["parameters"], re.IGNORECASE):
        return None
    return match["type"].lower(), match["subtype"].lower(), weight
