"""Makes an episode happen, and makes it end: after each the network must be able to go on.

Whatever is broken heals with the episode, but for a damaged write-ahead log: its node may have
forgotten votes, stays silent until the network has passed every height that it may have voted in,
and counts among the faulty meanwhile. Faults meet more than f nodes only where nothing is lost by
it but time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from consensus.quorum import faults
from pyrsia_node.devnet.cluster import Process
from pyrsia_node.model.errors import PyrsiaError
from tests.chaos.admins import Admins
from tests.chaos.hub import FAIR, Weather, partition
from tests.chaos.plan import Episode, Fault
from tests.chaos.stage import Stage

READY_S: Final = 300.0
"""For a node that was started, with every other one starting on the same two processors."""

ASKING_S: Final = 10.0
DOUBLED: Final = "KEY IN USE TWICE"

DELAY_MS_MAX: Final = 300.0
LOSS_MAX: Final = 0.25
SKEW_S_MAX: Final = 60
CUT_BYTES_MAX: Final = 64 * 1024
FREE_BYTES_MAX: Final = 512 * 1024

Say = Callable[[str], None]


class Faults:
    """Performs episodes on a stage. ``seen`` counts what really happened, by name."""

    def __init__(self, stage: Stage, say: Say, seed: int) -> None:
        """Break ``stage``, and tell ``say`` what is done; ``seed`` chooses ways to mend."""
        self._stage = stage
        self._say = say
        self._f = faults(len(stage.labels))
        self.impaired: set[str] = set()
        self.seen: dict[str, int] = {}
        self._rng = Random(seed)
        self._actions: dict[Fault, Callable[[Episode], None]] = {
            Fault.PARTITION: self._partition,
            Fault.ONE_WAY: self._one_way,
            Fault.DELAY: self._delay,
            Fault.LOSS: self._lose,
            Fault.KILL: self._kill,
            Fault.STOP: self._stop,
            Fault.CLOCK: self._turn_clocks,
            Fault.WAL_DAMAGE: self._damage_log,
            Fault.FULL_DISK: self._fill_disk,
            Fault.TWIN: self._run_twice,
            Fault.ROLLING_RESTART: self._restart_all,
            Fault.SET_CHANGE: self._change_set,
            Fault.POWER_CUT: self._cut_power,
        }

    def perform(self, episode: Episode) -> None:
        """Make the episode happen and end; return when every node is up again."""
        self._count(episode.fault.value)
        try:
            self._actions[episode.fault](episode)
        finally:
            self._heal()

    def _heal(self) -> None:
        self._stage.hub.weather = FAIR
        for label in self._stage.labels:
            self._stage.set_clock(label, 0)
        self.start_ended()

    def start_ended(self) -> None:
        """Start what has ended, as an operator would, and wait for all."""
        cluster = self._stage.cluster
        for label in self._stage.labels:
            if not cluster.is_running(label):
                if cluster.has_ended(label):
                    self._count("supervisors that ended by themselves")
                    self._say(f"{label} had ended: {cluster.last_lines(label)[-400:]}")
                    cluster.stop(label)
                cluster.start(label)
        cluster.wait_ready(timeout_s=READY_S)

    # ------------------------------------------------------------ the wires

    def _partition(self, episode: Episode) -> None:
        """Two groups of any sizes, so often without a quorum on either side."""
        order = episode.order
        cut = 1 + int(episode.amount * (len(order) - 1))
        self._weather(Weather(blocked=partition(order[:cut], order[cut:])), episode)

    def _one_way(self, episode: Episode) -> None:
        """Some are heard by nobody, or hear nobody."""
        deaf = episode.order[: 1 + int(episode.amount * self._f)]
        pairs = {(a, b) for a in deaf for b in self._stage.labels if a != b}
        if episode.seed % 2:
            pairs = {(b, a) for a, b in pairs}
        self._weather(Weather(blocked=frozenset(pairs)), episode)

    def _delay(self, episode: Episode) -> None:
        """All links, or those of some nodes; ways differ, so packets overtake each other."""
        slow = episode.order[: 1 + episode.seed % len(episode.order)]
        delay_ms = dict.fromkeys(slow, 5 + episode.amount * DELAY_MS_MAX)
        self._weather(Weather(delay_ms=delay_ms), episode)

    def _lose(self, episode: Episode) -> None:
        poor = episode.order[: 1 + episode.seed % len(episode.order)]
        self._weather(Weather(loss=dict.fromkeys(poor, episode.amount * LOSS_MAX)), episode)

    def _weather(self, weather: Weather, episode: Episode) -> None:
        self._stage.hub.weather = weather
        time.sleep(episode.seconds)

    # ------------------------------------------------------------ processes

    def _kill(self, episode: Episode) -> None:
        """One to n processes of any kind, one after the other; most come back by themselves."""
        kinds: tuple[Process, ...] = ("core", "core", "gateway", "node")
        rng = Random(episode.seed)
        for label in episode.order[: 1 + int(episode.amount * len(episode.order))]:
            kind = rng.choice(kinds)
            try:
                self._stage.cluster.kill(label, kind)
            except PyrsiaError:
                continue  # It is just starting; the next one, then.
            self._count(f"killed {kind}")
            time.sleep(rng.uniform(0.0, 0.5))
        time.sleep(episode.seconds)

    def _stop(self, episode: Episode) -> None:
        """SIGSTOP cores, or all processes, of up to f nodes; they wake into another time."""
        rng = Random(episode.seed)
        stopped: list[int] = []
        for label in episode.order[: 1 + int(episode.amount * self._f)]:
            pids = self._stage.cluster.pids(label)
            chosen = [pids["core"]] if rng.random() < 0.5 else list(pids.values())
            for pid in chosen:
                os.kill(pid, signal.SIGSTOP)
            stopped += chosen
        try:
            time.sleep(episode.seconds)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    def _restart_all(self, episode: Episode) -> None:
        """Stop and start each in turn, as an upgrade does; the log goes on meanwhile."""
        for label in episode.order:
            self._stage.cluster.restart(label, timeout_s=READY_S)
            time.sleep(episode.seconds)

    def _change_set(self, episode: Episode) -> None:
        """A member goes and comes back, and another changes its keys; cores die meanwhile."""
        if self.impaired:
            self._count("change of the set left out: a node is silent")
            return
        admins = Admins(self._stage, Random(episode.seed))
        goes, rotates, dies = episode.order[:3]
        for change, label in (
            (admins.remove, goes),
            (admins.authorize, goes),
            (admins.rotate, rotates),
        ):
            with contextlib.suppress(PyrsiaError):  # it is just starting
                self._stage.cluster.kill(dies, "core")
            change(label)
            self._count(f"{change.__name__}d")
            time.sleep(episode.seconds)

    def _cut_power(self, episode: Episode) -> None:
        """Everything at once, with what no disk had promised."""
        lost = self._stage.cut_power(Random(episode.seed))
        for fate in lost.values():
            self._count(f"unsynced batch {fate} in a power cut")
        time.sleep(episode.seconds)

    # ------------------------------------------------------------ clocks and disks

    def _turn_clocks(self, episode: Episode) -> None:
        """Up to f clocks are wrong by up to a minute, and then right again, while nodes run."""
        rng = Random(episode.seed)
        for label in episode.order[: 1 + int(episode.amount * self._f)]:
            self._stage.set_clock(label, rng.randint(-SKEW_S_MAX, SKEW_S_MAX))
        time.sleep(episode.seconds)

    def _damage_log(self, episode: Episode) -> None:
        """Cut bytes off the newest log file of a stopped node: it must not vote on."""
        if len(self.impaired) >= max(1, self._f - 1):
            self._count("log damage left out: enough nodes are silent")
            return
        label = next(each for each in episode.order if each not in self.impaired)
        self._stage.cluster.kill(label, "node")
        newest = max(Path(self._stage.cluster.nodes[label].layout.wal).glob("*.wal"), default=None)
        if newest is not None:
            os.truncate(newest, newest.stat().st_size - 1 - int(episode.amount * CUT_BYTES_MAX))
        time.sleep(episode.seconds)
        self._stage.cluster.start(label)
        self._stage.cluster.wait_ready(label, timeout_s=READY_S)
        if newest is not None and self._stage.silence(label):
            self.impaired.add(label)
            self._count("silent after damage")

    def _fill_disk(self, episode: Episode) -> None:
        """The disk of one node is full, or nearly; its processes may end, and nothing else."""
        filler = self._stage.fill_disk(int(episode.amount * FREE_BYTES_MAX))
        try:
            time.sleep(episode.seconds)
        finally:
            filler.unlink()

    def _run_twice(self, episode: Episode) -> None:
        """One key and one log on two machines: at most one traitor, whatever both say."""
        label = next(each for each in episode.order if each not in self.impaired)
        self._stage.cluster.kill(label, "node")
        self._stage.copy_node(label)
        self._stage.cluster.start(label)
        with self._stage.twin_running(label) as twin:
            self._stage.cluster.wait_ready(label, timeout_s=READY_S)
            twin.wait_ready(timeout_s=READY_S)
            time.sleep(episode.seconds)
        shutil.rmtree(self._stage.folder / "twin", ignore_errors=True)

    def _mend_doubled(self, label: str) -> None:
        """Do what the guide says about a doubled key, now that no other machine runs with it."""
        self._count("noticed that its key is in use twice")
        if self._rng.random() < 0.5:
            Admins(self._stage, self._rng).rotate(label)
            self._count("got new keys after that")
            return
        self._stage.cluster.kill(label, "node")
        (self._stage.cluster.nodes[label].layout.wal / "silence.json").unlink()
        self.start_ended()

    # ------------------------------------------------------------ counting

    def review_impaired(self) -> None:
        """Take those that vote again from the impaired, and note who has fallen silent."""
        deadline_s = time.perf_counter() + ASKING_S
        while time.perf_counter() < deadline_s and any(
            map(self._stage.silence, self._stage.labels)
        ):
            time.sleep(0.5)  # Every start begins with questions to the others, silently.
        for label in self._stage.labels:
            if DOUBLED in self._stage.silence(label):
                self._mend_doubled(label)
            is_silent = bool(self._stage.silence(label))
            if is_silent and label not in self.impaired:
                self.impaired.add(label)
                self._count("silent, undamaged")
                self._say(f"{label}: {self._stage.silence(label)}")
            elif not is_silent and label in self.impaired and self._stage.height(label) >= 0:
                self.impaired.discard(label)
                self._count("votes again")

    def _count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1
