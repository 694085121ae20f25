"""Text of other programs' configuration files, with the node put in and taken out again. Pure.

Both directions are idempotent, and taking out gives back what was there. What we change is marked,
so that a person who reads the file knows who wrote it.
"""

from __future__ import annotations

import re
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

_MARK: Final = "# pyrsia: "
_WAS: Final = "# pyrsia: was: "
_BEGIN: Final = "# >>> pyrsia >>>"
_END: Final = "# <<< pyrsia <<<"
_SECTION: Final = re.compile(r"\s*\[([^\]]+)\]")
_INDEX: Final = re.compile(r"\s*index[-_]url\s*[=:]", re.IGNORECASE)
_BYPASS: Final = re.compile(
    r"\s*(extra[-_]index[-_]url|find[-_]links)\s*[=:]\s*(.*)", re.IGNORECASE
)


def pip_with(text: str, url: str) -> str:
    """Return pip's configuration with ``url`` as the index; an earlier one is kept as a comment."""
    lines = pip_without(text).splitlines()
    out: list[str] = []
    section, is_placed = "", False
    ours = [f"{_MARK}the next line is written by `pyrsia configure pip`", f"index-url = {url}"]
    for line in lines:
        found = _SECTION.match(line)
        if found:
            section = found.group(1).strip().lower()
        if section == "global" and _INDEX.match(line):
            out.append(_WAS + line)
            continue
        out.append(line)
        if found and section == "global" and not is_placed:
            out += ours
            is_placed = True
    if not is_placed:
        out = ["[global]", *ours, *([""] if out else []), *out]
    return "\n".join(out) + "\n"


def pip_without(text: str) -> str:
    """Undo ``pip_with``; a ``[global]`` section that only we needed goes too."""
    out: list[str] = []
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        line = lines[position]
        if line.startswith(_WAS):
            out.append(line.removeprefix(_WAS))
        elif line.startswith(_MARK):
            position += 1  # the line that the mark announces
        else:
            out.append(line)
        position += 1
    if out[:2] == ["[global]", ""] or out == ["[global]"]:
        out = out[2:]
    return "\n".join(out) + ("\n" if out else "")


def pip_bypasses(text: str) -> list[str]:
    """Return settings through which pip would fetch past the node."""
    return [line.strip() for line in text.splitlines() if _BYPASS.match(line)]


def uv_with(text: str, url: str) -> str:
    """Return uv's configuration with ``url`` as the default index.

    Raises:
        InvalidInputError: the file names a default index already; uv allows one only.
    """
    rest = uv_without(text)
    if re.search(r"^\s*default\s*=\s*true", rest, re.MULTILINE) or re.search(
        r"^\s*index-url\s*=", rest, re.MULTILINE
    ):
        raise InvalidInputError(
            "uv.toml names a default index already (default = true, or index-url); remove it first"
        )
    block = f'{_BEGIN}\n[[index]]\nname = "pyrsia"\nurl = "{url}"\ndefault = true\n{_END}\n'
    # TOML tables end where the next begins, so ours goes last, behind everything of the user's.
    return rest + ("\n" if rest else "") + block


def uv_without(text: str) -> str:
    """Undo ``uv_with``."""
    pattern = re.compile(rf"\n?{re.escape(_BEGIN)}\n.*?{re.escape(_END)}\n?", re.DOTALL)
    return pattern.sub("", text)


def uv_bypasses(text: str) -> list[str]:
    """Return settings through which uv would fetch past the node."""
    rest = uv_without(text)
    pattern = re.compile(r"^\s*(extra-index-url|find-links|\[\[index\]\])", re.MULTILINE)
    return [found.group(1) for found in pattern.finditer(rest)]
