"""A compiled class, read for people: what differs between two of one name. Pure.

It never enters a verdict: a class counts to the last byte. It only says in a Java developer's
words why two are not equal: another release of Java, a method that came or went, other
instructions, other debug tables, constants that one side has alone.
Format: the Java Virtual Machine Specification, chapter 4. Classes that do not parse are described
by whoever calls as the bytes that they are.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from buildpipelines.compare.instructions import first_difference

DIFFERENCES_MAX: Final = 10
"""How many differences of one class are told."""

_JAVA_1_1_MAJOR = 45
_VALUE_CHARACTERS = 160
_CONSTANT_BYTES = 256
_STRINGS_SHOWN = 4
_UTF8 = 1
_SIZES: Final = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
"""Bytes of each kind of constant, by its tag."""

_WIDE_TAGS: Final = (5, 6)
_TABLES: Final = {
    "LineNumberTable": "line numbers",
    "LocalVariableTable": "names of local variables",
    "LocalVariableTypeTable": "types of local variables",
    "StackMapTable": "stack map",
}

_RESOLVED: Final = ("LineNumberTable", "LocalVariableTable", "LocalVariableTypeTable", "SourceFile")
"""Attributes whose meaning is read, whatever the numbering of constants."""

_PRIMITIVES: Final = {
    "B": "byte",
    "C": "char",
    "D": "double",
    "F": "float",
    "I": "int",
    "J": "long",
    "S": "short",
    "V": "void",
    "Z": "boolean",
}
_TYPE = re.compile(r"(\[*)(?:([BCDFIJSVZ])|L([^;]{1,1000});)")

Attributes = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """One thing that differs between two classes."""

    attribute: str
    built: str
    published: str


@dataclass(frozen=True, slots=True)
class _Member:
    """A field or a method."""

    access: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class _Class:
    """A class file, as far as it is told of."""

    version: tuple[int, int]
    constants: _Constants
    access: int
    parents: tuple[str, ...]
    fields: Mapping[str, _Member]
    methods: Mapping[str, _Member]
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class _Code:
    """A method's instructions; stack, locals and handlers; and its debug tables."""

    code: bytes
    sizes: tuple[str, str, str]
    tables: Attributes


class _Reader:
    """Takes integers and bytes from the front; ValueError where there are none left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise ValueError("the class is cut")
        self._at += size
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def finish(self) -> None:
        if self._at != len(self._data):
            raise ValueError("bytes follow the class")


class _Constants:
    """The constant pool."""

    def __init__(self, reader: _Reader) -> None:
        self.count = reader.number(2)
        self._items: dict[int, tuple[int, bytes]] = {}
        index = 1
        while index < self.count:
            tag = reader.number(1)
            size = reader.number(2) if tag == _UTF8 else _SIZES.get(tag)
            if size is None:
                raise ValueError(f"constant of kind {tag}")
            self._items[index] = (tag, reader.take(size))
            index += 2 if tag in _WIDE_TAGS else 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constants) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self.count)

    def text(self, index: int, depth: int = 4) -> str:
        """Return what a constant means, wherever it stands in the pool."""
        tag, data = self._items.get(index, (0, b""))
        if tag == _UTF8:
            text = data[:_CONSTANT_BYTES].decode(errors="backslashreplace")
            # Thousands of instructions may name one long text: they get its start and checksum.
            is_cut = len(data) > _CONSTANT_BYTES
            return f"{text}…{zlib.crc32(data):08x}" if is_cut else text
        if depth == 0 or tag == 0:
            return f"constant {index}"
        if tag in (3, 4, 5, 6):
            return _number_text(tag, data)
        if tag in (7, 8, 16, 19, 20):
            text = self.text(int.from_bytes(data, "big"), depth - 1)
            return repr(text) if tag == 8 else text
        if tag in (17, 18):
            # The first half points into a table of the class; the second says name and type.
            return f"dynamic {self.text(int.from_bytes(data[2:], 'big'), depth - 1)}"
        head = data[:-2]
        one = str(data[0]) if tag == 15 else self.text(int.from_bytes(head, "big"), depth - 1)
        other = self.text(int.from_bytes(data[-2:], "big"), depth - 1)
        return f"{one}{':' if tag == 12 else '.'}{other}"

    def strings(self) -> set[str]:
        """Return all texts of the pool: names, types and strings of the program."""
        return {self.text(index) for index, (tag, _) in self._items.items() if tag == _UTF8}


def class_differences(ours: bytes, theirs: bytes) -> list[ClassDifference] | None:
    """Return the first differences of two classes, or None where one of them does not parse.

    It costs time in proportion to their sizes.
    """
    try:
        one, other = _read_class(ours), _read_class(theirs)
        found: list[ClassDifference] = []
        for difference in _all(one, other):
            found.append(difference)
            if len(found) == DIFFERENCES_MAX:
                break
    except (ValueError, struct.error):
        return None
    if not found and one.constants != other.constants:
        counts = (f"{c.constants.count} entries in its own order" for c in (one, other))
        return [ClassDifference("constant pool", *counts)]
    return found or None


def _read_class(data: bytes) -> _Class:
    reader = _Reader(data)
    if reader.take(4) != b"\xca\xfe\xba\xbe":
        raise ValueError("no class")
    minor, major = reader.number(2), reader.number(2)
    constants = _Constants(reader)
    access = reader.number(2)
    parents = [constants.text(reader.number(2)) for _ in range(2)]
    parents += [constants.text(reader.number(2)) for _ in range(reader.number(2))]
    fields = _read_members(reader, constants)
    methods = _read_members(reader, constants)
    attributes = _read_attributes(reader, constants)
    reader.finish()
    return _Class((major, minor), constants, access, tuple(parents), fields, methods, attributes)


def _read_members(reader: _Reader, constants: _Constants) -> dict[str, _Member]:
    found: dict[str, _Member] = {}
    for _ in range(reader.number(2)):
        access, name, kind = reader.number(2), reader.number(2), reader.number(2)
        attributes = _read_attributes(reader, constants)
        found[_signature(constants.text(name), constants.text(kind))] = _Member(access, attributes)
    return found


def _signature(name: str, descriptor: str) -> str:
    """Return a member as a Java developer writes it, types by their last name."""
    types = [
        (_PRIMITIVES.get(primitive) or named.rpartition("/")[2]) + "[]" * len(dimensions)
        for dimensions, primitive, named in _TYPE.findall(descriptor)
    ]
    if not descriptor.startswith("("):
        return f"{name}: {', '.join(types)}"
    *parameters, result = types or [""]
    return f"{name}({', '.join(parameters)}): {result}"


def _read_attributes(reader: _Reader, constants: _Constants) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for _ in range(reader.number(2)):
        name = constants.text(reader.number(2))
        found[name] = reader.take(reader.number(4))
    return found


def _all(one: _Class, other: _Class) -> Iterator[ClassDifference]:
    """Yield what differs, what explains the most first."""
    if one.version != other.version:
        yield ClassDifference("class version", _version(one.version), _version(other.version))
    if one.access != other.access:
        yield ClassDifference("access flags", f"{one.access:#06x}", f"{other.access:#06x}")
    if one.parents != other.parents:
        yield _pair("class, superclass, interfaces", one.parents, other.parents)
    details = _Details(one, other)
    yield from _members(details, "field", one.fields, other.fields)
    yield from _members(details, "method", one.methods, other.methods)
    yield from _strings(one, other)
    details.compare("the class", one.attributes, other.attributes)
    yield from details.told()


def _strings(one: _Class, other: _Class) -> Iterator[ClassDifference]:
    mine, others = one.constants.strings(), other.constants.strings()
    if mine != others:
        yield ClassDifference(
            "constants on one side alone", _first(mine - others), _first(others - mine)
        )


def _members(
    details: _Details, kind: str, ours: Mapping[str, _Member], theirs: Mapping[str, _Member]
) -> Iterator[ClassDifference]:
    for name in sorted(ours.keys() | theirs.keys()):
        label = f"{kind} {name}"
        if name not in ours or name not in theirs:
            is_ours = name in ours
            yield ClassDifference(
                label, "present" if is_ours else "absent", "absent" if is_ours else "present"
            )
            continue
        mine, others = ours[name], theirs[name]
        if mine.access != others.access:
            yield ClassDifference(
                f"{label}: access flags", f"{mine.access:#06x}", f"{others.access:#06x}"
            )
        our_code, their_code = mine.attributes.get("Code"), others.attributes.get("Code")
        if our_code is not None and their_code is not None:
            yield from details.code(label, name, our_code, their_code)
        details.compare(name, mine.attributes, others.attributes)
    if ours.keys() == theirs.keys() and list(ours) != list(theirs):
        yield ClassDifference(f"order of {kind}s", _first(ours), _first(theirs))


class _Details:
    """Attributes of a class and its members; tables that differ everywhere are told once."""

    def __init__(self, one: _Class, other: _Class) -> None:
        self._one, self._other = one, other
        self._found: dict[tuple[str, str, str], list[str]] = {}

    def code(self, label: str, name: str, mine: bytes, others: bytes) -> Iterator[ClassDifference]:
        """Yield where instructions differ; remember which debug tables do."""
        ours, theirs = _split_code(mine, self._one), _split_code(others, self._other)
        difference = first_difference(
            ours.code, theirs.code, self._one.constants.text, self._other.constants.text
        )
        if difference is not None:
            yield _pair(f"{label}: instructions", *difference)
        elif ours.sizes != theirs.sizes:
            yield _pair(f"{label}: stack, locals, handlers", ours.sizes, theirs.sizes)
        self.compare(name, ours.tables, theirs.tables)

    def compare(self, where: str, ours: Attributes, theirs: Attributes) -> None:
        """Remember which attributes differ."""
        for name in ours.keys() | theirs.keys():
            if name == "Code":
                continue
            mine, others = ours.get(name), theirs.get(name)
            if mine is None or others is None:
                values = ("absent", "present") if mine is None else ("present", "absent")
            elif _meaning(name, mine, self._one) == _meaning(name, others, self._other):
                continue
            elif name == "SourceFile":
                values = (_text_at(mine, self._one), _text_at(others, self._other))
            elif len(mine) == len(others) and not self._is_comparable(name):
                continue
            else:
                values = (f"{len(mine)} bytes", f"{len(others)} bytes")
                if len(mine) == len(others) or name in _TABLES:
                    values = ("own values", "other values")
            self._found.setdefault((_TABLES.get(name, name), *values), []).append(where)

    def told(self) -> Iterator[ClassDifference]:
        """Yield what was remembered, each kind once."""
        for (name, built, published), places in sorted(self._found.items()):
            first = min(places)
            more = f" and {len(places) - 1} more" if len(places) > 1 else ""
            yield _pair(name, f"{built} in {first}{more}", published)

    def _is_comparable(self, name: str) -> bool:
        """Whether bytes that differ say more than that constants are numbered differently."""
        return name in _RESOLVED or self._one.constants == self._other.constants


def _meaning(name: str, data: bytes, found: _Class) -> object:
    """Return an attribute in a form that does not depend on the numbering of constants."""
    if name == "SourceFile":
        return _text_at(data, found)
    if name.startswith("LocalVariable") and len(data) % 10 == 2:
        rows = struct.iter_unpack(">5H", data[2:])
        text = found.constants.text
        return [(start, size, text(n), text(t), at) for start, size, n, t, at in rows]
    return data


def _text_at(data: bytes, found: _Class) -> str:
    return found.constants.text(int.from_bytes(data, "big"))


def _split_code(data: bytes, found: _Class) -> _Code:
    reader = _Reader(data)
    stack, local = reader.number(2), reader.number(2)
    code = reader.take(reader.number(4))
    handlers = reader.number(2)
    reader.take(8 * handlers)
    tables = _read_attributes(reader, found.constants)
    return _Code(code, (str(stack), str(local), str(handlers)), tables)


def _pair(attribute: str, built: object, published: object) -> ClassDifference:
    return ClassDifference(attribute, _cut(built), _cut(published))


def _cut(value: object) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    # The end stays: that is where long texts that begin alike differ.
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:120]}…{text[-30:]}"


def _first(names: set[str] | Mapping[str, _Member]) -> str:
    ordered = sorted(names) if isinstance(names, set) else list(names)
    shown = ", ".join(_cut(repr(name)) for name in ordered[:_STRINGS_SHOWN])
    more = len(ordered) - _STRINGS_SHOWN
    return f"{shown or 'none'}{f' and {more} more' if more > 0 else ''}"


def _version(version: tuple[int, int]) -> str:
    major, minor = version
    java = f"Java {major - _JAVA_1_1_MAJOR + 1}" if major > _JAVA_1_1_MAJOR + 3 else "early Java"
    return f"{major}.{minor} ({java})"


def _number_text(tag: int, data: bytes) -> str:
    layout = {3: ">i", 4: ">f", 5: ">q", 6: ">d"}[tag]
    return str(struct.unpack(layout, data)[0])
