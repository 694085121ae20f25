"""What differs between two texts, line by line, at a cost that grows with their length. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TEXT_BYTES_MAX: Final = 512 * 1024
LINES_MAX: Final = 12
"""How many lines of one file are shown."""

_LINE_CHARACTERS = 240


@dataclass(frozen=True, slots=True)
class TextDifference:
    """A line or a block of lines that differs."""

    attribute: str
    built: str
    published: str


def text_differences(ours: bytes, theirs: bytes) -> list[TextDifference] | None:
    """Return the first differences of two texts, or None where one of them is no text."""
    one, other = _decoded(ours), _decoded(theirs)
    if one is None or other is None:
        return None
    if one.replace("\r\n", "\n") == other.replace("\r\n", "\n"):
        return [TextDifference("line ends", _line_ends(one), _line_ends(other))]
    one_lines, other_lines = one.splitlines(), other.splitlines()
    start = _common(one_lines, other_lines)
    end = _common(one_lines[start:][::-1], other_lines[start:][::-1])
    ours_left = one_lines[start : len(one_lines) - end]
    theirs_left = other_lines[start : len(other_lines) - end]
    if not ours_left and not theirs_left:
        return [TextDifference("line ends", _line_ends(one), _line_ends(other))]
    if len(ours_left) == len(theirs_left):
        return list(_pairs(start + 1, ours_left, theirs_left))
    return [
        TextDifference(f"lines from {start + 1}", _block(ours_left), _block(theirs_left)),
    ]


def _pairs(number: int, ours: list[str], theirs: list[str]) -> Iterator[TextDifference]:
    shown = 0
    for offset, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            shown += 1
            if shown > LINES_MAX:
                return
            yield TextDifference(
                f"line {number + offset}", _around(one, other), _around(other, one)
            )


def _around(line: str, other: str) -> str:
    """Return a line, or of a long one the part where it begins to differ."""
    if len(line) <= _LINE_CHARACTERS:
        return repr(line)
    at = next((i for i, (a, b) in enumerate(zip(line, other, strict=False)) if a != b), len(other))
    start = max(0, min(at - 40, len(line) - _LINE_CHARACTERS))
    cut = line[start : start + _LINE_CHARACTERS]
    return f"{'…' if start else ''}{cut!r}{'…' if start + _LINE_CHARACTERS < len(line) else ''}"


def _block(lines: list[str]) -> str:
    if not lines:
        return "nothing"
    shown = "\n".join(line[:_LINE_CHARACTERS] for line in lines[:LINES_MAX])
    more = len(lines) - LINES_MAX
    return f"{shown}\n… {more} more lines" if more > 0 else shown


def _common(ours: list[str], theirs: list[str]) -> int:
    """Return how many lines at the start are equal."""
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return index
    return min(len(ours), len(theirs))


def _line_ends(text: str) -> str:
    crlf = text.count("\r\n")
    lf = text.count("\n") - crlf
    end = "" if text.endswith("\n") else ", none at the end"
    if crlf and lf:
        return f"{crlf} CRLF and {lf} LF{end}"
    return f"{'CRLF' if crlf else 'LF' if lf else 'none'}{end if crlf or lf else ''}"


def _decoded(data: bytes) -> str | None:
    if len(data) > TEXT_BYTES_MAX or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
