"""What the node-local registry stands on: a database of names (uploads: ``registry_blobs``).

``RegistryDb`` is files' names, never bytes; ``BlobUploads`` is bytes on their way to a digest.
Embedded here are SQLite and files; PostgreSQL and an object store can take their places, with
several gateways before them, because no state is kept in a gateway (docs/ARCHITECTURE.md 8). Both
have a conformance suite in tests/conformance that any implementation must pass unchanged.

Every method of ``RegistryDb`` is one transaction: durable on return, or nothing happened. Five that
only note something (``claim``, ``note_…``, ``end_removal``) survive the end of the process, but
maybe not a power cut: losing them costs another look or another fetch. A method may be called from
any thread and may block on the disk; it raises UnavailableError when the disk is full. Times are
Unix milliseconds and come from the caller. Names were checked before (``model.oci``); digests are
texts like ``sha256:…``, ``sha256`` alone is 64 hex digits.

**How bytes and rows come together**, so that no collection at the same time takes bytes that
somebody just pushed: ``claim`` the SHA-256, make the bytes visible (``BlobUploads.commit``,
``BlobStore.adopt`` or ``keep_local``), ``add_blob`` or ``put_manifest`` or ``note_proxied``, and
then look whether the bytes are there. A claim keeps them for as long as a collection's shortest
grace; only after a longer sleep of the whole process in between can the look fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pyrsia_node.model.errors import InvalidInputError


class QuotaExceededError(InvalidInputError):
    """A namespace would hold more than its settings allow; the text names both numbers."""


class InUseError(InvalidInputError):
    """A manifest of the repository needs what was to be deleted; the text names one."""


class ImmutableTagError(InvalidInputError):
    """A tag that may never move points elsewhere already; the text names where."""


@dataclass(frozen=True, slots=True)
class RepositoryBlob:
    """A blob as a repository names it. ``digest`` is how it was pushed, ``sha256`` where it is.

    ``is_needed``: a manifest of the repository needs it. What is not needed goes after its grace,
    so who tells a client that it need not be pushed should ``claim`` it.
    """

    digest: str
    sha256: str
    size: int
    is_needed: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest of a repository; its bytes are the blob ``sha256``.

    ``needs`` are the digests of config, layers and manifests that must be there while it is;
    ``annotations`` is canonical JSON text, for the referrers list.
    """

    digest: str
    sha256: str
    size: int
    media: str
    needs: tuple[str, ...] = ()
    subject: str | None = None
    artifact_type: str = ""
    annotations: str = "{}"


def referrer_bytes(manifest: StoredManifest) -> int:
    """Return about how long a manifest's descriptor is in a list of referrers."""
    return len(manifest.annotations) + len(manifest.artifact_type) + 512


@dataclass(frozen=True, slots=True)
class TagChange:
    """A step in a tag's history; ``digest`` is empty where the tag was deleted.

    ``number`` orders all changes of a registry.
    """

    number: int
    tag: str
    digest: str
    media: str
    size: int
    actor: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session. ``offset`` is what the client was last told to be durable."""

    id: str
    repository: str
    offset: int
    started_ms: int
    touched_ms: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A right on every repository whose path begins with ``prefix``, at a boundary; "" is all."""

    prefix: str
    may_push: bool


@dataclass(frozen=True, slots=True)
class User:
    """An account. ``password`` is a hash that says its own algorithm (Argon2id, PyNaCl)."""

    name: str
    password: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Namespace:
    """Settings of all repositories under a prefix; the longest prefix that fits holds.

    ``quota_bytes`` bounds the distinct blobs linked from it; None is no bound. ``is_private``:
    who has no right to pull gets nothing, whatever anonymous clients may do elsewhere.
    """

    prefix: str
    immutable_tags: bool = False
    quota_bytes: int | None = None
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamTag:
    """What a tag meant at an upstream when it was last asked."""

    host: str
    repository: str
    tag: str
    digest: str
    media: str
    size: int
    checked_ms: int


@dataclass(frozen=True, slots=True)
class Proxied:
    """A blob that came through an upstream proxy with credentials: kept locally, evictable."""

    sha256: str
    size: int
    image: str
    used_ms: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a blob or manifest is kept, or, with ``used_ms``, was kept until a grace after that.

    ========= ======================================== ==============================
    kind      what it says                             ``name``
    ========= ======================================== ==============================
    tag       it is the manifest under a tag           the tag
    manifest  a manifest needs it                      that manifest's digest
    subject   it is a manifest that refers to another  the other's digest
    stored    it is a manifest; pushed by digest       its digest
    blob      it was pushed or mounted, not needed     its digest
    proxied   it came from an upstream with            the image
              credentials
    used      nothing but its last use                 its SHA-256
    closing   it is being removed just now             its SHA-256
    ========= ======================================== ==============================

    ``repository`` is empty for the last three.
    """

    kind: str
    repository: str
    name: str
    used_ms: int | None = None


class RegistryDb(Protocol):
    """Repositories, tags and their history, uploads, users, namespaces, upstream tags."""

    # ---------------------------------------------------------------- blobs and manifests

    def claim(self, sha256: str, *, now_ms: int) -> None:
        """Say that these bytes are about to be put into the store and to be named.

        Where they are named already, that is a use of them, which renews their grace.

        Raises:
            UnavailableError: They are just being removed; try again in some milliseconds.
        """
        ...

    def add_blob(
        self,
        repository: str,
        blob: RepositoryBlob,
        *,
        now_ms: int,
        upload_id: str | None = None,
    ) -> None:
        """Make a blob part of a repository; again is a use of it, which renews its grace.

        Args:
            repository: Where it is to be named.
            blob: Its name there, and its bytes.
            now_ms: When.
            upload_id: The upload that it came by, which ends in the same transaction.

        Raises:
            QuotaExceededError: The namespace would hold more than it may; nothing changed.
            UnavailableError: The blob is just being removed; try again.
        """
        ...

    def mount_blob(
        self, source: str, target: str, digest: str, *, now_ms: int
    ) -> RepositoryBlob | None:
        """Make a blob of one repository part of another one; None if ``source`` lacks it.

        Raises:
            QuotaExceededError: The target's namespace would hold more than it may.
        """
        ...

    def blob(self, repository: str, digest: str) -> RepositoryBlob | None:
        """Return a blob that is part of the repository."""
        ...

    def find_blob(self, digest: str) -> list[tuple[str, RepositoryBlob]]:
        """Return (repository, blob) of every repository that has it, for a mount."""
        ...

    def remove_blob(self, repository: str, digest: str) -> bool:
        """Take a blob out of a repository; tells whether it was there.

        Raises:
            InUseError: A manifest of the repository needs it.
        """
        ...

    def put_manifest(
        self,
        repository: str,
        manifest: StoredManifest,
        tags: Sequence[str],
        *,
        actor: str,
        now_ms: int,
    ) -> None:
        """Make a manifest part of a repository and let ``tags`` point to it, with history.

        A tag that points there already makes no history.

        Raises:
            NotFoundError: Something it needs is not part of the repository; names it (the first
                hundred) one per line after the first.
            ImmutableTagError: A tag points elsewhere and may not move; nothing changed.
            QuotaExceededError, UnavailableError: As ``add_blob``.
        """
        ...

    def manifest(self, repository: str, reference: str) -> StoredManifest | None:
        """Return the manifest that a tag or digest names."""
        ...

    def remove_manifest(self, repository: str, digest: str, *, actor: str, now_ms: int) -> bool:
        """Take a manifest and every tag on it away; tells whether it was there.

        What it needed keeps its grace from now on.

        Raises:
            ImmutableTagError: A tag on it may not be deleted.
            InUseError: Another manifest of the repository needs it.
        """
        ...

    def remove_tag(self, repository: str, tag: str, *, actor: str, now_ms: int) -> bool:
        """Delete a tag; its history stays. Raises ImmutableTagError."""
        ...

    # ---------------------------------------------------------------- lists

    def has_repository(self, repository: str) -> bool:
        """Tell whether anything was ever pushed to it and is still there."""
        ...

    def repositories(self, *, after: str, limit: int) -> list[str]:
        """Return names of repositories that hold a manifest, sorted bytewise, > ``after``."""
        ...

    def tags(self, repository: str, *, after: str, limit: int) -> list[str]:
        """Return tags, sorted bytewise, > ``after``."""
        ...

    def referrers(
        self,
        repository: str,
        subject: str,
        *,
        artifact_type: str | None = None,
        after: str = "",
        bytes_max: int,
    ) -> list[StoredManifest]:
        """Return manifests whose subject is that digest, in order of digest, > ``after``.

        The last is the one with which ``referrer_bytes`` of them all exceed ``bytes_max``; where
        they do not, these are all there are. With ``artifact_type`` those of that type alone.
        """
        ...

    def tag_history(
        self, repository: str, tag: str, *, before: int | None, limit: int
    ) -> list[TagChange]:
        """Return changes of a tag, newest first, with numbers < ``before``."""
        ...

    # ---------------------------------------------------------------- uploads

    def begin_upload(self, upload: Upload) -> None:
        """Remember a new upload."""
        ...

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload under way."""
        ...

    def advance_upload(self, upload_id: str, *, offset: int, now_ms: int) -> None:
        """Remember how much is durable; raises NotFoundError."""
        ...

    def end_upload(self, upload_id: str) -> bool:
        """Forget an upload; tells whether it was there."""
        ...

    def stale_uploads(self, *, before_ms: int, limit: int) -> list[Upload]:
        """Return uploads not touched since; one that was only begun was touched then."""
        ...

    # ---------------------------------------------------------------- settings

    def put_user(self, user: User) -> None:
        """Add or replace an account."""
        ...

    def user(self, name: str) -> User | None:
        """Return an account."""
        ...

    def users(self) -> list[User]:
        """Return all accounts, by name."""
        ...

    def remove_user(self, name: str) -> bool:
        """Delete an account; tells whether it was there."""
        ...

    def put_namespace(self, namespace: Namespace) -> None:
        """Add or replace the settings of a prefix."""
        ...

    def namespaces(self) -> list[Namespace]:
        """Return all settings, by prefix."""
        ...

    def remove_namespace(self, prefix: str) -> bool:
        """Delete settings; tells whether they were there."""
        ...

    def usage(self, prefix: str) -> int:
        """Return the bytes of the distinct blobs and manifests under a prefix."""
        ...

    # ---------------------------------------------------------------- upstreams

    def note_upstream_tag(self, seen: UpstreamTag) -> None:
        """Remember what a tag means at its upstream."""
        ...

    def upstream_tag(self, host: str, repository: str, tag: str) -> UpstreamTag | None:
        """Return what a tag meant when it was last asked."""
        ...

    def forget_upstream_tags(self, *, before_ms: int, keep: int) -> None:
        """Forget what was last asked before, and the oldest where more than ``keep`` are left."""
        ...

    def note_proxied(self, proxied: Iterable[Proxied]) -> None:
        """Remember local blobs that came through a proxy, or their newest uses.

        Raises:
            UnavailableError: One of them is just being removed; nothing was noted.
        """
        ...

    def proxied(self, *, limit: int) -> list[Proxied]:
        """Return them, least recently used first, without those that a repository holds."""
        ...

    def evict_proxied(self, sha256: str, *, used_ms: int) -> bool:
        """Let a proxied blob go unless it was used after ``used_ms``; tells whether it may go.

        Then nothing of the proxy keeps it, and it is ``removable`` whenever it was last used.
        """
        ...

    # ---------------------------------------------------------------- garbage collection

    def removable(self, *, before_ms: int, limit: int) -> list[RepositoryBlob]:
        """Return blobs that nothing needs and that were last used before; also half removed ones.

        Links of repositories to blobs that no manifest of theirs needs, last used before, do not
        keep a blob. Least recently used first; ``digest`` is the SHA-256 one.
        """
        ...

    def unlink_unneeded(self, *, before_ms: int, limit: int) -> int:
        """Take blobs out of repositories that do not need them, last used before; tell how many.

        The bytes stay as long as another repository needs them.
        """
        ...

    def count_unneeded(self, *, before_ms: int) -> int:
        """Return how many blobs ``unlink_unneeded`` would take out."""
        ...

    def begin_removal(self, sha256: str, *, before_ms: int) -> bool:
        """Close a blob, if it is still removable: from now on ``add_blob`` waits for its end.

        A crash after this leaves a row that ``removable`` gives again; the bytes may be gone.
        No repository names the blob from now on.
        """
        ...

    def cancel_removal(self, sha256: str) -> None:
        """Open a closed blob again, whose bytes could not be removed now."""
        ...

    def end_removal(self, sha256: str) -> None:
        """Forget a blob whose bytes are gone."""
        ...

    def reasons(self, digest: str) -> list[Reason]:
        """Return why a blob or manifest is kept; empty if nothing keeps it."""
        ...

    def known(self, sha256: Sequence[str]) -> set[str]:
        """Return which of these bytes the registry knows at all, to find orphans."""
        ...

    def note_orphans(self, found: Iterable[tuple[str, int]]) -> None:
        """Remember bytes (SHA-256, size) that were unknown as removable; known ones are left."""
        ...

    def rows(self, *, after: str, limit: int) -> list[RepositoryBlob]:
        """Return all bytes that the registry names, by SHA-256 > ``after``, for fsck."""
        ...
