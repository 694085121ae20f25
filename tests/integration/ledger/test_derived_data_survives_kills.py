"""A process that commits and derives is killed at random moments; what it left is made whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.fsck import check
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import read_checkpoint
from pyrsia_node.ledger.tiles import TileFiles, TileWriter
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.strategies.identities import genesis_of, identities

GENESIS = genesis_of(identities(4))
TRUST = Trust.establish(TrustFile(GENESIS.encode()))

CORE = """
import sys
from pathlib import Path
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.log_story import LogStory
from tests.strategies.small_logs import cosigned

root, first = Path(sys.argv[1]), int(sys.argv[2])
story = LogStory(LevelDbStore(root / "core.leveldb", create=True))
local, chain = story.local, story.chain
local.now_ms = max(local.now_ms, chain.tip.time_ms)
tiles = TileWriter(root / "log")
index = IndexWriter.current(root, network_id=local.network_id)
me = local.members[0]
publisher = Publisher(root / "log", trust=Trust.establish(TrustFile(local.genesis.encode())),
                      chain=chain, log_key=me.member.record.keys.log, log_signer=me.sign["log"])
for number in range(first, 10**9):
    story.ask(f"pkg:pypi/p@{number}")
    tip = chain.tip
    tiles.catch_up(chain, size=tip.size, root=bytes(tip.root))
    index.catch_up(chain, size=tip.size)
    head = Checkpoint(local.genesis.origin, tip.size, bytes(tip.root))
    for member in local.members[:3]:
        publisher.add(SignedCheckpoint(head, (cosigned(head, member),)))
    publisher.publish(tiles_size=tiles.size)
    tiles.published(publisher.published_size)
    print(publisher.published_size, flush=True)
"""


def run_until_killed(root: Path, first: int, lines: int, rng: random.Random) -> int:
    """Let the core work for a while and kill it; return the last size that it said to publish."""
    with subprocess.Popen(
        [sys.executable, "-c", CORE, os.fspath(root), str(first)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[3])},
    ) as core:
        assert core.stdout is not None
        published = 0
        for number, line in enumerate(core.stdout, 1):
            published = int(line)
            if number >= lines:
                # Somewhere inside the next round, which takes a few milliseconds.
                for _ in range(rng.randrange(20_000)):
                    pass
                core.send_signal(signal.SIGKILL)
                break
        rest = core.stdout.read().split()
        return int(rest[-1]) if rest else published


def test_nothing_published_is_lost_and_the_rest_is_derived_again(tmp_path: Path) -> None:
    rng = random.Random(20)
    published = 0
    for turn in range(6):
        published = run_until_killed(tmp_path, turn * 10_000, rng.randrange(3, 12), rng)
        with LevelDbStore(tmp_path / "core.leveldb") as store:
            chain = Chain.open(store, GENESIS)
            tip = chain.tip
            assert tip.size >= published
            signed = read_checkpoint(tmp_path / "log/checkpoint")
            assert signed is not None
            assert signed.checkpoint.size >= published
            assert check(tmp_path, chain, TRUST).findings == ()
            writer = TileWriter(tmp_path / "log")
            writer.catch_up(chain, size=tip.size, root=bytes(tip.root))
            with IndexWriter.current(tmp_path, network_id=GENESIS.network_id) as index:
                index.catch_up(chain, size=tip.size)
                assert index.applied_size == tip.size
            found = TileFiles(tmp_path / "log").entries(0, tip.size, size=tip.size)
            assert list(found) == list(chain.leaves(0, tip.size))
            assert check(tmp_path, chain, TRUST).findings == ()
    assert published > 20
