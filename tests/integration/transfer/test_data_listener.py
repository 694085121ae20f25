"""The data listener as another node meets it: over TLS 1.3, by an HTTP client that is not ours."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path

import aiohttp
import pytest

from pyrsia_node.transfer.listener import UploadPolicy
from tests.fakes.data_peers import DataPeer, data_peer

DATA = bytes(range(256)) * 40


async def ask(
    peer: DataPeer, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Ask with aiohttp and the pinned certificate."""
    assert peer.holder.fingerprint is not None
    pin = aiohttp.Fingerprint(bytes.fromhex(peer.holder.fingerprint))
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(
            method, f"{peer.holder.data_url}{path}", ssl=pin, headers=headers
        ) as answer,
    ):
        fields = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, fields, await answer.read()


def test_blob_ranges_head_and_conditions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with data_peer(tmp_path, "peer") as peer:
            path = f"/blobs/{peer.put(tmp_path, DATA).sha256}"
            status, fields, body = await ask(peer, path)
            assert (status, body) == (200, DATA)
            assert fields["accept-ranges"] == "bytes"
            status, fields, body = await ask(peer, path, headers={"Range": "bytes=10-19"})
            assert (status, body) == (206, DATA[10:20])
            assert fields["content-range"] == f"bytes 10-19/{len(DATA)}"
            status, _, body = await ask(peer, path, headers={"Range": "bytes=-5"})
            assert (status, body) == (206, DATA[-5:])
            status, fields, body = await ask(peer, path, headers={"Range": "bytes=99999-"})
            assert (status, fields["content-range"]) == (416, f"bytes */{len(DATA)}")
            status, fields, body = await ask(peer, path, "HEAD")
            assert (status, body, fields["content-length"]) == (200, b"", str(len(DATA)))
            for asked in ("bytes=10-19", "bytes=99999-"):
                status, fields, _ = await ask(peer, path, "HEAD", headers={"Range": asked})
                assert (status, fields["content-length"]) == (200, str(len(DATA)))
                assert "content-range" not in fields
            etag = {"If-None-Match": fields["etag"]}
            assert (await ask(peer, path, headers=etag))[0] == 304

    asyncio.run(scenario())


def test_piece_list_is_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with data_peer(tmp_path, "peer") as peer:
            sha256 = peer.put(tmp_path, DATA).sha256
            status, _, body = await ask(peer, f"/blobs/{sha256}/pieces")
            assert (status, body) == (200, peer.store.piece_hashes(sha256))

    asyncio.run(scenario())


def test_peer_gets_nothing_of_a_blob_that_was_pushed_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with data_peer(tmp_path, "peer") as peer:
            source = tmp_path / "pushed"
            source.write_bytes(DATA)
            sha256 = hashlib.sha256(DATA).hexdigest()
            peer.store.adopt(str(source), sha256, local=True)
            for path in (f"/blobs/{sha256}", f"/blobs/{sha256}/pieces"):
                for method in ("GET", "HEAD"):
                    status, _, body = await ask(peer, path, method)
                    absent = await ask(peer, path.replace(sha256, "0" * 64), method)
                    assert (status, body.replace(sha256.encode(), b"0" * 64)) == (404, absent[2])
            peer.store.share(sha256)
            assert (await ask(peer, f"/blobs/{sha256}"))[2] == DATA
            assert (await ask(peer, f"/blobs/{sha256}/pieces"))[0] == 200
            peer.store.remove(sha256)
            assert (await ask(peer, f"/blobs/{sha256}"))[0] == 404

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/blobs/" + "0" * 64, "GET", 404),
        ("/blobs/" + "0" * 64 + "/pieces", "GET", 404),
        ("/blobs/" + "0" * 63, "GET", 404),
        ("/blobs/..%2f..%2fnode.toml", "GET", 404),
        ("/", "GET", 404),
        ("/blobs/" + "0" * 64, "POST", 405),
        ("/blobs/" + "0" * 64, "DELETE", 405),
    ],
)
def test_everything_else_is_refused(tmp_path: Path, path: str, method: str, status: int) -> None:
    async def scenario() -> None:
        async with data_peer(tmp_path, "peer") as peer:
            assert (await ask(peer, path, method))[0] == status

    asyncio.run(scenario())


def test_node_that_does_not_upload_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with data_peer(tmp_path, "peer", policy=UploadPolicy(enabled=False)) as peer:
            sha256 = peer.put(tmp_path, DATA).sha256
            status, _, body = await ask(peer, f"/blobs/{sha256}")
            assert (status, body) == (403, b"this node does not upload\n")

    asyncio.run(scenario())


def test_uploads_stay_under_the_bandwidth_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        data = bytes(200_000)
        async with data_peer(tmp_path, "peer", policy=UploadPolicy(bytes_per_s=500_000)) as peer:
            sha256 = peer.put(tmp_path, data).sha256
            started = asyncio.get_running_loop().time()
            await asyncio.gather(*(ask(peer, f"/blobs/{sha256}") for _ in range(2)))
            # 400 kB at 500 kB/s, less a burst of a quarter second.
            assert asyncio.get_running_loop().time() - started >= 0.4

    asyncio.run(scenario())


def test_older_tls_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with data_peer(tmp_path, "peer") as peer:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(OSError):  # noqa: PT011 - whichever of its kinds the system picks
                await asyncio.open_connection("127.0.0.1", peer.server.port, ssl=context)

    asyncio.run(scenario())
