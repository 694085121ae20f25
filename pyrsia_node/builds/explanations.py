"""Explanations: kept when this node built, found at other nodes when somebody asks.

An explanation decides nothing. One that cannot be kept costs the answer nothing but the words;
one that cannot be found leaves the entry as true as it was.
"""

from __future__ import annotations

import logging
import os
import stat
from collections import OrderedDict
from typing import Final

import trio

from buildpipelines.errors import FormatError
from buildpipelines.spec.canonical import loads_object
from buildpipelines.spec.explanation import EXPLANATION_BYTES_MAX, parse_explanation
from buildpipelines.spec.messages import BuildResult
from consensus.types import NodeId
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.documents import Documents
from pyrsia_node.ledger.chain import RequestView
from pyrsia_node.ledger.machine.items import ItemRecord
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256, parse_sha256
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.model.items import BuiltItem
from pyrsia_node.model.limits import LEAF_BYTES_MAX
from pyrsia_node.model.transactions import AttestBatch, decode_transaction
from pyrsia_node.schema.explanations import Explained, Explainer, ExplanationAnswer

_LOG = logging.getLogger("pyrsia.builds.explanations")

FOUND_MAX: Final = 16
"""Explanations held in memory: 6.4 MB at most."""

FIND_TIMEOUT_S: Final = 20.0
"""How long nodes are asked for one explanation."""


class Explanations:
    """Tells how what members built differs from what is published."""

    def __init__(self, context: BuildContext, documents: Documents) -> None:
        """Look into ``context``'s chain; find documents through ``documents``."""
        self._context = context
        self._documents = documents
        # Found at others; not kept on the disk of who only reads them.
        self._found: OrderedDict[Sha256, bytes] = OrderedDict()

    def explained(self, leaf: int) -> Explained:
        """Return who built what the outcome at ``leaf`` is about, and who explained it.

        Raises:
            NotFoundError: there is no such leaf, or it is no outcome of a build.
        """
        view = self._request_of(leaf)
        labels = self._context.labels()
        members = [
            Explainer(
                id=member,
                label=labels.get(member, ""),
                level=record.level,
                leaf=record.at[0],
                number=record.at[1],
                explained=self._named_by(view.id, record),
            )
            for member, record in sorted(view.items.items())
            if record.is_built
        ]
        purl = str(view.request.purl)
        return Explained(leaf=leaf, request=view.id, purl=purl, members=members)

    async def explanation(self, leaf: int, digest: str) -> ExplanationAnswer:
        """Return an explanation that an item about the outcome at ``leaf`` names.

        Raises:
            NotFoundError: as for ``explained``, or no item names it.
        """
        found = self.explained(leaf)
        by = [NodeId(each.id) for each in found.members if each.explained == digest]
        if not by:
            raise NotFoundError(f"no answer to what leaf {leaf} is about names document {digest}")
        sha256 = parse_sha256(digest)
        problem = f"document {digest} was not found in {FIND_TIMEOUT_S:g} s"
        with trio.move_on_after(FIND_TIMEOUT_S):
            try:
                raw = self._found.get(sha256)
                if raw is None:
                    raw = await self._documents.find(sha256, prefer=by, keep=False)
                _check(raw, found.purl)
                self._remember(sha256, raw)
                document = loads_object(raw, bytes_max=EXPLANATION_BYTES_MAX)
                return ExplanationAnswer(sha256=digest, document=document)
            except UnavailableError as error:
                problem = str(error)
            except (FormatError, InvalidInputError) as error:
                problem = f"document {digest} is no explanation: {error}"
        return ExplanationAnswer(sha256=digest, problem=problem)

    def _remember(self, sha256: Sha256, raw: bytes) -> None:
        self._found[sha256] = raw
        self._found.move_to_end(sha256)
        while len(self._found) > FOUND_MAX:
            self._found.popitem(last=False)

    def _request_of(self, leaf: int) -> RequestView:
        try:
            value = canonical.loads_object(self._context.chain.leaf(leaf), bytes_max=LEAF_BYTES_MAX)
            request = value.get("req")
            view = self._context.chain.request(parse_sha256(str(request)))
        except InvalidInputError:
            view = None
        if view is None:
            raise NotFoundError(f"leaf {leaf} is not the outcome of a build")
        return view

    def _named_by(self, request: Sha256, record: ItemRecord) -> Sha256 | None:
        """Return the explanation that a member's newest item names."""
        chain = self._context.chain
        leaf, number = record.at
        try:
            signed = decode_transaction(
                chain.leaf(leaf), network_id=self._context.identity.network_id
            )
        except NotFoundError:
            return None  # a node that joined from a snapshot lacks the older leaves
        assert isinstance(signed.body, AttestBatch)
        item = signed.body.items[number]
        assert item.request == request
        return item.explained if isinstance(item, BuiltItem) else None


def keep_explanation(context: BuildContext, result: BuildResult) -> Sha256 | None:
    """Keep what a build explains, and return its digest; None if there is nothing to keep.

    The worker is not believed: the file must be one, within its bounds, and an explanation of this
    very package. Else any file that this process may read would be served to everybody.
    """
    if not result.explanation_path:
        return None
    try:
        raw = _read(result.explanation_path)
        _check(raw, result.purl)
    except (OSError, FormatError, InvalidInputError) as error:
        _LOG.warning("explanation of %s is not kept: %s", result.purl, error)
        return None
    return context.records.add_document(raw)


def _check(raw: bytes, purl: str) -> None:
    explained = parse_explanation(raw).purl
    if explained != purl:
        raise FormatError(f"it is about {explained}, not about {purl}")


def _read(path: str) -> bytes:
    """Return a regular file's bytes; raises OSError or FormatError.

    Neither a link nor a pipe is followed: the worker's folder is written by build scripts. A small
    local file: to read it takes less than to hand it to a thread.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FormatError("it is not a regular file")
        raw = file.read(EXPLANATION_BYTES_MAX + 1)
    if len(raw) > EXPLANATION_BYTES_MAX:
        raise FormatError(f"it exceeds {EXPLANATION_BYTES_MAX} bytes")
    return raw
