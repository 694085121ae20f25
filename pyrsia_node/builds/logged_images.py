"""What the log says a tag is, as the core reads it: the newest accepted entry of an image.

The search index says where to look, the chain what stands there. The index may lag by a block or
two: then an image is asked for once more, which the ledger refuses or repeats. Nothing is served
by this.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.model.image_files import named_digest, root_of
from pyrsia_node.model.leaves import Accepted, decode_outcome
from pyrsia_node.model.purl import Purl


@dataclass(frozen=True, slots=True)
class LoggedImage:
    """An accepted entry: its leaf, its request, and the digest that the image has there.

    ``is_closed`` says that the entry was withdrawn, or bytes of it revoked.
    """

    leaf: int
    request: Sha256
    digest: str
    is_closed: bool = False


class NewestImage(Protocol):
    """Finds the newest entry of a purl with version; None if there is none."""

    def __call__(self, purl: Purl) -> LoggedImage | None:
        """Return the entry."""
        ...


class LoggedImages:
    """Looks entries of images up. Not for use from two threads at once."""

    def __init__(self, root: Path, chain: Chain) -> None:
        """Read the index below the data directory ``root``, and ``chain``."""
        self._index = IndexReader(root)
        self._chain = chain

    def newest(self, purl: Purl) -> LoggedImage | None:
        """Return the newest entry of the image; None if none is known."""
        size = self._chain.tip.size
        try:
            leaves = self._index.newest_accepted(purl, as_of=size)
            hints = self._index.hints(leaves, as_of=size)
        except UnavailableError:
            return None
        if not leaves:
            return None
        is_closed = any(each.status in {"withdrawn", "revoked"} for each in hints)
        return image_at(self._chain, leaves[0], is_closed=is_closed)

    def close(self) -> None:
        """Close the index."""
        self._index.close()


def image_at(chain: Chain, leaf: int, *, is_closed: bool = False) -> LoggedImage | None:
    """Return the image that an accepted leaf is about; None if it is about none."""
    try:
        outcome = decode_outcome(chain.leaf(leaf))
        if not isinstance(outcome, Accepted):
            return None
        root = root_of(outcome.document.files)
        digest = str(named_digest(root.name, root.sha256))
        return LoggedImage(leaf, outcome.request, digest, is_closed)
    except (InvalidInputError, NotFoundError):
        return None
