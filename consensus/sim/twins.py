"""Scenarios of the Twins method: who leads each round, and who hears whom in it.

From OPODIS 2021: all that a Byzantine member can do by consistent local logic is two honest copies
under one key, if somebody decides who talks to whom. A scenario scripts the leader and the
partition of some rounds; ``stage`` plays it. Scenarios are numbered, and a walk visits every number
once in a scattered order, so that any part of the walk is a sample and all of it is everything.

Copies of one kind are interchangeable. Where the symmetries are few enough to try (n = 4), only
the first of each family of equal scenarios counts; the rest are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from math import gcd
from typing import Final

BLOCKS_MAX: Final = 3
"""Most parts into which a round divides the copies."""

SYMMETRIES_MAX: Final = 100
"""Above this many, equal scenarios are not looked for: there are far more than anybody plays."""

_Images = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """One round: the member that leads it, and for each copy the part that it is in."""

    leader: int
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Cast:
    """Who plays: ``n`` members of which the first ``pairs`` have a twin, for ``rounds`` rounds.

    Copy i < n is member i; copy n + k is the twin of member k.
    """

    n: int
    pairs: int
    rounds: int

    @property
    def copies(self) -> int:
        """Return how many copies there are."""
        return self.n + self.pairs

    def member(self, copy: int) -> int:
        """Return the member that a copy stands for."""
        return copy if copy < self.n else copy - self.n

    @cached_property
    def partitions(self) -> tuple[tuple[int, ...], ...]:
        """Return every way to divide the copies into at most ``BLOCKS_MAX`` parts."""
        found: list[tuple[int, ...]] = [(0,)]
        for _ in range(self.copies - 1):
            found = [(*one, part) for one in found for part in range(min(max(one) + 2, BLOCKS_MAX))]
        return tuple(found)

    @property
    def options(self) -> int:
        """Return in how many ways a single round can go."""
        return self.n * len(self.partitions)

    @property
    def size(self) -> int:
        """Return how many scenarios there are, equal ones counted."""
        return int(self.options**self.rounds)

    def scenario(self, number: int) -> tuple[Round, ...]:
        """Return the rounds of a scenario."""
        assert 0 <= number < self.size
        ways = len(self.partitions)
        return tuple(
            Round(option // ways, self.partitions[option % ways]) for option in self._digits(number)
        )

    def is_first(self, number: int) -> bool:
        """Say whether no equal scenario has a lower number; always, if there are too many."""
        digits = self._digits(number)
        return all(
            tuple(images[option] for option in digits) >= digits for images in self._symmetries
        )

    def walk(self, start: int, end: int) -> Iterator[int]:
        """Yield the numbers at positions [start, end) of the walk that are first of their family.

        The walk visits every number exactly once.
        """
        stride = self._stride
        for position in range(start, min(end, self.size)):
            number = position * stride % self.size
            if self.is_first(number):
                yield number

    @cached_property
    def _stride(self) -> int:
        """A step near the golden section, without a common divisor with the size."""
        stride = self.size * 618_034 // 1_000_000 | 1
        while gcd(stride, self.size) != 1:
            stride += 2
        return stride

    def _digits(self, number: int) -> tuple[int, ...]:
        digits = []
        for _ in range(self.rounds):
            number, option = divmod(number, self.options)
            digits.append(option)
        return tuple(digits)

    @cached_property
    def _symmetries(self) -> tuple[_Images, ...]:
        """Return for each renaming of equal copies what becomes of each option."""
        twins, others = range(self.pairs), range(self.pairs, self.n)
        renamings = [
            (*pairs, *singles, *swaps)
            for pairs in permutations(twins)
            for singles in permutations(others)
            for swaps in product((False, True), repeat=self.pairs)
        ]
        if len(renamings) > SYMMETRIES_MAX:
            return ()
        place = {parts: at for at, parts in enumerate(self.partitions)}
        return tuple(self._images(renaming, place) for renaming in renamings)

    def _images(self, renaming: tuple[int, ...], place: dict[tuple[int, ...], int]) -> _Images:
        """Return what a renaming makes of each option."""
        names, swaps = renaming[: self.n], renaming[self.n :]
        target = [0] * self.copies
        for copy in range(self.copies):
            member = names[self.member(copy)]
            is_second = member < self.pairs and (copy >= self.n) != bool(swaps[member])
            target[copy] = member + self.n if is_second else member
        images = []
        for leader in range(self.n):
            for parts in self.partitions:
                moved = [0] * self.copies
                for copy, part in enumerate(parts):
                    moved[target[copy]] = part
                images.append(names[leader] * len(self.partitions) + place[_in_order(moved)])
        return tuple(images)


def _in_order(parts: list[int]) -> tuple[int, ...]:
    """Return the same division with its parts numbered as they come."""
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(part, len(numbers)) for part in parts)
