"""The registry's ports as their contracts read: plain data, one lock, no speed and no durability.

``MemoryRegistryDb`` computes what is needed from scratch at every question, so it is the oracle
for the counts that SQLite's triggers keep.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports.registry import (
    ImmutableTagError,
    Namespace,
    Proxied,
    Reason,
    RepositoryBlob,
    StoredManifest,
    TagChange,
    Upload,
    UpstreamTag,
    User,
    referrer_bytes,
)
from tests.fakes.registry_state import (
    Bytes,
    Repository,
    State,
    check_quota,
    check_unneeded,
    held_bytes,
    is_immutable,
    is_removable,
    link_blob,
    loosen,
    note_change,
    page_of,
    reasons_of_name,
    unneeded_links,
    usage_of,
    use_bytes,
)


class MemoryRegistryDb:
    """Implements ``ports.registry.RegistryDb``."""

    def __init__(self) -> None:
        self._now = State()
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[State]:
        with self._lock:
            state = copy.deepcopy(self._now)
            yield state
            for name, repository in list(state.repositories.items()):
                if not repository.links and not repository.manifests:
                    del state.repositories[name]
            self._now = state

    def _found(self, repository: str) -> Repository:
        return self._now.repositories.get(repository, Repository())

    # ---------------------------------------------------------------- blobs

    def claim(self, sha256: str, *, now_ms: int) -> None:
        with self._changing() as state:
            use_bytes(state, sha256, 0, now_ms)
            for found in state.repositories.values():
                for digest, (blob, used_ms) in found.links.items():
                    if blob.sha256 == sha256:
                        found.links[digest] = blob, max(used_ms, now_ms)

    def add_blob(
        self,
        repository: str,
        blob: RepositoryBlob,
        *,
        now_ms: int,
        upload_id: str | None = None,
    ) -> None:
        with self._changing() as state:
            link_blob(state, repository, blob, now_ms)
            if upload_id is not None:
                state.uploads.pop(upload_id, None)

    def mount_blob(
        self, source: str, target: str, digest: str, *, now_ms: int
    ) -> RepositoryBlob | None:
        with self._changing() as state:
            blob = self.blob(source, digest)
            if blob is not None:
                link_blob(state, target, blob, now_ms)
            return blob

    def blob(self, repository: str, digest: str) -> RepositoryBlob | None:
        found = self._found(repository)
        if digest not in found.links:
            return None
        return replace(found.links[digest][0], is_needed=bool(found.needing(digest)))

    def find_blob(self, digest: str) -> list[tuple[str, RepositoryBlob]]:
        found = [(name, self.blob(name, digest)) for name in sorted(self._now.repositories)]
        return [(name, blob) for name, blob in found if blob is not None]

    def remove_blob(self, repository: str, digest: str) -> bool:
        with self._changing() as state:
            found = state.repositories.get(repository, Repository())
            check_unneeded(found, digest)
            return found.links.pop(digest, None) is not None

    # ---------------------------------------------------------------- manifests and tags

    def put_manifest(
        self,
        repository: str,
        manifest: StoredManifest,
        tags: Sequence[str],
        *,
        actor: str,
        now_ms: int,
    ) -> None:
        with self._changing() as state:
            found = state.repositories.setdefault(repository, Repository())
            moving = [tag for tag in dict.fromkeys(tags) if found.tags.get(tag) != manifest.digest]
            for tag in moving:
                if tag in found.tags and is_immutable(state, repository):
                    raise ImmutableTagError(f"{tag} is {found.tags[tag]} and may not move")
            if found.manifests.get(manifest.digest) != manifest:
                missing = [
                    need
                    for need in manifest.needs
                    if need not in found.links and need not in found.manifests
                ]
                if missing:
                    raise NotFoundError("\n".join(["missing:", *sorted(missing)[:100]]))
                use_bytes(state, manifest.sha256, manifest.size, now_ms)
                loosen(state, found, manifest.digest, now_ms)
                found.manifests[manifest.digest] = manifest
                check_quota(state, repository)
            for tag in moving:
                found.tags[tag] = manifest.digest
                media, size = manifest.media, manifest.size
                change = TagChange(0, tag, manifest.digest, media, size, actor, now_ms)
                note_change(state, repository, change)

    def manifest(self, repository: str, reference: str) -> StoredManifest | None:
        found = self._found(repository)
        return found.manifests.get(found.tags.get(reference, reference))

    def remove_manifest(self, repository: str, digest: str, *, actor: str, now_ms: int) -> bool:
        with self._changing() as state:
            found = state.repositories.get(repository, Repository())
            if digest not in found.manifests:
                return False
            check_unneeded(found, digest)
            tagged = [tag for tag in sorted(found.tags) if found.tags[tag] == digest]
            if tagged and is_immutable(state, repository):
                raise ImmutableTagError("a tag may not be deleted")
            for tag in tagged:
                del found.tags[tag]
                note_change(state, repository, TagChange(0, tag, "", "", 0, actor, now_ms))
            loosen(state, found, digest, now_ms)
            del found.manifests[digest]
            return True

    def remove_tag(self, repository: str, tag: str, *, actor: str, now_ms: int) -> bool:
        with self._changing() as state:
            found = state.repositories.get(repository, Repository())
            if tag not in found.tags:
                return False
            if is_immutable(state, repository):
                raise ImmutableTagError("a tag may not be deleted")
            del found.tags[tag]
            note_change(state, repository, TagChange(0, tag, "", "", 0, actor, now_ms))
            return True

    # ---------------------------------------------------------------- lists

    def has_repository(self, repository: str) -> bool:
        return repository in self._now.repositories

    def repositories(self, *, after: str, limit: int) -> list[str]:
        holding = [name for name, found in self._now.repositories.items() if found.manifests]
        return page_of(holding, after, limit)

    def tags(self, repository: str, *, after: str, limit: int) -> list[str]:
        return page_of(self._found(repository).tags, after, limit)

    def referrers(
        self,
        repository: str,
        subject: str,
        *,
        artifact_type: str | None = None,
        after: str = "",
        bytes_max: int,
    ) -> list[StoredManifest]:
        found = self._found(repository).manifests
        page: list[StoredManifest] = []
        for digest in sorted(found):
            each = found[digest]
            fits = artifact_type in {None, each.artifact_type}
            if each.subject == subject and digest > after and fits:
                page.append(each)
            if sum(map(referrer_bytes, page)) > bytes_max:
                break
        return page

    def tag_history(
        self, repository: str, tag: str, *, before: int | None, limit: int
    ) -> list[TagChange]:
        steps = [
            change
            for name, change in reversed(self._now.changes)
            if (name, change.tag) == (repository, tag)
            and (before is None or change.number < before)
        ]
        return steps[:limit]

    # ---------------------------------------------------------------- uploads

    def begin_upload(self, upload: Upload) -> None:
        with self._changing() as state:
            state.uploads[upload.id] = upload

    def upload(self, upload_id: str) -> Upload | None:
        return self._now.uploads.get(upload_id)

    def advance_upload(self, upload_id: str, *, offset: int, now_ms: int) -> None:
        with self._changing() as state:
            if upload_id not in state.uploads:
                raise NotFoundError(upload_id)
            before = state.uploads[upload_id]
            touched_ms = max(before.touched_ms, now_ms)
            state.uploads[upload_id] = replace(before, offset=offset, touched_ms=touched_ms)

    def end_upload(self, upload_id: str) -> bool:
        with self._changing() as state:
            return state.uploads.pop(upload_id, None) is not None

    def stale_uploads(self, *, before_ms: int, limit: int) -> list[Upload]:
        stale = [each for each in self._now.uploads.values() if each.touched_ms < before_ms]
        return sorted(stale, key=lambda each: (each.touched_ms, each.id))[:limit]

    # ---------------------------------------------------------------- settings

    def put_user(self, user: User) -> None:
        with self._changing() as state:
            state.users[user.name] = user

    def user(self, name: str) -> User | None:
        return self._now.users.get(name)

    def users(self) -> list[User]:
        return [self._now.users[name] for name in sorted(self._now.users)]

    def remove_user(self, name: str) -> bool:
        with self._changing() as state:
            return state.users.pop(name, None) is not None

    def put_namespace(self, namespace: Namespace) -> None:
        with self._changing() as state:
            state.namespaces[namespace.prefix] = namespace

    def namespaces(self) -> list[Namespace]:
        return [self._now.namespaces[prefix] for prefix in sorted(self._now.namespaces)]

    def remove_namespace(self, prefix: str) -> bool:
        with self._changing() as state:
            return state.namespaces.pop(prefix, None) is not None

    def usage(self, prefix: str) -> int:
        return usage_of(self._now, prefix)

    # ---------------------------------------------------------------- upstreams

    def note_upstream_tag(self, seen: UpstreamTag) -> None:
        with self._changing() as state:
            state.upstream_tags[seen.host, seen.repository, seen.tag] = seen

    def upstream_tag(self, host: str, repository: str, tag: str) -> UpstreamTag | None:
        return self._now.upstream_tags.get((host, repository, tag))

    def forget_upstream_tags(self, *, before_ms: int, keep: int) -> None:
        with self._changing() as state:
            newest = sorted(
                state.upstream_tags.items(), key=lambda each: (-each[1].checked_ms, each[0])
            )
            kept = [each for each in newest if each[1].checked_ms >= before_ms]
            state.upstream_tags = dict(kept[:keep])

    def note_proxied(self, proxied: Iterable[Proxied]) -> None:
        with self._changing() as state:
            for each in proxied:
                use_bytes(state, each.sha256, each.size, 0)
                before = state.proxied.get(each.sha256, each)
                used_ms = max(before.used_ms, each.used_ms)
                state.proxied[each.sha256] = replace(each, size=before.size, used_ms=used_ms)

    def proxied(self, *, limit: int) -> list[Proxied]:
        held = held_bytes(self._now)
        free = [each for each in self._now.proxied.values() if each.sha256 not in held]
        return sorted(free, key=lambda each: (each.used_ms, each.sha256))[:limit]

    def evict_proxied(self, sha256: str, *, used_ms: int) -> bool:
        with self._changing() as state:
            if sha256 not in state.proxied or state.proxied[sha256].used_ms > used_ms:
                return False
            del state.proxied[sha256]
            return True

    # ---------------------------------------------------------------- garbage collection

    def removable(self, *, before_ms: int, limit: int) -> list[RepositoryBlob]:
        closing = [each for each in self._now.bytes.items() if each[1].is_closing]
        unneeded = [
            each
            for each in self._now.bytes.items()
            if not each[1].is_closing and is_removable(self._now, each[0], before_ms)
        ]
        unneeded.sort(key=lambda each: (each[1].used_ms, each[0]))
        found = [*sorted(closing, key=lambda each: each[0]), *unneeded]
        return [RepositoryBlob(f"sha256:{name}", name, row.size) for name, row in found][:limit]

    def count_unneeded(self, *, before_ms: int) -> int:
        return len(unneeded_links(self._now, before_ms))

    def unlink_unneeded(self, *, before_ms: int, limit: int) -> int:
        with self._changing() as state:
            stale = unneeded_links(state, before_ms)[:limit]
            for found, digest in stale:
                del found.links[digest]
            return len(stale)

    def begin_removal(self, sha256: str, *, before_ms: int) -> bool:
        with self._changing() as state:
            if not is_removable(state, sha256, before_ms):
                return False
            state.bytes[sha256].is_closing = True
            for found in state.repositories.values():
                for digest in [d for d, (blob, _) in found.links.items() if blob.sha256 == sha256]:
                    del found.links[digest]
            return True

    def cancel_removal(self, sha256: str) -> None:
        with self._changing() as state:
            if sha256 in state.bytes:
                state.bytes[sha256].is_closing = False

    def end_removal(self, sha256: str) -> None:
        with self._changing() as state:
            if sha256 in state.bytes and state.bytes[sha256].is_closing:
                del state.bytes[sha256]

    def known(self, sha256: Sequence[str]) -> set[str]:
        return set(sha256) & self._now.bytes.keys()

    def note_orphans(self, found: Iterable[tuple[str, int]]) -> None:
        with self._changing() as state:
            for sha256, size in found:
                state.bytes.setdefault(sha256, Bytes(size, 0))

    def rows(self, *, after: str, limit: int) -> list[RepositoryBlob]:
        state = self._now
        page = page_of({*held_bytes(state), *state.proxied}, after, limit)
        return [RepositoryBlob(f"sha256:{name}", name, state.bytes[name].size) for name in page]

    def reasons(self, digest: str) -> list[Reason]:
        state = self._now
        sha256 = digest.removeprefix("sha256:")
        names = {digest}
        for found in state.repositories.values():
            named: dict[str, RepositoryBlob | StoredManifest] = {**found.manifests}
            named |= {name: blob for name, (blob, _) in found.links.items()}
            sha256 = named[digest].sha256 if digest in named else sha256
        for found in state.repositories.values():
            names |= {name for name, (blob, _) in found.links.items() if blob.sha256 == sha256}
            names |= {m.digest for m in found.manifests.values() if m.sha256 == sha256}
        reasons = [why for name in sorted(names) for why in reasons_of_name(state, name)]
        if sha256 in state.proxied:
            proxied = state.proxied[sha256]
            reasons.append(Reason("proxied", "", proxied.image, proxied.used_ms))
        if sha256 in state.bytes:
            row = state.bytes[sha256]
            if row.is_closing:
                reasons.append(Reason("closing", "", sha256, row.used_ms))
            elif not reasons:
                reasons.append(Reason("used", "", sha256, row.used_ms))
        return reasons
