"""Puts this node's answers into the log: promises, one batch at a time, the documents it owes.

A batch carries up to 110 items and the next sequence number of this node. While it is in flight
nothing else is sent; a restart composes the same items again from the durable answers. A document
(``Result``) is sent when an item of ours that is in the log names it and nobody has logged it.
A batch that is refused is halved until the item that spoils it stands alone and is left out.

To a sealed request the answer is first promised by its hash (``AttestCommit``); it is shown when
the ``unsealed`` leaf stands in this node's own log. The salt is in the durable record of the
answer, so a restart shows what was promised.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

import trio

from consensus.types import NodeId
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.records import OwnItem
from pyrsia_node.ledger.chain import RequestView
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.limits import BATCH_ITEMS_MAX
from pyrsia_node.model.sealing import commitment
from pyrsia_node.model.transactions import (
    AttestBatch,
    AttestCommit,
    Item,
    Result,
    Transaction,
    parse_item,
    sign_transaction,
)

_LOG = logging.getLogger("pyrsia.builds.attester")

LOOK_INTERVAL_S: Final = 2.0
"""How long at most until it looks again; blocks and finished builds wake it at once."""


LARGE_ITEMS_MAX: Final = 80
"""Items of a batch while one of them has a salt, says when a tag was seen, or names an explanation:
so many of the largest, with all three, fit a leaf."""

_OPTIONAL: Final = frozenset({"explained", "seen"})

OWED_MAX: Final = 1000
"""Requests remembered for a late answer; older ones were never built here."""


class Attester:
    """Sends batches and results until cancelled."""

    def __init__(self, context: BuildContext) -> None:
        """Work in ``context``."""
        self._context = context
        self._batch_id = ""
        self._items_max = BATCH_ITEMS_MAX
        self._left_out: set[Sha256] = set()
        # Requests of this node that it has not answered yet, in the order in which they were seen.
        self._owed: dict[Sha256, None] = {}
        self._result_ids: dict[Sha256, str] = {}
        self._promise_ids: dict[Sha256, str] = {}
        self._wanted = trio.Event()

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._wanted.set()

    async def run(self) -> None:
        """Look for unsent answers for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_on_growth)
            while True:
                self._wanted = trio.Event()
                await self.look()
                with trio.move_on_after(LOOK_INTERVAL_S):
                    await self._wanted.wait()

    async def _wake_on_growth(self) -> None:
        height = -1
        while True:
            height = await self._context.beyond(height)
            self.wake()

    async def look(self) -> None:
        """Send what is due now; what there is no room for waits until the next look."""
        try:
            await self._send_promises()
            await self._send_batch()
            await self._send_results()
        except UnavailableError as error:
            _LOG.info("own transactions wait: %s", error)

    def unsent(self) -> list[tuple[RequestView, OwnItem]]:
        """Return answers that are not yet in the log, to open requests first.

        An answer that comes after the outcome is sent too: it can no longer change the outcome,
        but one that differs gets a leaf of its own, so a slow liar is seen as well as a fast one.
        """
        chain, me = self._context.chain, self._context.identity.me
        views = [view for view in chain.open_requests() if me in view.members]
        for view in views:
            self._owed[view.id] = None
        is_open = {view.id for view in views}
        views = [view for view in views if _may_show(view, me)]
        for late in [each for each in self._owed if each not in is_open]:
            found = chain.request(late)
            if found is None or me in found.items or late in self._left_out:
                del self._owed[late]
            else:
                views.append(found)
        for stale in list(self._owed)[:-OWED_MAX]:
            del self._owed[stale]
        return self._with_answers(views)

    def _with_answers(self, views: list[RequestView]) -> list[tuple[RequestView, OwnItem]]:
        me = self._context.identity.me
        found = []
        for view in views:
            own = None
            if me not in view.items and view.id not in self._left_out:
                own = self._context.records.item(view.id)
            if own is not None:
                found.append((view, own))
        return found

    async def _send_promises(self) -> None:
        """Promise the answers to sealed requests of which promises are taken still."""
        chain, me = self._context.chain, self._context.identity.me
        wanted = {
            view.id: view
            for view in chain.open_requests()
            if me in view.members and view.takes_commits and me not in view.committed
        }
        self._promise_ids = {
            each: sent for each, sent in self._promise_ids.items() if each in wanted
        }
        for request in wanted:
            own = self._context.records.item(request)
            if own is None or self._context.is_pending(self._promise_ids.get(request, "")):
                continue
            promised = commitment(
                parse_item(own.item), voter=me, network_id=self._context.identity.network_id
            )
            sent = await self._submit(AttestCommit(me, request, promised))
            self._promise_ids[request] = sent or ""

    async def _send_batch(self) -> None:
        chain, me = self._context.chain, self._context.identity.me
        if self._context.is_pending(self._batch_id):
            return  # in flight: the driver repeats it until it is committed or can never be
        unsent = self.unsent()[: self._items_max]
        if any(view.is_sealed or _OPTIONAL & own.item.keys() for view, own in unsent):
            del unsent[LARGE_ITEMS_MAX:]
        if not unsent:
            self._left_out.intersection_update(view.id for view in chain.open_requests())
            return
        items = tuple(_shown(view, own, me) for view, own in unsent)
        environment: dict[str, str | int] = {
            key: value
            for key, value in unsent[0][1].environment.items()
            if isinstance(value, str | int)
        }
        seq = chain.last_seq(me) + 1
        batch_id = await self._submit(AttestBatch(me, seq, items, environment))
        if batch_id is not None:
            self._batch_id, self._items_max = batch_id, BATCH_ITEMS_MAX
        elif len(unsent) > 1:
            self._items_max = len(unsent) // 2
            self.wake()
        else:
            _LOG.error("the ledger refuses this node's answer to %s", unsent[0][0].id)
            self._left_out.add(unsent[0][0].id)
            self._items_max = BATCH_ITEMS_MAX
            self.wake()

    async def _send_results(self) -> None:
        chain, me = self._context.chain, self._context.identity.me
        views = {view.id: view for view in chain.open_requests() if me in view.items}
        self._result_ids = {each: sent for each, sent in self._result_ids.items() if each in views}
        for view in views.values():
            said = view.items[me]
            is_sent = self._context.is_pending(self._result_ids.get(view.id, ""))
            if not said.is_built or said.result in view.documents or is_sent:
                continue
            own = self._context.records.item(view.id)
            if own is not None and own.document is not None:
                sent = await self._submit(Result(me, view.id, own.document))
                self._result_ids[view.id] = sent or ""

    async def _submit(self, body: Transaction) -> str | None:
        """Return the id of the transaction, which now waits to be committed; None if refused.

        Raises:
            UnavailableError: there is no room for it now.
        """
        identity = self._context.identity
        signed = sign_transaction(
            body, network_id=identity.network_id, sign=identity.sign_transaction
        )
        try:
            await self._context.submit(signed.encoded)
        except InvalidInputError as error:
            # A member that was faster has logged the same document, or the request just ended.
            _LOG.info("own transaction is not wanted: %s", error)
            return None
        return signed.id


def _may_show(view: RequestView, me: NodeId) -> bool:
    """Tell whether this node's answer to an open request may be seen by others, and counts."""
    return not view.is_sealed or (view.unsealed_leaf is not None and me in view.committed)


def _shown(view: RequestView, own: OwnItem, me: NodeId) -> Item:
    """Return the item as it is put into the log: with its salt exactly if it opens a commit."""
    item = parse_item(own.item)
    return item if me in view.committed else replace(item, salt="")
