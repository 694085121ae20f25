"""What this node offers of Maven: files that the log vouches for, and, by policy, others.

The one place where names of the log and names of upstreams meet. A version that any entry is about
is the log's alone: no file of it, and no name of a reserved group, falls through to an upstream,
whose pom beside the network's jar would decide what else is resolved (dependency confusion).
``strict`` shuts a whole ``GROUP:ARTIFACT`` once any version is logged. docs/design/maven.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.joining_log import JoiningLog, Resolvers
from pyrsia_node.artifacts.maven.ahead import FetchAhead
from pyrsia_node.artifacts.maven.listings import (
    Listing,
    merge,
    plugin_of,
    seconds_of,
    sort_versions,
    timestamp,
)
from pyrsia_node.artifacts.maven.logged_digests import LoggedDigests
from pyrsia_node.artifacts.maven.policy import MavenPolicy
from pyrsia_node.artifacts.maven.source import MavenSource, Sighting
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.artifacts.resolver import LoggedFile, Project, Resolver
from pyrsia_node.artifacts.statements import ProvedStatement, refuse
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import (
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.maven import MavenFile, MavenListing, MavenProject
from pyrsia_node.ports import BlobStore
from pyrsia_node.ports.maven import KeptFile, MavenDb

BUILD_COMMAND: Final = "pyrsia build maven --gav"
EXPLAIN_COMMAND: Final = "pyrsia build explain"
ECOSYSTEM: Final = "maven"
VERSIONS_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file that a client may have. Exactly one of ``logged`` and ``kept`` is there."""

    file: MavenFile
    sha256: str
    size: int
    modified_s: int
    logged: LoggedFile | None = None
    kept: KeptFile | None = None
    closed: ProvedStatement | None = None
    """What the network said against it, where the operator has it served all the same."""

    @property
    def is_upstreams(self) -> bool:
        """Whether these are the bytes that an upstream publishes, so that its signature fits."""
        return self.logged is None or self.logged.file.origin == "upstream"


@dataclass(frozen=True, slots=True)
class OfferedListing:
    """A ``maven-metadata.xml`` as clients see it. ``modified_s`` is None if nothing tells it."""

    listing: Listing
    is_log_alone: bool
    is_stale: bool
    modified_s: int | None


class MavenCatalog:
    """Names to files to bytes, for Maven."""

    def __init__(
        self,
        resolver: Resolver,
        fetcher: Fetcher,
        store: BlobStore,
        db: MavenDb,
        *,
        policy: MavenPolicy,
        source: MavenSource | None = None,
        joining: JoiningLog | None = None,
        may_fetch_ahead: bool = True,
    ) -> None:
        """Wire a catalog; without ``source`` what the log does not know is denied.

        ``joining`` answers until this node has the log itself. With ``may_fetch_ahead`` what a
        client will ask for after a pom is brought here meanwhile.
        """
        self._resolvers = Resolvers(resolver, joining)
        self._fetcher = fetcher
        self._policy = policy
        self._source = source
        self._digests = LoggedDigests(fetcher, store, db)
        self._ahead = FetchAhead(self._find, self._bring) if may_fetch_ahead else None

    async def close(self) -> None:
        """Stop what goes on without a client."""
        if self._ahead is not None:
            await self._ahead.close()

    # ------------------------------------------------------------ files

    async def file(self, file: MavenFile) -> OfferedFile:
        """Return who vouches for a file, and for which bytes; an upstream's is taken in first.

        Raises:
            NotFoundError: There is none; the text says what there is instead.
            RefusedError: The network withdrew or revoked it, and this node does not serve such.
            UnavailableError: The log, or the upstream that is responsible, cannot be asked now.
            VerificationError: The upstream's bytes and checksum do not fit.
        """
        resolver = await self._resolvers.of(file.project.name)
        logged = _logged(resolver, file.project)
        key = f"{file.version}/{file.name}"
        if logged is not None and key in logged.files:
            return _from_log(file, logged.files[key], resolver)
        if logged is not None and logged.names(key):
            raise _withheld(file, logged, key)
        source = self._source_for(file, logged)
        if source is None or not file.is_ordinary:
            raise NotFoundError(_unknown(file, logged))
        try:
            kept = await source.file(file)
        except NotFoundError as error:
            raise NotFoundError(f"{error}; {_unknown(file, logged)}") from error
        closed = await self._check_revoked(file, kept)
        return OfferedFile(
            file,
            kept.digests.sha256,
            kept.digests.size,
            kept.modified_s or kept.kept_ms // 1000,
            kept=kept,
            closed=closed,
        )

    async def open(self, offered: OfferedFile) -> Reader:
        """Return a reader of the file's bytes, every one of them checked; the caller closes it.

        Raises:
            UnavailableError: They cannot be had now.
            VerificationError: An upstream sends other bytes than it once did.
        """
        if offered.logged is not None:
            if self._ahead is not None:
                self._ahead.after(offered.file, offered.logged)
            return await self._fetcher.open(offered.logged.artifact)
        assert self._source is not None
        assert offered.kept is not None
        return await self._source.open(offered.kept)

    async def digest(self, offered: OfferedFile, kind: str) -> str:
        """Return the digest that the file's checksum file of extension ``kind`` holds.

        Raises:
            UnavailableError: The bytes that must be read for it cannot be had now.
        """
        if kind == "sha256":
            return offered.sha256
        if offered.kept is not None:
            return offered.kept.digests.of(kind)
        assert offered.logged is not None
        return await self._digests.digest(offered.logged.artifact, kind)

    async def signature(self, offered: OfferedFile) -> OfferedFile:
        """Return the upstream's detached signature of a file.

        Raises:
            NotFoundError: There is none, none may be asked, or the bytes are not the upstream's.
            UnavailableError: The upstream cannot be asked now.
        """
        file = offered.file
        if not offered.is_upstreams:
            raise NotFoundError(
                f"{file.name} is the network's own build: no signature of an upstream is about it; "
                f"its proof is {file.name}.tlog-proof"
            )
        if self._source is None or not self._policy.allows(file.project.group):
            raise NotFoundError(f"no upstream may be asked for the signature of {file.name}")
        upstream = None if offered.kept is None else offered.kept.upstream
        kept = await self._source.signature(file, upstream)
        modified_s = kept.modified_s or kept.kept_ms // 1000
        sidecar = file.beside(".asc")
        return OfferedFile(sidecar, kept.digests.sha256, kept.digests.size, modified_s, kept=kept)

    # ------------------------------------------------------------ listings

    async def listing(self, wanted: MavenListing) -> OfferedListing:
        """Return what a ``maven-metadata.xml`` says: the log's versions, and upstreams' by policy.

        Raises:
            NotFoundError: Nobody lists anything there.
            UnavailableError: The log, or the upstream alone responsible, cannot be asked now.
            VerificationError: The upstream alone responsible sends what cannot be read.
        """
        versions = await self._logged_versions(wanted.project)
        plugins = self._logged_plugins(wanted.group)
        logged = merge([versions, plugins])
        try:
            theirs = await self._their_listing(wanted, is_logged=bool(versions.versions))
        except (UnavailableError, VerificationError):
            # What an upstream cannot say, or says in a way that cannot be read, hides no version
            # of the log.
            if logged.is_empty:
                raise
            theirs = Sighting(Listing(), is_stale=True)
        merged = logged if theirs is None else merge([logged, theirs.listing])
        if merged.is_empty:
            raise NotFoundError(
                f"nothing is known of {wanted.project or wanted.group}; request a build with: "
                f"{BUILD_COMMAND} {wanted.project or wanted.group}:VERSION"
            )
        is_log_alone = theirs is None or theirs.listing.is_empty
        return OfferedListing(
            merged,
            is_log_alone=is_log_alone,
            is_stale=theirs is not None and theirs.is_stale,
            # Two clocks make no time that only grows: then the ETag alone tells of a change.
            modified_s=seconds_of(merged.updated) if is_log_alone else None,
        )

    async def _logged_versions(self, project: MavenProject | None) -> Listing:
        if project is None:
            return Listing()
        resolver = await self._resolvers.of(project.name)
        logged = _logged(resolver, project)
        if logged is None:
            return Listing()
        # What the network closed is listed no more: a range must not resolve to what is refused.
        open_files = [
            each for each in logged.files.values() if each.closed is None or resolver.serves_revoked
        ]
        newest = max((each.proved.time_ms for each in open_files), default=0)
        versions = frozenset(each.version for each in open_files)
        return Listing(versions, timestamp(newest) if versions else "")

    def _logged_plugins(self, group: str) -> Listing:
        if not self._resolvers.own.is_ready():
            return Listing()
        names = (name.removeprefix(f"{group}/") for name in self._resolvers.own.projects(group))
        return Listing(plugins=tuple(p for p in map(plugin_of, names) if p is not None))

    async def _their_listing(self, wanted: MavenListing, *, is_logged: bool) -> Sighting | None:
        """Return what upstreams list of an artifact, of a group, or both, as far as allowed."""
        # As an artifact's its path may belong to a free group; a reserved one's name stays here.
        if self._source is None or self._policy.is_reserved(wanted.group):
            return None
        project = wanted.project
        may_list_versions = (
            project is not None
            and self._policy.allows(project.group)
            and not (self._policy.strict and is_logged)
        )
        may_list_plugins = self._policy.allows(wanted.group)
        if not may_list_versions and not may_list_plugins:
            return None
        try:
            found = await self._source.listing(wanted.path)
        except NotFoundError:
            return None
        said = found.listing
        allowed = Listing(
            said.versions if may_list_versions else frozenset(),
            said.updated,
            said.plugins if may_list_plugins else (),
        )
        return Sighting(allowed, is_stale=found.is_stale)

    # ------------------------------------------------------------ inside

    def _find(self, file: MavenFile) -> LoggedFile | None:
        """Return what the log of this node says of a file, if it is served; never waits."""
        resolver = self._resolvers.own
        logged = _logged(resolver, file.project) if resolver.is_ready() else None
        found = None if logged is None else logged.files.get(f"{file.version}/{file.name}")
        if found is None or (found.closed is not None and not resolver.serves_revoked):
            return None
        return found

    async def _bring(self, file: MavenFile, logged: LoggedFile) -> None:
        """Have a file here, and the checksum that Maven asks for behind it; raises as ``open``."""
        await self._fetcher.ensure(logged.artifact)
        await self.digest(_from_log(file, logged, self._resolvers.own), "sha1")

    async def _check_revoked(self, file: MavenFile, kept: KeptFile) -> ProvedStatement | None:
        """Return what revoked an upstream's bytes; raises if such are not served."""
        sha256 = parse_sha256(kept.digests.sha256)
        revoked = await self._resolvers.revocation(sha256)
        if revoked is not None and not self._resolvers.own.serves_revoked:
            raise refuse(revoked, file.name)
        return revoked

    def _source_for(self, file: MavenFile, logged: Project | None) -> MavenSource | None:
        if logged is not None and (self._policy.strict or _is_about(logged, file.version)):
            return None
        return self._source if self._policy.allows(file.project.group) else None


def _logged(resolver: Resolver, project: MavenProject) -> Project | None:
    try:
        return resolver.project(project.name)
    except NotFoundError:
        return None


def _is_about(logged: Project, version: str) -> bool:
    """Tell whether any entry is about a version, whether its files are served or not."""
    return any(each.version == version for each in (*logged.files.values(), *logged.withheld))


def _from_log(file: MavenFile, logged: LoggedFile, resolver: Resolver) -> OfferedFile:
    if logged.closed is not None and not resolver.serves_revoked:
        raise refuse(logged.closed, file.name)
    return OfferedFile(
        file,
        logged.file.sha256,
        logged.file.size,
        logged.proved.time_ms // 1000,
        logged=logged,
        closed=logged.closed,
    )


def _withheld(file: MavenFile, logged: Project, key: str) -> Exception:
    """Return why a file that entries name is not served."""
    for each in logged.withheld:
        if each.key == key:
            if each.closed is not None:
                return refuse(each.closed, file.name)
            index = each.proved.index
            return NotFoundError(
                f"{file.name} is in entry {index} of the log and is not served: {each.standing}; "
                f"what differs: {EXPLAIN_COMMAND} {index}"
            )
    return NotFoundError(f"{file.name} is not served: the log contradicts the upstream's file")


def _unknown(file: MavenFile, logged: Project | None) -> str:
    """Return the sentence for a file that is not there."""
    if logged is None:
        return (
            f"{file.project} is not in the log of this network; request a build of it with: "
            f"{BUILD_COMMAND} {file.gav}"
        )
    versions = sort_versions({each.version for each in logged.files.values()})
    if file.version in versions:
        return f"{file.gav} has no file {file.name} in the log"
    known = ", ".join(versions[-VERSIONS_SHOWN:]) or "none"
    return (
        f"{file.project} has no version {file.version} in the log; versions known: {known}; "
        f"request it with: {BUILD_COMMAND} {file.gav}"
    )
