"""The toolchains of Maven builds: one document for each JDK of the machine, with what goes with it.

A build sees one JDK, one Maven, the C library and a short list of programs, nothing else; the
document names all of them by digest, and the same value says what the sandbox binds, so the two
cannot drift apart. JDKs are found below ``/usr/lib/jvm`` by their
``release`` file; the first one is the machine's ``default-java``, else the lowest version.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.sandbox import bwrap
from buildpipelines.sandbox.toolchain import SANDBOX_RULES
from buildpipelines.spec import canonical

JVM_FOLDER: Final = Path("/usr/lib/jvm")
MAVEN_HOME: Final = Path("/usr/share/maven")
LIBRARIES_FOLDER: Final = Path("/usr/lib")
PROGRAMS_FOLDER: Final = Path("/usr/bin")
RELEASE_BYTES_MAX: Final = 64 * 1024

_NAMES: Final = """basename cat chmod cp cut date dirname echo env expr false find grep head id ln
ls mkdir mv pwd python3 rm rmdir sed sh sleep sort tail tar test touch tr true uname wc xargs"""
PROGRAMS: Final = tuple(_NAMES.split())
"""The whole of /usr/bin in a build: what scripts call. Our guest itself runs on python3."""

DECIDING: Final = (
    "bin/java",
    "lib/ct.sym",
    "lib/libjava.so",
    "lib/libzip.so",
    "lib/modules",
    "lib/server/libjvm.so",
)
"""The files of a JDK that decide what it compiles; the rest goes by the release's own name."""

LIBRARIES: Final = ("libz.so.1",)
"""Of the system: what compresses for a Debian JDK. Another one makes other bytes of a jar."""

_RELEASE: Final = re.compile(r'^([A-Z_]+)="([^"\n]*)"$', re.MULTILINE)
_MAJOR: Final = re.compile(r"(?:1\.)?(\d{1,3})(?:[.+_-].*)?\Z")
_VERSION_LINE: Final = re.compile(r"^version=([A-Za-z0-9.-]{1,64})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MavenToolchain:
    """One JDK with Maven; ``binds`` is what a sandbox sees (paths inside to the machine's own)."""

    document: Mapping[str, object]
    digest: str
    jdk: int
    maven: str
    binds: Mapping[str, str]


def parse_major(version: str) -> int | None:
    """Return a Java version's major number ("1.8.0_392" and "8" are 8), or None."""
    match = _MAJOR.match(version)
    return None if match is None else int(match[1])


def has_maven(jvm_folder: Path = JVM_FOLDER, maven_home: Path = MAVEN_HOME) -> bool:
    """Tell at once whether this machine has a JDK and a Maven."""
    jars = {path.name: path for path in (maven_home / "lib").glob("maven-core*.jar")}
    return _maven_version(jars) is not None and next(_jdks(jvm_folder), None) is not None


def read_maven_toolchains(
    jvm_folder: Path = JVM_FOLDER, maven_home: Path = MAVEN_HOME
) -> tuple[MavenToolchain, ...]:
    """Look at the machine: one toolchain for each major version, the default first.

    Hashing a JDK takes some tenths of a second, once in a process; call it off the event loop.

    Returns:
        Nothing where there is no JDK or no Maven: such a machine builds no artifacts of Maven.
    """
    launcher = maven_home / "boot/plexus-classworlds-2.x.jar"
    jars = {path.name: path.resolve() for path in sorted((maven_home / "lib").glob("*.jar"))}
    version = _maven_version(jars)
    if version is None or not launcher.is_file():
        return ()
    maven_binds = {"boot/plexus-classworlds.jar": launcher.resolve()}
    maven_binds |= {f"lib/{name}": path for name, path in jars.items()}
    listing = {name: _digest(path) for name, path in maven_binds.items()}
    maven = {"version": version, "sha256": canonical.digest(listing)}
    binds = {f"{MAVEN_HOME}/{name}": str(path) for name, path in maven_binds.items()}
    programs = {name: (PROGRAMS_FOLDER / name).resolve() for name in PROGRAMS}
    programs = {name: path for name, path in programs.items() if path.is_file()}
    binds |= {f"/usr/bin/{name}": str(path) for name, path in programs.items()}
    digests = {name: _digest(path) for name, path in programs.items()}
    return tuple(
        _toolchain(folder, major, maven, binds, digests)
        for major, folder in _in_order(_jdks(jvm_folder), jvm_folder / "default-java")
    )


def _toolchain(
    folder: Path,
    major: int,
    maven: Mapping[str, object],
    binds: Mapping[str, str],
    programs: Mapping[str, str],
) -> MavenToolchain:
    release = _release(folder)
    settings = _settings_folders(folder)
    document: dict[str, object] = {
        "t": "toolchain",
        "v": 1,
        "kind": "maven",
        "machine": platform.machine(),
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "unknown",
        "jdk": {
            "major": major,
            "version": release.get("JAVA_RUNTIME_VERSION") or release.get("JAVA_VERSION", ""),
            "files": {
                name: _digest(folder / name) for name in DECIDING if (folder / name).is_file()
            },
            "settings": canonical.digest(dict(_settings(folder))),
        },
        "libraries": {name: _library(name) for name in LIBRARIES},
        "maven": dict(maven),
        "programs": dict(programs),
        "sandbox": {"rules": SANDBOX_RULES, "emptied": list(bwrap.MAVEN_EMPTIED)},
    }
    jdk = {str(JVM_FOLDER / "jdk"): str(folder), **{str(path): str(path) for path in settings}}
    return MavenToolchain(
        document=document,
        digest=canonical.digest(document),
        jdk=major,
        maven=str(maven["version"]),
        binds={**binds, **jdk},
    )


def _jdks(jvm_folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield major version and folder of every JDK (with a compiler), links followed."""
    for entry in sorted(jvm_folder.iterdir()) if jvm_folder.is_dir() else ():
        if not entry.is_symlink() and (entry / "bin/javac").is_file():
            major = parse_major(_release(entry).get("JAVA_VERSION", ""))
            if major is not None:
                yield major, entry


def _in_order(found: Iterator[tuple[int, Path]], default: Path) -> list[tuple[int, Path]]:
    """Return one JDK for each major version, the machine's default first, then the lowest."""
    chosen: dict[int, Path] = {}
    for major, folder in found:
        chosen.setdefault(major, folder)
    named = default.resolve() if default.exists() else None
    return sorted(chosen.items(), key=lambda each: (each[1] != named, each[0]))


def _release(folder: Path) -> dict[str, str]:
    try:
        with (folder / "release").open(encoding="utf-8", errors="replace") as file:
            return dict(_RELEASE.findall(file.read(RELEASE_BYTES_MAX)))
    except OSError:
        return {}


def _settings(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the settings files that a JDK reads, with their digests."""
    for path in sorted([*(folder / "conf").rglob("*"), *(folder / "lib").glob("*.cfg")]):
        if path.is_file():
            yield str(path.relative_to(folder)), _digest(path)


def _settings_folders(folder: Path) -> set[Path]:
    """Return the folders below /etc into which a Debian JDK's settings link."""
    targets = (path.readlink() for path in folder.rglob("*") if path.is_symlink())
    return {
        Path(*target.parts[:3])
        for target in targets
        if target.parts[:2] == ("/", "etc") and target.parts[2].startswith("java-")
    }


def _maven_version(jars: Mapping[str, Path]) -> str | None:
    """Return the version that Maven's core names, or None where there is no core."""
    core = next((path for name, path in jars.items() if name.startswith("maven-core")), None)
    if core is None:
        return None
    name = "META-INF/maven/org.apache.maven/maven-core/pom.properties"
    try:
        with zipfile.ZipFile(core) as archive:
            found = _VERSION_LINE.search(archive.read(name).decode(errors="replace"))
    except (OSError, KeyError, zipfile.BadZipFile):
        return None  # not a Maven that could run
    return None if found is None else found[1]


def _library(name: str) -> str:
    """Return the digest of a library of the system, or "" where there is none."""
    path = LIBRARIES_FOLDER / f"{platform.machine()}-linux-gnu" / name
    return _digest(path.resolve()) if path.is_file() else ""


def _digest(path: Path) -> str:
    """Return a file's digest, remembered while the file stays as it is."""
    found = path.stat()
    return _hashed(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, *_stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
