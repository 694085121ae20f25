"""What fsck finds in a damaged data directory, what it names, and what repair brings back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.fsck import check, repair
from pyrsia_node.ledger.index import IndexWriter, read_pointer
from pyrsia_node.ledger.tiles import TileFiles, TileWriter
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.tree import leaf_hash
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.log_story import LogStory, tell
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import cosigned

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
TRUST = Trust.establish(TrustFile(GENESIS.encode()))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which everything is right; 290 leaves, so some tiles are full."""
    root = tmp_path_factory.mktemp("sound")
    with LevelDbStore(root / "core.leveldb", create=True) as store:
        story = LogStory(store)
        tell(story)
        number = 0
        while story.chain.tip.size < 290:
            number += 1
            story.fail(f"pkg:pypi/made-up@{number}")
        derive(root, story.chain)
    return root


def derive(root: Path, chain: Chain) -> None:
    tip = chain.tip
    TileWriter(root / "log").catch_up(chain, size=tip.size, root=bytes(tip.root))
    with IndexWriter.current(root, network_id=GENESIS.network_id) as index:
        index.catch_up(chain, size=tip.size)
    write_checkpoint(root, Checkpoint(GENESIS.origin, tip.size, bytes(tip.root)))


def write_checkpoint(root: Path, head: Checkpoint, *, signers: int = 3) -> None:
    lines = tuple(cosigned(head, one) for one in FOUR[:signers])
    (root / "log/checkpoint").write_bytes(SignedCheckpoint(head, lines).encode())


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def store(root: Path) -> Iterator[LevelDbStore]:
    with LevelDbStore(root / "core.leveldb") as opened:
        yield opened


@pytest.fixture
def chain(store: LevelDbStore) -> Chain:
    return Chain.open(store, GENESIS)


def findings(root: Path, chain: Chain) -> list[tuple[str, str, str]]:
    return [
        (str(each.path.relative_to(root)), each.what, each.repair)
        for each in check(root, chain, TRUST).findings
    ]


def test_a_sound_directory_has_no_finding_and_says_what_was_checked(
    root: Path, chain: Chain
) -> None:
    checked = check(root, chain, TRUST)
    assert checked.findings == ()
    tip = chain.tip
    assert (checked.height, checked.size) == (tip.height, tip.size)
    assert (checked.index_rows_up_to, checked.published_size) == (tip.size, tip.size)
    assert checked.tiles == 5  # two bundles, two tiles of leaves, the tile above


def test_what_only_lags_is_no_finding(root: Path, chain: Chain) -> None:
    shutil.rmtree(root / "log")
    for path in root.glob("index*"):
        path.unlink()
    assert findings(root, chain) == []
    (root / "log").mkdir()
    early = Checkpoint(GENESIS.origin, 2, chain.root_at(2))
    TileWriter(root / "log").catch_up(chain, size=2, root=early.root)
    write_checkpoint(root, early)
    assert findings(root, chain) == []


def overwrite(path: str, position: int = 40) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = bytearray((root / path).read_bytes())
        content[position] ^= 1
        (root / path).write_bytes(content)

    return damage


def remove(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def empty(path: str) -> Callable[[Path], None]:
    def truncate(root: Path) -> None:
        (root / path).write_bytes(b"")

    return truncate


def alter_index(statement: str) -> Callable[[Path], None]:
    def alter(root: Path) -> None:
        db = sqlite3.connect(root / "index-1.sqlite")
        db.execute(statement)
        db.commit()
        db.close()

    return alter


TILES = "pyrsia-node fsck --repair"
INDEX = "pyrsia-node reindex"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            overwrite("log/tile/0/000"),
            ("log/tile/0/000", "differs from the chain", TILES),
        ),
        (overwrite("log/tile/entries/000"), ("log/tile/entries/000", "differs", TILES)),
        (remove("log/tile/0/000"), ("log/tile/0/000", "is missing", TILES)),
        (remove("log/tile/entries/000"), ("log/tile/entries/000", "is missing", TILES)),
        (empty("log/tile/1/000.p/1"), ("log/tile/1/000.p/1", "is damaged", TILES)),
        (overwrite("log/checkpoint", 70), ("log/checkpoint", "", TILES)),
        (empty("log/checkpoint"), ("log/checkpoint", "is damaged", TILES)),
        (
            alter_index("UPDATE unit SET purl='pkg:pypi/evil@1' WHERE type='accepted'"),
            ("index-1.sqlite", "table unit differs from the log", INDEX),
        ),
        (
            alter_index("DELETE FROM tag"),
            ("index-1.sqlite", "table tag differs", INDEX),
        ),
        (
            alter_index("INSERT INTO words(words) VALUES('delete-all')"),
            ("index.current", "cannot be used", INDEX),
        ),
        (
            alter_index("UPDATE meta SET value='9999' WHERE key='applied_size'"),
            ("index-1.sqlite", "has rows up to leaf 9999", INDEX),
        ),
        (overwrite("index-1.sqlite", 3), ("index.current", "cannot be used", INDEX)),
        (empty("index.current"), ("index.current", "is damaged", INDEX)),
        (remove("index-1.sqlite"), ("index-1.sqlite", "is missing", INDEX)),
    ],
)
def test_damage_to_what_is_derived_is_named_with_its_cure_and_repaired(
    root: Path, chain: Chain, damage: Callable[[Path], None], told: tuple[str, str, str]
) -> None:
    damage(root)
    path, what, cure = findings(root, chain)[0]
    assert (path, cure) == (told[0], told[2])
    assert told[1] in what
    repair(root, chain, TRUST)
    assert findings(root, chain) == []
    assert read_pointer(root) is not None
    tip = chain.tip
    assert list(TileFiles(root / "log").entries(0, tip.size, size=tip.size)) == list(
        chain.leaves(0, tip.size)
    )


def test_a_checkpoint_of_another_history_is_kept_as_evidence(root: Path, chain: Chain) -> None:
    write_checkpoint(root, Checkpoint(GENESIS.origin, chain.tip.size, leaf_hash(b"fork")))
    before = (root / "log/checkpoint").read_bytes()
    ((path, what, cure), *_) = findings(root, chain)
    assert path == "log/checkpoint"
    assert leaf_hash(b"fork").hex() in what
    assert bytes(chain.tip.root).hex() in what
    assert "evidence" in cure
    repair(root, chain, TRUST)
    assert (root / "log/checkpoint").read_bytes() == before


def test_a_checkpoint_ahead_of_the_chain_says_that_blocks_were_lost(
    root: Path, chain: Chain
) -> None:
    write_checkpoint(root, Checkpoint(GENESIS.origin, 5000, leaf_hash(b"later")))
    ((path, what, cure),) = findings(root, chain)
    assert (path, cure.split(" (")[0]) == ("log/checkpoint", "pyrsia-node run")
    assert "size 5000" in what


@pytest.mark.parametrize("index", [0, 1, 2, 3, 40])
def test_a_changed_leaf_of_the_chain_is_found(
    root: Path, store: LevelDbStore, chain: Chain, index: int
) -> None:
    key = storage.leaf_key(index)
    leaf = store.get(key)
    assert leaf is not None
    store.write([(key, leaf.replace(b"1", b"2", 1))], sync=True)
    ((path, what, cure), *_) = findings(root, chain)
    assert path == "core.leveldb"
    assert what
    assert "move this folder away" in cure


def test_a_lost_leaf_and_a_swapped_certificate_are_found(
    root: Path, store: LevelDbStore, chain: Chain
) -> None:
    height = chain.tip.height
    other = store.get(storage.certificate_key(height - 1))
    mine = store.get(storage.certificate_key(height))
    store.write([(storage.certificate_key(height), other)], sync=True)
    assert f"block {height}: its certificate does not finalize" in findings(root, chain)[0][1]
    store.write([(storage.certificate_key(height), mine)], sync=True)
    assert findings(root, chain) == []
    store.write([(storage.leaf_key(100), None)], sync=True)
    assert findings(root, chain)[0][0] == "core.leveldb"


def test_findings_read_as_one_line(root: Path, chain: Chain) -> None:
    (root / "log/tile/0/000").unlink()
    (finding,) = check(root, chain, TRUST).findings
    assert str(finding) == f"{root}/log/tile/0/000: is missing; repair: {TILES}"
