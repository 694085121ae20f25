"""Finds locks, toolchains and explanations by digest: here, or at any node that has them.

The digest is in the signed request or item, so it does not matter who answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from consensus.types import NodeId
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.records import DOCUMENT_BYTES_MAX
from pyrsia_node.model.digest import Sha256, parse_sha256, sha256_of
from pyrsia_node.model.errors import (
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.ports import PeerId

_LOG = logging.getLogger("pyrsia.builds.documents")

ASK_TIMEOUT_S: Final = 10.0


class Documents:
    """Content-addressed documents of at most 1 MiB."""

    def __init__(self, context: BuildContext) -> None:
        """Keep what is found in ``context``'s records."""
        self._context = context

    async def find(self, digest: Sha256, *, prefer: Sequence[NodeId], keep: bool = True) -> bytes:
        """Return the document, asking ``prefer`` first; with ``keep`` it then is here, too.

        Raises:
            UnavailableError: no connected node has it.
        """
        found = self._context.records.document(digest)
        if found is not None:
            return found
        first = [self._context.peer_of(each) for each in prefer]
        others = [peer for peer in self._context.requests.connected() if peer not in first]
        for peer in [*first, *others]:
            try:
                document = await self._ask(peer, digest)
            except PyrsiaError as error:
                _LOG.debug("document %s from %s: %s", digest, peer, error)
                continue
            if keep:
                self._context.records.add_document(document)
            return document
        raise UnavailableError(f"document {digest} is not to be had from any connected node")

    async def _ask(self, peer: PeerId, digest: Sha256) -> bytes:
        document = await self._context.requests.ask(
            peer,
            "document",
            digest.encode(),
            timeout_s=ASK_TIMEOUT_S,
            answer_bytes_max=DOCUMENT_BYTES_MAX,
        )
        if sha256_of(document) != digest:
            raise PeerMisbehaviorError(
                peer, f"sent a document of sha256 {sha256_of(document)}, asked for {digest}"
            )
        return document

    async def serve(self, _peer: PeerId, payload: bytes) -> bytes:
        """Answer the ``document`` method.

        Raises:
            InvalidInputError: the request is no digest.
            NotFoundError: the document is not here.
        """
        digest = parse_sha256(payload.decode("ascii", "replace"))
        found = self._context.records.document(digest)
        if found is None:
            raise NotFoundError(f"document {digest} is not here")
        return found
