"""A share between two real nodes: the other node pulls one private repository, and only that."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from pyrsia_node.schema.config import Config
from pyrsia_node.schema.upstreams import RegistryUpstream
from tests.fakes.gateway_process import TOKEN
from tests.fakes.image_node import ImageNode, image_node
from tests.fakes.registry_client import EMPTY, digest, manifest

PASSWORD = "correct horse"
LAYER = b"a private layer"
ALICE = ("alice", PASSWORD)


def _admin(node: ImageNode, path: str, body: dict[str, object]) -> dict[str, str]:
    answer = httpx.post(
        f"{node.url}/api/v1/registry/{path}",
        json=body,
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert answer.is_success, answer.text
    found: dict[str, str] = answer.json()
    return found


def _push(node: ImageNode, repository: str) -> str:
    """Push a small image as alice; return its digest."""
    data = manifest([LAYER])
    with httpx.Client(base_url=f"{node.url}/v2/{repository}", auth=ALICE) as http:
        for blob in (EMPTY, LAYER):
            pushed = http.post("/blobs/uploads/", params={"digest": digest(blob)}, content=blob)
            assert pushed.status_code == 201, pushed.text
        media = {"content-type": json.loads(data)["mediaType"]}
        assert http.put("/manifests/1", content=data, headers=media).status_code == 201
    return digest(data)


def _private(config: Config) -> Config:
    local = replace(config.registry, local_prefixes=("team",), anonymous="pull")
    return replace(config, registry=local)


@contextmanager
def _other(folder: Path, owner: ImageNode, share: str) -> Iterator[ImageNode]:
    """Run a node that has a share for the owner's registry, and asks it by it."""
    words = base64.b64encode(f"share:{share}".encode()).decode()

    def change(config: Config) -> Config:
        upstream = RegistryUpstream(owner.host, owner.url, allow_private=True)
        docker = replace(
            config.docker, policy="upstream", upstreams=(upstream,), auth_file="auth.json"
        )
        return replace(config, docker=docker)

    folder.mkdir()
    auth = folder / "auth.json"
    auth.write_text(json.dumps({"auths": {owner.host: {"auth": words}}}))
    auth.chmod(0o600)
    with image_node(folder, config=change) as node:
        yield node


def test_other_node_pulls_what_a_share_opens_and_nothing_beside_it(tmp_path: Path) -> None:
    with image_node(tmp_path / "owner", config=_private) as owner:
        _admin(owner, "users", {"name": "alice", "password": PASSWORD, "push": ["team"]})
        _admin(owner, "namespaces", {"prefix": "team", "private": True})
        root = _push(owner, "team/app")
        _push(owner, "team/other")
        began_ms = time.time_ns() // 1_000_000
        share = _admin(owner, "shares", {"owner": "alice", "repository": "team/app", "hours": 2})
        assert 7_190_000 < int(share["expires_ms"]) - began_ms < 7_260_000
        with _other(tmp_path / "other", owner, share["share"]) as other:
            base = f"{other.url}/v2/f/{owner.host}/team"
            pulled = httpx.get(f"{base}/app/manifests/1")
            assert (pulled.status_code, digest(pulled.content)) == (200, root)
            assert httpx.get(f"{base}/app/blobs/{digest(LAYER)}").content == LAYER
            assert httpx.get(f"{base}/other/manifests/1").status_code in {401, 403, 404, 503}
            # It stays private there, too: what credentials fetched is no peer's.
            assert not (other.layout.blobs / "sha256").exists() or not list(
                (other.layout.blobs / "sha256").rglob(digest(LAYER).removeprefix("sha256:"))
            )


def test_share_ends_with_its_owners_account_at_once(tmp_path: Path) -> None:
    with image_node(tmp_path / "owner", config=_private) as owner:
        _admin(owner, "users", {"name": "alice", "password": PASSWORD, "push": ["team"]})
        _admin(owner, "namespaces", {"prefix": "team", "private": True})
        _push(owner, "team/app")
        share = _admin(owner, "shares", {"owner": "alice", "repository": "team/app"})["share"]
        url = f"{owner.url}/v2/team/app/manifests/1"
        for auth in (None, ("share", share), ("share", "wrong")):
            assert httpx.get(url, auth=auth).status_code == (
                200 if auth == ("share", share) else 401
            )
        _admin(owner, "users/remove", {"name": "alice"})
        assert httpx.get(url, auth=("share", share)).status_code == 401


def test_shares_are_made_with_the_admin_token_alone(tmp_path: Path) -> None:
    with image_node(tmp_path / "owner") as owner:
        body = {"owner": "alice", "repository": "team/app"}
        url = f"{owner.url}/api/v1/registry/shares"
        assert httpx.post(url, json=body).status_code == 403
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.post(url, json=body, headers=right).status_code == 404
