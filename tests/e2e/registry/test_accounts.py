"""Accounts, private repositories and public images with real clients: who logs in, who need not."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyrsia_node.schema.config import Config
from tests.e2e.registry.stage import ALPINE
from tests.fakes.engines import (
    Containerd,
    Containers,
    DockerEngine,
    Finished,
    container_tools,
    containerd,
    docker_engine,
    run,
)
from tests.fakes.image_node import PYRSIA, ImageNode, image_node
from tests.fakes.images import Recipe, busybox_image, write_layout
from tests.fakes.outside import Outside, outside

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("registry"),
]
ALICE, BOB = "alices password", "bobs password"


@dataclass
class Guarded:
    """A node where alice pushes below ``team``, which is private, and bob pulls there."""

    node: ImageNode
    layout: Path
    """An image as an OCI layout, ready to be pushed."""

    @property
    def host(self) -> str:
        return self.node.host

    def pyrsia(self, *words: str, password: str = "") -> Finished:
        """Run the command at the node, with its admin token."""
        settings = self.node.settings.with_name("admin.toml")
        token = self.node.layout.root / "admin.token"
        settings.write_text(f'port = {self.host.rpartition(":")[2]}\ntoken_file = "{token}"\n')
        done = subprocess.run(
            [PYRSIA, *words],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "PYRSIA_CONFIG": str(settings)},
            input=password,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return Finished(words, done.returncode, done.stdout, done.stderr)


def _for_accounts_alone(config: Config) -> Config:
    """Let anonymous clients pull and not push, as where the port is open to a network."""
    return replace(config, registry=replace(config.registry, anonymous="pull"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("accounts")
    layout = folder / "layout"
    write_layout(layout, busybox_image(Recipe("of the team", style="oci")), "1")
    images = {"docker.io/library/alpine:3.20": ALPINE}
    with image_node(folder / "node", images, config=_for_accounts_alone) as node:
        guarded = Guarded(node, layout)
        user = ("registry", "user", "add")
        words = ("--password-stdin", "--push", "team")
        guarded.pyrsia(*user, "alice", *words, password=ALICE).ok()
        guarded.pyrsia(*user, "bob", "--password-stdin", password=BOB).ok()
        guarded.pyrsia("registry", "user", "grant", "bob", "--pull", "team").ok()
        guarded.pyrsia("registry", "namespace", "set", "team", "--private").ok()
        yield guarded


@pytest.fixture
def tools() -> Iterator[Containers]:
    with container_tools() as tools:
        yield tools


@pytest.fixture(scope="module")
def docker_and_way_out(guarded: Guarded) -> Iterator[tuple[DockerEngine, Outside]]:
    with (
        outside() as watched,
        docker_engine(mirrors=(guarded.node.url,), environment=watched.environment) as engine,
    ):
        yield engine, watched


@pytest.fixture
def docker(docker_and_way_out: tuple[DockerEngine, Outside]) -> Iterator[DockerEngine]:
    engine, watched = docker_and_way_out
    watched.forget()
    yield engine
    engine.run("image", "prune", "--all", "--force").ok()
    (engine.folder / "client" / "config.json").unlink(missing_ok=True)


@pytest.fixture
def ctr() -> Iterator[Containerd]:
    with containerd() as running:
        yield running


def login(docker: DockerEngine, host: str, name: str, password: str) -> Finished:
    environment = {
        "DOCKER_HOST": f"unix://{docker.folder}/docker.sock",
        "DOCKER_CONFIG": str(docker.folder / "client"),
        "HOME": str(docker.folder),
    }
    return run(("docker", "login", "-u", name, "-p", password, host), environment)


def push(tools: Containers, guarded: Guarded, repository: str, *words: str) -> Finished:
    source, target = f"oci:{guarded.layout}:1", f"docker://{guarded.host}/{repository}"
    return tools.skopeo("copy", "--dest-tls-verify=false", *words, source, target)


def test_docker_pulls_public_images_through_its_mirror_without_an_account(
    docker: DockerEngine, docker_and_way_out: tuple[DockerEngine, Outside]
) -> None:
    pulled = docker.run("pull", "alpine:3.20").ok()
    assert ALPINE.digest in pulled.out
    assert docker_and_way_out[1].asked == []


def test_docker_with_credentials_of_its_hub_still_pulls_through_the_mirror(
    docker: DockerEngine, docker_and_way_out: tuple[DockerEngine, Outside]
) -> None:
    words = base64.b64encode(b"somebody:at the hub").decode()
    client = docker.folder / "client"
    client.mkdir(exist_ok=True)
    settings = {"auths": {"https://index.docker.io/v1/": {"auth": words}}}
    (client / "config.json").write_text(json.dumps(settings))
    assert ALPINE.digest in docker.run("pull", "alpine:3.20").ok().out
    assert docker_and_way_out[1].asked == []


def test_docker_logs_in_pushes_and_pulls_what_is_private(
    docker: DockerEngine, guarded: Guarded
) -> None:
    target = f"{guarded.host}/team/by-docker:1"
    docker.run("pull", "alpine:3.20").ok()
    docker.run("tag", "alpine:3.20", target).ok()
    refused = docker.run("push", target)
    assert refused.code != 0
    assert "log in to push team/by-docker" in refused.out + refused.err
    assert login(docker, guarded.host, "alice", "wrong").code != 0
    login(docker, guarded.host, "alice", ALICE).ok()
    docker.run("push", target).ok()
    docker.run("rmi", target).ok()
    docker.run("pull", target).ok()
    docker.run("logout", guarded.host).ok()
    docker.run("rmi", target).ok()
    anonymous = docker.run("pull", target)
    assert anonymous.code != 0
    assert "log in to pull team/by-docker" in anonymous.out + anonymous.err


def test_docker_keeps_no_password_but_a_token_after_a_login(
    docker: DockerEngine, guarded: Guarded
) -> None:
    login(docker, guarded.host, "bob", BOB).ok()
    kept = json.loads((docker.folder / "client" / "config.json").read_text())
    entry = kept["auths"][guarded.host]
    assert entry["identitytoken"].startswith("pyr1.")
    assert BOB not in base64.b64decode(entry["auth"]).decode()


def test_right_to_pull_is_no_right_to_push(tools: Containers, guarded: Guarded) -> None:
    push(tools, guarded, "team/app:1", "--dest-creds", f"alice:{ALICE}").ok()
    source = f"docker://{guarded.host}/team/app:1"
    inspect = ("inspect", "--raw", "--tls-verify=false")
    tools.skopeo(*inspect, "--creds", f"bob:{BOB}", source).ok()
    refused = push(tools, guarded, "team/app:2", "--dest-creds", f"bob:{BOB}")
    assert refused.code != 0
    assert "account bob has no right to push team/app" in refused.err
    for words in ((), ("--creds", "bob:wrong password"), ("--no-creds",)):
        assert tools.skopeo(*inspect, *words, source).code != 0, words


def test_skopeo_reads_public_images_without_an_account(tools: Containers, guarded: Guarded) -> None:
    image = f"docker://{guarded.host}/library/alpine:3.20"
    tools.skopeo("inspect", "--raw", "--tls-verify=false", image).ok()


def test_podman_logs_in_and_pulls_what_is_private(tools: Containers, guarded: Guarded) -> None:
    push(tools, guarded, "team/podman:1", "--dest-creds", f"alice:{ALICE}").ok()
    image = f"{guarded.host}/team/podman:1"
    assert tools.podman("pull", "--tls-verify=false", image).code != 0
    login = ("login", "--tls-verify=false", guarded.host, "-u", "bob", "-p")
    assert tools.podman(*login, "wrong").code != 0
    tools.podman(*login, BOB).ok()
    tools.podman("pull", "--tls-verify=false", image).ok()
    ran = tools.podman("run", "--rm", "--network", "none", image).ok()
    assert ran.out == "of the team\n"


def test_buildah_pushes_with_credentials(tools: Containers, guarded: Guarded) -> None:
    made = tools.buildah("pull", f"oci:{guarded.layout}:1").ok().out.strip()
    target = f"docker://{guarded.host}/team/by-buildah:1"
    assert tools.buildah("push", "--tls-verify=false", made, target).code != 0
    words = ("push", "--tls-verify=false", "--creds", f"alice:{ALICE}")
    tools.buildah(*words, made, target).ok()


def test_containerd_pulls_and_pushes_with_credentials(
    ctr: Containerd, tools: Containers, guarded: Guarded
) -> None:
    push(tools, guarded, "team/ctr:1", "--dest-creds", f"alice:{ALICE}").ok()
    image = f"{guarded.host}/team/ctr:1"
    pull = ("images", "pull", "--plain-http")
    assert ctr.ctr(*pull, image).code != 0
    ctr.ctr(*pull, "--user", f"bob:{BOB}", image).ok()
    copy = f"{guarded.host}/team/by-ctr:1"
    ctr.ctr("images", "tag", image, copy).ok()
    write = ("images", "push", "--plain-http", "--user")
    assert ctr.ctr(*write, f"bob:{BOB}", copy).code != 0
    ctr.ctr(*write, f"alice:{ALICE}", copy).ok()


def test_history_of_a_tag_names_who_pushed_it(tools: Containers, guarded: Guarded) -> None:
    push(tools, guarded, "team/history:1", "--dest-creds", f"alice:{ALICE}").ok()
    path = f"{guarded.node.url}/v2/team/history/_oci/tag-history/1"
    words = ("curl", "-sf", "--user", f"bob:{BOB}", path)
    assert '"alice"' in run(words, {}).ok().out
    assert run(("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", path), {}).out == "401"
