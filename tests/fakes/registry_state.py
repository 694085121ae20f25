"""What ``MemoryRegistryDb`` holds, and the rules of its contract, each computed from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports.registry import (
    InUseError,
    Namespace,
    Proxied,
    QuotaExceededError,
    Reason,
    RepositoryBlob,
    StoredManifest,
    TagChange,
    Upload,
    UpstreamTag,
    User,
)


@dataclass
class Bytes:
    size: int
    used_ms: int
    is_closing: bool = False


@dataclass
class Repository:
    links: dict[str, tuple[RepositoryBlob, int]] = field(default_factory=dict)
    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def needing(self, digest: str) -> list[str]:
        return sorted(m.digest for m in self.manifests.values() if digest in m.needs)


@dataclass
class State:
    bytes: dict[str, Bytes] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    changes: list[tuple[str, TagChange]] = field(default_factory=list)
    uploads: dict[str, Upload] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    upstream_tags: dict[tuple[str, str, str], UpstreamTag] = field(default_factory=dict)
    proxied: dict[str, Proxied] = field(default_factory=dict)


def page_of(names: Iterable[str], after: str, limit: int) -> list[str]:
    ordered = sorted(names, key=str.encode)
    return [name for name in ordered if name.encode() > after.encode()][:limit]


def use_bytes(state: State, sha256: str, size: int, now_ms: int) -> None:
    row = state.bytes.setdefault(sha256, Bytes(size, now_ms))
    if row.is_closing:
        raise UnavailableError(f"{sha256} is just being removed")
    row.size, row.used_ms = max(row.size, size), max(row.used_ms, now_ms)


def link_blob(state: State, repository: str, blob: RepositoryBlob, now_ms: int) -> None:
    found = state.repositories.setdefault(repository, Repository())
    use_bytes(state, blob.sha256, blob.size, now_ms)
    _, used_ms = found.links.get(blob.digest, (blob, now_ms))
    found.links[blob.digest] = blob, max(used_ms, now_ms)
    check_quota(state, repository)


def loosen(state: State, found: Repository, digest: str, now_ms: int) -> None:
    manifest = found.manifests.get(digest)
    if manifest is None:
        return
    use_bytes(state, manifest.sha256, 0, now_ms)
    for need in manifest.needs:
        if need in found.links:
            blob, used_ms = found.links[need]
            found.links[need] = blob, max(used_ms, now_ms)
            use_bytes(state, blob.sha256, 0, now_ms)


def check_unneeded(found: Repository, digest: str) -> None:
    if found.needing(digest):
        raise InUseError(f"{digest} is needed by {found.needing(digest)[0]}")


def namespace_of(state: State, repository: str) -> Namespace | None:
    fitting = [each for each in state.namespaces.values() if is_under(repository, each.prefix)]
    return max(fitting, key=lambda each: len(each.prefix), default=None)


def is_under(repository: str, prefix: str) -> bool:
    return prefix in {"", repository} or repository.startswith(f"{prefix}/")


def is_immutable(state: State, repository: str) -> bool:
    namespace = namespace_of(state, repository)
    return namespace is not None and namespace.immutable_tags


def check_quota(state: State, repository: str) -> None:
    namespace = namespace_of(state, repository)
    if namespace is not None and namespace.quota_bytes is not None:
        used = usage_of(state, namespace.prefix)
        if used > namespace.quota_bytes:
            raise QuotaExceededError(f"{used} bytes exceed the quota of {namespace.quota_bytes}")


def usage_of(state: State, prefix: str) -> int:
    return sum(state.bytes[sha256].size for sha256 in held_bytes(state, prefix))


def held_bytes(state: State, prefix: str = "") -> set[str]:
    found = [each for name, each in state.repositories.items() if is_under(name, prefix)]
    blobs = {blob.sha256 for each in found for blob, _ in each.links.values()}
    return blobs | {manifest.sha256 for each in found for manifest in each.manifests.values()}


def note_change(state: State, repository: str, change: TagChange) -> None:
    state.changes.append((repository, replace(change, number=len(state.changes) + 1)))


def unneeded_links(state: State, before_ms: int) -> list[tuple[Repository, str]]:
    return [
        (found, digest)
        for found in state.repositories.values()
        for digest, (_, used_ms) in found.links.items()
        if used_ms < before_ms and not found.needing(digest)
    ]


def is_removable(state: State, sha256: str, before_ms: int) -> bool:
    row = state.bytes.get(sha256)
    if row is None or row.is_closing:
        return row is not None
    if row.used_ms >= before_ms or sha256 in state.proxied:
        return False
    return not any(
        manifest.sha256 == sha256
        or any(
            blob.sha256 == sha256 and found.needing(digest)
            for digest, (blob, _) in found.links.items()
        )
        for found in state.repositories.values()
        for manifest in [*found.manifests.values(), NOTHING]
    )


NOTHING = StoredManifest("", "", 0, "")


def reasons_of_name(state: State, digest: str) -> list[Reason]:
    reasons = []
    for name in sorted(state.repositories):
        found = state.repositories[name]
        why = [Reason("tag", name, tag) for tag in sorted(found.tags) if found.tags[tag] == digest]
        why += [Reason("manifest", name, needing) for needing in found.needing(digest)]
        manifest = found.manifests.get(digest)
        if manifest is not None and manifest.subject is not None:
            why.append(Reason("subject", name, manifest.subject))
        elif manifest is not None and not why:
            why.append(Reason("stored", name, digest))
        if digest in found.links and not found.needing(digest):
            why.append(Reason("blob", name, digest, found.links[digest][1]))
        reasons += why
    return reasons
