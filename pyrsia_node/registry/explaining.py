"""Why the bytes of a digest are kept, in words that a person understands."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports import Clock
from pyrsia_node.ports.registry import Reason, RegistryDb
from pyrsia_node.ports.registry_blobs import Standing
from pyrsia_node.registry.collector import CollectedPorts, CollectionPolicy
from pyrsia_node.schema.collection import Explanation, KeptBecause

_GRACED: Final = frozenset({"blob", "used"})
"""What time alone ends."""


def explain(
    ports: CollectedPorts, policy: CollectionPolicy, clock: Clock, digest: str
) -> Explanation:
    """Return every reason why the bytes of ``digest`` are here, and when they go.

    Blocks on the disk.

    Raises:
        InvalidInputError: It is no digest.
    """
    OciDigest.parse(digest)
    kept = ports.db.reasons(digest)
    sha256 = _sha256_of(ports.db, digest, kept)
    standing = ports.census.standing(sha256)
    reasons = [_in_words(each, policy) for each in kept]
    if standing is not None:
        reasons += _of_store(ports, policy, standing, is_known=bool(ports.db.known([sha256])))
    return Explanation(
        digest=digest,
        sha256=sha256,
        present=standing is not None,
        size=0 if standing is None else standing.size,
        shared=standing is not None and standing.is_shared,
        local=standing is not None and standing.is_local,
        reasons=reasons,
        verdict=_verdict(standing, reasons, policy, clock.now_ms()),
    )


def _sha256_of(db: RegistryDb, digest: str, kept: Iterable[Reason]) -> str:
    """Return where the bytes are; "" for a SHA-512 name that the registry does not know."""
    algorithm, _, digits = digest.partition(":")
    if algorithm == "sha256":
        return digits
    for _, blob in db.find_blob(digest):
        return blob.sha256
    for reason in kept:
        manifest = db.manifest(reason.repository, digest)
        if manifest is not None:
            return manifest.sha256
    return ""


def _in_words(reason: Reason, policy: CollectionPolicy) -> KeptBecause:
    where, name = reason.repository, reason.name
    text = {
        "tag": f"it is {where}:{name}",
        "manifest": f"manifest {name} of {where} needs it",
        "subject": f"it is a manifest of {where} about {name}; it stays until somebody deletes it",
        "stored": f"it is a manifest of {where}, pushed without a tag; it stays until somebody"
        " deletes it",
        "blob": f"it was pushed to {where}, where no manifest needs it",
        "proxied": f"it belongs to {name}, fetched with this node's credentials; least recently"
        " used goes first when the cache is full",
        "used": "nothing names it; it was stored or lost its last name a while ago",
        "closing": "it is being removed just now",
    }[reason.kind]
    until_ms = None
    if reason.kind in _GRACED and reason.used_ms is not None:
        until_ms = reason.used_ms + policy.grace_held_ms
    return KeptBecause.model_validate(
        {
            "kind": reason.kind,
            "text": text,
            "repository": where,
            "name": name,
            "until_ms": until_ms,
        }
    )


def _of_store(
    ports: CollectedPorts, policy: CollectionPolicy, standing: Standing, *, is_known: bool
) -> list[KeptBecause]:
    found = []
    if standing.is_pinned:
        found.append(
            KeptBecause(kind="pinned", text="this node attested it, which is a promise to serve it")
        )
    if standing.is_evictable:
        found.append(KeptBecause(kind="cached", text=_place(ports, policy, standing.sha256)))
    if standing.is_local and not is_known:
        until_ms = standing.used_ms + policy.grace_held_ms
        text = "it was pushed, but the registry does not name it"
        found.append(KeptBecause(kind="orphan", text=text, until_ms=until_ms))
    if standing.is_leased:
        found.append(KeptBecause(kind="leased", text="somebody is reading it just now"))
    return found


def _place(ports: CollectedPorts, policy: CollectionPolicy, sha256: str) -> str:
    order = ports.census.evictable()
    before = [each.sha256 for each in order].index(sha256) if _holds(order, sha256) else 0
    ahead = sum(each.size for each in order[:before])
    total = sum(each.size for each in order)
    return (
        f"the log or a public upstream vouches for it; number {before + 1} of {len(order)} to leave"
        f" the cache, after {ahead} bytes; the cache holds {total} of {policy.cache_bytes_max}"
    )


def _holds(order: Iterable[Standing], sha256: str) -> bool:
    return any(each.sha256 == sha256 for each in order)


def _verdict(
    standing: Standing | None, reasons: list[KeptBecause], policy: CollectionPolicy, now_ms: int
) -> str:
    if standing is None:
        return "its bytes are not here" + (
            ", although it is named: run `pyrsia-node fsck`" if _named(reasons) else ""
        )
    lasting = [each for each in reasons if each.until_ms is None and each.kind != "leased"]
    if lasting:
        return "kept"
    if not reasons:
        return "nothing keeps it: it goes with the next collection"
    until_ms = max((each.until_ms for each in reasons if each.until_ms is not None), default=0)
    if until_ms <= now_ms:
        return "nothing keeps it: it goes with the next collection that finds nobody reading it"
    when = datetime.fromtimestamp(until_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    minutes = policy.grace_held_ms / 60_000
    return f"nothing keeps it: it goes after {when}, {minutes:g} minutes after its last use"


def _named(reasons: list[KeptBecause]) -> bool:
    return any(each.kind in {"tag", "manifest", "subject", "stored", "blob"} for each in reasons)
