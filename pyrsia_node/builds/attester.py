"""Puts this node's answers into the log: one batch at a time, then the documents it owes.

A batch carries up to 110 items and the next sequence number of this node. While it is in flight
nothing else is sent; a restart composes the same items again from the durable answers. A document
(``Result``) is sent when an item of ours that is in the log names it and nobody has logged it.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.records import OwnItem
from pyrsia_node.ledger.chain import RequestView
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.limits import BATCH_ITEMS_MAX
from pyrsia_node.model.transactions import (
    AttestBatch,
    Item,
    Result,
    Transaction,
    parse_item,
    sign_transaction,
)

_LOG = logging.getLogger("pyrsia.builds.attester")

LOOK_INTERVAL_S: Final = 0.1
"""How soon a finished build is noticed; the height alone does not change when a build ends."""


class Attester:
    """Sends batches and results until cancelled."""

    def __init__(self, context: BuildContext) -> None:
        """Work in ``context``."""
        self._context = context
        self._batch_id = ""
        self._result_ids: dict[str, str] = {}

    async def run(self) -> None:
        """Look for unsent answers for ever."""
        while True:
            await self._send_batch()
            await self._send_results()
            await trio.sleep(LOOK_INTERVAL_S)

    def unsent(self) -> list[tuple[RequestView, OwnItem]]:
        """Return answers to open requests that are not yet in the log."""
        me = self._context.identity.me
        found = []
        for view in self._context.chain.open_requests():
            if me in view.members and me not in view.items:
                own = self._context.records.item(view.id)
                if own is not None:
                    found.append((view, own))
        return found

    async def _send_batch(self) -> None:
        chain, me = self._context.chain, self._context.identity.me
        if self._context.is_pending(self._batch_id):
            return  # in flight: the driver repeats it until it is committed or can never be
        unsent = self.unsent()[:BATCH_ITEMS_MAX]
        if not unsent:
            return
        items: tuple[Item, ...] = tuple(parse_item(own.item) for _, own in unsent)
        environment: dict[str, str | int] = {
            key: value
            for key, value in unsent[0][1].environment.items()
            if isinstance(value, str | int)
        }
        seq = chain.last_seq(me) + 1
        self._batch_id = await self._submit(AttestBatch(me, seq, items, environment))

    async def _send_results(self) -> None:
        chain, me = self._context.chain, self._context.identity.me
        for view in chain.open_requests():
            own = self._context.records.item(view.id)
            if own is None or own.document is None or me not in view.items:
                continue
            if own.document.digest() in view.documents:
                self._result_ids.pop(view.id, None)
            elif not self._context.is_pending(self._result_ids.get(view.id, "")):
                self._result_ids[view.id] = await self._submit(Result(me, view.id, own.document))

    async def _submit(self, body: Transaction) -> str:
        identity = self._context.identity
        signed = sign_transaction(
            body, network_id=identity.network_id, sign=identity.sign_transaction
        )
        try:
            await self._context.submit(signed.encoded)
        except InvalidInputError as error:
            # A member that was faster has logged the same document, or the request just ended.
            _LOG.info("own transaction is not wanted any more: %s", error)
        return signed.id
