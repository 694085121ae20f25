"""A Maven build sees one JDK, one Maven and a list of programs; its guest gives all the rest."""

from __future__ import annotations

import ast
import io
import itertools
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from buildpipelines.sandbox import bwrap, guest, maven_guest
from buildpipelines.sandbox import maven_toolchain as toolchain
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.sandbox.run import maven_guest_source

EPOCH = 1_700_000_000
LIMITS = SandboxLimits(build_bytes=111, tmp_bytes=222)
BINDS = {"/usr/lib/jvm/jdk": "/usr/lib/jvm/java-17", "/usr/bin/sh": "/usr/bin/dash"}
MOUNTS = bwrap.Mounts(
    proxy_socket="/tmp/p.sock",
    data={"/etc/passwd": 7},
    masked=["/usr/local"],
    has_alternatives=False,
    seccomp_fd=9,
    emptied=["/usr/bin", "/usr/lib/jvm", "/usr/share/java"],
)
JOB = {
    "folder": "org/example/hello/1.0",
    "prefix": "hello-1.0",
    "module": "",
    "goals": ["install"],
    "profiles": [],
    "properties": ["maven.test.skip=true"],
    "newline": "lf",
    "umask": 0o022,
    "timezone": "UTC",
    "locale": "C.UTF-8",
    "epoch": EPOCH,
    "environment": {},
}
WALLS = """--unshare-all --unshare-user --disable-userns --clearenv --new-session
--die-with-parent --as-pid-1 --cap-drop --seccomp"""


def command() -> list[str]:
    return bwrap.maven_command(MOUNTS, LIMITS, uid=64990, binds=BINDS)


@pytest.mark.parametrize("option", WALLS.split())
def test_every_wall_of_a_maven_build_stands(option: str) -> None:
    assert option in command()


def test_root_becomes_the_build_user_first() -> None:
    assert command()[:2] == ["/usr/bin/setpriv", "--reuid=64990"]


def test_only_named_files_are_seen_in_emptied_folders() -> None:
    found = command()
    bound = [
        (found[i + 1], found[i + 2]) for i, option in enumerate(found) if option == "--ro-bind"
    ]
    assert bound == [
        ("/usr", "/usr"),
        ("/usr/lib/jvm/java-17", "/usr/lib/jvm/jdk"),
        ("/usr/bin/dash", "/usr/bin/sh"),
        ("/tmp/p.sock", bwrap.PROXY_SOCKET_PATH),
    ]
    for folder in MOUNTS.emptied:
        place = found.index(folder)
        assert found[place - 3 : place] == ["--size", "65536", "--tmpfs"]
        assert ("--remount-ro", folder) in itertools.pairwise(found)


def test_folders_are_emptied_before_anything_is_bound_into_them() -> None:
    found = command()
    assert found.index("/usr/bin") < found.index("/usr/bin/sh")
    assert found.index("/usr/lib/jvm") < found.index("/usr/lib/jvm/jdk")


def test_maven_guest_imports_the_standard_library_and_the_guest_alone() -> None:
    tree = ast.parse(maven_guest_source())
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    ours = {name for name in names if name.startswith("buildpipelines")}
    assert ours == {"buildpipelines.sandbox", "buildpipelines.sandbox.guest"}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(maven_guest, "SOURCE", tmp_path / "src")
    return tmp_path / "src"


def unpack(files: dict[str, bytes], **job: object) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    maven_guest.unpack(out, JOB | job)


def test_text_files_get_the_line_ends_that_were_asked_for(source: Path) -> None:
    files = {"a.txt": b"a\nb\n", "b.bin": b"\0\n", "c.txt": b"a\r\nb\n", "d.txt": b"none"}
    unpack(files, newline="crlf")
    assert {p.name: p.read_bytes() for p in source.iterdir()} == files | {"a.txt": b"a\r\nb\r\n"}


def test_sources_stay_as_they_are_where_lines_end_in_lf(source: Path) -> None:
    unpack({"a.txt": b"a\nb\r\n"})
    assert (source / "a.txt").read_bytes() == b"a\nb\r\n"


def test_files_have_the_modes_of_the_umask_and_the_time_of_the_job(source: Path) -> None:
    unpack({"a.txt": b"a\n", "run.sh": b"b\n"}, umask=0o027, newline="crlf")
    for name, mode in (("a.txt", 0o640), ("run.sh", 0o750)):
        found = (source / name).stat()
        assert (stat.S_IMODE(found.st_mode), int(found.st_mtime)) == (mode, EPOCH)


def test_maven_takes_everything_from_one_mirror_and_asks_nobody() -> None:
    text = maven_guest.settings()
    assert f"<url>http://127.0.0.1:{guest.PROXY_PORT}/maven2/</url>" in text
    assert "<mirrorOf>*</mirrorOf>" in text
    assert "<interactiveMode>false</interactiveMode>" in text


def test_what_the_machine_could_decide_stands_on_the_command_line() -> None:
    found = maven_guest.command(JOB)
    wanted = {"-XX:ActiveProcessorCount=1", "-B", "-T1", "-Dmaven.test.skip=true"}
    wanted |= {"-Duser.name=build", "-Duser.timezone=UTC", "-Duser.home=/build/home"}
    wanted |= {f"-Dproject.build.outputTimestamp={EPOCH}", "-Dmaven.repo.local=/build/m2"}
    wanted |= {"-Duser.language=en", "-Duser.country=", "-Dfile.encoding=UTF-8"}
    assert wanted <= set(found)
    assert found[-1] == "install"


def test_locale_is_given_to_java_whatever_the_machine_has_installed() -> None:
    found = maven_guest.command(JOB | {"locale": "tr_TR.UTF-8"})
    assert {"-Duser.language=tr", "-Duser.country=TR"} <= set(found)
    environment = maven_guest.environment(JOB | {"locale": "tr_TR.UTF-8"})
    assert environment["LC_ALL"] == "C.UTF-8"


def test_a_module_is_built_with_what_it_needs_of_its_tree(source: Path) -> None:
    (source / "core").mkdir(parents=True)
    job = JOB | {"module": "core", "profiles": ["a", "b"]}
    assert "-f" in maven_guest.command(job)
    (source / "pom.xml").touch()
    found = maven_guest.command(job)
    assert found[found.index("-pl") + 1 :][:2] == ["core", "-am"]
    assert "-Pa,b" in found


def test_environment_is_the_builds_own() -> None:
    environment = maven_guest.environment(JOB)
    assert environment["SOURCE_DATE_EPOCH"] == str(EPOCH)
    assert environment["HTTPS_PROXY"] == f"http://127.0.0.1:{guest.PROXY_PORT}"
    assert environment["HOME"] == "/build/home"


def test_mavens_own_notes_are_no_outputs(tmp_path: Path) -> None:
    for name in ("a-1.jar", "a-1.pom", "_remote.repositories", "maven-metadata-local.xml"):
        (tmp_path / name).touch()
    (tmp_path / "a-1.jar.lastUpdated").touch()
    (tmp_path / "a-1-x.jar").symlink_to("/etc/passwd")
    assert sorted(p.name for p in maven_guest.installed(tmp_path)) == ["a-1.jar", "a-1.pom"]
    assert list(maven_guest.installed(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("version", "major"),
    [("17.0.9", 17), ("1.8.0_392", 8), ("25", 25), ("11.0.2+9", 11), ("", None), ("x", None)],
)
def test_major_version_of_a_jdk(version: str, major: int | None) -> None:
    assert toolchain.parse_major(version) == major


def machine(tmp_path: Path, *versions: str) -> tuple[Path, Path]:
    """Lay out JDKs and a Maven as Debian does."""
    jvm, maven = tmp_path / "jvm", tmp_path / "maven"
    for version in versions:
        folder = jvm / f"java-{version}"
        for name in (*toolchain.DECIDING, "bin/javac", "conf/net.properties"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{name} of {version}")
        (folder / "release").write_text(f'JAVA_VERSION="{version}"\nSOURCE=""\n')
    (maven / "boot").mkdir(parents=True)
    (maven / "boot/plexus-classworlds-2.x.jar").write_bytes(b"launcher")
    (maven / "lib").mkdir()
    with zipfile.ZipFile(maven / "lib/maven-core-3.x.jar", "w") as core:
        properties = "META-INF/maven/org.apache.maven/maven-core/pom.properties"
        core.writestr(properties, "#x\nversion=3.8.7\n")
    return jvm, maven


def test_each_jdk_has_a_document_of_its_own_the_default_first(tmp_path: Path) -> None:
    jvm, maven = machine(tmp_path, "21.0.1", "11.0.2", "1.8.0_392")
    (jvm / "default-java").symlink_to("java-21.0.1")
    found = toolchain.read_maven_toolchains(jvm, maven)
    assert [(each.jdk, each.maven) for each in found] == [
        (21, "3.8.7"),
        (8, "3.8.7"),
        (11, "3.8.7"),
    ]
    assert len({each.digest for each in found}) == 3
    assert found[0].binds["/usr/lib/jvm/jdk"] == str(jvm / "java-21.0.1")
    assert found[0].document["kind"] == "maven"


def test_without_a_default_the_lowest_jdk_is_it(tmp_path: Path) -> None:
    assert toolchain.read_maven_toolchains(*machine(tmp_path, "21.0.1", "17.0.2"))[0].jdk == 17


@pytest.mark.parametrize("name", ["lib/modules", "lib/ct.sym", "conf/net.properties"])
def test_a_changed_jdk_is_another_toolchain(tmp_path: Path, name: str) -> None:
    jvm, maven = machine(tmp_path, "17.0.2")
    (before,) = toolchain.read_maven_toolchains(jvm, maven)
    (jvm / "java-17.0.2" / name).write_text("other bytes altogether")
    (after,) = toolchain.read_maven_toolchains(jvm, maven)
    assert before.digest != after.digest


def test_a_machine_without_compiler_or_maven_builds_none(tmp_path: Path) -> None:
    jvm, maven = machine(tmp_path, "17.0.2")
    assert toolchain.has_maven(jvm, maven)
    assert toolchain.read_maven_toolchains(jvm, tmp_path / "absent") == ()
    assert toolchain.read_maven_toolchains(tmp_path / "absent", maven) == ()
    (jvm / "java-17.0.2/bin/javac").unlink()
    assert toolchain.read_maven_toolchains(jvm, maven) == ()
    assert not toolchain.has_maven(jvm, maven)
    (maven / "lib/maven-core-3.x.jar").write_bytes(b"no archive")
    assert toolchain.read_maven_toolchains(jvm, maven) == ()
