"""A jar's manifest: its one reading, and its normal form at level 2. Pure.

Rules, all of level 2:

- ``jar-manifest-format``: how it is written: folding of lines at 72 bytes, line ends, blank lines,
  the order of attributes and of sections. Java reads a manifest into maps, so none of them says
  anything; the tools that write manifests differ in all of them.
- ``jar-build-metadata``: attributes that tell who built, when, where, with what and from which
  revision, and that no class loader, module system, OSGi framework or JDK tool acts on.
- ``jar-attribute-value-order``: the order of the clauses in OSGi headers that are sets.
- ``jar-signature``: digests of entries, where they are true (``stabilize.signature``).

A manifest with more than one reading (an attribute twice, odd line ends, bytes that are no UTF-8,
no end of line at its end) is not touched by any rule: it is content, and counts to the last byte.
Format: the JAR File Specification, "JAR Manifest".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from buildpipelines.spec import canonical

NEVER_STRIP: Final = frozenset(
    {
        "add-exports",
        "add-opens",
        "agent-class",
        "automatic-module-name",
        "class-path",
        "enable-native-access",
        "launcher-agent-class",
        "main-class",
        "multi-release",
        "permissions",
        "premain-class",
        "sealed",
    }
)
"""Attributes (lowercase) that decide what runs and with which rights. Whatever a rule says."""

BUILD_METADATA: Final = frozenset(
    {
        # The JDK and the tools at work.
        "ant-version",
        "archiver-version",
        "build-java-vendor",
        "build-java-version",
        "build-jdk",
        "build-jdk-spec",
        "build-tool",
        "built-jdk",
        "created-by",
        "gradle-version",
        "implementation-build-java-vendor",
        "implementation-build-java-version",
        "originally-created-by",
        "tool",
        # Who and on which machine.
        "build-host",
        "build-os",
        "build-user",
        "built-by",
        "built-host",
        "built-os",
        "os-arch",
        "os-name",
        "os-version",
        # When.
        "bnd-lastmodified",
        "build-date",
        "build-date-utc",
        "build-time",
        "build-timestamp",
        "built-date",
        "built-on",
        "implementation-build-date",
        "implementation-build-time",
        "implementation-timestamp",
        # Which run of which build server.
        "build-id",
        "build-job",
        "build-number",
        "build-tag",
        "build-url",
        "hudson-build-number",
        "hudson-project",
        "hudson-version",
        "implementation-build-id",
        "jenkins-build-number",
        # From which revision; the request's source says it, and says it with a proof.
        "build-branch",
        "build-revision",
        "built-from-git-branch",
        "built-from-git-sha1",
        "eclipse-sourcereferences",
        "git-branch",
        "git-commit-id",
        "git-commit-id-describe",
        "git-commit-time",
        "git-describe",
        "git-remote-origin-url",
        "git-revision",
        "git-sha",
        "git-tags",
        "implementation-build",
        "scm-branch",
        "scm-git-branch",
        "scm-git-commit-dirty",
        "scm-git-commit-id",
        "scm-git-tag",
        "scm-revision",
    }
)
"""Attributes (lowercase) that the rule ``jar-build-metadata`` takes out; docs/design/builds.md."""

ORDERLESS: Final = frozenset(
    {
        "export-package",
        "import-package",
        "include-resource",
        "private-package",
        "provide-capability",
    }
)
"""Headers (lowercase) whose clauses are a set, written in the order of some hash table."""

_LINE_BYTES_MAX = 512
"""The JDK's own bound; the specification's is 72, and published manifests exceed it."""

_ATTRIBUTE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,69}): (.*)\Z")
_BAD_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Attributes = dict[str, str]
"""Name, spelled as it is in the file, to value."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest with one reading: its main attributes, and those of named entries."""

    main: Attributes
    sections: dict[str, Attributes]


def parse_manifest(content: bytes) -> Manifest | None:
    """Return what a manifest says, or None where it has not exactly one reading."""
    groups = _groups(content)
    if groups is None:
        return None
    parsed = [_attributes(lines) for lines in groups]
    main, *others = parsed
    if main is None:
        return None
    sections: dict[str, Attributes] = {}
    for attributes in others:
        if attributes is None or next(iter(attributes)) != "Name":
            return None
        name = attributes.pop("Name")
        if name in sections:
            return None  # Java merges them; others take the first or the last.
        sections[name] = attributes
    return Manifest(main, sections)


def _groups(content: bytes) -> list[list[str]] | None:
    """Return the unfolded lines of each section, the main one first."""
    content = content.replace(b"\r\n", b"\n")
    if not content.endswith(b"\n") or content.startswith(b"\n") or b"\r" in content:
        return None
    groups: list[list[bytearray]] = [[]]  # A line may be folded a million times.
    for line in content.removesuffix(b"\n").split(b"\n"):
        if len(line) > _LINE_BYTES_MAX:
            return None
        if not line:
            if groups[-1]:
                groups.append([])
        elif line.startswith(b" "):
            if not groups[-1]:
                return None
            groups[-1][-1] += line[1:]
        else:
            groups[-1].append(bytearray(line))
    try:
        return [[line.decode() for line in group] for group in groups if group]
    except UnicodeDecodeError:
        return None


def _attributes(lines: list[str]) -> Attributes | None:
    found: Attributes = {}
    seen: set[str] = set()
    for line in lines:
        match = _ATTRIBUTE.match(line)
        if match is None or match[1].lower() in seen or _BAD_CHARACTER.search(line):
            return None
        seen.add(match[1].lower())
        found[match[1]] = match[2]
    return found


def attribute_rule(name: str) -> str:
    """Return the rule that takes an attribute out or puts it in order, or ""."""
    lower = name.lower()
    if lower in NEVER_STRIP:
        return ""
    if lower in BUILD_METADATA:
        return "jar-build-metadata"
    return "jar-attribute-value-order" if lower in ORDERLESS else ""


def stable_attributes(attributes: Attributes) -> Attributes:
    """Return attributes without build metadata, clauses of sets in order."""
    found: Attributes = {}
    for name, value in attributes.items():
        match attribute_rule(name):
            case "jar-build-metadata":
                continue
            case "jar-attribute-value-order":
                found[name] = sort_clauses(value)
            case _:
                found[name] = value
    return found


def stable_manifest(manifest: Manifest) -> Manifest:
    """Return a manifest after the rules of this module; applying it twice changes nothing."""
    sections = {name: stable_attributes(found) for name, found in manifest.sections.items()}
    return Manifest(stable_attributes(manifest.main), sections)


def manifest_digest(manifest: Manifest) -> str:
    """Return the hex SHA-256 of what a manifest says, however it was written."""
    sections = [[name, sorted(map(list, a.items()))] for name, a in manifest.sections.items()]
    return canonical.digest(
        {
            "t": "jar-manifest",
            "v": 1,
            "main": sorted(map(list, manifest.main.items())),
            "sections": sorted(sections),
        }
    )


def sort_clauses(value: str) -> str:
    """Return an OSGi header with its clauses sorted; unbalanced quotes leave it as it is."""
    clauses = split_clauses(value)
    return value if clauses is None else ",".join(sorted(clauses))


def split_clauses(value: str) -> list[str] | None:
    """Split an OSGi header at the commas outside of quotes; None where a quote stays open.

    A backslash inside quotes takes the next character as it is (OSGi Core 1.3.2, quoted-string).
    """
    clauses, start, is_quoted, position = [], 0, False, 0
    while position < len(value):
        match value[position]:
            case '"':
                is_quoted = not is_quoted
            case "\\" if is_quoted:
                position += 1
            case "," if not is_quoted:
                clauses.append(value[start:position])
                start = position + 1
            case _:
                pass
        position += 1
    clauses.append(value[start:])
    return None if is_quoted else clauses
