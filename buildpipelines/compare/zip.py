"""What differs between the containers of two zip files, content aside. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from buildpipelines.extract.zip import ZipEntry

_VALUE_CHARACTERS = 100
_ATTRIBUTES: Final[dict[str, Callable[[ZipEntry], object]]] = {
    "time": lambda e: e.time,
    "mode": lambda e: (e.system, e.attributes),
    "compression": lambda e: (e.method, e.packed_size, e.flags),
    "extra": lambda e: e.extra,
}


@dataclass(frozen=True, slots=True)
class AttributeDifference:
    """An attribute that differs in ``count`` entries, with both values of the first of them."""

    attribute: str
    count: int
    name: str
    built: str
    published: str


def attribute_differences(
    pairs: Sequence[tuple[ZipEntry, ZipEntry]],
) -> Iterator[AttributeDifference]:
    """Yield the attributes in which pairs of entries (ours, theirs) of one name differ."""
    for attribute, read in _ATTRIBUTES.items():
        differing = [(a, b) for a, b in pairs if read(a) != read(b)]
        if differing:
            a, b = differing[0]
            yield AttributeDifference(
                attribute,
                len(differing),
                a.name,
                _show(attribute, read(a)),
                _show(attribute, read(b)),
            )


def _show(attribute: str, value: object) -> str:
    match attribute, value:
        case "time", (int(date), int(time)):
            return (
                f"{(date >> 9) + 1980}-{(date >> 5) & 15:02}-{date & 31:02} "
                f"{time >> 11:02}:{(time >> 5) & 63:02}:{(time & 31) * 2:02}"
            )
        case "mode", (int(system), int(mode)):
            return f"{mode:o} by system {system}"
        case "compression", (int(method), int(packed), int(flags)):
            return f"{'deflated' if method else 'stored'} to {packed} bytes, flags {flags:#06x}"
        case _, bytes(data):
            return data.hex()[:_VALUE_CHARACTERS] or "none"
        case _:
            raise AssertionError(attribute)
