"""How much memory an object and all that it holds take.

Used to hold the core to bounds while traitors flood it. Sizes are those of the interpreter, shared
objects counted once; classes, functions and other code are free.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

_FREE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, Enum)


def footprint(root: object) -> int:
    """Return the bytes that ``root`` and everything reachable from its data take.

    Costs a visit to every object; meant for a few calls in a run.
    """
    seen: set[int] = set()
    waiting: list[object] = [root]
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _FREE):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting.extend(_held_by(one))
    return total


def _held_by(one: object) -> Iterable[object]:
    if isinstance(one, str | bytes | bytearray | int | float | bool | None):
        return ()
    if isinstance(one, dict):
        return (*one.keys(), *one.values())
    if isinstance(one, list | tuple | set | frozenset):
        return tuple(one)
    held: list[object] = list(vars(one).values()) if hasattr(one, "__dict__") else []
    for kind in type(one).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            attribute = _slot(kind, name)
            if hasattr(one, attribute):
                held.append(getattr(one, attribute))
    return held


def _slot(kind: type, name: str) -> str:
    """Return the name under which a slot is stored: private ones carry their class."""
    if name.startswith("__") and not name.endswith("__"):
        return f"_{kind.__name__.lstrip('_')}{name}"
    return name
