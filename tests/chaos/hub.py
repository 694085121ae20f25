"""The wire between the places: takes every packet, and drops, delays or delivers it.

One thread reads the TUN devices of all places. What happens to a packet is a pure function of
``Weather`` and a seeded generator, so partitions, one-way loss, delay with jitter and random loss
need nothing of the kernel: no netem, no packet filter. The bandwidth is not limited.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.chaos.namespaces import MTU_BYTES, Place

QUEUE_MAX: Final = 20_000
"""Packets under way; one more is lost, as in a router whose queue is full."""

_IPV4: Final = 4
_HEADER_BYTES: Final = 20
_WAIT_MAX_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to packets. Pairs are (source label, destination label)."""

    blocked: frozenset[tuple[str, str]] = frozenset()
    delay_ms: Mapping[str, float] = field(default_factory=dict)
    """Mean delay of what a label sends, or receives; an answer thus waits twice."""
    loss: Mapping[str, float] = field(default_factory=dict)
    """Share of packets lost of what a label sends or receives."""

    def delay_of(self, source: str, target: str, rng: Random) -> float | None:
        """Return the seconds that a packet takes; None if it never arrives."""
        if (source, target) in self.blocked:
            return None
        if self.loss and rng.random() < max(self.loss.get(source, 0), self.loss.get(target, 0)):
            return None
        mean_ms = self.delay_ms.get(source, 0.0) + self.delay_ms.get(target, 0.0)
        return mean_ms * rng.uniform(0.5, 1.5) / 1000 if mean_ms else 0.0


FAIR: Final = Weather()
"""Nothing is lost or late."""


def partition(*groups: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Return the pairs that cannot talk when only members of one group reach each other."""
    group_of = {label: number for number, group in enumerate(groups) for label in group}
    return frozenset((a, b) for a in group_of for b in group_of if group_of[a] != group_of[b])


class Hub:
    """Carries packets between places, in a thread, until closed."""

    def __init__(self, places: Mapping[str, Place], seed: int) -> None:
        """Connect ``places``, by label, in fair weather."""
        self.weather = FAIR
        self.carried = 0
        self.lost = 0
        self._rng = Random(seed)
        self._label_of = {place.packets: label for label, place in places.items()}
        self._by_address = {
            bytes(map(int, place.address.split("."))): (label, place.packets)
            for label, place in places.items()
        }
        self._late: list[tuple[float, int, int, bytes]] = []
        self._number = 0
        self._selector = selectors.DefaultSelector()
        for place in places.values():
            self._selector.register(place.packets, selectors.EVENT_READ)
        self._must_stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def close(self) -> None:
        """Stop carrying; the places stay open."""
        self._must_stop.set()
        self._thread.join()
        self._selector.close()

    def _run(self) -> None:
        while not self._must_stop.is_set():
            for key, _ in self._selector.select(self._wait_s()):
                self._read_all(key.fd)
            self._deliver_late()

    def _wait_s(self) -> float:
        if not self._late:
            return _WAIT_MAX_S
        return min(_WAIT_MAX_S, max(0.0, self._late[0][0] - time.perf_counter()))

    def _read_all(self, source: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(source, os.read(source, MTU_BYTES))

    def _take(self, source: int, packet: bytes) -> None:
        if len(packet) < _HEADER_BYTES or packet[0] >> 4 != _IPV4:
            return
        found = self._by_address.get(packet[16:20])
        if found is None:
            return
        label, target = found
        delay_s = self.weather.delay_of(self._label_of[source], label, self._rng)
        if delay_s is None or len(self._late) >= QUEUE_MAX:
            self.lost += 1
        elif delay_s == 0.0:
            self._deliver(target, packet)
        else:
            self._number += 1
            due_s = time.perf_counter() + delay_s
            heapq.heappush(self._late, (due_s, self._number, target, packet))

    def _deliver_late(self) -> None:
        now_s = time.perf_counter()
        while self._late and self._late[0][0] <= now_s:
            _, _, target, packet = heapq.heappop(self._late)
            self._deliver(target, packet)

    def _deliver(self, target: int, packet: bytes) -> None:
        try:
            os.write(target, packet)
            self.carried += 1
        except OSError:
            self.lost += 1  # its queue is full
