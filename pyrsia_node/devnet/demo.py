"""The demonstration: a whole network does its main job on real packages, live.

Nothing here is staged: every node is a ``pyrsia-node run``, every build a real rebuild in a
sandbox, the clients are pip and the ``pyrsia`` command. Each step says what it saw, or why the
demonstration ends.
"""

from __future__ import annotations

import venv
from typing import Any, Final

import httpx

from pyrsia_node.devnet.story import Story, StoryError
from pyrsia_node.model.errors import PyrsiaError

FIRST: Final = ("six==1.17.0", "idna==3.10")
AFTER_KILL: Final = "iniconfig==2.1.0"
ONE_TAMPERS: Final = "toml==0.10.2"
TWO_TAMPER: Final = "mccabe==0.7.0"


class Demo(Story):
    """Rebuilds of Python packages, agreed on, installed, and lied about."""

    def run(self) -> int:
        """Show everything; return the exit code."""
        steps = (
            self.start,
            self._rebuild,
            self._install,
            self._verify,
            self._kill_the_leader,
            self._one_tampers,
            self._two_tamper,
        )
        return self.tell(
            steps,
            end="four nodes rebuilt from source, a quorum agreed, pip installed what the log"
            " vouches for, and lies were found out.",
        )

    # ------------------------------------------------------------ the steps

    def _rebuild(self) -> None:
        self.screen.begin(f"rebuild {' and '.join(FIRST)} from source on four nodes")
        started = [self.request("pypi", package) for package in FIRST]
        facts = []
        for package, build_id in zip(FIRST, started, strict=True):
            status = self.finish(build_id)
            self.expect(status, "accepted")
            leaf = self.leaf(status)
            attestors = leaf["attestors"]
            facts.append(
                f"{package}: {len(attestors)} equal results (k={leaf['k']}), level L{leaf['level']}"
                f", log entry {status['leaf_index']}"
            )
        self.screen.done(*facts)

    def _install(self) -> None:
        node = self.regular
        self.screen.begin(f"pip installs from {node.label} into a fresh environment")
        before = self.artifacts(node)
        place = self.folder / "venv"
        venv.create(place, with_pip=True)
        python = str(place / "bin/python")
        index = f"{node.http_url}/pypi/simple/"
        self.command(
            [
                *(python, "-m", "pip", "--isolated", "install", "--no-cache-dir", "--no-input"),
                *("--disable-pip-version-check", "--index-url", index, *FIRST),
            ]
        )
        shown = self.command(
            [python, "-c", "import six, idna; print(six.__version__, idna.__version__)"]
        )
        after = self.artifacts(node)
        if before != 0 or after < len(FIRST):
            raise StoryError(f"{node.label} held {before} artifacts before and {after} after")
        self.screen.done(
            f"import six, idna: {shown.strip()}",
            f"{node.label} held no artifact before and {after} now; its policy for everything"
            " else is deny, so all bytes came from peers",
        )

    def _verify(self) -> None:
        self.screen.begin("verify a file offline, with nothing but its proof and the trust file")
        page = self.http.get(
            f"{self.regular.http_url}/pypi/simple/six/",
            headers={"accept": "application/vnd.pypi.simple.v1+json"},
        ).raise_for_status()
        wheel = next(f for f in page.json()["files"] if f["filename"].endswith(".whl"))
        url = str(httpx.URL(f"{self.regular.http_url}/pypi/simple/six/").join(wheel["url"]))
        file = self.folder / wheel["filename"]
        bundle = self.folder / f"{wheel['filename']}.tlog-proof"
        file.write_bytes(self.http.get(url).raise_for_status().content)
        bundle.write_bytes(self.http.get(f"{url}.tlog-proof").raise_for_status().content)
        trust = self.cluster.plan.trust
        arguments = ("verify", str(file), "--bundle", str(bundle), "--trust", trust)
        self.pyrsia(*arguments)
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
        refused = self.pyrsia(*arguments, expect=3)
        self.screen.done(
            f"{wheel['filename']}: proof of {bundle.stat().st_size} bytes holds",
            f"one changed byte: {refused.strip().splitlines()[-1]}",
        )

    def _kill_the_leader(self) -> None:
        cluster = self.cluster
        leader = self._leader()
        self.screen.begin(f"kill {leader} with SIGKILL while it leads; the next build commits")
        cluster.kill(leader, "node")
        build_id = self.request("pypi", AFTER_KILL)
        status = self.finish(build_id)
        self.expect(status, "accepted")
        attested = len(self.leaf(status)["attestors"])
        cluster.start(leader)
        self.wait(lambda: self._has_caught_up(leader), f"{leader} did not catch up", timeout_s=45)
        self.screen.done(
            f"{AFTER_KILL}: accepted by the {attested} nodes that were left",
            f"{leader} came back and caught up to height {self._height(leader)}",
        )

    def _one_tampers(self) -> None:
        liar = self.cluster.members[0].label
        self.screen.begin(f"{liar} tampers with its build")
        self._tamper(liar, "one")
        status = self.finish(self.request("pypi", ONE_TAMPERS))
        self.expect(status, "accepted")
        self.wait(
            lambda: self._has_answered(status, liar), f"{liar}'s answer never came", timeout_s=60
        )
        seen = self._difference(status, liar)
        self.screen.done(
            f"{ONE_TAMPERS}: still accepted by the other three", f"the log says: {seen}"
        )

    def _two_tamper(self) -> None:
        liars = [member.label for member in self.cluster.members[:2]]
        self.screen.begin(f"{' and '.join(liars)} tamper with their builds")
        for number, liar in enumerate(liars):
            self._tamper(liar, f"two-{number}")
        status = self.finish(self.request("pypi", TWO_TAMPER))
        self.expect(status, "diverged")
        classes = self.leaf(status)["classes"]
        groups = [" + ".join(self.label(each) for each in one["ids"]) for one in classes]
        page = self.http.get(f"{self.regular.http_url}/pypi/simple/mccabe/")
        if page.status_code != 404:
            raise StoryError(f"{TWO_TAMPER} is served although nobody agreed on it")
        for liar in liars:
            self._tamper(liar, "")
        self.screen.done(
            f"{TWO_TAMPER}: DIVERGED, nothing is served",
            "who got what: " + " | ".join(groups),
        )

    def _has_answered(self, status: dict[str, Any], label: str) -> bool:
        return bool(self._difference(status, label))

    def _difference(self, status: dict[str, Any], label: str) -> str:
        """Return what the log says about ``label``'s different build, "" while it is silent."""
        me = self.cluster.nodes[label].peer_id
        for leaf in self.entries(status):
            if leaf["t"] == "accepted" and any(each["id"] == me for each in leaf["differ"]):
                return f"{label} differs (in the accepted entry)"
            if leaf["t"] == "late_divergence" and leaf["id"] == me:
                return f"{label} differs (its late answer has an entry of its own)"
        return ""

    def _tamper(self, label: str, value: str) -> None:
        self.cluster.call(label, "set_fault", {"fault": "tamper", "value": value})

    def _leader(self) -> str:
        label = self.cluster.status(self.cluster.members[0].label)["leader_label"]
        assert isinstance(label, str)
        return label

    def _height(self, label: str) -> int:
        try:
            height = self.cluster.status(label)["height"]
        except PyrsiaError:
            return -1
        assert isinstance(height, int)
        return height

    def _has_caught_up(self, label: str) -> bool:
        others = [self._height(m.label) for m in self.cluster.members if m.label != label]
        return 0 <= max(others) <= self._height(label)
