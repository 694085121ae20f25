"""pip, uv and poetry, unmodified, install through a gateway that has no upstream to ask."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.data_peers import DataPeer, data_peer
from tests.fakes.gateway_process import as_peer, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

CLIENTS = Path(__file__).parents[3] / ".clients" / "bin"


@dataclass
class Setting:
    url: str
    peer: DataPeer
    folder: Path

    @property
    def index(self) -> str:
        return f"{self.url}/pypi/simple/"


@asynccontextmanager
async def setting(folder: Path) -> AsyncIterator[Setting]:
    """Run a gateway that knows ``alpha``, which needs ``beta``, in two versions."""
    wheels = [
        ("alpha", "1.0", make_wheel("alpha", "1.0", requires=("beta>=2",))),
        ("alpha", "0.9", make_wheel("alpha", "0.9")),
        ("beta", "2.1", make_wheel("beta", "2.1")),
        ("lonely", "1.0", make_wheel("lonely", "1.0", requires=("missing-thing",))),
    ]
    async with node(folder / "node") as own, data_peer(folder, "peer") as peer:
        own.core.holders = [as_peer(peer.holder)]
        for name, version, (file, data) in wheels:
            peer.put(folder, data)
            own.log.accept(document(f"pkg:pypi/{name}@{version}", file_entry(file, data)))
        async with run_gateway(own.layout) as gateway:
            yield Setting(gateway.url, peer, folder)


async def client(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a client with none of this machine's own settings."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    clean = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
    }
    return await asyncio.to_thread(
        subprocess.run,
        words,
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


async def _check_versions(target: Path) -> None:
    for name, version in (("alpha", "1.0"), ("beta", "2.1")):
        found = (target / name / "__init__.py").read_text()
        assert found == f'__version__ = "{version}"\n'


def test_pip_installs_a_package_with_its_dependency(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            target = tmp_path / "target"
            done = await client(
                *(sys.executable, "-m", "pip", "install", "--no-cache-dir"),
                *("--index-url", it.index, "--target", str(target), "alpha"),
                folder=tmp_path,
            )
            assert done.returncode == 0, done.stderr
            await _check_versions(target)

    asyncio.run(run())


def test_pip_with_hashes_installs_exactly_the_locked_file(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            _, data = make_wheel("alpha", "0.9")
            requirements = tmp_path / "requirements.txt"
            digest = hashlib.sha256(data).hexdigest()
            requirements.write_text(f"alpha==0.9 --hash=sha256:{digest}\n")
            target = tmp_path / "target"
            words = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--require-hashes"]
            words += ["--index-url", it.index, "--target", str(target), "-r", str(requirements)]
            done = await client(*words, folder=tmp_path)
            assert done.returncode == 0, done.stderr
            requirements.write_text(f"alpha==0.9 --hash=sha256:{'0' * 64}\n")
            refused = await client(*words, "--upgrade", folder=tmp_path)
            assert refused.returncode != 0
            assert "do not match" in refused.stderr.lower()

    asyncio.run(run())


def test_pip_says_what_is_missing(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            words = (sys.executable, "-m", "pip", "download", "--no-cache-dir", "-d", "d")
            done = await client(*words, "--index-url", it.index, "lonely", folder=tmp_path)
            assert done.returncode != 0
            assert "missing-thing" in done.stderr
            done = await client(*words, "--index-url", it.index, "alpha==7", folder=tmp_path)
            assert "from versions: 0.9, 1.0" in done.stderr

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_sixteen_pips_at_once_cause_one_download(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            words = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "-q")
            runs = [
                client(
                    *(*words, "-d", f"d{number}", "--index-url", it.index, "beta"),
                    folder=tmp_path,
                )
                for number in range(16)
            ]
            for done in await asyncio.gather(*runs):
                assert done.returncode == 0, done.stderr
            assert it.peer.behaviour.bodies == 1
            assert len(list(tmp_path.glob("d*/beta-2.1-py3-none-any.whl"))) == 16

    asyncio.run(run())


def test_uv_installs_a_package_with_its_dependency(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            target = tmp_path / "target"
            done = await client(
                *(str(CLIENTS / "uv"), "pip", "install", "--python", sys.executable),
                *("--default-index", it.index, "--no-cache", "--target", str(target), "alpha"),
                folder=tmp_path,
            )
            assert done.returncode == 0, done.stderr
            await _check_versions(target)

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_poetry_locks_and_installs_a_package_with_its_dependency(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            (tmp_path / "pyproject.toml").write_text(
                '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\n'
                'dependencies = ["alpha"]\n[tool.poetry]\npackage-mode = false\n'
                f'[[tool.poetry.source]]\nname = "node"\nurl = "{it.index}"\n'
                'priority = "primary"\n'
            )
            environment = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "POETRY_NO_INTERACTION": "1"}
            poetry = str(CLIENTS / "poetry")
            for words in (("lock",), ("install",)):
                done = await client(poetry, *words, folder=tmp_path, **environment)
                assert done.returncode == 0, done.stdout + done.stderr
            assert f'"{hashlib.sha256(make_wheel("beta", "2.1")[1]).hexdigest()}"' in (
                (tmp_path / "poetry.lock").read_text().replace("sha256:", "")
            )
            (packages,) = (tmp_path / ".venv" / "lib").glob("python3*/site-packages")
            await _check_versions(packages)

    asyncio.run(run())
