"""Large content through a node: memory stays level, and a killed node costs a second try."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pyrsia_node.schema.config import Config
from tests.fakes.engines import container_tools
from tests.fakes.image_node import ImageNode, image_node
from tests.fakes.images import digest_of, large_image, write_layout

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]
_log = logging.getLogger(__name__)
MIB = 1024 * 1024
TEN_GB = 10_000_000_000
GROWTH_MAX = 150_000_000


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ImageNode]:
    """Run a node that keeps nothing for a while after nothing needs it."""

    def configure(config: Config) -> Config:
        return replace(config, registry=replace(config.registry, grace_minutes=0))

    with image_node(tmp_path / "node", config=configure) as node:
        yield node


class Peak:
    """The most memory that a process had since this was made, by the kernel's own mark."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._field("VmRSS")

    @property
    def growth(self) -> int:
        """Return the bytes that it had more than in the beginning."""
        return self._field("VmHWM") - self._before

    def _field(self, name: str) -> int:
        lines = self._status.read_text().splitlines()
        line = next(each for each in lines if each.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024


def blocks(size: int) -> Iterator[bytes]:
    """Yield bytes no two MiB of which are the same, at hardly any cost."""
    noise = os.urandom(MIB)
    for number, begin in enumerate(range(0, size, MIB)):
        block = number.to_bytes(8, "big") + noise[8:]
        yield block[: min(MIB, size - begin)]


def test_ten_gigabytes_in_and_out_leave_the_memory_level(own: ImageNode) -> None:
    httpx.get(f"{own.url}/v2/").raise_for_status()
    began = httpx.post(f"{own.url}/v2/large/one/blobs/uploads/")
    place = urlsplit(began.headers["Location"]).path
    hasher = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in blocks(TEN_GB):
            hasher.update(block)
            yield block

    host, _, port = own.host.rpartition(":")
    pushing = Peak(own.pid)
    connection = http.client.HTTPConnection(host, int(port), timeout=600)
    connection.request("PATCH", place, hashed(), {"Content-Type": "application/octet-stream"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 202
    digest = f"sha256:{hasher.hexdigest()}"
    connection.request("PUT", f"{answer.headers['Location']}?digest={digest}")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201
    connection.close()
    _log.info("pushing took %d bytes of memory", pushing.growth)
    assert pushing.growth < GROWTH_MAX

    pulling = Peak(own.pid)
    again = hashlib.sha256()
    with httpx.stream("GET", f"{own.url}/v2/large/one/blobs/{digest}", timeout=600) as stream:
        assert int(stream.headers["Content-Length"]) == TEN_GB
        for data in stream.iter_raw(MIB):
            again.update(data)
    assert f"sha256:{again.hexdigest()}" == digest
    _log.info("pulling took %d bytes of memory", pulling.growth)
    assert pulling.growth < GROWTH_MAX


def test_a_kill_in_the_middle_of_a_chunk_costs_that_chunk_at_most(own: ImageNode) -> None:
    data = b"".join(blocks(64 * MIB))
    place = httpx.post(f"{own.url}/v2/large/two/blobs/uploads/").headers["Location"]
    first = httpx.patch(f"{own.url}{place}", content=data[: 16 * MIB])
    assert first.headers["Range"] == f"0-{16 * MIB - 1}"
    is_half_way = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield data[16 * MIB : 32 * MIB]
        is_half_way.wait(60)
        yield data[32 * MIB : 33 * MIB]

    def push() -> None:
        with pytest.raises(httpx.HTTPError):
            httpx.patch(f"{own.url}{place}", content=slowly(), timeout=60)

    pushing = threading.Thread(target=push)
    pushing.start()
    _wait_for_bytes(own, 20 * MIB)
    own.kill()
    is_half_way.set()
    pushing.join()
    own.start()
    status = httpx.get(f"{own.url}{place}")
    assert status.status_code == 204
    last = int(status.headers["Range"].partition("-")[2])
    assert last >= 16 * MIB - 1
    rest = httpx.patch(
        f"{own.url}{place}",
        content=data[last + 1 :],
        headers={"Content-Range": f"{last + 1}-{len(data) - 1}"},
        timeout=60,
    )
    assert rest.status_code == 202
    digest = digest_of(data)
    done = httpx.put(f"{own.url}{place}", params={"digest": digest}, timeout=60)
    assert done.status_code == 201
    assert httpx.get(f"{own.url}/v2/large/two/blobs/{digest}", timeout=60).content == data
    assert list(own.layout.uploads.iterdir()) == []
    httpx.delete(f"{own.url}/v2/large/two/blobs/{digest}").raise_for_status()
    _collect_until_only(own, set())


def test_a_client_pushes_again_after_a_kill_and_the_image_is_whole(
    own: ImageNode, tmp_path: Path
) -> None:
    image = large_image(256 * MIB)
    layout = write_layout(tmp_path / "layout", image, "1")
    name = f"docker://{own.host}/large/three:1"
    with container_tools() as tools:
        words = ("copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:1", name)
        first = threading.Thread(target=tools.skopeo, args=words)
        first.start()
        _wait_for_bytes(own, 32 * MIB)
        own.kill()
        first.join()
        own.start()
        tools.skopeo(*words).ok()
        out = tmp_path / "out"
        copying = ("copy", "--preserve-digests", "--src-tls-verify=false")
        tools.skopeo(*copying, name, f"oci:{out}:1").ok()
    _collect_until_only(own, {*image.blobs, image.digest})
    for digest, data in image.blobs.items():
        copied = out / "blobs" / "sha256" / digest.removeprefix("sha256:")
        assert hashlib.sha256(copied.read_bytes()).digest() == hashlib.sha256(data).digest()


def _collect_until_only(node: ImageNode, digests: set[str]) -> None:
    """Collect until the node holds nothing pushed but these: what nothing needs has some grace."""
    ends_at = time.monotonic() + 60
    while True:
        node.pyrsia("gc", "run")
        files = (each for each in (node.layout.blobs / "local").rglob("*") if each.is_file())
        if not {f"sha256:{each.name}" for each in files} - digests:
            return
        assert time.monotonic() < ends_at, node.pyrsia("gc", "status")


def _wait_for_bytes(node: ImageNode, count: int) -> None:
    """Wait until uploads of the node hold so many bytes."""
    ends_at = time.monotonic() + 60
    while True:
        held = subprocess.run(
            ["du", "-sb", node.layout.uploads], capture_output=True, text=True, check=True
        )
        if int(held.stdout.split()[0]) >= count:
            return
        assert time.monotonic() < ends_at, "no bytes arrive"
        time.sleep(0.01)
