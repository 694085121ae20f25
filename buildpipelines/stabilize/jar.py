"""Normal forms of a jar at levels 1 and 2, and their digests. Pure.

As of wheels, a normal form is a listing and no recompressed archive, and it is made only of
archives whose structure was checked first (``extract.jar``).

- Level 1, the container: what ``stabilize.zip`` keeps of any zip file; an archive inside counts by
  its own listing at level 1.
- Level 2, named metadata: the rules of ``RULES``, each described in the module that holds it.

Kept at every level: every other byte of content, every name, the executable and the special bits,
whether readers from the front find the manifest, and the attributes of ``NEVER_STRIP``.

A file's digest in a listing carries the name of the rule that made it (``jar-build-metadata:…``),
so that no file can imitate the normal form of another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from buildpipelines.extract.jar import MANIFEST, Jar
from buildpipelines.spec import canonical
from buildpipelines.stabilize import javadoc, manifest, properties, signature
from buildpipelines.stabilize import zip as zip_rules
from buildpipelines.stabilize.zip import Listing

RULES: Final[dict[str, tuple[str, ...]]] = {
    "l1": zip_rules.RULES,
    "l2": (
        "jar-manifest-format",
        "jar-build-metadata",
        "jar-attribute-value-order",
        "jar-signature",
        "jar-maven-pom-properties",
        "jar-git-properties",
        "javadoc-timestamp",
    ),
}
"""Every rule by name; a part of the pipeline's digest, so changing one is seen."""

VERSION: Final = 1
"""Raised when a rule changes what it does and keeps its name."""


@dataclass(frozen=True, slots=True)
class JarListing:
    """A listing, and whether readers from the front find the manifest."""

    entries: Listing
    has_manifest_first: bool


def rules_document() -> dict[str, object]:
    """Return everything that decides about equality, for the pipeline's digest."""
    return {
        "version": VERSION,
        "rules": {level: list(names) for level, names in RULES.items()},
        "build_metadata": sorted(manifest.BUILD_METADATA),
        "orderless": sorted(manifest.ORDERLESS),
        "never": sorted(manifest.NEVER_STRIP),
    }


def level1(jar: Jar) -> JarListing:
    """Return the jar's listing at level 1."""
    nested = {name: f"jar-l1:{_nested_digest(found, 'l1')}" for name, found in jar.nested.items()}
    listing = zip_rules.list_entries(jar.archive, {**jar.digests, **nested})
    return JarListing(listing, jar.has_manifest_first)


def level2(jar: Jar) -> JarListing:
    """Return the jar's listing at level 2."""
    dropped = signature.signature_files(jar)
    digests = {name: stable_digest(jar, name) for name in jar.digests}
    listing = zip_rules.list_entries(jar.archive, digests)
    for name in dropped:
        del listing[name]
    return JarListing(listing, jar.has_manifest_first)


def stable_digest(jar: Jar, name: str) -> str:
    """Return what a file counts as at level 2; its plain digest where no rule is for it."""
    if name in jar.nested:
        return f"jar-l2:{_nested_digest(jar.nested[name], 'l2')}"
    if name == MANIFEST:
        found = jar_manifest(jar)
        if found is None:
            return jar.digests[name]
        return f"jar-build-metadata:{manifest.manifest_digest(stable_manifest(jar, found))}"
    rule = content_rule(jar.file_name, name)
    content = jar.small_file(name) if rule else None
    stable = None if content is None else stable_content(rule, name, content)
    return jar.digests[name] if stable is None else f"{rule}:{hashlib.sha256(stable).hexdigest()}"


def jar_manifest(jar: Jar) -> manifest.Manifest | None:
    """Return the jar's manifest where it has exactly one reading."""
    content = jar.small_file(MANIFEST)
    return None if content is None else manifest.parse_manifest(content)


def stable_manifest(jar: Jar, found: manifest.Manifest) -> manifest.Manifest:
    """Return a jar's manifest after all rules."""
    return manifest.stable_manifest(signature.without_digests(jar, found))


def content_rule(jar_name: str, name: str) -> str:
    """Return the rule for a file's content, by its name alone, or ""."""
    if properties.POM_PROPERTIES.match(name):
        return "jar-maven-pom-properties"
    if properties.GIT_FILE.match(name):
        return "jar-git-properties"
    return "javadoc-timestamp" if javadoc.is_page(jar_name, name) else ""


def stable_content(rule: str, name: str, content: bytes) -> bytes | None:
    """Return a file's content after a rule, or None where it has not the rule's plain form."""
    match rule:
        case "jar-maven-pom-properties":
            return properties.stable_pom_properties(content)
        case "jar-git-properties":
            return properties.stable_git_file(name, content)
        case "javadoc-timestamp":
            return javadoc.stable_page(content)
        case _:
            return None


def listing_digest(listing: JarListing, level: str) -> str:
    """Return the hex SHA-256 of a listing's canonical document; ``level`` is "l1" or "l2"."""
    return canonical.digest(
        {
            "t": f"jar-{level}",
            "v": 1,
            "manifest_first": listing.has_manifest_first,
            "entries": zip_rules.rows(listing.entries),
        }
    )


def _nested_digest(jar: Jar, level: str) -> str:
    return listing_digest(level1(jar) if level == "l1" else level2(jar), level)
