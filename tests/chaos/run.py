"""One run: clients work, faults come, and after each the network must go on; then all is judged.

A run fails when the judge finds a violation, when a client was told what no node may say, when a
node does not start again, or when nothing is committed in time once everything is healed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from pyrsia_node.core.founding import read_genesis
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.fsck import check
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.model.transactions import BuildRequest, decode_transaction
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.chaos.checker import judge
from tests.chaos.clients import Client
from tests.chaos.faults import READY_S, Faults
from tests.chaos.history import History
from tests.chaos.plan import Episode, Fault, episodes
from tests.chaos.stage import Stage
from tests.integration.network.evidence import leaves_on_disk

GO_ON_S: Final = 180.0
"""Within that a healed network commits at a node of our choice, and everybody has the block."""

LEVEL_S: Final = 180.0
"""Within that all nodes have published the same log at the end."""

_POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is a function of, but for time itself."""

    members: int
    seconds: float
    """A run ends after these, but not before it had its power cuts."""
    power_cuts: int
    seed: int
    pause_s: float
    episode_seconds_max: float
    only: tuple[str, ...] = ()


class Run:
    """Holds what a run needs; ``perform`` is the run."""

    def __init__(self, folder: Path, settings: Settings, say: Callable[[str], None]) -> None:
        """Work in the empty ``folder``."""
        self._folder = folder
        self._settings = settings
        self._say = say
        self._stalls: list[str] = []
        self._went_on_s: dict[str, list[float]] = {}
        self._episodes: list[str] = []
        self._probes = 0

    def perform(self) -> dict[str, Any]:
        """Run; return what happened. ``violations`` is empty if all went well."""
        settings = self._settings
        history = History(self._folder / "history.jsonl")
        started_s = time.perf_counter()
        with Stage(self._folder, settings.members, settings.seed) as stage:
            stage.cluster.start()
            stage.cluster.wait_ready(timeout_s=READY_S)
            stage.cluster.wait_connected()
            clients = [
                Client(stage, label, history, seed=settings.seed, pause_s=settings.pause_s)
                for label in stage.labels
            ]
            faults = Faults(stage, self._say, settings.seed)
            for client in clients:
                client.start()
            try:
                self._break_things(stage, faults, history, started_s)
                self._wait_votes(stage, faults, history)
            finally:
                for client in clients:
                    client.stop()
                for client in clients:
                    client.join()
            level_s = self._wait_level(stage)
            status = stage.cluster.status(stage.labels[0])
            stage.cluster.stop()
            history.close()
            found = self._judge(stage, history)
        complaints = [each for client in clients for each in client.complaints]
        return {
            **found,
            "violations": [*found["violations"], *self._stalls, *complaints],
            "seed": settings.seed,
            "members": settings.members,
            "seconds": round(time.perf_counter() - started_s, 1),
            "processor_seconds": round(sum(os.times()[:4]), 1),
            "episodes": len(self._episodes),
            "happened": faults.seen,
            "silent_at_the_end": sorted(faults.impaired),
            "height": status["height"],
            "seconds_to_go_on": {name: _spread(each) for name, each in self._went_on_s.items()},
            "seconds_to_level": level_s,
            "packets": stage.hub.carried,
            "packets_lost": stage.hub.lost,
        }

    # ------------------------------------------------------------ the middle

    def _break_things(
        self, stage: Stage, faults: Faults, history: History, started_s: float
    ) -> None:
        settings = self._settings
        self._go_on(stage, history, "start")
        plan = episodes(settings.seed, stage.labels, seconds_max=settings.episode_seconds_max)
        for episode in plan:
            if self._stalls or (
                time.perf_counter() - started_s > settings.seconds
                and faults.seen.get(Fault.POWER_CUT.value, 0) >= settings.power_cuts
            ):
                return
            if settings.only and episode.fault.value not in settings.only:
                continue
            self._say(f"{time.perf_counter() - started_s:6.0f} s  {episode}")
            self._episodes.append(str(episode))
            self._one(stage, faults, history, episode)

    def _one(self, stage: Stage, faults: Faults, history: History, episode: Episode) -> None:
        try:
            faults.perform(episode)
            self._go_on(stage, history, episode.fault.value)
            faults.review_impaired()
            self._look_for_alarms(stage, episode)
        except (PyrsiaError, OSError) as error:
            if episode.fault is Fault.FULL_DISK and isinstance(error, OSError):
                raise
            self._stalls.append(f"after {episode}: {error}")

    def _look_for_alarms(self, stage: Stage, episode: Episode) -> None:
        """No fault of ours may split the log or halt a node."""
        for label in stage.labels:
            for alarm in stage.alarms(label):
                if alarm.startswith(("SPLIT VIEW", "HALTED")):
                    self._stalls.append(f"after {episode}: alarm of {label}: {alarm}")

    def _go_on(self, stage: Stage, history: History, after: str) -> None:
        """Have some node commit something new, and wait until all nodes that run have it."""
        started_s = time.perf_counter()
        self._probes += 1
        seed = (self._settings.seed << 16) + self._probes
        label = Random(seed).choice(stage.labels)
        client = Client(stage, label, history, seed=seed, pause_s=0)
        written = client.write(threading.Event(), give_up_s=GO_ON_S)
        if written.outcome != "ok":
            self._stalls.append(f"after {after}: {label} committed nothing within {GO_ON_S:g} s")
            return
        while behind := [each for each in stage.labels if stage.height(each) < written.height]:
            if time.perf_counter() - started_s > GO_ON_S:
                self._stalls.append(f"after {after}: {behind} never reached {written.height}")
                return
            time.sleep(_POLL_S)
        self._went_on_s.setdefault(after, []).append(time.perf_counter() - started_s)

    # ------------------------------------------------------------ the end

    def _wait_votes(self, stage: Stage, faults: Faults, history: History) -> None:
        """Commit until every node votes again: with q others at work no silence may last."""
        started_s = time.perf_counter()
        while not self._stalls:
            try:
                faults.review_impaired()
            except PyrsiaError as error:
                self._stalls.append(f"in the end: {error}")
            if not faults.impaired:
                return
            if time.perf_counter() - started_s > LEVEL_S:
                words = [stage.silence(label) for label in sorted(faults.impaired)]
                self._stalls.append(f"silent {LEVEL_S:g} s after everything was healed: {words}")
            self._go_on(stage, history, "the end")

    def _wait_level(self, stage: Stage) -> float:
        """Wait until all nodes have published all that any has; return the seconds."""
        started_s = time.perf_counter()
        sizes: dict[str, tuple[int, int]] = {}
        while time.perf_counter() - started_s < LEVEL_S:
            sizes = {label: _sizes(stage, label) for label in stage.labels}
            if len({size for each in sizes.values() for size in each}) == 1:
                return round(time.perf_counter() - started_s, 2)
            time.sleep(_POLL_S)
        self._stalls.append(f"not level after {LEVEL_S:g} s: {sizes}")
        return LEVEL_S

    def _judge(self, stage: Stage, history: History) -> dict[str, Any]:
        network_id = bytes.fromhex(stage.cluster.plan.network)

        def transaction_of(leaf: bytes) -> str | None:
            try:
                signed = decode_transaction(leaf, network_id=network_id)
            except InvalidInputError:
                return None  # A header or an outcome.
            return signed.id if isinstance(signed.body, BuildRequest) else None

        logs = {node.label: leaves_on_disk(node) for node in stage.cluster.plan.nodes}
        verdict = judge(history.events(), logs, transaction_of)
        findings = [text for label in stage.labels for text in _fsck(stage, label)]
        return {**asdict(verdict), "violations": [*verdict.violations, *findings]}


def _sizes(stage: Stage, label: str) -> tuple[int, int]:
    try:
        status = stage.cluster.status(label)
    except PyrsiaError:
        return -1, -2
    return int(str(status["size"])), int(str(status["published_size"]))


def _fsck(stage: Stage, label: str) -> list[str]:
    """Return what the offline check finds in a stopped node's data directory."""
    layout = stage.cluster.nodes[label].layout
    genesis = read_genesis(layout.genesis)
    trust = Trust.establish(TrustFile(genesis.encode()))
    with LevelDbStore(layout.chain) as store:
        report = check(layout.root, Chain.open(store, genesis), trust)
    return [f"fsck of {label}: {finding}" for finding in report.findings]


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "times": len(ordered),
        "median": round(ordered[len(ordered) // 2], 2),
        "max": round(ordered[-1], 2),
    }


def write_result(folder: Path, result: dict[str, Any]) -> Path:
    """Keep what happened beside the history; return the file."""
    path = folder / "result.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path
