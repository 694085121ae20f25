"""``pyrsia configure`` for container clients: what is written, what is said, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.fakes.engines import Finished

PYRSIA = Path(sys.executable).parent / "pyrsia"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "pyrsia.toml"
    path.write_text("port = 7999\n")
    return path


def configure(settings: Path, *words: str | Path) -> Finished:
    text = (str(PYRSIA), "configure", *map(str, words))
    environment = {"PYRSIA_CONFIG": str(settings), "PATH": "/usr/bin:/bin", "HOME": "/nowhere"}
    done = subprocess.run(
        text, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return Finished(text, done.returncode, done.stdout, done.stderr)


def test_docker_gets_a_mirror_and_is_told_what_dockerd_does_when_it_denies(
    settings: Path, tmp_path: Path
) -> None:
    file = tmp_path / "daemon.json"
    before = '{"debug": true, "registry-mirrors": ["https://other.example"]}\n'
    file.write_text(before)
    file.chmod(0o600)
    shown = configure(settings, "docker", "--dry-run", "--file", file).ok()
    assert file.read_text() == before
    assert '+{"debug": true, "registry-mirrors": ["http://127.0.0.1:7999"' in shown.out
    done = configure(settings, "docker", "--file", file).ok()
    after = json.loads(file.read_text())
    assert after["registry-mirrors"] == ["http://127.0.0.1:7999", "https://other.example"]
    assert "dockerd asks its hub by itself" in done.out
    assert "systemctl reload docker" in done.out
    assert "past the node: registry-mirrors: https://other.example" in done.out
    assert file.stat().st_mode & 0o777 == 0o600
    backup = tmp_path / "daemon.json.before-pyrsia"
    assert backup.read_text() == before
    assert backup.stat().st_mode & 0o777 == 0o600
    assert "nothing to change" in configure(settings, "docker", "--file", file).ok().out
    configure(settings, "docker", "--remove", "--file", file).ok()
    assert file.read_text() == before


def test_docker_cannot_be_forced_by_its_file_so_the_names_that_can_are_printed(
    settings: Path, tmp_path: Path
) -> None:
    file = tmp_path / "daemon.json"
    done = configure(settings, "docker", "--enforce", "--file", file).ok()
    assert "no setting that keeps it from its hub" in done.out
    assert "127.0.0.1:7999/library/alpine:3.20" in done.out
    assert "127.0.0.1:7999/f/ghcr.io/OWNER/NAME:TAG" in done.out
    assert not file.exists()
    configure(settings, "docker", "--file", file).ok()
    warned = configure(settings, "docker", "--enforce", "--file", file).ok()
    assert "warning: the node is a mirror" in warned.out


def test_a_file_that_only_the_node_needed_is_gone_again(settings: Path, tmp_path: Path) -> None:
    for client in ("docker", "containerd", "podman"):
        file = tmp_path / client / "file.conf"
        configure(settings, client, "--file", file).ok()
        assert file.exists()
        removed = configure(settings, client, "--remove", "--file", file).ok()
        assert "nothing was left in it" in removed.out
        assert not file.exists()
        again = configure(settings, client, "--remove", "--file", file).ok()
        assert "nothing to change" in again.out


def test_a_broken_file_is_named_with_its_line_and_left_alone(
    settings: Path, tmp_path: Path
) -> None:
    for client, text in (
        ("docker", '{\n  "debug": !\n}\n'),
        ("containerd", 'server = "x"\n[host\n'),
        ("podman", "[[registry]]\nprefix =\n"),
    ):
        file = tmp_path / f"{client}.conf"
        file.write_text(text)
        done = configure(settings, client, "--file", file)
        assert done.code == 2
        assert str(file) in done.err
        assert "line 2" in done.err
        assert file.read_text() == text


def test_containerd_asks_the_node_first_and_enforced_nobody_else(
    settings: Path, tmp_path: Path
) -> None:
    file = tmp_path / "certs.d" / "_default" / "hosts.toml"
    (tmp_path / "certs.d" / "registry.example").mkdir(parents=True)
    done = configure(settings, "containerd", "--file", file).ok()
    assert list(tomllib.loads(file.read_text())["host"]) == ["http://127.0.0.1:7999"]
    assert "containerd asks the registry itself" in done.out
    assert f'config_path = "{tmp_path}/certs.d"' in done.out
    assert f"past the node: {tmp_path}/certs.d/registry.example" in done.out
    enforced = configure(settings, "containerd", "--enforce", "--file", file).ok()
    assert tomllib.loads(file.read_text())["server"] == "http://127.0.0.1:7999"
    assert "asks the registry itself" not in enforced.out


def test_podman_keeps_what_other_files_say_of_a_registry(settings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "registries.conf.d"
    folder.mkdir()
    file = folder / "900-pyrsia.conf"
    configure(settings, "podman", "--registry", "ghcr.io", "--file", file).ok()
    assert tomllib.loads(file.read_text())["registry"][0]["prefix"] == "ghcr.io"
    other = folder / "100-mine.conf"
    other.write_text('[[registry]]\nlocation = "docker.io"\nblocked = true\n')
    refused = configure(settings, "podman", "--file", file)
    assert refused.code == 2
    assert f"{other} configures docker.io, too" in refused.err
    assert tomllib.loads(file.read_text())["registry"][0]["prefix"] == "ghcr.io"
    assert configure(settings, "podman", "--registry", "no host", "--file", file).code == 2


def test_a_node_with_tls_is_named_so_and_each_client_is_told_whose_certificate_counts(
    settings: Path, tmp_path: Path
) -> None:
    settings.write_text("host = 'node.example'\nport = 7999\ntls = true\nca_file = '/etc/ca.pem'\n")
    hosts = tmp_path / "certs.d" / "_default" / "hosts.toml"
    configure(settings, "containerd", "--enforce", "--file", hosts).ok()
    read = tomllib.loads(hosts.read_text())
    assert (read["server"], read["ca"]) == ("https://node.example:7999", "/etc/ca.pem")
    assert read["host"]["https://node.example:7999"]["ca"] == "/etc/ca.pem"
    daemon = tmp_path / "daemon.json"
    said = configure(settings, "docker", "--file", daemon).ok()
    assert json.loads(daemon.read_text()) == {"registry-mirrors": ["https://node.example:7999"]}
    assert "/etc/docker/certs.d/node.example:7999/ca.crt" in said.out
    drop_in = tmp_path / "drop-in.conf"
    said = configure(settings, "podman", "--file", drop_in).ok()
    mirror = tomllib.loads(drop_in.read_text())["registry"][0]["mirror"]
    assert mirror == [{"location": "node.example:7999/f/docker.io"}]
    assert "/etc/containers/certs.d/node.example:7999/ca.crt" in said.out


def test_a_plain_node_on_another_machine_is_taken_by_dockerd_as_insecure(
    settings: Path, tmp_path: Path
) -> None:
    settings.write_text("host = 'node.example'\nport = 7999\n")
    daemon = tmp_path / "daemon.json"
    before = '{\n  "debug": true\n}\n'
    daemon.write_text(before)
    configure(settings, "docker", "--file", daemon).ok()
    read = json.loads(daemon.read_text())
    assert read["insecure-registries"] == ["node.example:7999"]
    configure(settings, "docker", "--remove", "--file", daemon).ok()
    assert daemon.read_text() == before
