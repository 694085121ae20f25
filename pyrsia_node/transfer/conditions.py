"""What ``Range`` and the conditional headers ask for. Pure.

RFC 9110 14.1.2 (byte ranges), 13.1 (conditions). A header that is malformed, or of a kind that we
do not answer, means what the RFC says it means: as if it were not there. So these functions never
raise, whatever the client sends.
"""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_RANGE: Final = re.compile(
    r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE
)
_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` up to, not including, ``end``. ``start < end`` unless the file is empty."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Return the number of bytes."""
        return self.end - self.start


class Unsatisfiable:
    """The range lies outside the file: answer 416."""


def parse_range(value: str | None, *, size: int) -> Span | Unsatisfiable | None:
    """Return the one range that the header asks for.

    Args:
        value: The header, or None.
        size: The size of the file in bytes.

    Returns:
        None for the whole file: no header, a malformed one, another unit, or several ranges. A
        server may ignore those (RFC 9110 14.2), and nobody gets wrong bytes.
    """
    match = _RANGE.fullmatch(value) if value is not None else None
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        # The last N bytes; more than there are means the whole file.
        count = min(int(last), size)
        return Span(size - count, size) if count else Unsatisfiable()
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        return Unsatisfiable()
    return Span(start, min(int(last) + 1, size) if last else size)


def matches_etag(value: str | None, etag: str) -> bool:
    """Tell whether ``If-None-Match`` names ``etag`` (weak comparison, RFC 9110 8.8.3.2)."""
    if value is None:
        return False
    if value.strip() == "*":
        return True
    wanted = etag.removeprefix("W/")
    return any(found.removeprefix("W/") == wanted for found in _ETAG.findall(value))


def range_applies(if_range: str | None, etag: str) -> bool:
    """Tell whether ``If-Range`` lets the range stand (strong comparison; dates never match)."""
    return if_range is None or if_range.strip() == etag


@lru_cache(maxsize=1024)
def http_date(seconds: int) -> str:
    """Return a time, in Unix seconds, as header fields spell it (RFC 9110 5.6.7)."""
    return email.utils.formatdate(seconds, usegmt=True)


def is_unchanged_since(value: str | None, modified_s: int) -> bool:
    """Tell whether ``If-Modified-Since`` names a time at or after ``modified_s`` (Unix seconds)."""
    if value is None:
        return False
    try:
        since = email.utils.parsedate_to_datetime(value)
        return since.timestamp() >= modified_s
    except (ValueError, TypeError, IndexError, OverflowError):
        return False


def is_known(
    none_match: str | None, modified_since: str | None, *, etag: str, modified_s: int | None
) -> bool:
    """Tell whether the client has what would be sent: then the answer is 304.

    Where both conditions are given only the first one counts (RFC 9110 13.1.3).
    """
    if none_match is not None:
        return matches_etag(none_match, etag)
    return modified_s is not None and is_unchanged_since(modified_since, modified_s)
