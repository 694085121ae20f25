"""A corrupt peer, a tampered index, a crowd of clients: no wrong byte, no work done twice."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.walking import SIX, Walking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("walking"),
]

CROWD = 16
LIE = "0" * 64
INVENTED = "six-9.9.9-py2.py3-none-any.whl"


def blob_of(root: Path, sha256: str) -> Path:
    return root / "blobs" / "sha256" / sha256[:2] / sha256


@contextmanager
def corrupted(path: Path) -> Iterator[None]:
    """Change bytes of a file in place for a while, as a lying peer would send them."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    good = path.read_bytes()
    try:
        path.write_bytes(bytes(byte ^ 0xFF for byte in good))
        yield
    finally:
        path.write_bytes(good)
        path.chmod(mode)


@contextmanager
def lying(index: Path, digest: str) -> Iterator[None]:
    """Let the index name another digest for a file, and an entry that nobody made, for a while."""
    lie, truth = bytes.fromhex(LIE), bytes.fromhex(digest)
    rename = "UPDATE tag SET value = ? WHERE kind = 'blob' AND value = ?"
    with closing(sqlite3.connect(index, isolation_level=None)) as rows:
        assert rows.execute(rename, [lie, truth]).rowcount
        ((other,),) = rows.execute(
            "SELECT leaf FROM entry WHERE leaf NOT IN (SELECT leaf FROM unit) LIMIT 1"
        )
        made_up = (other, "accepted", "pkg:pypi/six@9.9.9", "pkg:pypi/six", None)
        rows.execute("INSERT INTO unit VALUES (?, ?, ?, ?, ?)", made_up)
        try:
            yield
        finally:
            rows.execute("DELETE FROM unit WHERE leaf = ?", [other])
            rows.execute(rename, [truth, lie])


def fetch(walking: Walking, wheel: dict[str, Any]) -> tuple[int, bytes]:
    path = "/pypi/files/{}/{}".format(wheel["hashes"]["sha256"], wheel["filename"])
    answer = walking.get(path)
    return answer.status_code, answer.content


def test_corrupt_peers_cost_retries_and_never_a_wrong_byte(walking: Walking) -> None:
    wheel = walking.wheel()
    digest = wheel["hashes"]["sha256"]
    members = [member.layout.root for member in walking.cluster.members]
    walking.empty_cache()
    with ExitStack() as stack:
        for root in members[1:]:
            stack.enter_context(corrupted(blob_of(root, digest)))
        with corrupted(blob_of(members[0], digest)):
            status, _ = fetch(walking, wheel)
            assert status in {502, 503}
            assert walking.transfers()[-1]["wrong_pieces"] >= 1
            assert not blob_of(walking.cluster.nodes["regular-1"].layout.root, digest).exists()
        walking.empty_cache()
        status, content = fetch(walking, wheel)
        assert status == 200
        assert hashlib.sha256(content).hexdigest() == digest
        (transfer,) = walking.transfers()
        assert list(transfer["pieces_by_peer"]) == [walking.cluster.members[0].peer_id]


def test_sixteen_clients_at_once_cause_one_download(walking: Walking, tmp_path: Path) -> None:
    walking.empty_cache()

    def download(number: int) -> int:
        return walking.pip("download", "--dest", tmp_path / str(number), f"six=={SIX}").code

    with ThreadPoolExecutor(CROWD) as pool:
        assert list(pool.map(download, range(CROWD))) == [0] * CROWD
    digest = walking.wheel()["hashes"]["sha256"]
    downloads = [each for each in walking.transfers() if each["sha256"] == digest]
    assert [each["state"] for each in downloads] == ["complete"]
    assert sum(downloads[0]["pieces_by_peer"].values()) == 1
    files = list(tmp_path.glob("*/*.whl"))
    assert len(files) == CROWD
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == {digest}


def test_tampered_index_rows_change_nothing_that_is_served(walking: Walking) -> None:
    page, wheel = walking.page(), walking.wheel()
    name, digest = wheel["filename"], wheel["hashes"]["sha256"]
    root = walking.cluster.nodes["regular-1"].layout.root
    index = root / (root / "index.current").read_text().strip()
    with lying(index, digest):
        # A gateway that has seen nothing yet: it remembers no page from before.
        walking.restart_gateway()
        assert walking.page()["files"] == page["files"]
        status, content = fetch(walking, wheel)
        assert status == 200
        assert hashlib.sha256(content).hexdigest() == digest
        assert walking.get(f"/pypi/files/{LIE}/{name}").status_code == 404
        assert walking.get(f"/pypi/files/{LIE}/{INVENTED}").status_code == 404
