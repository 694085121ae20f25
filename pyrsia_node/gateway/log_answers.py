"""Answers about the log: what was found through the index, told from proved leaves alone.

The index says where to look and how a request stands; what an entry says is read from its leaf
after its inclusion was proved. A row that points nowhere is dropped and the answer marked as not
complete, so a tampered index can hide and never invent. docs/spec/http-api.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar, cast

from pyrsia_node.artifacts.verified_log import Head, ProvedLeaf, VerifiedLog
from pyrsia_node.ledger.reader import EntryHint, IndexReader
from pyrsia_node.ledger.rows import Block
from pyrsia_node.ledger.search import Order
from pyrsia_node.model import canonical
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, VerificationError
from pyrsia_node.model.limits import LEAF_BYTES_MAX
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.http import (
    BlockLine,
    BlockPosition,
    Blocks,
    Entries,
    Entry,
    InspectLog,
    Search,
    StatementRef,
)
from pyrsia_node.schema.leaf_content import files_of, purl_of, type_of

PAUSE_ENTRIES: Final = 16
"""After so many proofs other clients get a turn."""

_T = TypeVar("_T")
_log = logging.getLogger("pyrsia.gateway.log")


class LogAnswers:
    """Builds the answers of ``/api/v1`` that are about the log."""

    def __init__(self, root: Path, log: VerifiedLog) -> None:
        """Read the index of the data directory ``root``; prove by ``log``."""
        self._log = log
        self._index = IndexReader(root)
        # One thread: a query may take a second, and the reader is not for two at once.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="search")

    async def close(self) -> None:
        """Let go of the index."""
        await asyncio.to_thread(self._executor.shutdown)
        self._index.close()

    async def inspect(
        self, purl: Purl, *, with_proof: bool, as_of: int | None = None
    ) -> InspectLog:
        """Return every leaf about a package or a version of it, in the order of the log."""
        head, size = self._scope(as_of)
        found = await self._in_thread(lambda: self._index.about(purl, as_of=size))
        entries = await self._entries(found.leaves, size, with_proof=with_proof)
        return InspectLog(
            as_of=size,
            size=head.size,
            root=head.root.hex(),
            complete=found.is_complete and len(entries) == len(found.leaves),
            entries=entries,
        )

    async def search(
        self,
        query: str,
        *,
        limit: int,
        cursor: int | None,
        with_proof: bool,
        order: Order = "newest",
        as_of: int | None = None,
    ) -> Search:
        """Return a page of what a query finds."""
        head, size = self._scope(as_of)
        page, is_complete = await self._in_thread(
            lambda: self._index.search(query, as_of=size, limit=limit, cursor=cursor, order=order)
        )
        hits = await self._entries(page.hits, size, with_proof=with_proof)
        return Search(
            as_of=size,
            size=head.size,
            root=head.root.hex(),
            complete=is_complete and len(hits) == len(page.hits),
            order=page.order,
            hits=hits,
            next=page.next,
            matches=page.matches,
        )

    async def range(
        self, start: int, *, limit: int, with_proof: bool, as_of: int | None = None
    ) -> Entries:
        """Return the leaves from ``start`` on, whatever the index knows of them."""
        head, size = self._scope(as_of)
        end = min(start + limit, size)
        entries = await self._entries(range(start, end), size, with_proof=with_proof)
        return Entries(
            as_of=size,
            size=head.size,
            root=head.root.hex(),
            complete=len(entries) == max(end - start, 0),
            entries=entries,
            next=end if start < end < size else None,
        )

    async def blocks(
        self, *, top: int | None, limit: int, with_proof: bool, as_of: int | None = None
    ) -> Blocks:
        """Return blocks, newest first, from height ``top`` on downwards."""
        head, size = self._scope(as_of)
        is_complete = await self._in_thread(self._index.applied_size) >= size
        found = await self._in_thread(lambda: self._index.blocks(as_of=size, top=top, limit=limit))
        headers = await self._entries([block.first for block in found], size, with_proof=with_proof)
        by_leaf = {entry.index: entry for entry in headers}
        lines = [
            _block_line(block, by_leaf[block.first]) for block in found if block.first in by_leaf
        ]
        return Blocks(
            as_of=size,
            size=head.size,
            root=head.root.hex(),
            complete=is_complete and len(lines) == len(found),
            blocks=lines,
        )

    def _scope(self, as_of: int | None) -> tuple[Head, int]:
        """Return the believed checkpoint, and how many of its leaves to look at."""
        head = self._log.head()
        if as_of is not None and as_of > head.size:
            raise InvalidInputError(f"as_of {as_of} is beyond the log, which has {head.size}")
        return head, head.size if as_of is None else as_of

    async def entry(self, index: int, *, with_proof: bool) -> Entry:
        """Return one leaf; raises NotFoundError."""
        leaf = self._log.leaf(index)
        hints = await self._hints([index], self._log.head().size)
        return self._entry(leaf, hints.get(index), with_proof=with_proof)

    async def _entries(self, leaves: Iterable[int], size: int, *, with_proof: bool) -> list[Entry]:
        wanted = list(leaves)
        hints = await self._hints(wanted, size)
        entries: list[Entry] = []
        for number, index in enumerate(wanted):
            if number % PAUSE_ENTRIES == PAUSE_ENTRIES - 1:
                await asyncio.sleep(0)
            try:
                leaf = self._log.leaf(index)
                entries.append(self._entry(leaf, hints.get(index), with_proof=with_proof))
            except (NotFoundError, VerificationError) as error:
                _log.warning("index row dropped: %s", error)
        return entries

    async def _hints(self, leaves: list[int], size: int) -> dict[int, EntryHint]:
        found = await self._in_thread(lambda: self._index.hints(leaves, as_of=size))
        return {hint.index: hint for hint in found}

    def _entry(self, leaf: ProvedLeaf, hint: EntryHint | None, *, with_proof: bool) -> Entry:
        content = _content(leaf)
        proof = self._log.proof(leaf.index).decode("utf-8") if with_proof else None
        return Entry(
            index=leaf.index,
            type=type_of(content),
            leaf=content,
            # The leaf's own word first; what it is silent about, the index may know.
            purl=purl_of(content) or (hint.purl if hint is not None else None),
            status=hint.status if hint is not None else None,
            statements=[
                StatementRef(index=each.index, type=each.kind)
                for each in (hint.statements if hint is not None else ())
            ],
            block=BlockPosition(height=leaf.height, time_ms=leaf.time_ms),
            files=files_of(content),
            proof=proof,
        )

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _block_line(block: Block, header: Entry) -> BlockLine:
    return BlockLine(
        height=block.height,
        first=block.first,
        end=block.end,
        time_ms=header.block.time_ms,
        header=header,
    )


def _content(leaf: ProvedLeaf) -> dict[str, object]:
    try:
        return cast(
            "dict[str, object]", canonical.loads_object(leaf.data, bytes_max=LEAF_BYTES_MAX)
        )
    except InvalidInputError as error:
        raise VerificationError(f"entry {leaf.index} is not of this log: {error}") from error
