"""A log of any size that looks like one of a busy network: leaves by seed, their real tree on disk.

Every leaf has the schema, the size and the vocabulary of a real one, and the strict decoders read
it; only the signatures and the hashes in headers are random, because nothing that is measured over
it checks them. Blocks hold what four members do under load: four requests, one batch of each
member about the four requests of the block before, their documents, their outcomes. Names, authors
and dependencies follow Zipf's law: a few projects are needed by a large part of all others.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyrsia_node.ledger.tiles import TileFiles, TileWriter
from pyrsia_node.model.signing import TRANSACTION_TAG
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.tree import Frontier
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.identities import Identity
from tests.strategies.small_logs import cosigned, log_signed

REQUESTS_A_BLOCK = 4
PROJECTS = 20_000
AUTHORS = 8_000
WORDS = 12_000
BLOCK_MS = 1_500
SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
LICENCES = ("MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later", "MPL-2.0", "ISC")
HOSTS = ("https://github.com", "https://gitlab.com", "https://codeberg.example")


def dumps(value: dict[str, Any]) -> bytes:
    """Return canonical bytes of what is known to be inside the profile."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Vocabulary:
    """Names, words and people, the frequent ones first."""

    random: random.Random
    projects: list[str] = field(init=False)
    words: list[str] = field(init=False)
    authors: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.words = self._names(WORDS, 2, 4)
        self.projects = self._names(PROJECTS, 3, 5)
        first, last = self._names(200, 2, 3), self._names(400, 2, 4)
        self.authors = [
            f"{self.random.choice(first).title()} {self.random.choice(last).title()}"
            for _ in range(AUTHORS)
        ]

    def _names(self, count: int, low: int, high: int) -> list[str]:
        found: dict[str, None] = {}
        while len(found) < count:
            length = self.random.randint(low, high)
            found["".join(self.random.choices(SYLLABLES, k=length))] = None
        return list(found)

    def zipf(self, count: int) -> int:
        """Return a rank: the first is drawn as often as the ranks from k to 3k together."""
        return int(count ** self.random.random()) - 1

    def project(self) -> str:
        return self.projects[self.zipf(PROJECTS)]

    def sentence(self) -> str:
        count = self.random.randint(5, 11)
        return " ".join(self.words[self.zipf(WORDS)] for _ in range(count)).capitalize()


@dataclass
class Asked:
    """A request that waits for its answers."""

    id: str
    project: str
    version: str
    leaf: int = 0

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.project}@{self.version}"


class RealisticLog:
    """Leaves of a network of four members; ``members`` and ``trust`` are real."""

    def __init__(self, seed: int = 1, *, members: tuple[Identity, ...] = ()) -> None:
        self.local = LocalChain(4, members=members)
        self.trust = Trust.establish(TrustFile(self.local.genesis.encode()))
        self.random = random.Random(seed)  # noqa: S311 - the same log again, and no secret in it
        self.words = Vocabulary(self.random)
        self.ids = [one.id for one in self.local.members]
        self.time_ms = self.local.genesis.time_ms
        self._seq = 0
        self.size = 0
        self._versions: dict[str, int] = {}

    @property
    def network_id(self) -> bytes:
        return self.local.network_id

    def leaves(self, size: int) -> Iterator[bytes]:
        """Yield at least ``size`` leaves, whole blocks."""
        self.size = 0
        yield from self.local.chain.leaves(0, 2)
        self.size = 2
        height = 0
        before: list[Asked] = []
        while self.size < size:
            height += 1
            body, before = self.body(before)
            self.time_ms += BLOCK_MS
            yield self._header(height, len(body))
            yield from body
            self.size += 1 + len(body)

    def body(self, before: list[Asked]) -> tuple[list[bytes], list[Asked]]:
        """Return a block's leaves after its header, and what they ask for."""
        asked, requests = [], []
        for _ in range(REQUESTS_A_BLOCK):
            wish, leaf = self.request()
            asked.append(wish)
            requests.append(leaf)
        answers: list[bytes] = []
        if before:
            fates = self.random.choices(
                ("accepted", "diverged", "failed", "expired"), (92, 3, 4, 1), k=len(before)
            )
            documents = [self.document(wish) for wish in before]
            batches_at = self.size + 1 + len(requests)
            answers = self.answers(before, fates, documents, batches_at=batches_at)
        return requests + answers, asked

    def answers(
        self,
        before: list[Asked],
        fates: list[str],
        documents: list[dict[str, Any]],
        *,
        batches_at: int,
    ) -> list[bytes]:
        """Return batches, documents and outcomes of requests; ``batches_at`` is the first leaf."""
        leaves = self._batches(before, fates, documents)
        leaves += [
            self._result(wish, document)
            for wish, fate, document in zip(before, fates, documents, strict=True)
            if fate == "accepted"
        ]
        leaves += [
            self._outcome(wish, fate, document, batches_at)
            for wish, fate, document in zip(before, fates, documents, strict=True)
        ]
        return leaves

    def _hex(self, count: int = 32) -> str:
        return self.random.randbytes(count).hex()

    def _sigs(self, author: str) -> list[dict[str, str]]:
        return [{"by": author, "sig": self._hex(64)}]

    def _header(self, height: int, count: int) -> bytes:
        names = ("parent", "prev_root", "body_root", "state_root", "set", "next_set", "parent_cert")
        return dumps(
            {
                **{name: self._hex() for name in names},
                "t": "block",
                "v": 1,
                "rules": 1,
                "network": self.network_id.hex(),
                "height": height,
                "prev_size": self.size,
                "view": 0,
                "proposer": self.ids[height % 4],
                "time_ms": self.time_ms,
                "n_leaves": count,
                "prev_epoch_height": 0,
            }
        )

    def request(self) -> tuple[Asked, bytes]:
        project = self.words.projects[self.random.randrange(PROJECTS)]
        number = self._versions[project] = self._versions.get(project, 0) + 1
        version = f"{1 + number // 20}.{number % 20}.{self.random.randrange(4)}"
        sponsor = self.random.choice(self.ids)
        leaf: dict[str, Any] = {
            "t": "build_request",
            "v": 1,
            "sponsor": sponsor,
            "purl": f"pkg:pypi/{project}@{version}",
            "claim": "rebuilt",
            "source": {
                "kind": "sdist",
                "file": f"{project}-{version}.tar.gz",
                "sha256": self._hex(),
                "size": self.random.randrange(1_000, 9_000_000),
            },
            "pipeline": {"id": "pypi", "version": 1, "digest": self._hex()},
            "toolchain": "ab" * 32,
            "lock": self._hex(),
            "recipe": {"commit": self._hex(20), "constraints": ["setuptools==80.9.0"], "umask": 18},
            "class": "S",
            "until": self.time_ms + 600_000,
            "nonce": self._hex(16),
        }
        request = hashlib.sha256(TRANSACTION_TAG + self.network_id + dumps(leaf)).hexdigest()
        return Asked(request, project, version), dumps({**leaf, "sigs": self._sigs(sponsor)})

    def document(self, wish: Asked) -> dict[str, Any]:
        words, draw = self.words, self.random
        home = f"{draw.choice(HOSTS)}/{words.authors[words.zipf(AUTHORS)].split()[1].lower()}"
        needed = {words.project() for _ in range(draw.randrange(7))}
        wheel = f"{wish.project}-{wish.version}-py3-none-any.whl"
        names = [(f"{wish.project}-{wish.version}.tar.gz", "mirrored"), (wheel, "rebuilt")]
        return {
            "purl": wish.purl,
            "files": [
                {
                    "name": name,
                    "size": draw.randrange(1_000, 9_000_000),
                    "sha256": self._hex(),
                    "pieces": self._hex(),
                    "media": "application/zip" if claim == "rebuilt" else "application/gzip",
                    "claim": claim,
                    "from": "upstream",
                }
                for name, claim in sorted(names)
            ],
            "contradicts": [],
            "metadata": {
                "name": wish.project,
                "version": wish.version,
                "summary": words.sentence(),
                "author": words.authors[words.zipf(AUTHORS)],
                "licence": LICENCES[words.zipf(len(LICENCES))],
                "homepage": "",
                "repository": f"{home}/{wish.project}",
                "keywords": [words.words[words.zipf(WORDS)] for _ in range(3)],
                "requires": [f"{each}>=1.{draw.randrange(20)}" for each in sorted(needed)],
                "requires_python": ">=3.9",
                "provides_extra": [],
            },
        }

    def _batches(
        self, wishes: list[Asked], fates: list[str], documents: list[dict[str, Any]]
    ) -> list[bytes]:
        self._seq += 1
        results = [hashlib.sha256(dumps(document)).hexdigest() for document in documents]
        own = [[self._hex() for _ in range(3)] for _ in wishes]
        leaves = []
        for voter in self.ids[: 3 if "expired" in fates else 4]:
            items: list[dict[str, Any]] = []
            for wish, fate, result, roots in zip(wishes, fates, results, own, strict=True):
                if fate == "failed":
                    items.append({"req": wish.id, "outcome": "BUILD_FAILED", "cause": "exit 1"})
                    continue
                item = {"result": result, "own": roots}
                if fate == "diverged":
                    item = {"result": self._hex(), "own": [self._hex() for _ in range(3)]}
                items.append({"req": wish.id, "outcome": "BUILT", "level": 0, **item})
            leaf: dict[str, Any] = {
                "t": "attest_batch",
                "v": 1,
                "voter": voter,
                "seq": self._seq,
                "items": items,
                "env": {"arch": "x86_64", "kernel": "6.12", "python": "3.11.2"},
                "sigs": self._sigs(voter),
            }
            leaves.append(dumps(leaf))
        return leaves

    def _result(self, wish: Asked, document: dict[str, Any]) -> bytes:
        voter = self.ids[0]
        leaf = {"t": "result", "v": 1, "voter": voter, "req": wish.id, "doc": document}
        return dumps({**leaf, "sigs": self._sigs(voter)})

    def _outcome(self, wish: Asked, fate: str, document: dict[str, Any], batches_at: int) -> bytes:
        leaf: dict[str, Any] = {"t": fate, "v": 1, "req": wish.id}
        ids = sorted(self.ids)
        match fate:
            case "accepted":
                attestors = [
                    {"id": one, "leaf": batches_at + self.ids.index(one), "level": 0}
                    for one in ids[:3]
                ]
                leaf |= {"doc": document, "k": 3, "level": 0, "attestors": attestors, "differ": []}
            case "diverged":
                classes = [
                    {"own": [self._hex() for _ in range(3)], "ids": [one], "result": self._hex()}
                    for one in ids
                ]
                leaf |= {"purl": wish.purl, "classes": classes}
            case "failed":
                causes = [{"id": one, "outcome": "BUILD_FAILED", "cause": "exit 1"} for one in ids]
                leaf |= {"purl": wish.purl, "causes": causes}
            case _:
                leaf |= {"purl": wish.purl, "silent": ids[3:]}
        return dumps(leaf)


@dataclass(frozen=True)
class LogOnDisk:
    """The leaves of a log, read from its tiles: a ``LeafSource``."""

    folder: Path
    size: int

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the leaves [start, end)."""
        return TileFiles(self.folder).entries(start, end, size=self.size)


def write_log(log: RealisticLog, folder: Path, size: int) -> LogOnDisk:
    """Write at least ``size`` leaves and their tree below ``folder``, cosigned by all members."""
    writer = TileWriter(folder)
    writer.extend(log.leaves(size))
    publish(log, folder, writer.frontier())
    return LogOnDisk(folder, writer.size)


def publish(log: RealisticLog, folder: Path, frontier: Frontier) -> None:
    """Write the checkpoint of a tree that is on disk."""
    head = Checkpoint(log.trust.origin, frontier.size, frontier.root())
    lines = (
        log_signed(head, log.local.members[0]),
        *(cosigned(head, m) for m in log.local.members),
    )
    write_atomic(folder / "checkpoint", SignedCheckpoint(head, lines).encode())
