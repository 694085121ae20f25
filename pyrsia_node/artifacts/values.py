"""What downloads share: the artifact asked for, the node around it, what it cost. Values only."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from pyrsia_node.artifacts.buffers import BufferPool
from pyrsia_node.artifacts.standing import HolderMemory
from pyrsia_node.ports import BlobStore, PeerId, PieceSource, Router


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the log says about a file: SHA-256, size in bytes and piece root, both hex."""

    sha256: str
    size: int
    pieces: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every download of a node shares."""

    store: BlobStore
    folder: Path
    router: Router
    source: PieceSource
    memory: HolderMemory
    buffers: BufferPool
    executor: Executor


@dataclass(slots=True)
class Tally:
    """What a download cost. ``by_peer`` counts checked pieces; ``wrong`` those that failed."""

    by_peer: dict[PeerId, int] = field(default_factory=dict)
    wrong: int = 0
    refused: int = 0
    resumed: int = 0
    seconds: float = 0.0
