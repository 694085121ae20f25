"""Two small Maven projects, and the real Maven that builds them: for the demonstration and tests.

A library whose release is rebuilt from its repository, and a program that needs it. Maven gets
settings of its own, a local repository of its own and one mirror; nothing of this user's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from pyrsia_node.model.errors import UnavailableError

GROUP: Final = "org.example.hello"
LIBRARY: Final = "hello-words"
PROGRAM: Final = "hello-program"
VERSION: Final = "1.0"
GAV: Final = f"{GROUP}:{LIBRARY}:{VERSION}"
TAG: Final = f"v{VERSION}"
SAYS: Final = "Hello from a library that four nodes rebuilt"

_JDKS: Final = Path("/usr/lib/jvm")
_HEAD: Final = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0">\n'
    "  <modelVersion>4.0.0</modelVersion>\n"
    f"  <groupId>{GROUP}</groupId>\n"
)
_PROPERTIES: Final = (
    "  <properties>\n"
    "    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>\n"
    "    <maven.compiler.source>11</maven.compiler.source>\n"
    "    <maven.compiler.target>11</maven.compiler.target>\n"
    "  </properties>\n"
)
_WORDS: Final = f"""package {GROUP};

/** What there is to say. */
public final class Words {{
    private Words() {{}}

    /** Returns the greeting. */
    public static String greeting() {{
        return "{SAYS}";
    }}
}}
"""
_MAIN: Final = f"""package {GROUP};

/** Says it. */
public final class Main {{
    private Main() {{}}

    /** Prints the greeting. */
    public static void main(String[] args) {{
        System.out.println(Words.greeting());
    }}
}}
"""

LIBRARY_FILES: Final[Mapping[str, bytes]] = {
    "pom.xml": (
        f"{_HEAD}  <artifactId>{LIBRARY}</artifactId>\n  <version>{VERSION}</version>\n"
        "  <name>Hello words</name>\n"
        "  <licenses><license><name>Apache-2.0</name></license></licenses>\n"
        f"{_PROPERTIES}</project>\n"
    ).encode(),
    "src/main/java/org/example/hello/Words.java": _WORDS.encode(),
    "src/main/resources/org/example/hello/words.properties": b"language=en\n",
}
"""The library as it lies in its repository."""

PROGRAM_FILES: Final[Mapping[str, bytes]] = {
    "pom.xml": (
        f"{_HEAD}  <artifactId>{PROGRAM}</artifactId>\n  <version>{VERSION}</version>\n"
        f"{_PROPERTIES}  <dependencies><dependency>\n"
        f"    <groupId>{GROUP}</groupId>\n    <artifactId>{LIBRARY}</artifactId>\n"
        f"    <version>{VERSION}</version>\n  </dependency></dependencies>\n</project>\n"
    ).encode(),
    "src/main/java/org/example/hello/Main.java": _MAIN.encode(),
}
"""A program that needs the library."""


@dataclass(frozen=True, slots=True)
class MavenClient:
    """A real ``mvn`` with a home of its own.

    Attributes:
        home: where its settings and its local repository are.
        mirror: URL that stands for every repository.
    """

    home: Path
    mirror: str

    @property
    def repository(self) -> Path:
        """The local repository."""
        return self.home / "repository"

    @property
    def environment(self) -> dict[str, str]:
        """What Maven runs with, and nothing else of this user's."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "JAVA_HOME": str(default_jdk()),
        }

    def command(self, project: Path, *goals: str) -> list[str]:
        """Write the settings; return the command that builds ``project``."""
        self.home.mkdir(parents=True, exist_ok=True)
        settings = self.home / "settings.xml"
        settings.write_text(
            "<settings><mirrors><mirror><id>node</id><mirrorOf>*</mirrorOf>"
            f"<url>{escape(self.mirror)}</url></mirror></mirrors></settings>\n",
            encoding="utf-8",
        )
        return [
            *("mvn", "-B", "-q", "-s", str(settings), "-f", str(project / "pom.xml")),
            f"-Dmaven.repo.local={self.repository}",
            f"-Duser.home={self.home}",
            *goals,
        ]


def default_jdk() -> Path:
    """Return the folder of Debian's JDK.

    Raises:
        UnavailableError: none is installed.
    """
    found = sorted(_JDKS.glob("java-*-openjdk-*/bin/javac"))
    if not found:
        raise UnavailableError(f"no JDK of Debian below {_JDKS}: install openjdk-17-jdk-headless")
    return found[0].parent.parent


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a tree of files below ``folder``; return it."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def publish(target: Path, local_repository: Path, gav: str, extensions: Sequence[str]) -> None:
    """Copy what Maven installed of an artifact into the folder of an upstream."""
    group, artifact, version = gav.split(":")
    folder = f"{group.replace('.', '/')}/{artifact}/{version}"
    (target / folder).mkdir(parents=True, exist_ok=True)
    for extension in extensions:
        name = f"{artifact}-{version}.{extension}"
        (target / folder / name).write_bytes((local_repository / folder / name).read_bytes())
