"""A registry at work for long: does it grow, does it slow down?

One client at one gateway, again and again: push a layer and a manifest under a tag that moves, pull
both, mount the layer into another repository, pull an image of another registry through the node,
delete what is old; the collector runs each minute with the least grace. The first and the last
tenth of the time are compared: memory, and the 99th percentile of what a round takes.

    python -m benchmarks.macro.registry_soak [--minutes 30] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.macro.processes import memory_of
from benchmarks.macro.registry_load import Address, Client, Fresh, manifest_of
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.upstreams import RegistryUpstream
from tests.fakes.image_node import ImageNode, image_node
from tests.fakes.images import Image, Recipe, busybox_image
from tests.fakes.registries import DebianRegistry, debian_registry

LAYER = 256 * 1024
CONFIG = 1024
TAGS = 50
KEPT = 200
UPSTREAM_IMAGES = 20
GROWTH_MAX = 32 * 1024 * 1024
SLOWDOWN_MAX = 2.0
TENTHS = 10


@dataclass
class Round:
    """When a round ended, how long it took, and the gateway's memory then."""

    at_s: float
    took_s: float
    rss: int


@dataclass
class Soak:
    """What goes on, and what was measured."""

    node: ImageNode
    images: list[Image]
    rounds: list[Round] = field(default_factory=list)
    _layers: Fresh = field(default_factory=lambda: Fresh(LAYER))
    _configs: Fresh = field(default_factory=lambda: Fresh(CONFIG))
    _old: deque[str] = field(default_factory=deque)

    def run(self, seconds: float) -> None:
        """Do rounds for so long."""
        host, _, port = self.node.host.rpartition(":")
        address = Address(host, int(port))
        repositories = ("soak/first", "soak/second", "f/registry.example/team/app")
        clients = [Client(address, repository) for repository in repositories]
        started = time.perf_counter()
        while (began := time.perf_counter() - started) < seconds:
            self._push_pull_and_mount(*clients[:2])
            self._pull_of_another(clients[2])
            ended = time.perf_counter() - started
            rss = memory_of(self.node.pid).rss
            self.rounds.append(Round(ended, ended - began, rss))
        for client in clients:
            client.close()

    def _push_pull_and_mount(self, pushing: Client, mounting: Client) -> None:
        config, layer = self._configs.next(), self._layers.next()
        for digest, parts in (config, layer):
            pushing.push(digest, parts, chunks=1)
        document = manifest_of([config[0], layer[0]], (CONFIG, LAYER))
        tag = f"manifests/tag-{len(self.rounds) % TAGS}"
        pushing.put_manifest(tag.removeprefix("manifests/"), document)
        assert pushing.get(tag) == document
        pulled = hashlib.sha256(pushing.get(f"blobs/{layer[0]}")).hexdigest()
        assert f"sha256:{pulled}" == layer[0]
        mounting.mount(layer[0], "soak/first")
        mounting.delete(f"blobs/{layer[0]}")
        self._old.append(f"manifests/sha256:{hashlib.sha256(document).hexdigest()}")
        if len(self._old) > KEPT:
            pushing.delete(self._old.popleft())

    def _pull_of_another(self, proxied: Client) -> None:
        number = len(self.rounds) % len(self.images)
        image = self.images[number]
        assert proxied.get(f"manifests/{number}") == image.root.data
        for digest, data in image.blobs.items():
            assert proxied.get(f"blobs/{digest}") == data

    def tenth(self, place: int, seconds: float) -> tuple[float, float]:
        """Return the median memory and the 99th percentile of the rounds of a tenth."""
        begin, end = seconds * place / TENTHS, seconds * (place + 1) / TENTHS
        rounds = [each for each in self.rounds if begin <= each.at_s < end]
        took = sorted(each.took_s for each in rounds)
        return statistics.median(each.rss for each in rounds), took[int(len(took) * 0.99)]


def configure(registry: DebianRegistry, config: Config) -> Config:
    """Return the configuration of a node that asks the registry, and collects each minute."""
    upstream = RegistryUpstream("registry.example", registry.url, allow_private=True)
    return replace(
        config,
        docker=replace(config.docker, policy="upstream", upstreams=(upstream,)),
        registry=replace(config.registry, grace_minutes=0, collect_minutes=1),
    )


def measured(seconds: float) -> dict[str, object]:
    """Run it, and compare the ends."""
    images = [busybox_image(Recipe(f"image {number}")) for number in range(UPSTREAM_IMAGES)]
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        with debian_registry(folder / "registry") as registry:
            for number, image in enumerate(images):
                registry.push(image, "team/app", str(number))
            with image_node(
                folder / "node", config=lambda config: configure(registry, config)
            ) as node:
                soak = Soak(node, images)
                soak.run(seconds)
                collected = json.loads(node.pyrsia("gc", "status", "--format", "json"))
    tenths = [soak.tenth(place, seconds) for place in range(TENTHS)]
    growth, slowdown = tenths[-1][0] - tenths[0][0], tenths[-1][1] / tenths[0][1]
    failures = []
    if growth > GROWTH_MAX:
        failures.append(f"memory grew by {growth:.0f} bytes, {GROWTH_MAX} are allowed")
    if slowdown > SLOWDOWN_MAX:
        failures.append(f"rounds take {slowdown:.2f} times as long, {SLOWDOWN_MAX} are allowed")
    return {
        "seconds": seconds,
        "rounds": len(soak.rounds),
        "memory_growth_bytes": growth,
        "p99_slowdown": slowdown,
        "tenths": [{"rss_bytes": rss, "p99_s": p99} for rss, p99 in tenths],
        "collected": collected,
        "failures": failures,
    }


def main() -> int:
    """Print what was measured; 1 if it grew or slowed down."""
    parser = argparse.ArgumentParser(prog="registry_soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = measured(arguments.minutes * 60)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return int(bool(found["failures"]))


if __name__ == "__main__":
    sys.exit(main())
