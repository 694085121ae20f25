"""Validation at a running node whose log has images: the dry run, the command and the webhook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyrsia_node.schema.config import Config
from pyrsia_node.schema.exit_codes import INVALID
from tests.fakes.image_node import PYRSIA, ImageNode, image_node
from tests.fakes.images import Recipe, two_platforms

ALPINE = two_platforms(Recipe("alpine of the log"))
RULES = """
must_be_logged = true
deny = ["docker.io/library/wordpress"]
unlogged = ["localhost:5000/team"]
"""


def _with_rules(config: Config) -> Config:
    return replace(config, registry=replace(config.registry, validation_file="rules.toml"))


@dataclass
class Cluster:
    """Asks the node as an API server and as an operator do."""

    node: ImageNode
    rules: Path

    def review(self, *images: str, uid: str = "u-1", **request: Any) -> httpx.Response:
        pod = {"kind": "Pod", "spec": {"containers": [{"image": each} for each in images]}}
        body = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {"uid": uid, "operation": "CREATE", "object": pod, **request},
        }
        return httpx.post(f"{self.node.url}/validate-image", json=body, params={"timeout": "10s"})

    def answered(self, *images: str) -> dict[str, Any]:
        answer = self.review(*images)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["response"]
        return found

    def explained(self, image: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.node.url}/api/v1/validate", params={"image": image})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def validate(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYRSIA, "validate", *words],
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nowhere",
                "PYRSIA_CONFIG": str(self.node.settings),
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("validating") / "node"
    folder.mkdir()
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    images = {"docker.io/library/alpine:3.20": ALPINE}
    with image_node(folder, images, config=_with_rules) as node:
        yield Cluster(node, rules)


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    yield running
    running.rules.write_text(RULES)


def test_dry_run_tells_what_the_log_says_and_why(cluster: Cluster) -> None:
    found = cluster.explained("alpine:3.20")
    assert found.pop("entry") > 0
    assert found == {
        "image": "docker.io/library/alpine:3.20",
        "allowed": True,
        "reason": found["reason"],
        "digest": ALPINE.digest,
        "claim": "mirrored",
    }
    assert "says mirrored" in found["reason"]
    refused = cluster.explained("alpine:3.19")
    assert (refused["allowed"], refused["reason"]) == (False, "the log has no entry for it")


def test_digest_counts_where_a_tag_stands_beside_it(cluster: Cluster) -> None:
    assert cluster.explained(f"alpine:anything@{ALPINE.digest}")["allowed"]
    strange = "sha256:" + "0" * 64
    assert not cluster.explained(f"alpine:3.20@{strange}")["allowed"]
    platform = ALPINE.children[0].digest
    assert cluster.explained(f"alpine@{platform}")["claim"] == "mirrored"


def test_image_that_is_no_reference_is_named(cluster: Cluster) -> None:
    url = f"{cluster.node.url}/api/v1/validate"
    for image in ("", "Alpine", "x" * 1025):
        assert httpx.get(url, params={"image": image}).status_code == 400
    assert httpx.get(url).status_code == 400


def test_webhook_admits_a_pod_whose_images_are_logged(cluster: Cluster) -> None:
    assert cluster.answered("alpine:3.20", "localhost:5000/team/app:1") == {
        "uid": "u-1",
        "allowed": True,
    }


def test_webhook_denies_a_pod_with_one_image_that_is_not(cluster: Cluster) -> None:
    found = cluster.answered("alpine:3.20", "wordpress", "busybox:1", "")
    assert found["allowed"] is False
    assert found["status"]["code"] == 403
    for words in (
        "docker.io/library/wordpress:latest: docker.io/library/wordpress is denied",
        "docker.io/library/busybox:1: the log has no entry for it",
        "''",
    ):
        assert words in found["status"]["message"]
    assert "alpine" not in found["status"]["message"]


def test_webhook_denies_an_object_that_is_malformed(cluster: Cluster) -> None:
    answer = cluster.review(object={"kind": "Pod", "spec": {"containers": {"image": "alpine"}}})
    assert answer.status_code == 200
    assert answer.json()["response"]["allowed"] is False


def test_webhook_never_answers_500(cluster: Cluster) -> None:
    url = f"{cluster.node.url}/validate-image"
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 60_000, b'{"kind":"AdmissionReview"}'):
        answer = httpx.post(url, content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["kind"] == "invalid"
    assert httpx.post(url, content=b" " * (4 * 1024 * 1024 + 1)).status_code == 413
    assert httpx.get(url).status_code == 405


def test_review_of_nearly_four_mebibytes_is_read(cluster: Cluster) -> None:
    images = [f"alpine:3.20@{ALPINE.digest}"] * 36_000
    assert cluster.answered(*images)["allowed"]


def test_rules_that_changed_hold_at_once_and_broken_ones_do_not(cluster: Cluster) -> None:
    cluster.rules.write_text('default = "deny"\n')
    assert not cluster.answered("alpine:3.20")["allowed"]
    cluster.rules.write_text('default = "perhaps"\n# longer than before\n')
    assert not cluster.answered("alpine:3.20")["allowed"]
    cluster.rules.write_text('minimum_claim = "rebuilt"\n')
    assert "mirrored" in cluster.answered("alpine:3.20")["status"]["message"]


def test_command_ends_with_1_if_one_image_is_denied(cluster: Cluster) -> None:
    assert cluster.validate("alpine:3.20").returncode == 0
    mixed = cluster.validate("alpine:3.20", "wordpress", "--format", "json")
    assert mixed.returncode == 1
    assert [each["allowed"] for each in json.loads(mixed.stdout)] == [True, False]
    assert cluster.validate("Alpine").returncode == INVALID


def test_rules_that_are_wrong_stop_the_start_and_are_named(tmp_path: Path) -> None:
    with image_node(tmp_path / "whole") as node:
        node.stop()
        config = node.layout.config
        config.write_text(
            config.read_text().replace('validation_file = ""', 'validation_file = "rules.toml"')
        )
        rules = node.layout.root / "rules.toml"
        for text in (None, "must_be_logged = 7\n"):
            if text is not None:
                rules.write_text(text)
            done = subprocess.run(
                [sys.executable, "-m", "pyrsia_node.gateway", "--data", str(node.layout.root)],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert done.returncode == INVALID
            assert str(rules) in done.stderr
