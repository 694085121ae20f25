"""What fsck finds in a registry: rows without bytes, wrong counts, damaged and lost files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pyrsia_node.ports.registry import Proxied
from pyrsia_node.store.registry_db import SqliteRegistryDb
from pyrsia_node.store.registry_db_check import FINDINGS_MAX, check_registry
from tests.fakes.collected_registry import CollectedRegistry, on_disk


def _faults(folder: Path) -> list[str]:
    return [fault.what for fault in check_registry(folder / "registry.sqlite", folder / "blobs")]


def _close(shop: CollectedRegistry) -> None:
    assert isinstance(shop.db, SqliteRegistryDb)
    shop.db.close()


def test_whole_registry_and_none_at_all_have_no_faults(tmp_path: Path) -> None:
    assert _faults(tmp_path) == []
    shop = on_disk(tmp_path)
    layer = shop.push("a", b"layer")
    shop.tag("a", "latest", b"image", layer)
    shop.proxy("registry.example/x", b"proxied")
    shop.db.claim("0" * 64, now_ms=1)
    _close(shop)
    assert _faults(tmp_path) == []


def test_names_whose_bytes_are_gone_or_cut_are_named(tmp_path: Path) -> None:
    shop = on_disk(tmp_path)
    layer, other = shop.push("team/a", b"layer"), shop.push("b", b"other")
    image = shop.tag("team/a", "latest", b"image", layer)
    Path(shop.store.path(layer.sha256)).unlink()
    cut = Path(shop.store.path(image.sha256))
    cut.chmod(0o600)
    cut.write_bytes(b"ima")
    _close(shop)
    assert sorted(_faults(tmp_path)) == sorted(
        [
            f"{layer.digest} of team/a has no bytes",
            f"{image.digest} of team/a has 3 bytes instead of 5",
        ]
    )
    assert other.size == 5


def test_lost_database_beside_pushed_blobs_is_a_fault(tmp_path: Path) -> None:
    shop = on_disk(tmp_path)
    shop.push("a", b"layer")
    _close(shop)
    (tmp_path / "registry.sqlite").unlink()
    (fault,) = check_registry(tmp_path / "registry.sqlite", tmp_path / "blobs")
    assert "missing" in fault.what
    assert "backup" in fault.advice


def test_counts_that_were_changed_by_hand_are_a_fault(tmp_path: Path) -> None:
    shop = on_disk(tmp_path)
    shop.push("a", b"layer")
    _close(shop)
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as raw, raw:
        raw.execute("UPDATE blobs SET keeps = 7")
    assert _faults(tmp_path) == ["1 blobs have a wrong count of needs"]


def test_damaged_file_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"no database" * 1000)
    assert len(_faults(tmp_path)) == 1


def test_only_so_many_faults_are_told(tmp_path: Path) -> None:
    shop = on_disk(tmp_path)
    for number in range(FINDINGS_MAX + 5):
        shop.db.note_proxied([Proxied(f"{number:064x}", 1, "registry.example/x", 1)])
    _close(shop)
    assert len(_faults(tmp_path)) == FINDINGS_MAX
