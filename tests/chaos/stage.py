"""The network under test: nodes in places of their own, with clocks and wires to turn.

Every node is a ``pyrsia-node run`` as in production, without a build worker: the processors of one
machine are for consensus here. Its place, its clock and the note of its unsynced writes are made
outside of it; the product has no code for any of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

from pyrsia_node.devnet.cluster import Cluster, Setting
from pyrsia_node.devnet.plan import DEVNET_PARAMS, NetworkPlan, PlannedNode, make_network
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import KeyUse, load_keys
from tests.chaos.hooks.sitecustomize import VARIABLE as UNSYNCED_VARIABLE
from tests.chaos.hub import Hub
from tests.chaos.namespaces import Place, mount_small_disk
from tests.chaos.power import Fate, cut_power, make_note, read_note

ROOT: Final = Path(__file__).parents[2]
WRONG_CLOCK: Final = Path(__file__).parent / "hooks/wrong_clock.c"
SMALL_DISK_BYTES: Final = 96 * 1024 * 1024
SPARE: Final = "spare"
"""The place without a node of its own: there a copied key is started a second time."""

CLASS_MS: Final = {"S": 60_000, "M": 90_000, "L": 120_000}
"""Nobody builds anything, so requests expire: outcomes fall due all the time."""

PARAMS: Final = replace(
    DEVNET_PARAMS, open_max=100_000, rate_per_hour=1_000_000, burst=100_000, class_ms=CLASS_MS
)


class Stage:
    """Makes the network in ``folder``; use as a context manager, which ends every process."""

    def __init__(self, folder: Path, members: int, seed: int) -> None:
        """Make places, wires, clocks and data directories; nothing is started yet."""
        self.folder = folder
        self._clock_library = compile_wrong_clock(folder)
        self.labels = [f"authorized-{number + 1}" for number in range(members)]
        addresses = {label: f"10.77.0.{n + 1}" for n, label in enumerate([*self.labels, SPARE])}
        self.places = {label: Place(address) for label, address in addresses.items()}
        for name in ("clocks", "unsynced"):
            (folder / name).mkdir()
        for label in addresses:
            self.set_clock(label, 0)
            make_note(self._note(label))
        self.hub = Hub(self.places, seed)
        plan = make_network(
            folder / "net",
            authorized=members,
            regular=0,
            configure=_without_builds,
            params=PARAMS,
            address_of=lambda label: addresses[label],
        )
        self.cluster = Cluster(plan, setting_of=self._setting)
        self.small_disk = self.labels[-1]
        self._move_to_small_disk(self.cluster.nodes[self.small_disk])

    def __enter__(self) -> Self:
        """Start the wires."""
        self.hub.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every node, then the wires and the places."""
        self.cluster.close()
        self.hub.close()
        for place in self.places.values():
            place.close()

    # ------------------------------------------------------------ clocks, power, disks

    def set_clock(self, label: str, ahead_s: int) -> None:
        """Let a node's wall clock be ahead (behind if negative), from this moment on."""
        path = self._clock(label)
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(struct.pack("=q", ahead_s * 1_000_000_000))

    def cut_power(self, rng: Random) -> dict[str, Fate]:
        """Kill all nodes at once, take memory and unsynced writes; return whose log lost what."""
        self.cluster.kill_all()
        found: dict[str, Fate] = {}
        for label in self.labels:
            layout = Layout(Path(self.cluster.nodes[label].data))
            vote_key = load_keys(layout.node_key).public(KeyUse.VOTE)
            mark = BootMark(layout.root, vote_key).path
            assert mark is not None, "without shared memory every start is one after a power cut"
            mark.unlink(missing_ok=True)
            unsynced = read_note(self._note(label))
            if unsynced is not None:
                fates: list[Fate] = ["kept", "lost", "torn"]
                found[label] = rng.choice(fates)
                cut_power(unsynced, found[label], rng)
                make_note(self._note(label))
        return found

    def fill_disk(self, leave_bytes: int) -> Path:
        """Fill the small disk until ``leave_bytes`` are free; return the file to remove."""
        data = Path(self.cluster.nodes[self.small_disk].data)
        free = os.statvfs(data).f_bavail * os.statvfs(data).f_frsize
        filler = data.parent / f"{self.small_disk}/filler"
        # The node may take some of it meanwhile: then the disk is fuller than was asked for.
        with filler.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave_bytes))
        return filler

    # ------------------------------------------------------------ a key on two machines

    def copy_node(self, label: str) -> None:
        """Copy a stopped node's whole data directory to the spare place's."""
        twin = self.folder / "twin"
        shutil.rmtree(twin, ignore_errors=True)
        shutil.copytree(self.cluster.nodes[label].data, twin)
        config = twin / "node.toml"
        here, there = self.places[label].address, self.places[SPARE].address
        config.write_text(config.read_text().replace(here, there))

    @contextlib.contextmanager
    def twin_running(self, label: str) -> Iterator[Cluster]:
        """Run the copy of a node, with its key and its log, at the spare place."""
        node = replace(
            self.cluster.nodes[label],
            label=SPARE,
            data=str(self.folder / "twin"),
            log_file=str(self.folder / "net" / "twin.log"),
        )
        plan: NetworkPlan = replace(self.cluster.plan, nodes=(node,))
        with Cluster(plan, setting_of=self._setting) as twin:
            twin.start()
            yield twin
            if twin.is_running(SPARE):
                twin.kill(SPARE, "node")

    # ------------------------------------------------------------ looking

    def height(self, label: str) -> int:
        """Return a node's height; -1 while it does not answer."""
        try:
            return int(str(self.cluster.status(label)["height"]))
        except PyrsiaError:
            return -1

    def silence(self, label: str) -> str:
        """Return why a node does not vote; "" if it does, or does not answer."""
        return next((each for each in self.alarms(label) if each.startswith("SILENT")), "")

    def alarms(self, label: str) -> list[str]:
        """Return what a node wants its operator to look at; [] if it does not answer."""
        try:
            alarms = self.cluster.status(label)["alarms"]
        except PyrsiaError:
            return []
        assert isinstance(alarms, list)
        return [str(each) for each in alarms]

    # ------------------------------------------------------------ inside

    def _setting(self, label: str) -> Setting:
        place = self.places[label]
        environment: Mapping[str, str] = {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/chaos/hooks'}",
            UNSYNCED_VARIABLE: str(self._note(label)),
            "LD_PRELOAD": str(self._clock_library),
            "PYRSIA_CLOCK": str(self._clock(label)),
        }
        return Setting(place.prefix, environment, (place.network,))

    def _clock(self, label: str) -> Path:
        return self.folder / "clocks" / label

    def _note(self, label: str) -> Path:
        return self.folder / "unsynced" / label

    def _move_to_small_disk(self, node: PlannedNode) -> None:
        data = Path(node.data)
        before = data.with_suffix(".before")
        data.rename(before)
        mount_small_disk(data, SMALL_DISK_BYTES)
        shutil.copytree(before, data, dirs_exist_ok=True)
        shutil.rmtree(before)


def compile_wrong_clock(folder: Path) -> Path:
    """Return the library that moves the clock of whoever preloads it, made in ``folder``."""
    library = folder / "wrong_clock.so"
    options = ("-shared", "-fPIC", "-O2", "-Wall", "-Werror")
    subprocess.run(["gcc", *options, "-o", str(library), str(WRONG_CLOCK)], check=True)
    return library


def _without_builds(config: Config) -> Config:
    return replace(config, build=replace(config.build, enabled=False))
