"""What this node offers of PyPI: files that the log vouches for, and, by policy, others.

The one place where names of the log and names of an upstream meet. For the same file name the
log's hash wins; a name that the log or the operator reserves never falls through to the upstream
(dependency confusion); ``strict`` shuts a whole project once any version is logged.
docs/ARCHITECTURE.md 3.5.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.joining_log import JoiningLog, Resolvers
from pyrsia_node.artifacts.names import parse_file_name, sort_versions
from pyrsia_node.artifacts.reading import BlobReader, Reader
from pyrsia_node.artifacts.resolver import LoggedFile, Project, Resolver
from pyrsia_node.artifacts.statements import ProvedStatement, refuse
from pyrsia_node.artifacts.upstream_values import UpstreamFile, UpstreamIndex, UpstreamProject
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.ports import BlobStore

BUILD_COMMAND: Final = "pyrsia build pypi"
Vouched = Literal["log", "upstream"]
"""Who vouches for a file: the log's quorum, or the upstream's own page."""


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """When the upstream may be asked. ``reserved`` holds names, or prefixes that end in ``*``."""

    strict: bool = False
    reserved: tuple[str, ...] = ()

    def is_reserved(self, name: str) -> bool:
        """Tell whether a project's name must never be asked of the upstream."""
        return any(
            name.startswith(entry[:-1]) if entry.endswith("*") else name == entry
            for entry in self.reserved
        )


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file that a client may have. Exactly one of ``logged`` and ``upstream`` is there."""

    name: str
    version: str
    sha256: str
    size: int | None
    requires_python: str
    yanked: str | None
    """The reason, perhaps empty; None if the file is not yanked."""
    upload_time: str | None
    vouched: Vouched
    logged: LoggedFile | None = None
    upstream: UpstreamFile | None = None
    closed: ProvedStatement | None = None
    """What withdrew the file's entry or revoked its bytes; then ``yanked`` tells why, too."""
    is_refused: bool = False
    """Whether the bytes are not served for that reason."""


@dataclass(frozen=True, slots=True)
class OfferedProject:
    """A project as clients see it. ``is_stale``: the upstream could not be asked just now."""

    name: str
    files: dict[str, OfferedFile]
    withheld: tuple[LoggedFile, ...] = ()
    log_size: int = 0
    is_settled: bool = True
    is_stale: bool = False
    versions: list[str] = field(default_factory=list)

    @property
    def vouched(self) -> Vouched:
        """Return "log" if the log vouches for every file."""
        return "log" if all(f.vouched == "log" for f in self.files.values()) else "upstream"


class Catalog:
    """Names to files to bytes, for PyPI."""

    def __init__(
        self,
        resolver: Resolver,
        fetcher: Fetcher,
        store: BlobStore,
        *,
        upstream: UpstreamIndex | None,
        policy: UpstreamPolicy,
        joining: JoiningLog | None = None,
    ) -> None:
        """Wire a catalog; without ``upstream`` what the log does not know is denied.

        ``joining`` answers until this node has the log itself.
        """
        self._resolvers = Resolvers(resolver, joining)
        self._fetcher = fetcher
        self._store = store
        self._upstream = upstream
        self._policy = policy

    @property
    def is_log_alone(self) -> bool:
        """Whether pages depend on nothing but the log, so that they can be kept."""
        return self._upstream is None

    def projects(self) -> list[str]:
        """Return the names of all projects of the log; an upstream's are not listed."""
        return self._resolvers.own.projects()

    async def project(self, name: str) -> OfferedProject:
        """Return a project; ``name`` is in normal form.

        Raises:
            NotFoundError: Nobody whom policy allows to ask has it; the text names the command
                that requests a build.
            UnavailableError: The log, or the upstream alone responsible, cannot be asked now.
        """
        resolver = await self._resolvers.of(name)
        try:
            logged = resolver.project(name)
        except NotFoundError:
            logged = None
        upstream = await self._ask_upstream(name, logged)
        if logged is None and upstream is None:
            raise NotFoundError(
                f"{name} is not in the log of this network; request a build of it with: "
                f"{BUILD_COMMAND} {name}==VERSION"
            )
        merged = _merge(name, logged, upstream)
        return await self._close(merged, resolver) if merged.files else merged

    async def _close(self, project: OfferedProject, resolver: Resolver) -> OfferedProject:
        """Mark what the network closed, whoever vouches for it.

        A closed file is shown as yanked (PEP 592): clients then choose it only if it is pinned, and
        say why it was closed before they are refused.
        """
        theirs = {parse_sha256(f.sha256) for f in project.files.values() if f.logged is None}
        revoked = {sha256: await self._resolvers.revocation(sha256) for sha256 in theirs}
        files = dict(project.files)
        for name, file in files.items():
            closed = (
                file.logged.closed
                if file.logged is not None
                else revoked.get(parse_sha256(file.sha256))
            )
            if closed is not None:
                is_refused = not resolver.serves_revoked
                files[name] = replace(
                    file, closed=closed, yanked=closed.text, is_refused=is_refused
                )
        return replace(project, files=files)

    async def file(self, sha256: str, name: str, *, even_closed: bool = False) -> OfferedFile:
        """Return the file of this name and digest; with ``even_closed`` also to say why not.

        Raises:
            NotFoundError: There is none; the text says what there is instead.
            RefusedError: The network withdrew or revoked it, and this node does not serve such.
            UnavailableError: as :meth:`project`.
        """
        try:
            parsed = parse_file_name(name)
        except InvalidInputError as error:
            raise NotFoundError(str(error)) from error
        project = await self.project(parsed.project)
        file = project.files.get(name)
        if file is not None and file.sha256 == sha256:
            if file.is_refused and not even_closed:
                assert file.closed is not None
                raise refuse(file.closed, name)
            return file
        for withheld in project.withheld:
            if (withheld.file.name, withheld.file.sha256) == (name, sha256):
                if withheld.closed is not None:
                    raise refuse(withheld.closed, name)
                raise NotFoundError(
                    f"{name} with sha256 {sha256} is entry {withheld.proved.index} of the log and "
                    f"is not served: {withheld.standing}"
                )
        if file is not None:
            raise NotFoundError(f"{name} has sha256 {file.sha256}, not {sha256}")
        raise NotFoundError(self.unknown_version(project, parsed.version))

    @staticmethod
    def unknown_version(project: OfferedProject, version: str) -> str:
        """Return the sentence for a version, or a file of it, that is not there."""
        known = ", ".join(project.versions) or "none"
        what = "no such file of version" if version in project.versions else "no version"
        return (
            f"{project.name} has {what} {version} here; versions known: {known}; request it with: "
            f"{BUILD_COMMAND} {project.name}=={version}"
        )

    async def open(self, file: OfferedFile) -> Reader:
        """Return a reader of the file's bytes, every one of them checked; the caller closes it.

        Raises:
            UnavailableError: They cannot be had now.
            VerificationError: The upstream sent other bytes than its page says.
        """
        if file.logged is not None:
            return await self._fetcher.open(file.logged.artifact)
        assert self._upstream is not None
        assert file.upstream is not None
        await self._upstream.fetch(file.upstream)
        return BlobReader(self._store, file.sha256)

    async def ensure(self, file: OfferedFile) -> None:
        """Return when the whole file is in the store; raises as :meth:`open`."""
        if file.logged is not None:
            await self._fetcher.ensure(file.logged.artifact)
        else:
            (await self.open(file)).close()

    async def _ask_upstream(self, name: str, logged: Project | None) -> UpstreamProject | None:
        if self._upstream is None or self._policy.is_reserved(name):
            return None
        if logged is not None and self._policy.strict:
            return None
        try:
            return await self._upstream.project(name)
        except NotFoundError:
            return None
        except UnavailableError:
            if logged is None:
                raise
            return UpstreamProject(name, {}, is_stale=True)


def _merge(name: str, logged: Project | None, upstream: UpstreamProject | None) -> OfferedProject:
    files: dict[str, OfferedFile] = {}
    theirs = upstream.files if upstream is not None else {}
    if logged is not None:
        for file in logged.files.values():
            files[file.file.name] = _from_log(file, theirs.get(file.file.name))
    for foreign in theirs.values():
        if logged is None or not logged.names(foreign.name):
            offered = _from_upstream(foreign)
            if offered is not None:
                files[foreign.name] = offered
    return OfferedProject(
        name=name,
        files=files,
        withheld=tuple(logged.withheld) if logged is not None else (),
        log_size=logged.size if logged is not None else 0,
        is_settled=logged is None or logged.is_settled,
        is_stale=upstream is not None and upstream.is_stale,
        versions=sort_versions({file.version for file in files.values()}),
    )


def _from_log(file: LoggedFile, same_name: UpstreamFile | None) -> OfferedFile:
    time = dt.datetime.fromtimestamp(file.proved.time_ms / 1000, tz=dt.UTC)
    # That upstream withdrew a release is its own to say, about its own bytes alone.
    is_same = same_name is not None and same_name.sha256 == file.file.sha256
    return OfferedFile(
        name=file.file.name,
        version=file.version,
        sha256=file.file.sha256,
        size=file.file.size,
        requires_python=file.proved.entry.document.metadata.requires_python,
        yanked=same_name.yanked if is_same and same_name is not None else None,
        upload_time=time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        vouched="log",
        logged=file,
    )


def _from_upstream(file: UpstreamFile) -> OfferedFile | None:
    try:
        version = parse_file_name(file.name).version
    except InvalidInputError:
        return None  # no client can install what has no readable name
    return OfferedFile(
        name=file.name,
        version=version,
        sha256=file.sha256,
        size=file.size,
        requires_python=file.requires_python or "",
        yanked=file.yanked,
        upload_time=file.upload_time,
        vouched="upstream",
        upstream=file,
    )
