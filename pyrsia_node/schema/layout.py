"""Where things lie in a node's data directory, and what its links are called.

Names only: nothing here looks at the disk. The table in docs/ARCHITECTURE.md 2.2 says who writes
what and what each is trusted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under one data directory."""

    root: Path

    @property
    def config(self) -> Path:
        """The operator's configuration."""
        return self.root / "node.toml"

    @property
    def genesis(self) -> Path:
        """The network's genesis; its SHA-256 is the network id."""
        return self.root / "genesis.json"

    @property
    def keys(self) -> Path:
        """The folder that no build may see."""
        return self.root / "keys"

    @property
    def node_key(self) -> Path:
        """The one seed from which every key of the node comes."""
        return self.keys / "node.key"

    @property
    def next_key(self) -> Path:
        """The seed that a rotation of keys will put in force."""
        return self.keys / "node.key.next"

    def kept_key(self, epoch: int) -> Path:
        """Where the seed goes that ``epoch`` put out of force."""
        return self.keys / f"node.key.before-epoch-{epoch}"

    @property
    def member_record(self) -> Path:
        """What the network's founder, or its members, need to admit this node."""
        return self.root / "member.record"

    @property
    def chain(self) -> Path:
        """The core's LevelDB."""
        return self.root / "core.leveldb"

    @property
    def wal(self) -> Path:
        """The consensus write-ahead log."""
        return self.root / "wal"

    @property
    def log(self) -> Path:
        """Checkpoint and tiles."""
        return self.root / "log"

    @property
    def trust(self) -> Path:
        """Genesis and set changes, as the core knows them: what the gateway trusts once checked."""
        return self.log / "trust"

    @property
    def evidence(self) -> Path:
        """Split views that this node saw; made when there is one, removed by people alone."""
        return self.root / "evidence"

    @property
    def blobs(self) -> Path:
        """Artifacts by digest."""
        return self.root / "blobs"

    @property
    def partial(self) -> Path:
        """Downloads in progress."""
        return self.root / "partial"

    @property
    def registry(self) -> Path:
        """The node-local registry's database."""
        return self.root / "registry.sqlite"

    @property
    def maven(self) -> Path:
        """What the gateway remembers of upstreams' Maven files; may be lost."""
        return self.root / "maven.sqlite"

    @property
    def uploads(self) -> Path:
        """Bytes that clients are pushing; on one file system with the blobs they become."""
        return self.blobs / "uploads"

    @property
    def build(self) -> Path:
        """The build worker's folder; under root it belongs to the worker's account."""
        return self.root / "build"

    @property
    def run(self) -> Path:
        """Sockets, lock and readiness of the running node."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Held by the running supervisor, whose process id stands in it."""
        return self.run / "lock"

    @property
    def ready(self) -> Path:
        """Process ids and ports, written once core and gateway answer."""
        return self.run / "ready.json"

    @property
    def core_socket(self) -> Path:
        """The core listens, the gateway calls."""
        return self.run / "core.sock"

    @property
    def gateway_socket(self) -> Path:
        """The gateway listens, the core calls."""
        return self.run / "gateway.sock"

    @property
    def relay_socket(self) -> Path:
        """The core listens, the gateway takes bytes that only libp2p can fetch."""
        return self.run / "relay.sock"

    @property
    def derive_lock(self) -> Path:
        """Held by the process that derives files and index while its node joins."""
        return self.run / "derive.lock"

    @property
    def build_socket(self) -> Path:
        """The worker listens, the core calls; in the one folder that the worker can write."""
        return self.build / "worker.sock"

    @property
    def contract_socket(self) -> Path:
        """The worker listens to whoever speaks the pipeline contract as the node's user."""
        return self.build / "pipeline.sock"

    @property
    def build_jobs(self) -> Path:
        """What the worker works on."""
        return self.build / "jobs"

    def folders(self) -> tuple[tuple[Path, int], ...]:
        """Return the folders that ``pyrsia-node init`` makes, parents first, with their modes."""
        return (
            (self.root, 0o700),
            (self.keys, 0o700),
            (self.chain, 0o700),
            (self.wal, 0o700),
            (self.log, 0o700),
            (self.blobs, 0o700),
            (self.partial, 0o700),
            (self.build, 0o700),
            (self.build_jobs, 0o700),
            (self.run, 0o700),
        )
