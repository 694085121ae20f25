"""The demonstration of Maven: a release rebuilt from its repository by four nodes, then used.

The upstream is a repository over Debian's own, the sources are a git repository behind https, both
on this machine; the client is Debian's Maven. Everything else is as in
:mod:`pyrsia_node.devnet.demo`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from consensus.quorum import quorum
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.git_server import GitServer
from pyrsia_node.devnet.maven_project import (
    GAV,
    GROUP,
    LIBRARY,
    LIBRARY_FILES,
    PROGRAM,
    PROGRAM_FILES,
    SAYS,
    TAG,
    VERSION,
    MavenClient,
    default_jdk,
    publish,
    write_files,
)
from pyrsia_node.devnet.maven_repository import MavenRepository
from pyrsia_node.devnet.story import Story, StoryError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.maven_repositories import UPSTREAM, MavenUpstream

UPSTREAM_ID: Final = "central"
REPOSITORY: Final = "hello.git"
_DIFFERENCES_SHOWN: Final = 3
_JAR: Final = f"{LIBRARY}-{VERSION}.jar"


def with_maven(config: Config, upstream_url: str, git_url: str) -> Config:
    """Return a node's configuration with the stand-ins as its upstream and source of sources."""
    upstream = MavenUpstream(UPSTREAM_ID, upstream_url, allow_private=True, importable=True)
    host = httpx.URL(git_url).netloc.decode()
    return replace(
        config,
        maven=replace(config.maven, upstreams=(upstream,), policy=UPSTREAM),
        build=replace(config.build, private_sources=(host,)),
    )


class MavenDemo(Story):
    """Four nodes rebuild a library, a program is built through a fifth while upstreams are down."""

    def __init__(
        self, cluster: Cluster, folder: Path, upstream: MavenRepository, git: GitServer
    ) -> None:
        """Use a cluster that is made, and an upstream and a git server that run."""
        super().__init__(cluster, folder)
        self._upstream = upstream
        self._git = git

    def run(self) -> int:
        """Show everything; return the exit code."""
        steps = (
            self.start,
            self._publish,
            self._map,
            self._rebuild,
            self._use,
            self._explain,
        )
        return self.tell(
            steps,
            end="a quorum said where the library comes from, four nodes rebuilt it, a fifth served"
            " it with the upstream down, and every difference to the published jar has a name.",
        )

    # ------------------------------------------------------------ the steps

    def _publish(self) -> None:
        self.screen.begin(f"its maker builds {GAV} with Maven through {self.regular.label}")
        project = write_files(self.folder / "maker", LIBRARY_FILES)
        client = self._client("maker-home")
        self._maven(client, project, "install")
        publish(self._upstream.folders[0], client.repository, GAV, ("jar", "pom"))
        asked = len(self._upstream.asked)
        self.screen.done(
            f"the upstream was asked {asked} times; each file was checked against its checksum"
            f" before {self.regular.label} passed it on",
            f"published at the upstream: {_JAR}; tagged in git: {TAG}",
        )

    def _map(self) -> None:
        pattern = f"pkg:maven/{GROUP}/*"
        repository = f"git+{self._git.url}/{REPOSITORY}"
        self.screen.begin(f"members approve where {pattern} comes from")
        words = (f"{GROUP}:*", "--repository", repository, "--tag", "v{version}")
        needed = quorum(len(self.cluster.members))
        for member in self.cluster.members[:needed]:
            self.pyrsia_at(member, "sources", "add", *words, "--reason", "named by its pom")

        def is_known() -> bool:
            answer = self.http.get(f"{self.regular.http_url}/api/v1/sources")
            return answer.status_code == httpx.codes.OK and pattern in answer.text

        self.wait(is_known, "the mapping is not in the log", timeout_s=30)
        self.screen.done(f"{repository}, tag v{{version}}: approved by {needed} members")

    def _rebuild(self) -> None:
        self.screen.begin(f"four nodes rebuild {GAV} from its source")
        status = self.finish(self.request("maven", "--gav", GAV))
        self.expect(status, "accepted")
        leaf = self.leaf(status)
        claims = {each["name"]: each["claim"] for each in leaf["doc"]["files"]}
        if claims.get(_JAR) != "rebuilt":
            raise StoryError(f"the log says {claims}")
        self._entry = status
        built = f"the entry counts {len(leaf['attestors'])} nodes that built the same bytes"
        contradicts = leaf["doc"]["contradicts"] or "nothing"
        self.screen.done(
            f"{built} (k={leaf['k']}), each in a sandbox without a network; who comes later adds"
            " nothing to it",
            f"{_JAR} is {claims[_JAR]}",
            f"log entry {status['leaf_index']}; contradicts: {contradicts}",
        )

    def _use(self) -> None:
        node = self.regular
        self.screen.begin(f"upstream and git go down; a program is built through {node.label}")
        self._upstream.stop()
        self._git.stop()
        before = self.artifacts(node)
        project = write_files(self.folder / "user", PROGRAM_FILES)
        client = self._client("user-home")
        self._maven(client, project, "package")
        classes = f"{project}/target/{PROGRAM}-{VERSION}.jar"
        library = client.repository / GROUP.replace(".", "/") / LIBRARY / VERSION / _JAR
        java = str(default_jdk() / "bin" / "java")
        said = self.command([java, "-cp", f"{classes}:{library}", f"{GROUP}.Main"]).strip()
        if said != SAYS:
            raise StoryError(f"the program says {said!r}")
        self.screen.done(
            f"with an empty local repository; it says: {said}",
            f"{node.label} held {before} blobs before and {self.artifacts(node)} now: the library"
            " came from peers, plugins from what it kept",
        )

    def _explain(self) -> None:
        self.screen.begin(f"pyrsia build explain {GAV}")
        package = f"pkg:maven/{GROUP}/{LIBRARY}@{VERSION}"
        shown = self.pyrsia("build", "explain", package, "--format", "json")
        facts = told(json.loads(shown))
        if not facts:
            raise StoryError(f"nothing is explained: {shown.strip()[:300]}")
        self.screen.done(*facts)

    # ------------------------------------------------------------ Maven

    def _client(self, home: str) -> MavenClient:
        return MavenClient(self.folder / home, f"{self.regular.http_url}/maven2")

    def _maven(self, client: MavenClient, project: Path, goal: str) -> None:
        shutil.rmtree(client.repository, ignore_errors=True)
        self.command(client.command(project, goal), environment=client.environment)


def told(answer: dict[str, Any]) -> list[str]:
    """Return what ``pyrsia build explain`` says: a line a file, and its first differences."""
    lines = []
    for explanation in answer["explanations"]:
        by = len(explanation["by"])
        for file in explanation["document"]["files"]:
            equal = file["entries"]["equal"]
            count = f", {equal} entries equal" if equal else ""
            lines.append(f"{file['name']}: level {file['level']}{count} (said by {by} members)")
            lines += [_difference(each) for each in file["differences"][:_DIFFERENCES_SHOWN]]
    return lines


def _difference(each: dict[str, Any]) -> str:
    where = " ".join(text for text in (each["path"], each["attribute"]) if text)
    ends = f"ended by the rule {each['rule']}" if each["rule"] else "no rule ends it"
    return f"  {where}: {each['built']} in the build, {each['published']} published; {ends}"
