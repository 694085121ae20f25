"""What properties of archives have in common: trees of files, and bytes that were damaged."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st


def is_tree(files: Mapping[str, object]) -> bool:
    """Whether no file is also a folder."""
    return not any(other.startswith(f"{name}/") for name in files for other in files)


def mutate(data: bytes, draw: st.DataObject) -> bytes:
    """Return the bytes with some written over, cut off, put in between, or there again."""
    kind = draw.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
    at = draw.draw(st.integers(0, len(data) - 1))
    some = draw.draw(st.binary(min_size=1, max_size=8))
    match kind:
        case "flip":
            return data[:at] + some + data[at + len(some) :]
        case "cut":
            return data[:at]
        case "insert":
            return data[:at] + some + data[at:]
        case _:
            return data[:at] + data[at // 2 :]
