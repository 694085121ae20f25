"""``pyrsia tags`` at a real gateway: own repositories, and images of the log, each step proved."""

from __future__ import annotations

from pathlib import Path

import httpx

from pyrsia_node.model.oci import ImageName
from pyrsia_node.tlog.trust import TrustFile
from tests.fakes.command_at_a_gateway import Setting, scenario
from tests.fakes.local_chain import LocalChain
from tests.fakes.logged_images import image_document
from tests.fakes.registry_client import EMPTY, digest, manifest

ALPINE = ImageName("docker.io", "library/alpine")
OLD, NEW = manifest([b"old"]), manifest([b"new"])


def _push(it: Setting, tag: str, data: bytes, *layers: bytes) -> None:
    port = (it.folder / "pyrsia.toml").read_text().split()[2]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        for blob in (EMPTY, *layers):
            params = {"digest": digest(blob)}
            http.post("/v2/team/app/blobs/uploads/", params=params, content=blob)
        assert http.put(f"/v2/team/app/manifests/{tag}", content=data).status_code == 201


def test_own_tags_and_their_history_are_shown(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        _push(it, "1.0", OLD, b"old")
        _push(it, "latest", OLD)
        _push(it, "latest", NEW, b"new")
        listed = await it.pyrsia("tags", "list", "team/app")
        assert listed.out.split() == ["tag", "1.0", "latest"]
        steps = (await it.pyrsia("tags", "history", "team/app", "--format", "json")).json()
        assert [step["digest"] for step in steps] == [digest(NEW), digest(OLD)]
        table = await it.pyrsia("tags", "history", "team/app:1.0")
        assert digest(OLD) in table.out
        assert "anonymous" in table.out
        assert "this node" in table.out
        lines = (await it.pyrsia("tags", "history", "team/app", "--format", "csv")).out
        assert lines.splitlines()[0] == "since,digest,by,vouched,entry,deleted"
        short = await it.pyrsia("tags", "history", "team/app", "--limit", 1, "--format", "json")
        assert [step["digest"] for step in short.json()] == [digest(NEW)]
        assert "--limit" in short.err

    scenario(tmp_path, act)


def test_what_nobody_knows_ends_with_exit_code_four(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        for words in (("list", "nobody/app"), ("history", "nobody/app:1")):
            done = await it.pyrsia("tags", *words)
            assert (done.code, done.out) == (4, "")
        for words in (("list", "UPPER"), ("list", "a:tag"), ("history", f"a@{digest(b'')}")):
            assert (await it.pyrsia("tags", *words)).code == 2

    scenario(tmp_path, act)


def test_steps_of_the_log_are_proved(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        first = it.node.log.accept(image_document(ALPINE, "3.20", OLD))
        second = it.node.log.accept(image_document(ALPINE, "3.20", NEW))
        for image in ("alpine:3.20", "library/alpine:3.20", "docker.io/library/alpine:3.20"):
            steps = (await it.pyrsia("tags", "history", image, "--format", "json")).json()
            assert [(step["index"], step["digest"]) for step in steps] == [
                (second, digest(NEW)),
                (first, digest(OLD)),
            ]
        table = await it.pyrsia("tags", "history", "alpine:3.20")
        assert table.out.count("log, proved") == 2
        assert "docker.io/library/alpine" in table.err

    scenario(tmp_path, act)


def test_step_that_nobody_trusted_signed_is_not_shown(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.node.log.accept(image_document(ALPINE, "3.20", OLD))
        stranger = tmp_path / "stranger.trust"
        stranger.write_bytes(TrustFile(LocalChain(7).genesis.encode()).encode())
        done = await it.pyrsia("tags", "history", "alpine:3.20", "--trust", stranger)
        assert (done.code, done.out) == (3, "")

    scenario(tmp_path, act)
