"""Quotas and a full disk are told while bytes come, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrsia_node.ports.registry import Namespace
from pyrsia_node.registry import room
from tests.fakes.registry_client import Client, at_registry, codes, digest

QUOTA = 1_000_000
LARGE = bytes(range(256)) * 20_000


async def _limit(it: Client) -> None:
    await it.site.parts.accounts.change(
        lambda db: db.put_namespace(Namespace("team", quota_bytes=QUOTA))
    )


def test_upload_beyond_the_quota_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await _limit(it)
        location = await it.begin("team/app")
        chunked = await it.http.patch(location, content=LARGE)
        whole = await it.http.post(
            "/v2/team/app/blobs/uploads/", params={"digest": digest(LARGE)}, content=LARGE
        )
        for refused in (chunked, whole):
            assert (refused.status_code, codes(refused)) == (403, ["DENIED"])
            assert str(QUOTA) in refused.text
        assert codes(await it.http.get(location)) == ["BLOB_UPLOAD_UNKNOWN"]
        assert it.stored_files() == 0
        # Other namespaces are not bounded by it, nor is what fits.
        await it.push("other/app", LARGE)
        await it.push("team/app", LARGE[: QUOTA // 2])

    at_registry(tmp_path, act)


def test_what_is_there_counts(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await _limit(it)
        await it.push("team/app", b"a" * (QUOTA - 10))
        refused = await it.http.post(
            "/v2/team/b/blobs/uploads/", params={"digest": digest(b"b" * 11)}, content=b"b" * 11
        )
        assert (refused.status_code, codes(refused)) == (403, ["DENIED"])
        await it.push("team/b", b"b" * 10)

    at_registry(tmp_path, act)


def test_full_disk_refuses_pushes_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reserve is all of the disk.
    monkeypatch.setattr(room, "RESERVE_PERCENT", 100)
    monkeypatch.setattr(room, "RESERVE_BYTES_MAX", 2**60)

    async def act(it: Client) -> None:
        refused = await it.http.post(
            "/v2/a/blobs/uploads/", params={"digest": digest(LARGE)}, content=LARGE
        )
        assert refused.status_code == 503
        assert "disk is full" in refused.text
        assert it.stored_files() == 0

    at_registry(tmp_path, act)
