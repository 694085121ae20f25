"""Private engines and clients work: each pulls from a registry through a mirror, and runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.engines import container_tools, containerd, docker_engine
from tests.fakes.faulty_front import faulty_front
from tests.fakes.images import Recipe, two_platforms
from tests.fakes.registries import DebianRegistry, debian_registry

IMAGE = two_platforms(Recipe("pulled and run"))
NAME = "docker.io/library/alpine:3.20"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path / "registry") as registry:
        registry.push(IMAGE, "library/alpine", "3.20")
        yield registry


def test_docker_engine_pulls_through_its_mirror_and_runs(registry: DebianRegistry) -> None:
    with faulty_front(registry.url) as front, docker_engine(mirrors=(front.url,)) as docker:
        docker.run("pull", "alpine:3.20").ok()
        ran = docker.run("run", "--rm", "--network", "none", "alpine:3.20").ok()
        assert ran.out == "pulled and run\n"
        manifest = next(each for each in front.asked if each.method == "HEAD")
        assert len(manifest.all("accept")) == 6


def test_containerd_pulls_through_its_hosts_file_and_runs(registry: DebianRegistry) -> None:
    with containerd() as engine:
        hosts = engine.hosts / "_default" / "hosts.toml"
        hosts.parent.mkdir()
        hosts.write_text(f'[host."{registry.url}"]\ncapabilities = ["pull", "resolve"]\n')
        engine.pull(NAME).ok()
        assert engine.ctr("run", "--rm", NAME, "one").ok().out == "pulled and run\n"


def test_podman_buildah_and_skopeo_share_one_home(registry: DebianRegistry) -> None:
    with container_tools() as tools:
        (tools.drop_in / "mirror.conf").write_text(
            '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
            f'[[registry.mirror]]\nlocation = "{registry.host}"\ninsecure = true\n'
        )
        tools.podman("pull", NAME).ok()
        ran = tools.podman("run", "--rm", "--network", "none", NAME).ok()
        assert ran.out == "pulled and run\n"
        assert IMAGE.children[0].digest in tools.buildah("inspect", NAME).ok().out
        inspected = tools.skopeo("inspect", "--no-tags", f"docker://{NAME}").ok()
        assert IMAGE.digest in inspected.out


def test_front_spoils_single_answers(registry: DebianRegistry, tmp_path: Path) -> None:
    with faulty_front(registry.url) as front, container_tools() as tools:
        words = ("--src-tls-verify=false", f"docker://{front.host}/library/alpine:3.20")

        def copied(folder: str) -> bool:
            return tools.skopeo("copy", *words, f"oci:{tmp_path / folder}:1").code == 0

        assert copied("as-it-is")
        front.spoil("/manifests/", status=404, times=4)
        assert not copied("refused")
        front.spoil("/manifests/", cut_after=100, times=4)
        assert not copied("cut")
        front.spoil("/manifests/", corrupts=True, times=4)
        assert not copied("corrupt")
        front.forgive()
        assert copied("again")
