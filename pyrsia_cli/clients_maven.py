"""Maven's ``settings.xml``: the node goes in as a mirror, and out without a trace. Pure.

The file is a person's own: nothing but our element is touched, and every other byte stays. So the
text is read with a parser that tells where each element stands, and cut there. A comment before
our element says what was made for it, so that taking it out also undoes that.
Mirrors: Maven takes the first whose ``mirrorOf`` is the repository's id, else the first whose
pattern fits; ours stands first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape

from pyrsia_node.model.errors import InvalidInputError

ID: Final = "pyrsia"
ALL: Final = "*"

_NOTE: Final = 'pyrsia: written by "pyrsia configure maven"'
_WITH_MIRRORS: Final = "made mirrors"
"""<mirrors> was made for our element."""

_FILLED: Final = "filled mirrors"
"""<mirrors/> was opened for it."""

_SETTINGS: Final = "filled settings"
"""<settings/> was opened for a <mirrors> that was made for it."""

_FILE: Final = "made the file"
"""The whole file was made for it."""

_EMPTY_FILE: Final = "<settings>\n</settings>\n"
_PATTERN: Final = re.compile(r"[!-~]{1,200}")
_ANY_OF_MANY: Final = re.compile(r"[*,!:]")
_DEPTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``end`` of an element; its content begins at ``inner``.

    ``close`` is where its end tag begins; of ``<x/>`` that is ``inner``, and both are ``end``.
    """

    start: int
    inner: int
    close: int
    end: int

    @property
    def is_empty_tag(self) -> bool:
        """Whether it is written ``<x/>``."""
        return self.inner == self.end


@dataclass(slots=True)
class _Element:
    path: tuple[str, ...]
    start: int
    inner: int
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _File:
    """What matters in a settings file."""

    settings: Span | None = None
    mirrors: Span | None = None
    mirror: list[tuple[Span, dict[str, str]]] = field(default_factory=list)
    notes: list[tuple[int, int, str]] = field(default_factory=list)
    repositories: list[dict[str, str]] = field(default_factory=list)
    proxies: list[dict[str, str]] = field(default_factory=list)


def maven_with(text: str, url: str, *, mirror_of: str = ALL) -> str:
    """Return the settings with the node as the mirror of ``mirror_of``, the first of all.

    Args:
        text: The file as it is; "" where there is none.
        url: The node's ``/maven2``.
        mirror_of: Which repositories: ``*``, an id such as ``central``, or a pattern of Maven's.

    Raises:
        InvalidInputError: ``mirror_of`` is none, or the file is no settings.xml that can be read.
    """
    if not _PATTERN.fullmatch(mirror_of):
        raise InvalidInputError(f"--mirror-of {mirror_of!r:.100} is no pattern of Maven's")
    clean = maven_without(text)
    data = (clean or _EMPTY_FILE).encode()
    found = _read(data)
    assert found.settings is not None
    eol = "\r\n" if b"\r\n" in data else "\n"
    if found.mirrors is not None:
        made = _FILLED if found.mirrors.is_empty_tag else ""
        block = _block(_mirror(url, mirror_of, made), eol, depth=2)
        return _inserted(data, found.mirrors, "mirrors", block, f"{eol}  ")
    made = _SETTINGS if found.settings.is_empty_tag else _WITH_MIRRORS
    mirror = _mirror(url, mirror_of, made if clean else _FILE)
    lines = ["<mirrors>", *(f"  {line}" for line in mirror), "</mirrors>"]
    return _inserted(data, found.settings, "settings", _block(lines, eol, depth=1), eol)


def maven_without(text: str) -> str:
    """Return the settings without the node; "" if nothing else was ever in the file.

    Raises:
        InvalidInputError: The file is no settings.xml that can be read.
    """
    if not text:
        return ""
    data = text.encode()
    found = _read(data)
    ours = [(span.start, span.end) for span, texts in found.mirror if texts.get("id") == ID]
    ours += [(start, end) for start, end, _ in found.notes]
    if not ours:
        return text
    made = {what for _, _, what in found.notes}
    cuts = [(_line_start(data, start), end) for start, end in ours]
    kept = _without(data, cuts)
    rest = _read(kept)
    if rest.mirrors is not None and _is_blank(kept, rest.mirrors):
        if made & {_WITH_MIRRORS, _SETTINGS, _FILE}:
            kept = _without(kept, [(_line_start(kept, rest.mirrors.start), rest.mirrors.end)])
        elif _FILLED in made:
            kept = _closed(kept, rest.mirrors)
    rest = _read(kept)
    assert rest.settings is not None
    if _SETTINGS in made and _is_blank(kept, rest.settings):
        kept = _closed(kept, rest.settings)
    result = kept.decode()
    return "" if _FILE in made and result == _EMPTY_FILE else result


def maven_bypasses(text: str, host: str) -> list[str]:
    """Return what in the settings fetches past the node, or keeps Maven from reaching it.

    Args:
        text: The settings with the node in them.
        host: The node's host.
    """
    found = _read(text.encode())
    mirrors = [texts for _, texts in found.mirror]
    own = [each.get("mirrorOf", "") for each in mirrors if each.get("id") == ID]
    past = [
        f"mirror {each.get('id', '')} of {each.get('mirrorOf', '')}"
        for each in mirrors
        if each.get("id") != ID
        and each.get("mirrorOf", "") not in own
        and (ALL not in own or not _ANY_OF_MANY.search(each.get("mirrorOf", "")))
    ]
    if not any(ALL in each for each in own):
        ids = sorted({each.get("id", "") for each in found.repositories} - set(own))
        past += [f"repository {each}" for each in ids]
    past += [
        f"proxy {each.get('id') or each.get('host', '')} (unless its nonProxyHosts names {host})"
        for each in found.proxies
        if each.get("active", "true") == "true"
        and host not in re.split(r"[|,]", each.get("nonProxyHosts", ""))
    ]
    return past


def _mirror(url: str, mirror_of: str, made: str) -> list[str]:
    note = f"{_NOTE}, which {made}" if made else _NOTE
    return [
        f"<!-- {note} -->",
        "<mirror>",
        f"  <id>{ID}</id>",
        f"  <mirrorOf>{escape(mirror_of)}</mirrorOf>",
        f"  <url>{escape(url)}</url>",
        "</mirror>",
    ]


def _block(lines: list[str], eol: str, *, depth: int) -> str:
    return "".join(f"{eol}{'  ' * depth}{line}" for line in lines)


# ------------------------------------------------------------------ cutting


def _inserted(data: bytes, element: Span, name: str, block: str, before_end: str) -> str:
    """Return the text with ``block`` as the first content of an element."""
    if not element.is_empty_tag:
        return (data[: element.inner] + block.encode() + data[element.inner :]).decode()
    # "<x attributes />" becomes "<x attributes >", so that one slash gives the old text again.
    opened = data[: element.end - 2] + b">"
    ended = f"{block}{before_end}</{name}>".encode()
    return (opened + ended + data[element.end :]).decode()


def _closed(data: bytes, element: Span) -> bytes:
    """Return the text with an element without content written as ``<x/>``."""
    return data[: element.inner - 1] + b"/>" + data[element.end :]


def _without(data: bytes, cuts: list[tuple[int, int]]) -> bytes:
    kept, at = b"", 0
    for start, end in sorted(cuts):
        kept += data[at : max(at, start)]
        at = max(at, end)
    return kept + data[at:]


def _line_start(data: bytes, at: int) -> int:
    """Return where the line break and the blanks before ``at`` begin; ``at`` if others precede."""
    blanks = at
    while blanks and data[blanks - 1 : blanks] in {b" ", b"\t"}:
        blanks -= 1
    if data[blanks - 1 : blanks] != b"\n":
        return at
    return blanks - (2 if data[blanks - 2 : blanks] == b"\r\n" else 1)


def _is_blank(data: bytes, element: Span) -> bool:
    return not element.is_empty_tag and not data[element.inner : element.close].strip()


# ------------------------------------------------------------------ reading


def _read(data: bytes) -> _File:
    """Return where things stand in a settings file.

    Raises:
        InvalidInputError: It is not well-formed, has a document type, or is no settings.xml.
    """
    reader = _Reader(data)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = lambda name, _: reader.start(name, parser.CurrentByteIndex)
    parser.EndElementHandler = lambda _: reader.end(parser.CurrentByteIndex)
    parser.CharacterDataHandler = reader.text
    parser.CommentHandler = lambda text: reader.comment(text, parser.CurrentByteIndex)
    try:
        parser.Parse(data, True)  # noqa: FBT003 - expat takes it by position
    except expat.ExpatError as error:
        raise InvalidInputError(f"it is not well-formed XML: {error}") from error
    return reader.found


def _refuse_doctype(*_declared: object) -> NoReturn:
    raise InvalidInputError("it has a document type, which is not read here")


class _Reader:
    """Handlers of a parser; all offsets are of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._open: list[_Element] = []
        self._words: list[str] = []
        self.found = _File()

    def start(self, name: str, at: int) -> None:
        path = (*(self._open[-1].path if self._open else ()), name)
        if path[0] != "settings":
            raise InvalidInputError(f"it is no settings.xml: its root is <{path[0]:.40}>")
        if len(path) > _DEPTH_MAX:
            raise InvalidInputError("its elements lie too deep in each other")
        self._words.clear()
        self._open.append(_Element(path, at, _tag_end(self._data, at)))

    def text(self, text: str) -> None:
        self._words.append(text)

    def comment(self, text: str, at: int) -> None:
        note, _, made = text.strip().partition(", which ")
        if note == _NOTE:
            self.found.notes.append((at, at + len(f"<!--{text}-->".encode()), made))

    def end(self, at: int) -> None:
        element = self._open.pop()
        is_empty = self._data[element.inner - 2 : element.inner] == b"/>"
        close = element.inner if is_empty else at
        end = element.inner if is_empty else self._data.index(b">", at) + 1
        if self._open:
            self._open[-1].texts[element.path[-1]] = "".join(self._words).strip()
        self._words.clear()
        self._keep(element, Span(element.start, element.inner, close, end))

    def _keep(self, element: _Element, span: Span) -> None:
        found = self.found
        match element.path:
            case ("settings",):
                found.settings = span
            case ("settings", "mirrors"):
                if found.mirrors is not None:
                    raise InvalidInputError("it has two <mirrors>, which Maven does not take")
                found.mirrors = span
            case ("settings", "mirrors", "mirror"):
                found.mirror.append((span, element.texts))
            case ("settings", "proxies", "proxy"):
                found.proxies.append(element.texts)
            case ("settings", "profiles", "profile", _, "repository" | "pluginRepository"):
                found.repositories.append(element.texts)
            case _:
                pass


def _tag_end(data: bytes, at: int) -> int:
    """Return the offset after the start tag that begins at ``at``: quotes may hold a ``>``."""
    quote = 0
    for index in range(at, len(data)):
        byte = data[index]
        if quote:
            quote = 0 if byte == quote else quote
        elif byte in b"\"'":
            quote = byte
        elif byte == ord(">"):
            return index + 1
    raise InvalidInputError("it ends within a tag")
