"""A data directory in which one of everything happened, published whole: what an audit reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.machine.evidence import evidence_of
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.model.transactions import Transaction
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from tests.fakes.log_story import DATEUTIL, SIX, LogStory, tell
from tests.strategies.build_bodies import built
from tests.strategies.crimes import PAIRS, crime
from tests.strategies.identities import identity
from tests.strategies.small_logs import cosigned, log_signed


class AuditedLog:
    """Writes ``log/`` and the index of a story below ``root``."""

    def __init__(self, root: Path, *, more: int = 0, set_changes: bool = False) -> None:
        """Tell the story; then of a set that changes; then ``more`` requests, one a block."""
        self.root = root
        self.log = root / "log"
        self.story = LogStory()
        self.leaves = tell(self.story)
        if set_changes:
            change_the_set(self.story, withdrawn=self.leaves["dateutil"])
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


def change_the_set(story: LogStory, *, withdrawn: int) -> None:
    """Let every operation that needs approvals happen once, with builds between them."""
    local = story.local
    left = story.ask("pkg:pypi/left-open@1")
    blocks: tuple[Callable[[], list[Transaction]], ...] = (
        lambda: local.add(identity(11)),
        lambda: local.rotate(local.members[1].id, identity(12)),
        lambda: local.set_param("k.pypi", 2),
        lambda: local.set_param("class_ms.S", 60_000),
    )
    for block in blocks:
        local.now_ms += 1000
        local.commit(*block())
        story.ask(f"pkg:pypi/between@{local.chain.tip.height}")
    by = local.members[0].id
    closing = (
        Withdraw(by, DATEUTIL.purl, withdrawn, "should never have been accepted", "01" * 16),
        Revoke(by, SIX.purl, SIX.files[0].sha256, "harms", "02" * 16),
    )
    for statement in closing:
        local.now_ms += 1000
        local.commit(*local.approved(statement))
    convict(story)
    # The removed member answered the open request: from this block on its answer counts no more.
    story.answer([built(left, SIX)])
    local.now_ms += 1000
    local.commit(*local.remove(local.members[0].id))
    local.now_ms += 120_000
    story.ask("pkg:pypi/last@1")


def convict(story: LogStory) -> None:
    """Let one member be convicted of everything that there is, at its height before the last."""
    local = story.local
    voters, height = local.chain.tip.set_leaf, local.chain.tip.height
    proofs = [
        crime(local.members[2], name, network_id=local.network_id, voters=voters, height=height)
        for name in PAIRS
    ]
    local.now_ms += 1000
    local.commit(*(evidence_of(each, by=local.members[0].id) for each in proofs))
