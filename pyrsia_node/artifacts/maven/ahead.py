"""What a client will ask for next, fetched before it asks.

A resolver reads one pom after the other, and then asks for jars; every file that has to come from
peers costs it a round trip. What comes next stands in the log: the jar beside a pom, and the poms
of what the version's metadata requires. So once a pom is asked for, these are brought here while
the client reads. Only what the log vouches for and this node would serve; only files of one piece;
a few at a time, and each once. A failure here is nobody's: who asks for the file itself hears why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from pyrsia_node.artifacts.resolver import LoggedFile
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.model.maven import MavenFile, MavenProject
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import PIECE_SIZE_BYTES

LANES: Final = 4
"""Files that are brought at the same time; Maven itself asks for five."""

WAITING_MAX: Final = 1_000
KNOWN_MAX: Final = 10_000
REQUIRES_MAX: Final = 100
_SCOPES: Final = frozenset({"compile", "runtime"})
"""Scopes of dependencies that whoever depends on a version needs as well."""

_log = logging.getLogger("pyrsia.artifacts.maven")


class FetchAhead:
    """Brings files into the store ahead of a client. Make it inside a running event loop."""

    def __init__(
        self,
        find: Callable[[MavenFile], LoggedFile | None],
        bring: Callable[[MavenFile, LoggedFile], Awaitable[None]],
    ) -> None:
        """Wire it.

        Args:
            find: What the log of this node says of a file that it would serve.
            bring: Returns once the file can be served from here.
        """
        self._find = find
        self._bring = bring
        self._waiting = _Waiting()
        self._followed: OrderedDict[str, None] = OrderedDict()
        self._brought: OrderedDict[str, None] = OrderedDict()
        self._lanes: set[asyncio.Task[None]] = set()

    def after(self, file: MavenFile, logged: LoggedFile) -> None:
        """Note that a client asked for a file."""
        if not file.is_pom or not _is_new(file, self._followed):
            return
        for each in next_files(file, logged):
            if each.path not in self._brought:
                self._waiting.add(each)
        # Busy lanes count against the bound alone: what is noted now need not wait for them.
        for _ in range(min(LANES - len(self._lanes), len(self._waiting))):
            self._lanes.add(asyncio.create_task(self._run_lane()))

    async def close(self) -> None:
        """Stop; what is under way is given up."""
        self._waiting.clear()
        for lane in list(self._lanes):
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _run_lane(self) -> None:
        try:
            while self._waiting:
                await self._advance(self._waiting.take())
        finally:
            # At once: a lane that finds nothing more must not count when the next file comes.
            self._lanes.discard(_this_task())

    async def _advance(self, file: MavenFile) -> None:
        if not _is_new(file, self._brought):
            return
        try:
            logged = self._find(file)
            if logged is not None and logged.file.size <= PIECE_SIZE_BYTES:
                await self._bring(file, logged)
        except PyrsiaError as error:
            _log.debug("%s is not fetched ahead: %s", file.path, error)


class _Waiting:
    """Files to be brought: poms first, since a resolver reads all of them before any jar."""

    def __init__(self) -> None:
        self._poms: deque[MavenFile] = deque()
        self._others: deque[MavenFile] = deque()

    def __len__(self) -> int:
        return len(self._poms) + len(self._others)

    def add(self, file: MavenFile) -> None:
        queue = self._poms if file.is_pom else self._others
        queue.append(file)
        if len(queue) > WAITING_MAX:
            # What was noted longest ago is what the client has gone past.
            queue.popleft()

    def take(self) -> MavenFile:
        return (self._poms or self._others).popleft()

    def clear(self) -> None:
        self._poms.clear()
        self._others.clear()


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _is_new(file: MavenFile, known: OrderedDict[str, None]) -> bool:
    """Tell whether a file is met for the first time in a while, and remember it."""
    if file.path in known:
        return False
    known[file.path] = None
    if len(known) > KNOWN_MAX:
        known.popitem(last=False)
    return True


def next_files(pom: MavenFile, logged: LoggedFile) -> Iterator[MavenFile]:
    """Yield what is asked for after a pom: the poms of what it requires, the jar beside it."""
    document = logged.proved.entry.document
    for requirement in document.metadata.requires[:REQUIRES_MAX]:
        needed = _pom_of(requirement)
        if needed is not None:
            yield needed
    jar = f"{pom.project.artifact}-{pom.version}.jar"
    if any(each.name == jar for each in document.files):
        yield MavenFile(pom.project, pom.version, jar)


def _pom_of(requirement: str) -> MavenFile | None:
    """Return the pom that a requirement (``PURL SCOPE [optional]``) leads a client to."""
    words = requirement.split(" ")
    if len(words) < 2 or words[1] not in _SCOPES or "optional" in words[2:]:
        return None
    try:
        purl = Purl.parse(words[0])
    except InvalidInputError:
        return None
    if purl.type != "maven" or purl.version is None:
        return None
    project = MavenProject(purl.namespace, purl.name)
    return MavenFile(project, purl.version, f"{purl.name}-{purl.version}.pom")
