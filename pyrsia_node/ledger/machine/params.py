"""Parameters in force: those of the genesis, and what ``set_param`` changed since.

Specification: docs/spec/leaves.md, "Parameters".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from pyrsia_node.ledger.machine import records
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import (
    CLASS_MS_MAX,
    CLASS_MS_MIN,
    CLASSES,
    COUNT_MAX,
    ECOSYSTEM,
    ECOSYSTEMS_MAX,
    RULES,
    Params,
)
from pyrsia_node.model.limits import MEMBERS_MAX
from pyrsia_node.ports import KeyValueReader

RULES_MAX: Final = 10_000
"""Highest rules number that can be set."""

_PLAIN: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "burst": (1, COUNT_MAX),
        "min_authorized": (1, MEMBERS_MAX),
        "open_max": (1, COUNT_MAX),
        "rate_per_hour": (1, COUNT_MAX),
        "rules": (RULES, RULES_MAX),
        "sealed": (0, 1),
    }
)
_K: Final = re.compile(rf"k\.({ECOSYSTEM.pattern})")


@dataclass(frozen=True, slots=True)
class ParamsInForce:
    """What holds in a block.

    Attributes:
        params: What the genesis names.
        rules: The rules number that its header must carry.
        sealed: 1 if requests that open are sealed, else 0.
    """

    params: Params
    rules: int = RULES
    sealed: int = 0

    def value_of(self, name: str) -> int | None:
        """Return the value of a parameter by its name in ``set_param``; None if it has none."""
        group, _, rest = name.partition(".")
        if group == "k":
            return self.params.k.get(rest)
        if group == "class_ms":
            return self.params.class_ms.get(rest)
        return self._plain().get(name)

    def listed(self) -> dict[str, int]:
        """Return every parameter by its name, sorted."""
        found = {
            **self._plain(),
            **{f"k.{each}": value for each, value in self.params.k.items()},
            **{f"class_ms.{each}": value for each, value in self.params.class_ms.items()},
        }
        return dict(sorted(found.items()))

    def changed(self, name: str, value: int) -> ParamsInForce:
        """Return the parameters with one changed.

        Raises:
            InvalidInputError: No parameter has this name, the value is out of its bounds, or is
                the one in force; the text says which.
        """
        low, high = self._bounds(name)
        if not low <= value <= high:
            raise InvalidInputError(f"parameter {name} is {value}, not {low} to {high}")
        if self.value_of(name) == value:
            raise InvalidInputError(f"parameter {name} is {value} already")
        group, _, rest = name.partition(".")
        params = self.params
        match group:
            case "rules":
                return replace(self, rules=value)
            case "sealed":
                return replace(self, sealed=value)
            case "k":
                params = replace(params, k={**params.k, rest: value})
            case "class_ms":
                params = replace(params, class_ms={**params.class_ms, rest: value})
            case "burst":
                params = replace(params, burst=value)
            case "min_authorized":
                params = replace(params, min_authorized=value)
            case "open_max":
                params = replace(params, open_max=value)
            case _:
                params = replace(params, rate_per_hour=value)
        return replace(self, params=params)

    def _plain(self) -> dict[str, int]:
        params = self.params
        return {
            "burst": params.burst,
            "min_authorized": params.min_authorized,
            "open_max": params.open_max,
            "rate_per_hour": params.rate_per_hour,
            "rules": self.rules,
            "sealed": self.sealed,
        }

    def _bounds(self, name: str) -> tuple[int, int]:
        plain = _PLAIN.get(name)
        if name == "rules":
            # Rules only go up: blocks of older rules are in the log already.
            return self.rules + 1, RULES_MAX
        if plain is not None:
            return plain
        if name in {f"class_ms.{each}" for each in CLASSES}:
            return CLASS_MS_MIN, CLASS_MS_MAX
        if _K.fullmatch(name):
            if name[2:] not in self.params.k and len(self.params.k) >= ECOSYSTEMS_MAX:
                raise InvalidInputError(f"{name}: the network has {ECOSYSTEMS_MAX} ecosystems")
            return 0, MEMBERS_MAX
        known = ", ".join(sorted([*_PLAIN, *(f"class_ms.{each}" for each in CLASSES)]))
        raise InvalidInputError(
            f"no parameter is named {name!r}; there are {known} and k.<ecosystem>"
        )


def read_params(genesis: Params, state: KeyValueReader) -> ParamsInForce:
    """Return the parameters in force after the state's block. One scan of a few keys."""
    found = ParamsInForce(genesis)
    prefix = records.PARAM_PREFIX
    for key, value in state.scan(prefix.encode("ascii")):
        name = key.decode("ascii").removeprefix(prefix)
        number = json.loads(value)
        assert isinstance(number, int)
        if found.value_of(name) != number:
            found = found.changed(name, number)
    return found
