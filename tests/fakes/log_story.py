"""A small log in which one of everything happened: the chain is real, the packages are made up."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from pyrsia_node.ledger.chain import Committed
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import Contradiction, Document, FileEntry
from pyrsia_node.model.leaves import Outcome, encode_outcome
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import Item
from pyrsia_node.ports import KeyValueStore
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import batch, built, failed, request, result
from tests.strategies.small_logs import document, wheel


class LogStory:
    """Drives a chain of four members through requests and outcomes."""

    def __init__(self, store: KeyValueStore | None = None) -> None:
        self.local = LocalChain(4, store=store)
        self.chain = self.local.chain
        self._numbers = itertools.count(1)
        self._seqs = dict.fromkeys((one.id for one in self.local.members), 0)

    def ask(self, purl: str) -> Sha256:
        """Order a request; return its id."""
        number = next(self._numbers)
        wish = request(
            self.local.members[number % 4].id,
            purl=Purl.parse(purl),
            lock=f"lock {number}",
            until=self.local.now_ms + 3_600_000,
            nonce=number,
        )
        return self._commit(wish).transaction_ids[0]

    def accept(self, doc: Document, *, voters: int = 3) -> int:
        """Request, build alike, accept; return the leaf of the outcome."""
        req = self.ask(str(doc.purl))
        self.answer([built(req, doc)] * voters)
        committed = self._commit(result(self.local.members[0].id, req, doc))
        return outcome_leaf(committed)

    def diverge(self, purl: str) -> int:
        """Let every member build something else."""
        req = self.ask(purl)
        docs = [document(purl, wheel("a.whl", bytes([number]))) for number in range(4)]
        items = [built(req, doc, own=str(number)) for number, doc in enumerate(docs)]
        return outcome_leaf(self.answer(items))

    def fail(self, purl: str) -> int:
        """Let every member fail."""
        req = self.ask(purl)
        return outcome_leaf(self.answer([failed(req)] * 4))

    def answer(self, items: Sequence[Item]) -> Committed:
        """Let the first members attest, one item each, in one block."""
        members = [one.id for one in self.local.members[: len(items)]]
        batches = []
        for member, item in zip(members, items, strict=True):
            self._seqs[member] += 1
            batches.append(batch(member, self._seqs[member], item))
        return self._commit(*batches)

    def _commit(self, *bodies: object) -> Committed:
        self.local.now_ms += 1000
        return self.local.commit(*bodies)  # type: ignore[arg-type] # transactions of any kind


def outcome_leaf(committed: Committed) -> int:
    outcome: Outcome
    (outcome,) = committed.outcomes
    return committed.first_leaf + committed.leaves.index(encode_outcome(outcome))


SIX = document(
    "pkg:pypi/six@1.17.0",
    wheel("six-1.17.0-py2.py3-none-any.whl", b"six"),
    summary="Python 2 and 3 compatibility utilities",
    author="Benjamin Peterson",
    keywords="compat",
)
DATEUTIL = document(
    "pkg:pypi/python-dateutil@2.9.0",
    wheel("python_dateutil-2.9.0-py3-none-any.whl", b"dateutil"),
    summary="Extensions to the standard datetime module",
    author="Gustavo Niemeyer",
    requires="six>=1.5\ntzdata; sys_platform == 'win32'",
    repository="https://example.invalid/dateutil",
)
_BUILT = wheel("odd-1.0-py3-none-any.whl", b"built from source")
ODD: Document = dataclasses.replace(
    document("pkg:pypi/odd@1.0", _BUILT, summary="Its published file is another"),
    contradicts=(Contradiction(_BUILT.name, sha256_of(b"published")),),
)


def file_of(doc: Document) -> FileEntry:
    return doc.files[0]


def tell(story: LogStory) -> dict[str, int]:
    """Let one of everything happen; return the leaf of each outcome (of the request if open)."""
    leaves = {
        "six": story.accept(SIX),
        "dateutil": story.accept(DATEUTIL),
        "diverged": story.diverge("pkg:pypi/flaky@0.1"),
        "failed": story.fail("pkg:pypi/broken@3.0"),
        "odd": story.accept(ODD, voters=4),
    }
    story.ask("pkg:pypi/six@1.18.0")
    tip = story.chain.tip
    return {**leaves, "open": tip.size - 1}
