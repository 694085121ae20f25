"""Members in one process that live, die, and live again on the same files."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import trio

from consensus import wire
from consensus.evidence import contradicts
from consensus.types import NodeId, Vote
from pyrsia_node.replica.frames import FrameKind, frame_kind
from tests.fakes.member_network import MemberNetwork, MemberNode
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.integration.replica.orders import order

OWN = 3
"""The member of four that things happen to."""


@dataclass(frozen=True, slots=True)
class Image:
    """A copy of what a member's disk held: its chain's rows and, where ``wal`` is, its log."""

    rows: list[tuple[bytes, bytes]]
    wal: Path | None


class Story:
    """Four members, their lives, and every frame that any of them sent."""

    def __init__(self, folder: Path, n: int = 4) -> None:
        self.network = MemberNetwork(folder, n)
        self.wal = folder / f"wal-{OWN}"
        self.lives: list[MemberNode] = []
        self.orders = 0

    @asynccontextmanager
    async def life(self, *indexes: int) -> AsyncIterator[list[MemberNode]]:
        """Run members until the block ends; then all of them are killed."""
        nodes = [self.network.node(index) for index in indexes]
        self.lives += nodes
        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(node.run)
                yield nodes
                nursery.cancel_scope.cancel()

    def chain_image(self) -> Image:
        """Return a copy of the member's chain alone."""
        return Image(list(self.network.stores[OWN].scan(b"")), None)

    def disk_image(self) -> Image:
        """Return a copy of everything on the member's disk."""
        kept = self.wal.with_name(f"image-{len(self.lives)}")
        shutil.copytree(self.wal, kept)
        return Image(self.chain_image().rows, kept)

    def put_back(self, image: Image) -> None:
        """Give the member what an image holds, in the place of what is there."""
        if image.wal is not None:
            shutil.rmtree(self.wal)
            shutil.copytree(image.wal, self.wal)
        self.network.stores[OWN] = MemoryKeyValueStore()
        self.network.stores[OWN].write(image.rows, sync=True)

    async def commit(self, nodes: list[MemberNode], count: int = 1) -> None:
        """Have transactions ordered, one a block, until all ``nodes`` have them."""
        for _ in range(count):
            self.orders += 1
            height = max(node.chain.tip.height for node in nodes) + 1
            await nodes[0].pending.submit(order(self.network, self.orders))
            for node in nodes:
                await node.until(height)

    def assert_nobody_contradicted_itself(self) -> None:
        votes: dict[tuple[NodeId, int, int], set[Vote]] = {}
        for node in self.lives:
            for _, frame in node.sent:
                if frame_kind(frame) is FrameKind.VOTE:
                    vote = wire.decode_vote(frame[1:])
                    votes.setdefault((node.me, vote.height, vote.view), set()).add(vote)
        assert votes
        for cast in votes.values():
            assert not any(contradicts(one, two) for one, two in combinations(cast, 2))


def heights_voted(node: MemberNode) -> set[int]:
    return {
        wire.decode_vote(frame[1:]).height
        for _, frame in node.sent
        if frame_kind(frame) is FrameKind.VOTE
    }
