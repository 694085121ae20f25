"""Reads small XML documents of strangers: no document type, no entities, nothing fetched. Pure.

Expat underneath, with every declaration that could define or fetch something refused, and size,
depth and count bounded, so a document costs what it weighs. Names are taken without their prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from buildpipelines.errors import FormatError

BYTES_MAX: Final = 4 * 1024 * 1024
DEPTH_MAX: Final = 64
ELEMENTS_MAX: Final = 50_000


@dataclass(slots=True)
class Element:
    """An element: its name, the text before its first child, and its children in order."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def child(self, name: str) -> Element | None:
        """Return the first child of that name, or None."""
        return next((each for each in self.children if each.name == name), None)

    def value(self, *names: str) -> str:
        """Return the stripped text at a path of children; "" where there is none."""
        found: Element | None = self
        for name in names:
            found = None if found is None else found.child(name)
        return "" if found is None else found.text.strip()

    def all(self, parent: str, name: str) -> list[Element]:
        """Return the children called ``name`` of the first child called ``parent``."""
        found = self.child(parent)
        return [] if found is None else [e for e in found.children if e.name == name]


def parse_xml(data: bytes) -> Element:
    """Return the root element of a document.

    Raises:
        FormatError: not well-formed, with a document type or an entity, or over a bound.
    """
    if len(data) > BYTES_MAX:
        raise FormatError(f"an XML document of {len(data)} bytes; {BYTES_MAX} at most")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.ExternalEntityRefHandler = reader.refuse_reference
    try:
        parser.Parse(data, True)  # noqa: FBT003 - the standard library's signature
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise FormatError(f"not well-formed XML: {error}") from error
    assert reader.root is not None, "a well-formed document has a root"
    return reader.root


class _Reader:
    """Builds the tree."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= DEPTH_MAX or self._count > ELEMENTS_MAX:
            raise FormatError(
                f"an XML document deeper than {DEPTH_MAX} or with more than {ELEMENTS_MAX} elements"
            )
        element = Element(name.rpartition(":")[2])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        # Text between children is white space in every document that we read for its values.
        if self._open and not self._open[-1].children:
            self._open[-1].text += text

    def refuse(self, *_: object) -> None:
        raise FormatError("an XML document with a document type or an entity is not read")

    def refuse_reference(self, *_: object) -> int:
        raise FormatError("an XML document with a document type or an entity is not read")
