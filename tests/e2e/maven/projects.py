"""Five real projects: where their sources are from, what they ask of an upstream, how they build.

The sources and their poms are unchanged. What a project names and Debian has under another version
comes from the overlay (:mod:`tests.fakes.debian_maven`); what only its tests would need is a jar
without a class.
"""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fakes.debian_maven import Overlay, managed_pom
from tests.fakes.debian_sources import CLI, CODEC, COMPRESS, IO, LANG3, DebianSource
from tests.fakes.published_jars import published_jars

_JUNIT: Final = (
    "org.junit.jupiter:junit-jupiter:5.9.2",
    "org.junit.jupiter:junit-jupiter-api:5.9.2",
    "org.junit.jupiter:junit-jupiter-params:5.9.2",
    "org.junit.vintage:junit-vintage-engine:5.9.2",
)
_NO_JAVADOC: Final = "maven.javadoc.skip=true"
_NO_ANT: Final = "maven.antrun.skip=true"
"""Unpacks data of tests."""

_BROTLI: Final = """package org.brotli.dec;

/** What commons-compress compiles against; Debian has no such library. */
public class BrotliInputStream extends java.io.InputStream {
    public BrotliInputStream(java.io.InputStream in) throws java.io.IOException {}

    @Override
    public int read() throws java.io.IOException {
        return -1;
    }
}
"""


@dataclass(frozen=True, slots=True)
class Project:
    """One project.

    Attributes:
        source: its sources.
        gav: coordinates of what is built.
        repository: name of its git repository on the test's server.
        tag: of the release, with ``{version}``.
        parent: version of commons-parent that its pom names.
        placeholders: libraries that only its tests need.
        properties: what the recipe of its mapping says.
        published: the released jar, where one is to be had.
        leave_out: folders of its tree that no build needs.
    """

    source: DebianSource
    gav: str
    repository: str
    tag: str
    parent: str
    placeholders: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    published: str = ""
    leave_out: tuple[str, ...] = ()

    @property
    def artifact(self) -> str:
        """The artifact's name alone."""
        return self.gav.split(":")[1]

    @property
    def pattern(self) -> str:
        """The pattern of its mapping."""
        group, artifact, _ = self.gav.split(":")
        return f"pkg:maven/{group}/{artifact}"

    @property
    def purl(self) -> str:
        """The name in the log."""
        return f"{self.pattern}@{self.source.version}"


COMMONS_CODEC: Final = Project(
    CODEC,
    "commons-codec:commons-codec:1.15",
    "commons-codec.git",
    "rel/commons-codec-{version}",
    parent="52",
    placeholders=("junit:junit:4.13", "org.apache.commons:commons-lang3:3.8"),
)
COMMONS_CLI: Final = Project(
    CLI,
    "commons-cli:commons-cli:1.6.0",
    "commons-cli.git",
    "rel/commons-cli-{version}",
    parent="64",
)
COMMONS_IO: Final = Project(
    IO,
    "commons-io:commons-io:2.11.0",
    "commons-io.git",
    "rel/commons-io-{version}",
    parent="52",
    placeholders=(
        "com.google.jimfs:jimfs:1.2",
        "org.apache.commons:commons-lang3:3.12.0",
        "org.junit-pioneer:junit-pioneer:1.4.2",
        "org.mockito:mockito-inline:3.11.2",
        "org.openjdk.jmh:jmh-core:1.32",
        "org.openjdk.jmh:jmh-generator-annprocess:1.32",
    ),
)
COMMONS_LANG3: Final = Project(
    LANG3,
    "org.apache.commons:commons-lang3:3.17.0",
    "commons-lang.git",
    "rel/commons-lang-{version}",
    parent="73",
    placeholders=(
        "com.google.code.findbugs:jsr305:3.0.2",
        "org.apache.commons:commons-text:1.12.0",
        "org.easymock:easymock:5.4.0",
        "org.hamcrest:hamcrest:3.0",
        "org.junit-pioneer:junit-pioneer:1.9.1",
        "org.openjdk.jmh:jmh-core:1.37",
        "org.openjdk.jmh:jmh-generator-annprocess:1.37",
    ),
    properties=(_NO_JAVADOC,),
    published="commons-lang3-3.17.0.jar",
    leave_out=("src/site", "src/test"),
)
COMMONS_COMPRESS: Final = Project(
    COMPRESS,
    "org.apache.commons:commons-compress:1.27.1",
    "commons-compress.git",
    "rel/commons-compress-{version}",
    parent="72",
    placeholders=(
        "com.github.marschall:memoryfilesystem:2.8.0",
        "javax.inject:javax.inject:1",
        "org.apache.felix:org.apache.felix.framework:7.0.5",
        "org.hamcrest:hamcrest:3.0",
        "org.mockito:mockito-core:4.11.0",
        "org.mockito:mockito-junit-jupiter:4.11.0",
        "org.ops4j.pax.exam:pax-exam-cm:4.13.5",
        "org.ops4j.pax.exam:pax-exam-container-native:4.13.5",
        "org.ops4j.pax.exam:pax-exam-junit4:4.13.5",
        "org.ops4j.pax.exam:pax-exam-link-mvn:4.13.5",
        "org.osgi:org.osgi.core:6.0.0",
    ),
    properties=(_NO_JAVADOC, _NO_ANT),
    published="commons-compress-1.27.1.jar",
    leave_out=("src/site", "src/test"),
)


def offer(overlay: Overlay, projects: Sequence[Project], work: Path) -> None:
    """Put into the overlay what these projects ask for, and what some of them published."""
    overlay.placeholder(*_JUNIT)
    overlay.put(
        "org.junit:junit-bom:5.7.2", "pom", managed_pom("org.junit:junit-bom:5.7.2", _JUNIT)
    )
    overlay.relocate("org.apache.maven.plugins:maven-enforcer-plugin:3.0.0-M3", "3.1.0")
    for project in projects:
        is_new = int(project.parent) > 64
        overlay.commons_parent(
            project.parent, _JUNIT, leave_out=("Implementation-Build",) if is_new else ()
        )
        overlay.placeholder(*project.placeholders)
        if project.published:
            _publish(overlay, project)
    if COMMONS_COMPRESS in projects:
        _offer_to_compress(overlay, work)


def _publish(overlay: Overlay, project: Project) -> None:
    jar = published_jars([project.published])[project.published]
    group, artifact, _ = project.gav.split(":")
    with zipfile.ZipFile(jar) as archive:
        pom = archive.read(f"META-INF/maven/{group}/{artifact}/pom.xml")
    overlay.jar(project.gav, jar.read_bytes(), pom=pom)


def _offer_to_compress(overlay: Overlay, work: Path) -> None:
    """Offer what commons-compress compiles against, in versions that are to be had.

    A class file names the methods it calls, not the version of the library they come from.
    """
    jars = {
        "com.github.luben:zstd-jni:1.5.6-4": "zstd-jni-1.5.6-9.jar",
        "commons-codec:commons-codec:1.17.1": "commons-codec-1.17.2.jar",
        "commons-io:commons-io:2.16.1": "commons-io-2.18.0.jar",
        "org.apache.commons:commons-lang3:3.16.0": "commons-lang3-3.17.0.jar",
        "org.tukaani:xz:1.10": "xz-1.10.jar",
    }
    found = published_jars(list(jars.values()))
    for gav, name in jars.items():
        overlay.jar(gav, found[name].read_bytes())
    overlay.relocate("org.ow2.asm:asm:9.7", "9.4")
    overlay.jar("org.brotli:dec:0.1.2", _brotli(work))


def _brotli(work: Path) -> bytes:
    source = work / "brotli" / "org" / "brotli" / "dec" / "BrotliInputStream.java"
    source.parent.mkdir(parents=True)
    source.write_text(_BROTLI)
    subprocess.run(["javac", "-nowarn", "--release", "8", source], check=True, capture_output=True)
    jar = work / "brotli.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        compiled = source.with_suffix(".class")
        archive.write(compiled, f"org/brotli/dec/{compiled.name}")
    return jar.read_bytes()
