"""Sources of real Java projects, as their projects released them: Debian's ``.orig`` archives.

Fetched with apt, which checks them against Debian's signed index, by a configuration in a temporary
folder whose lines are derived from this machine's own: nothing of the machine's apt is changed. The
SHA-256 of each archive stands here, so what is built is the same everywhere. Debian's packaging
(patches, a pom of its own) is not used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from tests.fakes.published_jars import cache_folder

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES: Final = ("bookworm", "trixie")
_SOURCES: Final = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_APT_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class DebianSource:
    """One ``.orig`` archive.

    Attributes:
        package: Debian's source package.
        version: the project's version.
        file: name of the archive.
        sha256: of the archive.
    """

    package: str
    version: str
    file: str
    sha256: str


CODEC: Final = DebianSource(
    "libcommons-codec-java",
    "1.15",
    "libcommons-codec-java_1.15.orig.tar.xz",
    "857c58c23bfe6b284b174d89f323de438042ce9a005b2a81afa658962caff90f",
)
CLI: Final = DebianSource(
    "libcommons-cli-java",
    "1.6.0",
    "libcommons-cli-java_1.6.0.orig.tar.xz",
    "fc764c3dab50817d1c7440b904aa6fc7bbc0064117e42c8b99e28ecdcdd4ab0f",
)
IO: Final = DebianSource(
    "commons-io",
    "2.11.0",
    "commons-io_2.11.0.orig.tar.gz",
    "5a55361cf2b97228f94b3c65e3a4af784581debe322be551c44b2776db1c6483",
)
LANG3: Final = DebianSource(
    "libcommons-lang3-java",
    "3.17.0",
    "libcommons-lang3-java_3.17.0.orig.tar.xz",
    "b88ec2ca0e4af38a01bbf34b1e04794c058ebdb77039e4de6af98ddfc3b0bfa1",
)
COMPRESS: Final = DebianSource(
    "libcommons-compress-java",
    "1.27.1",
    "libcommons-compress-java_1.27.1.orig.tar.xz",
    "4163cb1b2b94bb3cefa9e55c5f959d48204275506787c593da9c9ff90d3e50a4",
)


def archive_of(source: DebianSource) -> Path:
    """Return where the archive lies, fetched unless the cache has it.

    Raises:
        AssertionError: Debian's archive has no such version any more, or other bytes under it.
    """
    kept = cache_folder() / source.sha256 / source.file
    if not kept.is_file() or _sha256(kept) != source.sha256:
        with tempfile.TemporaryDirectory(prefix="pyrsia-apt-") as folder:
            fetched = _fetch(source, Path(folder))
            found = _sha256(fetched)
            assert found == source.sha256, f"{source.file} has the digest {found}"
            kept.parent.mkdir(exist_ok=True)
            part = kept.with_suffix(".part")
            shutil.copyfile(fetched, part)
            part.replace(kept)
    return kept


def unpack(source: DebianSource, folder: Path, *, leave_out: Sequence[str] = ()) -> Path:
    """Unpack the files of the archive's one top folder as ``folder``; return it.

    Args:
        source: which one.
        folder: must not exist yet.
        leave_out: paths below the top folder that nobody needs, such as a hundred MB of test data.
    """
    folder.mkdir(parents=True)
    skipped = tuple(f"{path.rstrip('/')}/" for path in leave_out)
    with tarfile.open(archive_of(source)) as tar:
        for member in tar:
            inner = member.name.partition("/")[2]
            if member.isfile() and not f"{inner}/".startswith(skipped):
                _write(folder, inner, cast("BinaryIO", tar.extractfile(member)).read())
    return folder


def _write(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    assert path.resolve().is_relative_to(folder.resolve()), name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(source: DebianSource, folder: Path) -> Path:
    # apt drops its rights to fetch, so its account must reach the folder.
    folder.chmod(0o755)
    environment = _configuration(folder)
    _run(["apt-get", "-q", "update"], folder, environment)
    shown = _run(["apt-cache", "showsrc", "--only-source", source.package], folder, environment)
    versions = re.findall(r"^Version: (.*)$", shown, re.MULTILINE)
    wanted = [each for each in versions if each.rpartition("-")[0] == source.version]
    assert wanted, f"Debian has {source.package} in {versions}, not in {source.version}"
    name = f"{source.package}={wanted[0]}"
    fetch = ["apt-get", "-q", "source", "--download-only", "--tar-only", "--only-source", name]
    _run(fetch, folder, environment)
    return folder / source.file


def _configuration(folder: Path) -> dict[str, str]:
    """Write an apt configuration into ``folder``; return the environment that names it."""
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "archives" / "partial").mkdir(parents=True)
    (folder / "parts").mkdir()
    lines = (f"deb-src [signed-by={_KEYRING}] {_address()} {suite} main\n" for suite in _SUITES)
    (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
    (folder / "apt.conf").write_text(
        f'Dir::State "{folder}";\nDir::State::lists "{folder}/lists";\n'
        f'Dir::Cache "{folder}";\nDir::Cache::archives "{folder}/archives";\n'
        f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "{folder}/parts";\n'
        f'Dir::Etc::preferences "{folder}/none";\nDir::Etc::preferencesparts "{folder}/parts";\n'
        'Dir::State::status "/var/lib/dpkg/status";\n',
        encoding="utf-8",
    )
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "APT_CONFIG": str(folder / "apt.conf")}


def _address() -> str:
    """Return the address of the archive that this machine installs from."""
    files = [
        _SOURCES[0],
        *sorted(_SOURCES[1].glob("*.list")),
        *sorted(_SOURCES[1].glob("*.sources")),
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path.is_file())
    found = re.search(
        r"^(?:URIs:|deb(?: \[.*\])?)\s+(https?://\S+/debian/?)(?:\s|$)", text, re.MULTILINE
    )
    assert found, "apt's own configuration names no archive of Debian"
    return found[1]


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_APT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command[:2]} ended with {done.returncode}: {done.stderr}"
    return done.stdout
