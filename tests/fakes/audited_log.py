"""A data directory in which one of everything happened, published whole: what an audit reads."""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from tests.fakes.log_story import LogStory, tell
from tests.strategies.small_logs import cosigned, log_signed


class AuditedLog:
    """Writes ``log/`` and the index of a story below ``root``."""

    def __init__(self, root: Path, *, more: int = 0) -> None:
        """Tell the story; then ``more`` requests, each in a block of its own."""
        self.root = root
        self.log = root / "log"
        self.story = LogStory()
        self.leaves = tell(self.story)
        for number in range(more):
            self.story.ask(f"pkg:pypi/more@{number}")
        root.mkdir(exist_ok=True)
        self.network_id = self.story.local.network_id
        self.publish()

    def publish(self, *, cosigners: int = 4) -> None:
        chain = self.story.chain
        tip = chain.tip
        TileWriter(self.log).catch_up(chain, size=tip.size, root=bytes(tip.root))
        CertificateWriter(self.log).catch_up(chain, height=tip.height)
        with IndexWriter.current(self.root, network_id=self.network_id) as index:
            index.catch_up(chain, size=tip.size)
        head = Checkpoint(chain.genesis.origin, tip.size, bytes(tip.root))
        members = self.story.local.members
        lines = (log_signed(head, members[0]), *(cosigned(head, m) for m in members[:cosigners]))
        write_atomic(self.log / "checkpoint", SignedCheckpoint(head, lines).encode())
