"""A small project, and the settings with which Maven builds it through one repository alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SETTINGS = """<settings>
  <localRepository>{local}</localRepository>
  <mirrors><mirror><id>node</id><mirrorOf>{mirror_of}</mirrorOf><url>{url}</url></mirror></mirrors>
</settings>
"""
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>sample</artifactId>
  <version>1.0</version>
  <properties>
    <maven.compiler.source>11</maven.compiler.source>
    <maven.compiler.target>11</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY = """
    <dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"""
JAVA = """package org.example;
public class Sample {
    public static String greeting() { return "hello"; }
}
"""


def make_project(folder: Path, *gavs: str) -> Path:
    """Write a project that depends on ``gavs``; return its folder."""
    source = folder / "src/main/java/org/example"
    source.mkdir(parents=True)
    (source / "Sample.java").write_text(JAVA)
    dependencies = "".join(DEPENDENCY.format(*gav.split(":")) for gav in gavs)
    (folder / "pom.xml").write_text(POM.format(dependencies=dependencies))
    return folder


def run_maven(
    project: Path,
    url: str,
    local: Path,
    *goals: str,
    mirror_of: str = "*",
    is_strict: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run ``mvn`` with the repository at ``url`` as the only mirror and ``local`` for its files.

    With ``is_strict`` a wrong or missing checksum is an error; by itself Maven only warns.
    """
    strict = ["-C"] if is_strict else []
    settings = project / "settings.xml"
    settings.write_text(SETTINGS.format(local=local, mirror_of=mirror_of, url=url))
    return subprocess.run(
        ["mvn", "-B", "-ntp", *strict, "-s", str(settings), "-gs", str(settings), *goals],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env=os.environ | {"MAVEN_OPTS": "-Xmx256m -XX:TieredStopAtLevel=1"},
    )
