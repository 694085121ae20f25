"""The demonstration of images: imported by a quorum, pulled from peers, pushed, tagged, proved.

The upstream is a real registry on this machine, Debian's ``docker-registry``, with a small image
for two platforms; the client is skopeo. Everything else is as in :mod:`pyrsia_node.devnet.demo`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.images import Image, Recipe, two_platforms, write_layout
from pyrsia_node.devnet.stand_in import DebianRegistry
from pyrsia_node.devnet.story import Story, StoryError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.sections import DockerSection
from pyrsia_node.schema.upstreams import RegistryUpstream

HOST: Final = "registry.example"
"""What images of the stand-in are called by; only the nodes' configuration knows where it is."""

REPOSITORY: Final = "library/hello"
TAG: Final = "1.0"
OWN: Final = "team/tool"


def with_upstream(config: Config, url: str) -> Config:
    """Return a node's configuration with the stand-in as the default registry."""
    upstream = RegistryUpstream(HOST, url, allow_private=True, importable=True)
    return replace(config, docker=DockerSection(default_registry=HOST, upstreams=(upstream,)))


class DockerDemo(Story):
    """Four nodes import an image, a fifth serves it while the upstream is down."""

    def __init__(self, cluster: Cluster, folder: Path, upstream: DebianRegistry) -> None:
        """Use a cluster that is made, and an upstream that runs."""
        super().__init__(cluster, folder)
        self._upstream = upstream
        self._first = two_platforms(Recipe(says="the first hello"))
        self._second = two_platforms(Recipe(says="the second hello"))
        self._registry = self.regular.http_url.removeprefix("http://")

    def run(self) -> int:
        """Show everything; return the exit code."""
        steps = (
            self.start,
            self._import,
            self._pull_without_upstream,
            self._push,
            self._shadow,
            self._move,
            self._history,
        )
        return self.tell(
            steps,
            end="four nodes fetched the same bytes, each for itself; a fifth served them with the"
            " upstream down; every step of the tag has its proof.",
        )

    # ------------------------------------------------------------ the steps

    def _import(self) -> None:
        self.screen.begin(f"four nodes import {HOST}/{REPOSITORY}:{TAG}, for two platforms")
        self._upstream.push(self._first, REPOSITORY, TAG)
        self.screen.done(*self._imported(self._first))

    def _imported(self, image: Image) -> list[str]:
        """Have the tag imported as it is now; return what the log says of it."""
        status = self.finish(self.request("docker", "--image", f"{REPOSITORY}:{TAG}"))
        self.expect(status, "accepted")
        leaf = self.leaf(status)
        files = leaf["doc"]["files"]
        root = next(each for each in files if each["name"].startswith("root-"))
        if f"sha256:{root['sha256']}" != image.digest:
            raise StoryError(f"the log says {root['sha256']}, the upstream has {image.digest}")
        claims = ", ".join(sorted({each["claim"] for each in files}))
        saw = f"{len(leaf['attestors'])} nodes saw {image.digest[:19]}… under the tag"
        return [
            f"{saw} (k={leaf['k']}) and fetched its {len(files)} files; claim: {claims}",
            f"log entry {status['leaf_index']}",
        ]

    def _pull_without_upstream(self) -> None:
        node = self.regular
        self.screen.begin(f"the upstream is switched off; skopeo pulls from {node.label}")
        self._upstream.stop()
        before = self.artifacts(node)
        pulled = self._skopeo_pull(f"{REPOSITORY}:{TAG}", "first")
        if pulled != self._first.digest:
            raise StoryError(f"skopeo got {pulled}, not {self._first.digest}")
        self.screen.done(
            f"both platforms, {self._first.size // 1024} KiB: {pulled[:19]}…",
            f"{node.label} held {before} blobs before and {self.artifacts(node)} now: all bytes"
            " came from peers, each piece checked",
        )

    def _push(self) -> None:
        self.screen.begin(f"push an image of one's own to {self.regular.label}, and pull it back")
        layout = write_layout(self.folder / "own", two_platforms(Recipe(says="mine")), "1")
        self._skopeo("copy", "--all", f"oci:{layout}:1", f"docker://{self._registry}/{OWN}:1")
        pulled = self._skopeo_pull(f"{OWN}:1", "own-back")
        self.screen.done(f"{OWN}:1 is {pulled[:19]}…, on this node alone")

    def _shadow(self) -> None:
        self.screen.begin("push over a name that the log knows")
        target = f"docker://{self._registry}/{REPOSITORY}:{TAG}"
        said = self._skopeo("copy", "--all", f"oci:{self.folder / 'own'}:1", target, expect=1)
        if "denied" not in said.lower():
            raise StoryError(f"the push failed for another reason: {said.strip()[-300:]}")
        self.screen.done("denied: nobody shadows what the network vouches for")

    def _move(self) -> None:
        self.screen.begin("the upstream comes back and has moved the tag; it is imported again")
        self._upstream.start()
        self._upstream.push(self._second, REPOSITORY, TAG)
        facts = self._imported(self._second)
        pulled = self._skopeo_pull(f"{REPOSITORY}:{TAG}", "second")
        if pulled != self._second.digest:
            raise StoryError(f"skopeo got {pulled}, not {self._second.digest}")
        self.screen.done(*facts, f"skopeo pulls {pulled[:19]}… now")

    def _history(self) -> None:
        self.screen.begin(f"pyrsia tags history {REPOSITORY}:{TAG}")
        shown = self.pyrsia("tags", "history", f"{REPOSITORY}:{TAG}", "--format", "json")
        steps: list[dict[str, Any]] = json.loads(shown)
        digests = [each["digest"] for each in steps]
        if digests != [self._second.digest, self._first.digest]:
            raise StoryError(f"the history is {digests}")
        self.screen.done(
            *(f"entry {each['index']}: {each['digest'][:19]}…, proved" for each in steps)
        )

    # ------------------------------------------------------------ skopeo

    def _skopeo_pull(self, reference: str, folder: str) -> str:
        """Copy an image with all its platforms out of the node; return its digest."""
        place = self.folder / folder
        self._skopeo("copy", "--all", f"docker://{self._registry}/{reference}", f"oci:{place}:it")
        index = json.loads((place / "index.json").read_text(encoding="utf-8"))
        return str(index["manifests"][0]["digest"])

    def _skopeo(self, *arguments: str, expect: int = 0) -> str:
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
        name, *rest = arguments
        return self.command(["skopeo", name, *plain, *rest], expect=expect)
