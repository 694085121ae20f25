"""What a project asks of its upstream and Debian has under another version: an overlay folder.

A source as its project released it names parents, plugins and test libraries by version. Debian
carries one version of each. The overlay lies over Debian's ``/usr/share/maven-repo`` in a stand-in
upstream and offers Debian's under the version that is asked for, so that sources need no change:

- *relocated*: a pom that sends Maven to Debian's version;
- *parent*: Debian's commons-parent under another version, with the plugin versions that it lost;
- *placeholder*: a jar without classes, for libraries that only tests would need.

It is a folder and no server. Nothing in it is copied into the repository: it is made of what is
installed where the tests run.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from pyrsia_node.devnet.maven_repository import DEBIAN

_COMMONS_PARENT: Final = "org/apache/commons/commons-parent/56/commons-parent-56.pom"
_FOUNDATION: Final = (
    "<organization><name>The Apache Software Foundation</name>"
    "<url>https://www.apache.org/</url></organization>"
    "<licenses><license><name>Apache-2.0</name>"
    "<url>https://www.apache.org/licenses/LICENSE-2.0.txt</url></license></licenses>"
)
"""What the foundation's own parent says and Debian's leaves out; manifests repeat it."""

_FELIX: Final = (
    "<commons.felix.version>5.1.8</commons.felix.version>",
    "<commons.felix.version>3.5.1</commons.felix.version>",
)
_TIME: Final = (1980, 1, 1, 0, 0, 0)

PLUGINS: Final[Mapping[str, str]] = {
    "org.apache.maven.plugins:maven-antrun-plugin": "3.1.0",
    "org.apache.maven.plugins:maven-clean-plugin": "3.2.0",
    "org.apache.maven.plugins:maven-compiler-plugin": "3.10.1",
    "org.apache.maven.plugins:maven-deploy-plugin": "3.0.0",
    "org.apache.maven.plugins:maven-install-plugin": "3.1.0",
    "org.apache.maven.plugins:maven-jar-plugin": "3.3.0",
    "org.apache.maven.plugins:maven-javadoc-plugin": "3.4.1",
    "org.apache.maven.plugins:maven-resources-plugin": "3.3.0",
    "org.apache.maven.plugins:maven-source-plugin": "3.2.1",
    "org.apache.maven.plugins:maven-surefire-plugin": "2.22.3",
    "org.apache.felix:maven-bundle-plugin": "3.5.1",
}
"""The versions of Debian 12 of the plugins that make a jar."""

UNUSED_PLUGINS: Final[Mapping[str, str]] = {
    "com.github.siom79.japicmp:japicmp-maven-plugin": "0.17.1",
    "com.github.spotbugs:spotbugs-maven-plugin": "4.7.3.0",
    "org.apache.maven.plugins:maven-assembly-plugin": "3.4.2",
    "org.apache.maven.plugins:maven-checkstyle-plugin": "3.2.0",
    "org.apache.maven.plugins:maven-pmd-plugin": "3.19.0",
    "org.apache.maven.plugins:maven-scm-publish-plugin": "3.1.0",
    "org.apache.rat:apache-rat-plugin": "0.15",
    "org.codehaus.mojo:animal-sniffer-maven-plugin": "1.22",
    "org.codehaus.mojo:clirr-maven-plugin": "2.8",
}
"""Plugins that a pom mentions and ``install`` never runs: a version is enough, no file."""


@dataclass(frozen=True, slots=True)
class Gav:
    """Coordinates of one artifact."""

    group: str
    artifact: str
    version: str

    @classmethod
    def of(cls, text: str) -> Gav:
        """Return the coordinates in ``GROUP:ARTIFACT:VERSION``."""
        return cls(*text.split(":"))

    @property
    def folder(self) -> str:
        """Where it lies in a repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}"

    def file(self, extension: str) -> str:
        """Return the path of one of its files in a repository."""
        return f"{self.folder}/{self.artifact}-{self.version}.{extension}"


class Overlay:
    """A folder in the layout of a Maven repository."""

    def __init__(self, folder: Path) -> None:
        """Write below ``folder``, which need not exist."""
        self.folder = folder

    def put(self, gav: str, extension: str, data: bytes) -> Path:
        """Publish one file of an artifact."""
        path = self.folder / Gav.of(gav).file(extension)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def jar(self, gav: str, data: bytes, *, pom: bytes | None = None) -> None:
        """Publish a jar, with a pom that names no dependencies unless one is given."""
        self.put(gav, "jar", data)
        self.put(gav, "pom", pom or pom_of(gav))

    def placeholder(self, *gavs: str) -> None:
        """Publish jars without a class, for what only tests would read."""
        for gav in gavs:
            self.jar(gav, empty_jar())

    def relocate(self, gav: str, version: str) -> None:
        """Send who asks for ``gav`` to another version of the same artifact."""
        inner = (
            "<distributionManagement><relocation>"
            f"<version>{escape(version)}</version></relocation></distributionManagement>"
        )
        self.put(gav, "pom", pom_of(gav, inner))

    def commons_parent(
        self, version: str, managed: Sequence[str] = (), *, leave_out: Sequence[str] = ()
    ) -> None:
        """Offer Debian's commons-parent as ``version``.

        Args:
            version: the version that a project asks for.
            managed: dependencies whose version the parent is to fix, by coordinates.
            leave_out: attributes of the manifest that the parent has not in that version.
        """
        text = (DEBIAN / _COMMONS_PARENT).read_text(encoding="utf-8")
        text = text.replace("<version>56</version>", f"<version>{escape(version)}</version>", 1)
        text = text.replace("</parent>", f"</parent>{_FOUNDATION}", 1)
        text = _with_plugin_versions(text.replace(*_FELIX))
        for name in leave_out:
            text = re.sub(f"<{name}>[^<]*</{name}>", "", text)
        entries = "".join(f"<dependency>{_coordinates(gav)}</dependency>" for gav in managed)
        text = text.replace(
            "<dependencyManagement>\n\t\t<dependencies>",
            f"<dependencyManagement>\n\t\t<dependencies>{entries}",
            1,
        )
        self.put(f"org.apache.commons:commons-parent:{version}", "pom", text.encode())


def pom_of(gav: str, inner: str = "") -> bytes:
    """Return the least pom of an artifact, with ``inner`` at its end."""
    text = f"<project><modelVersion>4.0.0</modelVersion>{_coordinates(gav)}{inner}</project>\n"
    return text.encode()


def managed_pom(gav: str, managed: Sequence[str]) -> bytes:
    """Return a pom that fixes versions for who imports it."""
    entries = "".join(f"<dependency>{_coordinates(each)}</dependency>" for each in managed)
    inner = f"<dependencyManagement><dependencies>{entries}</dependencies></dependencyManagement>"
    return pom_of(gav, f"<packaging>pom</packaging>{inner}")


def empty_jar(*attributes: str) -> bytes:
    """Return a jar that holds a manifest and nothing else; the same bytes each time."""
    lines = ("Manifest-Version: 1.0", *attributes, "", "")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("META-INF/MANIFEST.MF", _TIME)
        archive.writestr(entry, "\r\n".join(lines).encode())
    return buffer.getvalue()


def _coordinates(gav: str) -> str:
    each = Gav.of(gav)
    return (
        f"<groupId>{escape(each.group)}</groupId><artifactId>{escape(each.artifact)}</artifactId>"
        f"<version>{escape(each.version)}</version>"
    )


def _with_plugin_versions(text: str) -> str:
    """Return a pom whose plugin management fixes versions: Debian's patch removes most of them."""
    before, opening, rest = text.partition("<pluginManagement>")
    managed, closing, after = rest.partition("</pluginManagement>")
    for name, version in {**PLUGINS, **UNUSED_PLUGINS}.items():
        group, _, artifact = name.partition(":")
        there = f"<artifactId>{artifact}</artifactId>"
        if there in managed:
            managed = managed.replace(there, f"{there}<version>{version}</version>", 1)
        else:
            entry = f"<plugin>{_coordinates(f'{group}:{artifact}:{version}')}</plugin>"
            end = managed.rindex("</plugins>")
            managed = f"{managed[:end]}{entry}{managed[end:]}"
    return before + opening + managed + closing + after
