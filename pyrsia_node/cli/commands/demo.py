"""``demo``: a whole network does its main job on real packages or images, live."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from pyrsia_node.devnet.cluster import Cluster, Setting
from pyrsia_node.devnet.demo import Demo
from pyrsia_node.devnet.demo_docker import DockerDemo, with_upstream
from pyrsia_node.devnet.demo_maven import REPOSITORY, MavenDemo, with_maven
from pyrsia_node.devnet.git_server import make_repository, serve_git
from pyrsia_node.devnet.maven_project import LIBRARY_FILES, TAG
from pyrsia_node.devnet.maven_repository import debian_repository, serve_repository
from pyrsia_node.devnet.plan import make_network
from pyrsia_node.devnet.stand_in import running_registry


@click.command()
@click.argument("story", type=click.Choice(["pip", "docker", "maven"]), default="pip")
@click.option("--keep", is_flag=True, help="Leave the nodes' folders for a look.")
def demo(story: str, *, keep: bool) -> None:
    """Show the product at work, on loopback: four authorized nodes and one or two regular ones.

    \b
    pip      rebuild, agree, install, prove, survive, find liars out (the default); fetches small
             packages from the package index that pip is configured for
    docker   import an image, pull it with the upstream off, push, move a tag, prove its history;
             the upstream is a registry of this machine (needs docker-registry and skopeo)
    maven    say where a library comes from, rebuild it, use it with the upstream off, explain;
             the upstream is Debian's repository on this machine (needs maven, a JDK and git)

    Exit 0 when everything was shown, 1 with the reason.
    """  # noqa: D301 - click reads the backspace character
    folder = Path(tempfile.mkdtemp(prefix="pyrsia-demo-"))
    # The build worker's account must be able to reach its own folder below.
    folder.chmod(0o755)
    try:
        code = _STORIES[story](folder)
    finally:
        if keep:
            click.echo(f"kept: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.get_current_context().exit(code)


def _tell_of_packages(folder: Path) -> int:
    with Cluster.create(folder / "nodes", authorized=4, regular=2) as cluster:
        return Demo(cluster, folder).run()


def _tell_of_images(folder: Path) -> int:
    with (
        running_registry(folder / "upstream") as upstream,
        Cluster.create(
            folder / "nodes",
            authorized=4,
            regular=1,
            configure=lambda config: with_upstream(config, upstream.url),
        ) as cluster,
    ):
        return DockerDemo(cluster, folder, upstream).run()


def _tell_of_maven(folder: Path) -> int:
    published, repositories = folder / "published", folder / "repositories"
    for each in (published, repositories):
        each.mkdir()
    make_repository(repositories / REPOSITORY, files=LIBRARY_FILES, tag=TAG)
    with (
        serve_repository(debian_repository(published)) as upstream,
        serve_git(repositories, work=folder) as git,
    ):
        plan = make_network(
            folder / "nodes",
            authorized=4,
            regular=1,
            configure=lambda config: with_maven(config, upstream.url, git.url),
        )
        trusting = Setting(environment={"SSL_CERT_FILE": str(git.ca_file)})
        with Cluster(plan, setting_of=lambda _label: trusting) as cluster:
            return MavenDemo(cluster, folder, upstream, git).run()


_STORIES: Final[Mapping[str, Callable[[Path], int]]] = {
    "pip": _tell_of_packages,
    "docker": _tell_of_images,
    "maven": _tell_of_maven,
}
