"""``maven-metadata.xml`` of what is locked: the only versions that a replayed build may find. Pure.

Two levels share the name. Of an artifact it lists versions, so a version range or a plugin without
a version resolves to what was locked; of a group it maps the prefixes of plugins ("mvn jar:jar")
to artifacts. Format: Maven's "Metadata" model, version 1.1.0, of which these parts are read by
Maven itself. Not here: metadata that people are served (the gateway makes those from the log).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from buildpipelines.spec.lock import Lock
from buildpipelines.spec.maven_order import version_key

LAST_UPDATED: Final = "19800101000000"
"""A replay is a pure function of the lock, so it has no time of its own."""

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n<metadata modelVersion="1.1.0">\n'
_SAYS_NOTHING: Final = re.compile(r"-?maven-?|-?plugin-?")
_GOAL_PREFIX: Final = re.compile(rb"<goalPrefix>\s*([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\s*<")


def locked_metadata(
    lock: Lock, folder: str, goal_prefix: Callable[[str], str | None]
) -> bytes | None:
    """Return the metadata of a folder, or None where the lock holds nothing that it would list.

    Args:
        lock: What a replay may read.
        folder: ``org/apache/maven/plugins`` or ``org/apache/commons/commons-lang3``.
        goal_prefix: Tells the prefix that a plugin's jar, by SHA-256, gives itself.
    """
    versions = _versions(lock, folder)
    plugins = _plugins(lock, folder, goal_prefix)
    if not versions and not plugins:
        return None
    group, _, artifact = folder.rpartition("/")
    lines = [_HEAD]
    if versions:
        lines += _artifact_lines(group.replace("/", "."), artifact, versions)
    if plugins:
        lines += _plugin_lines(plugins)
    return "".join((*lines, "</metadata>\n")).encode()


def named_prefix(artifact: str) -> str:
    """Return the prefix of a plugin that names none: ``jar`` of ``maven-jar-plugin``."""
    return _SAYS_NOTHING.sub("", artifact) or "plugin"


def read_goal_prefix(descriptor: bytes) -> str | None:
    """Return the prefix in a plugin's descriptor (``META-INF/maven/plugin.xml``), or None."""
    match = _GOAL_PREFIX.search(descriptor)
    return match[1].decode() if match else None


def _versions(lock: Lock, folder: str) -> list[str]:
    found = {
        file.project.rpartition("/")[2]
        for file in lock.files
        if file.ecosystem == "maven" and file.project.rpartition("/")[0] == folder
    }
    return sorted(found, key=version_key)


def _plugins(
    lock: Lock, folder: str, goal_prefix: Callable[[str], str | None]
) -> Mapping[str, str]:
    """Return artifacts by prefix of the plugins whose jars are locked below a group's folder."""
    found: dict[str, str] = {}
    for file in lock.files:
        parent, _, version = file.project.rpartition("/")
        group, _, artifact = parent.rpartition("/")
        is_jar = file.file == f"{artifact}-{version}.jar"
        if file.ecosystem == "maven" and group == folder and is_jar:
            prefix = goal_prefix(file.sha256)
            if prefix or "-plugin" in artifact:
                found[prefix or named_prefix(artifact)] = artifact
    return found


def _artifact_lines(group: str, artifact: str, versions: Sequence[str]) -> Iterable[str]:
    newest = versions[-1]
    yield f"  <groupId>{group}</groupId>\n  <artifactId>{artifact}</artifactId>\n"
    yield f"  <versioning>\n    <latest>{newest}</latest>\n    <release>{newest}</release>\n"
    yield "    <versions>\n"
    yield from (f"      <version>{version}</version>\n" for version in versions)
    yield f"    </versions>\n    <lastUpdated>{LAST_UPDATED}</lastUpdated>\n  </versioning>\n"


def _plugin_lines(plugins: Mapping[str, str]) -> Iterable[str]:
    yield "  <plugins>\n"
    for prefix, artifact in sorted(plugins.items()):
        yield f"    <plugin>\n      <name>{artifact}</name>\n      <prefix>{prefix}</prefix>\n"
        yield f"      <artifactId>{artifact}</artifactId>\n    </plugin>\n"
    yield "  </plugins>\n"
