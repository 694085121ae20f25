"""Finds the entries of an image's name, each proved before it counts.

The search index only says where to look; statements (withdrawn, revoked) are proved as well. What
was resolved is kept until the log moves on, and an entry that was proved once is not read again.
Whether a file may be served is decided here; its bytes are somebody else's business.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from pyrsia_node.artifacts.images.found import LoggedChange, LogWord
from pyrsia_node.artifacts.images.logged import (
    ImageEntry,
    ImageFile,
    LoggedRepository,
    read_entry,
)
from pyrsia_node.artifacts.images.sightings import sightings
from pyrsia_node.artifacts.resolver import EntryIndex
from pyrsia_node.artifacts.statements import ProvedStatement, Statements, refuse
from pyrsia_node.artifacts.verified_log import ProvedLog
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.oci import PURL_TYPE, ImageName

REPOSITORIES_MAX: Final = 4096
FILES_MAX: Final = 200_000
"""Files of all entries that are kept in memory: about 100 MB at most."""

CHANGES_MAX: Final = 10_000
"""Steps of histories that are kept in memory."""

_PREFIX: Final = f"pkg:{PURL_TYPE}/"
_log: Final = logging.getLogger("pyrsia.artifacts.images")


class LoggedImages:
    """Answers about images from a proved log."""

    def __init__(self, log: ProvedLog, index: EntryIndex, *, serve_revoked: bool = False) -> None:
        """Prove on ``log`` what ``index`` points at.

        Args:
            log: Where entries and statements are proved.
            index: Where to look for them.
            serve_revoked: Let what the network withdrew or revoked be served.
        """
        self._log = log
        self._index = index
        self._statements = Statements(log, index, ecosystem=PURL_TYPE)
        self._serve_revoked = serve_revoked
        self._known: OrderedDict[ImageName, LoggedRepository] = OrderedDict()
        self._file_count = 0
        self._changes: OrderedDict[int, LoggedChange] = OrderedDict()
        self._revoked: dict[str, ProvedStatement | None] = {}
        self._revoked_size = -1

    def over(self, log: ProvedLog, index: EntryIndex) -> LoggedImages:
        """Return the same service over another log, such as that of a joining node."""
        return LoggedImages(log, index, serve_revoked=self._serve_revoked)

    def is_ready(self) -> bool:
        """Tell whether there is a head yet: not before a new node has its history."""
        try:
            self._log.head()
        except UnavailableError:
            return False
        return True

    def repository(self, name: ImageName) -> LoggedRepository:
        """Return what the newest believed log says of a name; perhaps nothing.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        size = self._log.head().size
        known = self._known.get(name)
        if known is not None and known.size == size and known.is_settled:
            self._known.move_to_end(name)
            return known
        found = self._resolve(name, size, known.entries if known is not None else {})
        self._keep(found)
        return found

    def check_open(self, file: ImageFile, name: ImageName) -> None:
        """Return if the network lets a file be served, or the operator wants it all the same.

        Raises:
            RefusedError: Its entry was withdrawn or its bytes were revoked; says why.
            UnavailableError: The log cannot be read now.
        """
        if file.closed is not None and not self._serve_revoked:
            raise refuse(file.closed, f"{name}@{file.digest}")
        self.check_bytes(file.file.sha256, f"{name}@{file.digest}")

    def check_bytes(self, sha256: str, what: str) -> None:
        """Return if the bytes, whoever vouches for them, are not revoked; raises as above."""
        if self._serve_revoked:
            return
        revoked = self.revoked(sha256)
        if revoked is not None:
            raise refuse(revoked, what)

    def revoked(self, sha256: str) -> ProvedStatement | None:
        """Return what revoked these bytes, as of the newest believed log; raises as above."""
        size = self._log.head().size
        if size != self._revoked_size or len(self._revoked) >= FILES_MAX:
            self._revoked, self._revoked_size = {}, size
        if sha256 not in self._revoked:
            is_settled = self._index.applied_size() >= size
            digest = parse_sha256(sha256)
            found = self._statements.revoked([digest], size=size).get(digest)
            if found is None and not is_settled:
                return None
            self._revoked[sha256] = found
        return self._revoked[sha256]

    def change_of(self, entry: ImageEntry) -> LoggedChange:
        """Return an entry as a step in the history of its tag; proved once, it stays so."""
        known = self._changes.get(entry.index)
        if known is not None:
            return known
        found = self._read_change(entry)
        # A batch that could not be read just now is looked for again.
        if len(found.sightings) == len(entry.proved.entry.attestors):
            self._changes[entry.index] = found
            if len(self._changes) > CHANGES_MAX:
                self._changes.popitem(last=False)
        return found

    def _read_change(self, entry: ImageEntry) -> LoggedChange:
        return LoggedChange(
            digest=str(entry.root.digest),
            media=entry.root.file.media,
            size=entry.root.file.size,
            time_ms=entry.proved.time_ms,
            index=entry.index,
            actor="",
            sightings=sightings(self._log, entry.proved),
        )

    def word_on(self, file: ImageFile) -> LogWord:
        """Return what the network says of a manifest, whatever the operator wants served."""
        closed = file.closed or self.revoked(file.file.sha256)
        text = "" if closed is None else closed.text
        return LogWord(str(file.digest), file.index, file.file.claim, text)

    # ------------------------------------------------------------ inside

    def _resolve(
        self, name: ImageName, size: int, proved: dict[int, ImageEntry]
    ) -> LoggedRepository:
        # Asked first: what is indexed meanwhile makes the answer better, never wrongly settled.
        is_settled = self._index.applied_size() >= size
        project = project_of(name)
        entries: dict[int, ImageEntry] = {}
        # Ascending and once each, whatever the index says: "newest" means last in the log.
        for index in sorted(set(self._index.accepted(PURL_TYPE, project, as_of=size))):
            entry = proved.get(index) or self._entry(index, name)
            if entry is not None:
                entries[index] = entry
        said = self._statements.about(project, size=size)
        return LoggedRepository(name, size, is_settled, entries, said)

    def _entry(self, index: int, name: ImageName) -> ImageEntry | None:
        try:
            return read_entry(self._log.accepted(index), name)
        except (InvalidInputError, VerificationError, NotFoundError) as error:
            _log.warning("index row about %s passed over: %s", name, error)
            return None

    def _keep(self, found: LoggedRepository) -> None:
        old = self._known.pop(found.name, None)
        self._file_count += found.file_count - (old.file_count if old is not None else 0)
        # Kept even if it is not settled: its entries need not be proved again.
        self._known[found.name] = found
        while len(self._known) > 1 and (
            len(self._known) > REPOSITORIES_MAX or self._file_count > FILES_MAX
        ):
            _, dropped = self._known.popitem(last=False)
            self._file_count -= dropped.file_count


def project_of(name: ImageName) -> str:
    """Return the name that the search index knows an image by: its purl without the type."""
    return str(name.purl()).removeprefix(_PREFIX)
