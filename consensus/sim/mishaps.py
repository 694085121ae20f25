"""What goes wrong with machines in a run: power, disks and clocks, as the schedule says.

All of it ends when the network settles: from then on every honest node is there and well, as the
model promises (CONSENSUS.md 3.1), except that clocks stay a little off.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from consensus.sim.clock import Clock
from consensus.sim.disk import Disk
from consensus.sim.node import Node
from consensus.sim.schedule import (
    Blackout,
    ClockJump,
    DiskTrouble,
    LostLog,
    Outage,
    Restored,
    Schedule,
    SickDisk,
)
from consensus.sim.world import Mark, Stored
from consensus.types import NodeId

BLACKOUT_US: Final = 20_000
"""Within this time of a blackout everybody has lost power."""


@dataclass(frozen=True, slots=True)
class _Image:
    """What somebody copied of a running node, all of it at one moment."""

    disk: Disk
    chain: list[Stored]
    mark: Mark | None


class Mishaps:
    """Brings about what the schedule says, on the honest nodes."""

    def __init__(
        self,
        schedule: Schedule,
        clock: Clock,
        nodes: Mapping[NodeId, Node],
        *,
        chance: random.Random,
        story: Callable[[str, str], None],
        put_back: Callable[[NodeId, int], None],
    ) -> None:
        """Take what the run is made of; ``put_back`` hears which node has how many blocks again."""
        self._schedule = schedule
        self._clock = clock
        self._nodes = nodes
        self._chance = chance
        self._story = story
        self._put_back = put_back
        self._images: dict[NodeId, _Image] = {}

    def plan(self) -> None:
        """Put everything into the clock."""
        schedule, clock = self._schedule, self._clock
        for name, arrival_us in zip(schedule.nodes, schedule.arrivals_us, strict=True):
            if name in self._nodes:
                clock.at(arrival_us, self._nodes[name].boot)
        for outage in schedule.outages:
            clock.at(outage.armed_us, partial(self._arm, outage))
        for blackout in schedule.blackouts:
            clock.at(blackout.at_us, partial(self._black_out, blackout))
        for sick in schedule.sick_disks:
            clock.at(sick.start_us, partial(self._sicken, sick))
            clock.at(sick.end_us, partial(self._heal, sick))
        for lost in schedule.lost_logs:
            clock.at(lost.at_us, partial(self._lose_log, lost))
        for restored in schedule.restored:
            clock.at(restored.taken_us, partial(self._take_image, restored))
            clock.at(restored.at_us, partial(self._restore, restored))
        for jump in schedule.clock_jumps:
            clock.at(jump.at_us, partial(self._jump, jump))

    def settle(self) -> None:
        """End all of it."""
        for name, wrong in zip(self._schedule.nodes, self._schedule.clocks, strict=True):
            if name in self._nodes:
                self._nodes[name].durable.clock.offset_ms = wrong.settled_offset_ms
                self._nodes[name].settle()

    def _arm(self, outage: Outage) -> None:
        self._nodes[outage.node].fuse(
            steps=outage.steps, down_us=outage.down_us, in_write=outage.in_write
        )

    def _black_out(self, blackout: Blackout) -> None:
        """Cut everybody's power within ``BLACKOUT_US``, some inside a write."""
        self._story("world", "BLACKOUT")
        for node in self._nodes.values():
            if self._chance.random() < 0.7:
                node.fuse(
                    steps=self._chance.randint(1, 12),
                    down_us=blackout.down_us,
                    in_write=self._chance.random() < 0.5,
                )
            self._clock.after(BLACKOUT_US, partial(self._cut_power, node, blackout.down_us))

    def _cut_power(self, node: Node, down_us: int) -> None:
        if self._clock.now_us < self._schedule.gst_us:
            node.cut_power(down_us)

    def _sicken(self, sick: SickDisk) -> None:
        self._story(sick.node, f"has a sick disk: {sick.trouble.value}")
        disk = self._nodes[sick.node].durable.disk
        disk.has_room = sick.trouble is not DiskTrouble.FULL
        disk.can_sync = sick.trouble is not DiskTrouble.SYNC_FAILS

    def _heal(self, sick: SickDisk) -> None:
        disk = self._nodes[sick.node].durable.disk
        disk.has_room = disk.can_sync = True

    def _lose_log(self, lost: LostLog) -> None:
        self._nodes[lost.node].damage_log(lost.down_us)

    def _take_image(self, restored: Restored) -> None:
        durable = self._nodes[restored.node].durable
        self._story(restored.node, f"is copied at height {durable.height}")
        # Blocks are values; the list grows, and the pages of the disk are written in place.
        disk = copy.deepcopy(durable.disk)
        self._images[restored.node] = _Image(disk, list(durable.chain), durable.mark)

    def _restore(self, restored: Restored) -> None:
        node, image = self._nodes[restored.node], self._images[restored.node]
        node.cut_power(restored.down_us)
        durable = node.durable
        self._story(restored.node, f"gets its copy back, of height {len(image.chain) + 1}")
        # A copy of a running machine is what a power cut would have left.
        image.disk.lose_power(self._chance)
        durable.disk, durable.chain, durable.mark = image.disk, list(image.chain), image.mark
        durable.is_restored = True
        self._put_back(restored.node, len(image.chain))

    def _jump(self, jump: ClockJump) -> None:
        self._story(jump.node, f"has its clock set {jump.offset_ms} ms off")
        self._nodes[jump.node].durable.clock.offset_ms = jump.offset_ms
