"""The first process of a sandbox that runs Maven: lays out the source, calls Maven, takes files.

Copied in as text beside ``guest``, whose life it shares; standard library alone. Maven gets an
empty local repository and one mirror for everything: the host's proxy on the loopback. What the
machine could add (users' settings, toolchains, extensions, core count, user, home, time zone,
locale) is given here, the same everywhere. The files of the one version that was asked for are
taken from the local repository, where ``install`` has put them; the host judges them.

stdin: u32 length, job as JSON, then the source as a tar. stdout: events, then files.
"""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from buildpipelines.sandbox import guest
from buildpipelines.sandbox.guest import BUILD, PROXY_PORT, SOURCE, StepError, run, send

HOME = BUILD / "home"
REPOSITORY = BUILD / "m2"
SETTINGS = BUILD / "settings.xml"
CLASSWORLDS = BUILD / "m2.conf"
JDK = Path("/usr/lib/jvm/jdk")
MAVEN = Path("/usr/share/maven")
HEAP_MIB = 1024
TEXT_BYTES_MAX = 16 * 1024 * 1024
NOTE = "maven-metadata-local.xml"
"""What Maven leaves beside the versions of an artifact that it has installed."""

GLOBAL_NAMES = ("_remote.repositories", "maven-metadata", "resolver-status")
"""How Maven's own notes in a local repository begin; they are no artifacts."""


def main() -> None:
    """Build the files of one version of an artifact."""
    found: list[Path] = []
    guest.run_job(lambda job, stdin: found.extend(build(job, stdin)), lambda: found)


def build(job: dict[str, Any], stdin: BinaryIO) -> list[Path]:
    """Unpack the source, run Maven, and return the installed files of the wanted version."""
    send(event="stage", stage="unpack")
    unpack(stdin, job)
    for folder in (HOME, REPOSITORY):
        folder.mkdir()
    SETTINGS.write_text(settings())
    CLASSWORLDS.write_text(
        "main is org.apache.maven.cli.MavenCli from plexus.core\n"
        f"[plexus.core]\nload {MAVEN}/lib/*.jar\n"
    )
    module = Path(job["module"])
    if not (SOURCE / module / "pom.xml").is_file():
        sys.stderr.write(f"guest: there is no {module / 'pom.xml'} in the source\n")
        raise StepError("no pom", 1)
    send(event="stage", stage="maven")
    run("maven", command(job), environment(job), SOURCE)
    folder = REPOSITORY / job["folder"]
    files = sorted(path for path in installed(folder) if path.name.startswith(job["prefix"]))
    if not files:
        others = sorted(str(p.parent.relative_to(REPOSITORY)) for p in REPOSITORY.rglob(NOTE))
        sys.stderr.write(f"guest: {job['folder']} was not installed; installed: {others[:20]}\n")
        raise StepError("no artifact", 1)
    return files


def installed(folder: Path) -> Iterator[Path]:
    """Yield the plain files of a folder that Maven did not write for itself."""
    for path in folder.iterdir() if folder.is_dir() else ():
        is_note = path.name.startswith(GLOBAL_NAMES) or path.name.endswith(".lastUpdated")
        if not is_note and path.is_file() and not path.is_symlink():
            yield path


def unpack(stdin: BinaryIO, job: dict[str, Any]) -> None:
    """Unpack the host's tar: modes by umask, all times the job's own, newlines as asked for."""
    umask, epoch = job["umask"], job["epoch"]
    texts: list[Path] = []

    def entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for info in tar:
            info.mode = (0o777 if info.isdir() or info.mode & 0o100 else 0o666) & ~umask
            info.mtime = epoch
            if info.isreg() and info.size <= TEXT_BYTES_MAX:
                texts.append(SOURCE / info.name)
            yield info

    SOURCE.mkdir()
    with tarfile.open(fileobj=stdin, mode="r|") as tar:
        # Newer Pythons want to be told; ours has been checked entry by entry on the outside.
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(SOURCE, members=entries(tar), **trusted)  # type: ignore[arg-type]  # noqa: S202
    if job["newline"] == "crlf":
        for path in texts:
            with_crlf(path, epoch)


def with_crlf(path: Path, epoch: int) -> None:
    """Give a text file the line ends that git's ``autocrlf`` would; others stay as they are.

    Git leaves alone what holds a NUL, which is no text, and what holds a CR already.
    """
    data = path.read_bytes()
    if b"\0" in data or b"\r" in data or b"\n" not in data:
        return
    path.write_bytes(data.replace(b"\n", b"\r\n"))
    os.utime(path, (epoch, epoch))


def settings() -> str:
    """Return Maven's settings: one mirror for every repository, and nobody to ask."""
    return (
        f"<settings><localRepository>{REPOSITORY}</localRepository>"
        "<interactiveMode>false</interactiveMode><offline>false</offline><mirrors><mirror>"
        f"<id>inputs</id><url>http://127.0.0.1:{PROXY_PORT}/maven2/</url>"
        "<mirrorOf>*</mirrorOf></mirror></mirrors></settings>\n"
    )


def command(job: dict[str, Any]) -> list[str]:
    """Return Maven's command line: everything that could differ between nodes is given."""
    launcher = "org.codehaus.plexus.classworlds.launcher.Launcher"
    classpath = str(MAVEN / "boot/plexus-classworlds.jar")
    java = [str(JDK / "bin/java"), *jvm_options(job), "-classpath", classpath, launcher]
    maven = ["-B", "-T1", "-Dstyle.color=never", "-s", str(SETTINGS), "-gs", str(SETTINGS)]
    # With the module's own pom where the root has none, else as a part of the whole.
    if job["module"] and (SOURCE / "pom.xml").is_file():
        maven += ["-pl", job["module"], "-am"]
    elif job["module"]:
        maven += ["-f", f"{job['module']}/pom.xml"]
    if job["profiles"]:
        maven += [f"-P{','.join(job['profiles'])}"]
    return [*java, *maven, *(f"-D{each}" for each in job["properties"]), *job["goals"]]


def jvm_options(job: dict[str, Any]) -> list[str]:
    """Return the options of Maven's own Java machine."""
    proxies = {
        f"{scheme}.{key}": value
        for scheme in ("http", "https")
        for key, value in (("proxyHost", "127.0.0.1"), ("proxyPort", str(PROXY_PORT)))
    }
    language, _, country = job["locale"].removesuffix(".UTF-8").partition("_")
    given = {
        **proxies,
        "user.language": "en" if language == "C" else language,
        "user.country": country,
        "file.encoding": "UTF-8",
        "http.nonProxyHosts": "127.0.0.1|localhost",
        "classworlds.conf": str(CLASSWORLDS),
        "maven.home": str(MAVEN),
        "maven.multiModuleProjectDirectory": str(SOURCE),
        "maven.repo.local": str(REPOSITORY),
        "user.name": "build",
        "user.home": str(HOME),
        "user.timezone": job["timezone"],
        "java.io.tmpdir": "/tmp",  # noqa: S108 - the sandbox's own
        "java.awt.headless": "true",
        "jansi.mode": "strip",
        "jansi.noreset": "true",
        "project.build.outputTimestamp": str(job["epoch"]),
        "org.slf4j.simpleLogger.showThreadName": "false",
        "org.slf4j.simpleLogger.showLogName": "false",
        "org.slf4j.simpleLogger.levelInBrackets": "true",
        "org.slf4j.simpleLogger.log.Sisu": "info",
        "org.slf4j.simpleLogger.log.org.apache.maven.cli.transfer.Slf4jMavenTransferListener": (
            "warn"
        ),
        "org.slf4j.simpleLogger.log.org.apache.maven.plugin.internal": "error",
    }
    # One processor whatever the machine has: it decides the collector and how work is split. The
    # first compiler alone: a build lives for seconds.
    machine = ["-XX:ActiveProcessorCount=1", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    machine += [f"-Xmx{HEAP_MIB}m", "-Xss2m", "-XX:ErrorFile=/tmp/java-error.log"]
    return [*machine, *(f"-D{key}={value}" for key, value in given.items())]


def environment(job: dict[str, Any]) -> dict[str, str]:
    """Return the whole environment of the build; nothing of the host's is in it."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    return {
        "PATH": f"{JDK}/bin:/usr/bin",
        "JAVA_HOME": str(JDK),
        "M2_HOME": str(MAVEN),
        "HOME": str(HOME),
        "USER": "build",
        "LOGNAME": "build",
        # Any other might not be installed here; Java is told the one that is wanted.
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": job["timezone"],
        "SOURCE_DATE_EPOCH": str(job["epoch"]),
        # What goes elsewhere than to our proxy as a mirror reaches it as a proxy, is refused there
        # and noted.
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "http_proxy": proxy,
        "https_proxy": proxy,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        **job["environment"],
    }
