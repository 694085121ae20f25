"""Images that are not this node's own: those of the log, and by policy those of other registries.

The one place where names of the log and names of an upstream meet. The log's word wins for a tag
that it knows; ``strict`` shuts a whole repository off from its upstream once any tag is logged; and
what the network revoked is refused whoever offers it. docs/design/registry.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.images.byte_cache import ByteCache
from pyrsia_node.artifacts.images.found import (
    OCTETS,
    FoundBlob,
    FoundManifest,
    LoggedChange,
    LogWord,
)
from pyrsia_node.artifacts.images.log_side import LoggedImages, project_of
from pyrsia_node.artifacts.images.logged import ImageFile, LoggedRepository
from pyrsia_node.artifacts.images.requests import ImportRequests
from pyrsia_node.artifacts.images.source import ImageSource
from pyrsia_node.artifacts.joining_log import JoiningLog
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.manifests import MANIFEST_BYTES_MAX
from pyrsia_node.model.oci import ImageName, OciDigest, is_digest
from pyrsia_node.ports import BlobStore

BUILD_COMMAND: Final = "pyrsia build docker --image"
MANIFESTS_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Memory for manifests of the log; each is usually 1 to 10 kB."""


class Images:
    """Names to manifests to blobs, as far as the log and upstreams go."""

    def __init__(
        self,
        logged: LoggedImages,
        fetcher: Fetcher,
        store: BlobStore,
        *,
        source: ImageSource | None = None,
        strict: bool = False,
        joining: JoiningLog | None = None,
        requests: ImportRequests | None = None,
    ) -> None:
        """Wire the service.

        Args:
            logged: The log of this node.
            fetcher: Brings bytes of the log from peers.
            store: Where bytes are.
            source: Upstream registries; None if policy denies what the log does not know.
            strict: One logged tag shuts the whole repository off from the upstream.
            joining: What proves entries while this node has no history yet.
            requests: Asks for the import of images that nobody knows; None leaves it.
        """
        self._log = logged
        self._fetcher = fetcher
        self._store = store
        self._source = source
        self._strict = strict
        self._joining = joining
        self._requests = requests
        self._manifests: ByteCache[bytes] = ByteCache(MANIFESTS_KEPT_BYTES)

    def pull_through(self, source: ImageSource | None) -> None:
        """Ask upstreams from now on; the source stands on a database that is opened later."""
        self._source = source

    # ------------------------------------------------------------ pulling

    async def manifest(
        self, name: ImageName, reference: str, *, upstream: bool = True
    ) -> FoundManifest:
        """Return a manifest by tag or digest; ``upstream=False`` asks the log alone.

        Raises:
            NotFoundError: Nobody knows it; the text names the command that imports it.
            RefusedError: The network withdrew or revoked it.
            UnavailableError: It cannot be had just now.
            VerificationError: The upstream sent other bytes than the digest says.
        """
        logged = await self._logged(name)
        repository = logged.repository(name)
        try:
            file = repository.manifest(reference)
        except NotFoundError as absent:
            if not upstream:
                raise
            return await self._from_source(logged, repository, reference, absent)
        logged.check_open(file, name)
        data = self._manifests.get(file.file.sha256) or await self._manifest_of(file, name)
        return FoundManifest(data, file.file.media, file.digest, "log", _headers(file))

    async def stat(self, name: ImageName, digest: OciDigest, *, upstream: bool = True) -> FoundBlob:
        """Tell about a blob without fetching it; raises as :meth:`manifest`."""
        logged = await self._logged(name)
        repository = logged.repository(name)
        try:
            file = repository.file(digest)
        except NotFoundError:
            source = self._source_for(repository) if upstream else None
            if source is None:
                raise
            held = await source.stat(name, digest)
            if held.sha256 is not None:
                logged.check_bytes(held.sha256, f"{name}@{digest}")
            return FoundBlob(held.size, OCTETS, "upstream", (), held.is_private)
        logged.check_open(file, name)
        return FoundBlob(file.file.size, file.file.media, "log", _headers(file))

    async def open(self, name: ImageName, digest: OciDigest, *, upstream: bool = True) -> Reader:
        """Return a reader of a blob, which may be ahead of its fetch; the caller closes it.

        Raises as :meth:`manifest`. A reader that finds out later that bytes cannot be had, or are
        wrong, raises then: no client gets the end of a blob that was not checked.
        """
        logged = await self._logged(name)
        repository = logged.repository(name)
        try:
            file = repository.file(digest)
        except NotFoundError:
            source = self._source_for(repository) if upstream else None
            if source is None:
                raise
            if digest.algorithm == "sha256":
                logged.check_bytes(digest.hex, f"{name}@{digest}")
            reader, sha256 = await source.open(name, digest)
            try:
                logged.check_bytes(sha256, f"{name}@{digest}")
            except BaseException:
                reader.close()
                raise
            return reader
        logged.check_open(file, name)
        return await self._open_logged(repository, file)

    # ------------------------------------------------------------ names

    async def tags(self, name: ImageName, *, upstream: bool = True) -> list[str] | None:
        """Return the tags of a name, sorted bytewise; None if nobody knows the name.

        ``upstream=False`` asks the log alone.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        repository = (await self._logged(name)).repository(name)
        found = set(repository.tags())
        source = self._source_for(repository) if upstream else None
        is_known = repository.is_known
        if source is not None:
            # A list of what the log has is better than none while the upstream is away.
            with contextlib.suppress(NotFoundError, UnavailableError):
                found.update(await source.tags(name))
                is_known = True
        return sorted(found) if is_known else None

    async def history(self, name: ImageName, tag: str) -> list[LoggedChange]:
        """Return every step of a tag in the log, oldest first; raises UnavailableError."""
        logged = await self._logged(name)
        steps: list[LoggedChange] = []
        for entry in logged.repository(name).changes(tag):
            steps.append(logged.change_of(entry))
            await asyncio.sleep(0)  # each is proved by reading a few files: others get their turn
        return steps

    async def word(self, name: ImageName, reference: str) -> LogWord | None:
        """Return what the log alone says of a tag or digest; None if it has no entry.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        logged = await self._logged(name)
        try:
            return logged.word_on(logged.repository(name).manifest(reference))
        except NotFoundError:
            return None

    async def logs(self, name: ImageName) -> bool:
        """Tell whether the log has an entry of the name that was not withdrawn.

        Raises:
            UnavailableError: The log cannot be read now.
        """
        return (await self._logged(name)).repository(name).is_known

    async def knows(self, name: ImageName) -> bool:
        """Tell whether the log, or an upstream that this node may ask, has the name.

        Raises:
            UnavailableError: That cannot be told just now.
        """
        if await self.logs(name):
            return True
        if self._source is None or not self._source.may_ask(name):
            return False
        return await self._source.knows(name)

    def is_private(self, name: ImageName) -> bool:
        """Tell whether an upstream would be asked for the name with credentials."""
        return self._source is not None and self._source.is_private(name)

    # ------------------------------------------------------------ inside

    async def _logged(self, name: ImageName) -> LoggedImages:
        """Return what answers for a name: this node's log, or what peers prove while it joins."""
        if self._joining is None:
            return self._log
        if self._log.is_ready():
            self._joining = None
            return self._log
        try:
            return self._log.over(*await self._joining.part(project_of(name)))
        except InvalidInputError:
            return self._log  # the core does not join; the log's own words say what is missing

    def _source_for(self, repository: LoggedRepository) -> ImageSource | None:
        if self._source is None or not self._source.may_ask(repository.name):
            return None
        return None if self._strict and repository.entries else self._source

    async def _from_source(
        self,
        logged: LoggedImages,
        repository: LoggedRepository,
        reference: str,
        absent: NotFoundError,
    ) -> FoundManifest:
        name, source = repository.name, self._source_for(repository)
        try:
            if source is None:
                raise absent
            held = await source.manifest(name, reference)
        except NotFoundError as error:
            raise NotFoundError(self._unknown(name, reference, error)) from error
        logged.check_bytes(held.sha256, f"{name}@{held.digest}")
        headers = (("warning", '110 - "the upstream cannot be asked"'),) if held.is_stale else ()
        return FoundManifest(
            held.data, held.media, held.digest, "upstream", headers, held.is_private
        )

    def _unknown(self, name: ImageName, reference: str, error: NotFoundError) -> str:
        image = f"{name}@{reference}" if is_digest(reference) else f"{name}:{reference}"
        if self._requests is not None:
            return f"{error}; {self._requests.ask(name, reference)}"
        return f"{error}; request an import with: {BUILD_COMMAND} {image}"

    async def _manifest_of(self, file: ImageFile, name: ImageName) -> bytes:
        """Return the bytes of a manifest of the log, and remember them."""
        if file.file.size > MANIFEST_BYTES_MAX:
            raise VerificationError(
                f"entry {file.index}: manifest {file.digest} of {name} has {file.file.size} bytes;"
                f" at most {MANIFEST_BYTES_MAX} are served"
            )
        try:
            await self._fetcher.ensure(file.artifact)
        except UnavailableError:
            # No peer has it now. The same bytes, by their digest, may come from the upstream.
            if self._source is None or not self._source.may_ask(name):
                raise
            data = (await self._source.manifest(name, str(file.digest))).data
        else:
            data = await asyncio.to_thread(self._read, file.file.sha256)
        self._manifests.put(file.file.sha256, data, len(data))
        return data

    async def _open_logged(self, repository: LoggedRepository, file: ImageFile) -> Reader:
        source = self._source
        if source is None or not source.may_ask(repository.name):
            return await self._fetcher.open(file.artifact)
        reader: Reader | None = None
        try:
            reader = await self._fetcher.open(file.artifact)
            if reader.size:
                # The first byte tells whether any peer has it; from then on others take over.
                await reader.read(0, 1)
        except UnavailableError:
            if reader is not None:
                reader.close()
            return (await source.open(repository.name, file.digest))[0]
        except BaseException:
            if reader is not None:
                reader.close()
            raise
        return reader

    def _read(self, sha256: str) -> bytes:
        with self._store.lease(sha256) as path:
            return Path(path).read_bytes()


def _headers(file: ImageFile) -> tuple[tuple[str, str], ...]:
    entry = ("x-pyrsia-entry", str(file.index))
    if file.closed is None:
        return (entry,)
    # A reason is text from a member: a header takes printable ASCII and nothing else.
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in file.closed.text)
    return (entry, ("x-pyrsia-statement", text))
