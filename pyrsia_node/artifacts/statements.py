"""What the network says of what it logged: withdrawn, revoked, deprecated, vulnerable.

The search index only says where to look; each statement is proved to stand in the log before it
counts, and one that is not about what was asked is passed over. ``withdraw`` takes an entry out of
the count, ``revoke`` closes bytes wherever they are listed; both carry the approvals of a quorum,
which the log's validity rules demand. ``deprecate`` and ``vulnerable`` advise and close nothing.
docs/guides/statements.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pyrsia_node.artifacts.verified_log import ProvedLog
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    VerificationError,
)
from pyrsia_node.model.statements import Deprecate, Revoke, Statement, Vulnerable, Withdraw
from pyrsia_node.model.transactions import decode_transaction

_log: Final = logging.getLogger("pyrsia.artifacts.statements")


class RefusedError(InvalidInputError):
    """The network closed these bytes; the text says which statement, and why."""


class StatementIndex(Protocol):
    """Where to look for statements. Its answers are hints; a wrong one costs a look."""

    def statements(self, ecosystem: str, name: str, *, as_of: int | None = None) -> Sequence[int]:
        """Return the leaves of all statements about a package, ascending."""
        ...

    def revocations(self, digests: Iterable[str], *, as_of: int | None = None) -> Sequence[int]:
        """Return the leaves that revoke one of these digests, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class ProvedStatement:
    """A statement, and the leaf at which the log holds it."""

    index: int
    body: Statement

    @property
    def text(self) -> str:
        """Return the statement in a line, for people."""
        match self.body:
            case Withdraw() | Revoke() as body:
                verb = "withdrawn" if body.kind == "withdraw" else "revoked"
                return f"{verb} by the network (entry {self.index}): {body.reason}"
            case Deprecate(reason=reason, instead=instead):
                other = f"; use {instead} instead" if instead else ""
                return f"deprecated (entry {self.index}): {reason}{other}"
            case Vulnerable(advisory=advisory, reason=reason):
                return f"vulnerable, {advisory} (entry {self.index}): {reason}"


@dataclass(frozen=True, slots=True)
class PackageStatements:
    """What was said of one package. ``withdrawn`` is by entry; the first that said it counts."""

    withdrawn: dict[int, ProvedStatement]
    advice: tuple[ProvedStatement, ...]

    def advice_on(self, version: str) -> tuple[ProvedStatement, ...]:
        """Return the advice that speaks of a version, or of all of them."""
        return tuple(each for each in self.advice if each.body.purl.version in (None, version))


class Statements:
    """Reads statements of one ecosystem from a proved log."""

    def __init__(self, log: ProvedLog, index: StatementIndex, *, ecosystem: str) -> None:
        """Prove on ``log`` what ``index`` points at."""
        self._log = log
        self._index = index
        self._ecosystem = ecosystem

    def about(self, name: str, *, size: int) -> PackageStatements:
        """Return what a log of ``size`` says of a package, named with its namespace if it has any.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        withdrawn: dict[int, ProvedStatement] = {}
        advice: list[ProvedStatement] = []
        project = f"pkg:{self._ecosystem}/{name}"
        for found in self._proved(self._index.statements(self._ecosystem, name, as_of=size)):
            purl = found.body.purl
            if str(purl.without_version()) != project:
                _log.warning("row about %s passed over: entry %d is of %s", name, found.index, purl)
            elif isinstance(found.body, Withdraw):
                withdrawn.setdefault(found.body.entry, found)
            elif isinstance(found.body, Deprecate | Vulnerable):
                advice.append(found)
        return PackageStatements(withdrawn, tuple(advice))

    def revoked(self, digests: Iterable[Sha256], *, size: int) -> dict[Sha256, ProvedStatement]:
        """Return which of these digests a log of ``size`` revokes, with the first that does.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        wanted = set(digests)
        found: dict[Sha256, ProvedStatement] = {}
        for each in self._proved(self._index.revocations(sorted(wanted), as_of=size)):
            if isinstance(each.body, Revoke) and each.body.sha256 in wanted:
                found.setdefault(each.body.sha256, each)
        return found

    def _proved(self, indices: Iterable[int]) -> Iterable[ProvedStatement]:
        network_id = self._log.network_id
        for index in sorted(set(indices)):
            try:
                leaf = self._log.leaf(index)
                body = decode_transaction(leaf.data, network_id=network_id).body
            except (InvalidInputError, VerificationError, NotFoundError) as error:
                _log.warning("row of a statement passed over: %s", error)
                continue
            if isinstance(body, Withdraw | Revoke | Deprecate | Vulnerable):
                yield ProvedStatement(index, body)


def refuse(statement: ProvedStatement, file_name: str) -> PyrsiaError:
    """Return the error with which a file is refused."""
    return RefusedError(f"{file_name} is not served: {statement.text}")
