"""Which bytes a file name means: the first accepted entry that no published file contradicts.

Per (purl, file name) that entry wins for ever, so that lock files with hashes keep working; a
project is the union of all entries of all its versions. A later entry that names other bytes for
the same file is kept and shown as a conflict, and never served. A build that differs from the file
that the upstream publishes under its name is shown as contradicting and served only where the
operator opted in. The index only says where to look: every entry is proved first, and one that is
not about the package asked for is passed over. docs/ARCHITECTURE.md 3.2.

A withdrawn entry gives way to any other that names the file. Revoked bytes keep their name, so that
nothing slips in under it. Both are shown with the reason, and refused unless the operator opted in.
docs/guides/statements.md.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from pyrsia_node.artifacts.names import sort_versions
from pyrsia_node.artifacts.statements import (
    PackageStatements,
    ProvedStatement,
    StatementIndex,
    Statements,
)
from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.artifacts.verified_log import ProvedEntry, ProvedLog
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import FileEntry
from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.model.statements import Revoke

PROJECTS_MAX: Final = 512
"""Resolved projects that are kept in memory."""

REVOCATIONS_MAX: Final = 50_000
"""Answers about single digests that are kept in memory."""

_log = logging.getLogger("pyrsia.artifacts.resolver")


class EntryIndex(StatementIndex, Protocol):
    """Where to look. Its answers are hints; wrong ones cost a look, never a wrong byte."""

    def applied_size(self) -> int:
        """Return how many leaves the index covers; it may lag behind the checkpoint."""
        ...

    def accepted(self, ecosystem: str, name: str, *, as_of: int | None = None) -> Sequence[int]:
        """Return the leaf indices of a package's ACCEPTED entries, all versions, ascending."""
        ...

    def projects(self, ecosystem: str, *, as_of: int | None = None) -> Sequence[str]:
        """Return the names of all packages with an ACCEPTED entry, sorted."""
        ...


class Standing(StrEnum):
    """Why a file of an entry is served, or is not."""

    SERVED = "served"
    CONFLICT = "conflict"
    CONTRADICTING = "contradicting"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class LoggedFile:
    """A file that an entry of the log names."""

    file: FileEntry
    proved: ProvedEntry
    standing: Standing
    contradicted_by: str | None
    """SHA-256 of what the upstream publishes under this name, if it is something else."""
    closed: ProvedStatement | None = None
    """What withdrew the entry or revoked the bytes, if anything did."""
    advice: tuple[ProvedStatement, ...] = ()
    """What members advise about the version; it closes nothing."""
    key: str = ""
    """What tells it apart from the other files of the package: see ``Resolver``."""

    @property
    def artifact(self) -> Artifact:
        """Return what the fetcher needs."""
        return Artifact(self.file.sha256, self.file.size, self.file.pieces)

    @property
    def version(self) -> str:
        """Return the version of the package that the entry is about."""
        version = self.proved.entry.document.purl.version
        assert version is not None
        return version


@dataclass(slots=True)
class Project:
    """All files of a package that the log names.

    ``files`` holds those that are offered, by their keys, with those that the network closed.
    """

    name: str
    size: int
    """The size of the log that this was read from."""
    is_settled: bool
    """Whether the index covered that size: if not, something may still turn up."""
    files: dict[str, LoggedFile] = field(default_factory=dict)
    withheld: list[LoggedFile] = field(default_factory=list)
    contradicted: set[str] = field(default_factory=set)
    """Keys under which some entry found the upstream's file not to be what its source builds."""

    def versions(self) -> list[str]:
        """Return the versions that have a file to serve, ascending."""
        return sort_versions({logged.version for logged in self.files.values()})

    def names(self, key: str) -> bool:
        """Tell whether any entry names the file, served or not: then only the log decides."""
        return (
            key in self.files
            or key in self.contradicted
            or any(logged.key == key for logged in self.withheld)
        )


class Resolver:
    """Answers for one ecosystem from a proved log.

    The key of a file is its name, or ``VERSION/NAME`` where each version has a folder of its own,
    in which another version's file of the same name has no business.
    """

    def __init__(
        self,
        log: ProvedLog,
        index: EntryIndex,
        *,
        ecosystem: str,
        serve_contradicting: bool = False,
        serve_revoked: bool = False,
        is_by_version: bool = False,
    ) -> None:
        """Resolve names of ``ecosystem``, such as "pypi".

        Args:
            log: Where entries and statements are proved.
            index: Where to look for them.
            ecosystem: The purl type.
            serve_contradicting: Serve builds that differ from what the upstream publishes.
            serve_revoked: Serve what the network withdrew or revoked, marked as such.
            is_by_version: Whether each version has a folder of its own.
        """
        self._is_by_version = is_by_version
        self._statements = Statements(log, index, ecosystem=ecosystem)
        self._serve_revoked = serve_revoked
        self._log = log
        self._index = index
        self._ecosystem = ecosystem
        self._serve_contradicting = serve_contradicting
        self._known: OrderedDict[str, Project] = OrderedDict()
        self._revocations: dict[Sha256, ProvedStatement | None] = {}
        self._revocations_size = -1

    def is_ready(self) -> bool:
        """Tell whether there is a head yet: not before a new node has its history."""
        try:
            self._log.head()
        except UnavailableError:
            return False
        return True

    def projects(self, namespace: str = "") -> list[str]:
        """Return the names that the index knows, of one namespace or all of them.

        Each is proved only when it is asked for.
        """
        within = f"{self._ecosystem}/{namespace}" if namespace else self._ecosystem
        return list(self._index.projects(within, as_of=self._log.head().size))

    def project(self, name: str) -> Project:
        """Return a package with all its files, as of the newest believed checkpoint.

        Raises:
            NotFoundError: The log has no accepted entry about it.
            UnavailableError: The log cannot be read now.
        """
        size = self._log.head().size
        known = self._known.get(name)
        if known is None or known.size != size:
            known = self._resolve(name, size)
            if known.is_settled:
                self._known[name] = known
            if len(self._known) > PROJECTS_MAX:
                self._known.popitem(last=False)
        if not known.files and not known.withheld:
            raise NotFoundError(f"the log has no accepted build of {self._ecosystem} {name}")
        return known

    def _resolve(self, name: str, size: int) -> Project:
        # Asked first: what is indexed meanwhile makes the answer better, never wrongly settled.
        project = Project(name, size, is_settled=self._index.applied_size() >= size)
        entries = self._entries(name, size)
        said = self._statements.about(name, size=size)
        digests = {file.sha256 for proved in entries for file in proved.entry.document.files}
        revoked = self.revoked(digests, size=size)
        for proved in entries:
            folder = f"{proved.entry.document.purl.version}/" if self._is_by_version else ""
            project.contradicted |= {
                folder + each.name for each in proved.entry.document.contradicts
            }
            for file in proved.entry.document.files:
                logged = _logged(proved, file, said, revoked)
                self._place(project, replace(logged, key=folder + file.name))
        return project

    def revoked(
        self, digests: Iterable[Sha256], *, size: int | None = None
    ) -> dict[Sha256, ProvedStatement]:
        """Return which of these bytes the network revoked, as of the newest checkpoint.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        as_of = self._log.head().size if size is None else size
        return self._statements.revoked(digests, size=as_of)

    def revocation(self, sha256: Sha256) -> ProvedStatement | None:
        """Return what revoked these bytes, if anything; asked about once for each checkpoint.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        size = self._log.head().size
        if size != self._revocations_size or len(self._revocations) >= REVOCATIONS_MAX:
            self._revocations, self._revocations_size = {}, size
        if sha256 not in self._revocations:
            is_settled = self._index.applied_size() >= size
            found = self.revoked([sha256], size=size).get(sha256)
            if not is_settled:
                return found
            self._revocations[sha256] = found
        return self._revocations[sha256]

    @property
    def serves_revoked(self) -> bool:
        """Whether the operator wants what the network withdrew or revoked to be served."""
        return self._serve_revoked

    def _entries(self, name: str, size: int) -> list[ProvedEntry]:
        """Return the proved entries about a package, in the order of the log."""
        entries: list[ProvedEntry] = []
        # Ascending and once each, whatever the index says: "first" means first in the log.
        indices = set(self._index.accepted(self._ecosystem, name, as_of=size))
        for index in sorted(indices):
            try:
                proved = self._log.accepted(index)
            except (VerificationError, NotFoundError) as error:
                _log.warning("index row about %s passed over: %s", name, error)
                continue
            purl = proved.entry.document.purl
            if str(purl.without_version()) != f"pkg:{self._ecosystem}/{name}":
                _log.warning("index row about %s passed over: entry %d is of %s", name, index, purl)
                continue
            entries.append(proved)
        return entries

    def _place(self, project: Project, logged: LoggedFile) -> None:
        first = project.files.get(logged.key)
        if logged.contradicted_by is not None and not self._serve_contradicting:
            project.withheld.append(replace(logged, standing=Standing.CONTRADICTING))
        elif first is None or _gives_way(first, logged):
            if first is not None:
                standing = _standing_of(first)
                if standing is Standing.SERVED:
                    standing = Standing.CONTRADICTING
                project.withheld.append(replace(first, standing=standing))
            project.files[logged.key] = logged
        elif first.file.sha256 != logged.file.sha256:
            is_withdrawn = logged.standing is Standing.WITHDRAWN
            standing = Standing.WITHDRAWN if is_withdrawn else Standing.CONFLICT
            project.withheld.append(replace(logged, standing=standing))


def _logged(
    proved: ProvedEntry,
    file: FileEntry,
    said: PackageStatements,
    revoked: dict[Sha256, ProvedStatement],
) -> LoggedFile:
    """Return a file of an entry with everything that was said of it."""
    document = proved.entry.document
    upstream = {each.name: each.sha256 for each in document.contradicts}
    version = document.purl.version
    assert version is not None
    withdrawn, closed = said.withdrawn.get(proved.index), revoked.get(file.sha256)
    logged = LoggedFile(
        file=file,
        proved=proved,
        standing=Standing.SERVED,
        contradicted_by=upstream.get(file.name),
        closed=closed or withdrawn,
        advice=said.advice_on(version),
    )
    return replace(logged, standing=_standing_of(logged))


def _standing_of(logged: LoggedFile) -> Standing:
    if logged.closed is None:
        return Standing.SERVED
    return Standing.REVOKED if isinstance(logged.closed.body, Revoke) else Standing.WITHDRAWN


def _gives_way(first: LoggedFile, later: LoggedFile) -> bool:
    """Tell whether the file that has a name gives way to another entry's.

    An opted-in contradicting one does to one that contradicts nothing, and a withdrawn one to one
    that was not withdrawn.
    """
    if first.standing is Standing.WITHDRAWN:
        return later.standing is not Standing.WITHDRAWN
    return first.contradicted_by is not None and later.contradicted_by is None
