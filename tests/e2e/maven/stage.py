"""A network with a Maven upstream and a git server of its own, all on loopback.

Nothing of this user's Maven is used: each client has a home, settings and a local repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from consensus.quorum import quorum
from pyrsia_node.devnet.cluster import Cluster, Setting
from pyrsia_node.devnet.demo_maven import with_maven
from pyrsia_node.devnet.git_server import GitServer, make_repository_from, serve_git
from pyrsia_node.devnet.maven_project import MavenClient
from pyrsia_node.devnet.maven_repository import (
    CHECKSUMS,
    DEBIAN,
    MavenRepository,
    debian_repository,
    serve_repository,
)
from pyrsia_node.devnet.plan import make_network
from tests.e2e.maven.projects import Project, offer
from tests.e2e.walking import Finished
from tests.fakes.debian_maven import Gav, Overlay
from tests.fakes.debian_sources import unpack
from tests.integration.network.evidence import processes_of
from tests.integration.network.waiting import until

COMMAND_S: Final = 900.0
MAVEN_S: Final = 300.0
_MAPPED_S: Final = 60.0
_PYRSIA: Final = Path(sys.executable).parent / "pyrsia"


@dataclass
class Stage:
    """The running network, what it mirrors, where sources are, and a home for clients."""

    cluster: Cluster
    upstream: MavenRepository
    overlay: Overlay
    git: GitServer
    home: Path
    _clients: list[MavenClient] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return the repository of the regular node."""
        return f"{self.cluster.nodes['regular-1'].http_url}/maven2"

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask the regular node for a path of its repository."""
        return httpx.get(f"{self.url}/{path}", timeout=60, **options)

    def api(self, path: str, **options: Any) -> httpx.Response:
        """Ask the regular node's API."""
        root = self.cluster.nodes["regular-1"].http_url
        return httpx.get(f"{root}/api/v1/{path}", timeout=60, **options)

    def pyrsia(self, *words: str, at: str = "regular-1") -> Finished:
        """Run the command at a node, as the one who runs that node."""
        node = self.cluster.nodes[at]
        settings = self.home / f"{at}.toml"
        port = node.http_url.rpartition(":")[2]
        token, trust = node.layout.root / "admin.token", self.cluster.plan.trust
        settings.write_text(f'port = {port}\ntrust = "{trust}"\ntoken_file = "{token}"\n')
        environment = {"HOME": str(self.home), "COLUMNS": "200", "PYRSIA_CONFIG": str(settings)}
        return self._run([str(_PYRSIA), *words], environment, COMMAND_S)

    def add_repository(self, project: Project) -> None:
        """Put a project's sources, as released, into a repository of the git server."""
        folder = unpack(project.source, self.home / project.artifact, leave_out=project.leave_out)
        tag = project.tag.format(version=project.source.version)
        make_repository_from(folder, self.git.folder / project.repository, tag=tag)

    def map_source(self, pattern: str, repository: str, tag: str, *words: str) -> None:
        """Let a quorum of admins approve where a package comes from; wait until it is known."""
        name = pattern.removeprefix("pkg:maven/").replace("/", ":")
        said = (name, "--repository", repository, "--tag", tag, *words)
        members = self.cluster.members
        for member in members[: quorum(len(members))]:
            self.pyrsia("sources", "add", *said, "--reason", "its home", at=member.label).ok()
        until(lambda: pattern in self.api("sources").text, f"a mapping of {pattern}", _MAPPED_S)

    def map_project(self, project: Project) -> None:
        """Map a project to its repository, with the properties that its build needs."""
        words = [word for each in project.properties for word in ("--property", each)]
        repository = f"git+{self.git.url}/{project.repository}"
        self.map_source(project.pattern, repository, project.tag, *words)

    def build(self, *words: str) -> Finished:
        """Ask the regular node for a build and wait for its end."""
        return self.pyrsia("build", "maven", *words)

    def accepted(self, gav: str) -> dict[str, Any]:
        """Return the one entry about an artifact that the log has accepted."""
        [entry] = self.entries(gav, "accepted")
        return entry

    def entries(self, gav: str, kind: str) -> list[dict[str, Any]]:
        """Return what the log says about an artifact, as the regular node shows it."""
        words = ("inspect-log", "maven", "--gav", gav, "--format", "json")
        found = self.pyrsia(*words).json()["entries"]
        return [each for each in found if each["type"] == kind]

    def explained(self, purl: str) -> dict[str, Any]:
        """Return how the build of a package differs from what is published."""
        found: dict[str, Any] = self.pyrsia("build", "explain", purl, "--format", "json").json()
        return found

    def mvn(self, home: str, project: Path, *goals: str) -> tuple[MavenClient, Finished]:
        """Run Maven on a project through the regular node, its one mirror."""
        client = MavenClient(self.home / home, self.url)
        done = self._run(client.command(project, *goals), client.environment, MAVEN_S)
        return client, done

    def hide(self, gav: str) -> None:
        """Let the upstream lack what Debian has of an artifact."""
        folder = DEBIAN / Gav.of(gav).folder
        for file in folder.iterdir() if folder.is_dir() else ():
            path = str(file.relative_to(DEBIAN))
            self.upstream.absent.update((path, *(f"{path}.{kind}" for kind in CHECKSUMS)))

    def switch_off(self) -> None:
        """Take the upstream and the git server away."""
        self.upstream.stop()
        self.git.stop()

    def _run(
        self, command: Sequence[str], environment: dict[str, str], timeout_s: float
    ) -> Finished:
        done = subprocess.run(
            command,
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


@contextmanager
def running_stage(
    folder: Path, *, authorized: int, projects: Sequence[Project] = (), first: Sequence[str] = ()
) -> Iterator[Stage]:
    """Run a network of ``authorized`` members and one regular node, with projects at hand.

    With ``first`` only the nodes of these labels are started.
    """
    home, work = folder / "home", folder / "work"
    for each in (home, work, folder / "repositories"):
        each.mkdir()
    overlay = Overlay(folder / "overlay")
    overlay.folder.mkdir()
    offer(overlay, projects, work)
    with ExitStack() as stack:
        upstream = stack.enter_context(serve_repository(debian_repository(overlay.folder)))
        git = stack.enter_context(serve_git(folder / "repositories", work=work))
        plan = make_network(
            folder / "net",
            authorized=authorized,
            regular=1,
            configure=lambda config: with_maven(config, upstream.url, git.url),
        )
        trusting = Setting(environment={"SSL_CERT_FILE": str(git.ca_file)})
        cluster = stack.enter_context(Cluster(plan, setting_of=lambda _label: trusting))
        stage = Stage(cluster, upstream, overlay, git, home)
        for project in projects:
            stage.add_repository(project)
            if not project.published:
                stage.hide(project.gav)
        cluster.start(*first)
        cluster.wait_ready(*first, timeout_s=120)
        if not first:
            cluster.wait_connected()
        yield stage
    assert processes_of(folder / "net") == {}


def files_of(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the files of an accepted entry by name."""
    return {each["name"]: each for each in entry["leaf"]["doc"]["files"]}
