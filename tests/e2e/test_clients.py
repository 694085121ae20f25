"""pip, uv and poetry install through a regular node, unmodified, with the upstream unreachable."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.e2e.walking import REPOSITORY, SIX, Walking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("walking"),
]

CLIENTS = REPOSITORY / ".clients" / "bin"
PRINT_VERSION = "import six; print(six.__version__)"


def test_pip_installs_what_the_log_vouches_for(walking: Walking, tmp_path: Path) -> None:
    python = walking.new_environment(tmp_path / "venv")
    pip = ("--python", python)
    index = ["--no-cache-dir", "--index-url", walking.index]
    words = ["-m", "pip", *pip, "install", *index, f"six=={SIX}"]
    walking.run([sys.executable, *words]).ok()
    assert walking.run([python, "-c", PRINT_VERSION]).ok().out.strip() == SIX


def test_pip_accepts_the_upstreams_hash_of_the_rebuilt_file(
    walking: Walking, tmp_path: Path
) -> None:
    digest = walking.wheel()["hashes"]["sha256"]
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"six=={SIX} --hash=sha256:{digest}\n")
    words = ["--require-hashes", "--dest", tmp_path / "files", "-r", requirements]
    walking.pip("download", *words).ok()
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(f"six=={SIX} --hash=sha256:{'0' * 64}\n")
    refused = walking.pip("download", *words[:-1], wrong)
    assert refused.code != 0
    assert "DO NOT MATCH" in refused.err


def test_uv_installs_through_a_regular_node(walking: Walking, tmp_path: Path) -> None:
    python = walking.new_environment(tmp_path / "venv")
    words = ["pip", "install", "--python", python, "--index-url", walking.index, f"six=={SIX}"]
    environment = {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_NO_CONFIG": "1"}
    walking.run([CLIENTS / "uv", *words], environment=environment).ok()
    assert walking.run([python, "-c", PRINT_VERSION]).ok().out.strip() == SIX


def test_poetry_locks_and_installs_through_a_regular_node(walking: Walking, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        f"""
        [project]
        name = "uses-six"
        version = "0.1.0"
        requires-python = ">=3.11,<3.14"
        dependencies = ["six=={SIX}"]
        [tool.poetry]
        package-mode = false
        [[tool.poetry.source]]
        name = "node"
        url = "{walking.index}"
        priority = "primary"
        """
    )
    environment = {
        "POETRY_CACHE_DIR": str(tmp_path / "cache"),
        "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        "POETRY_VIRTUALENVS_CREATE": "true",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    poetry = [CLIENTS / "poetry", "--no-interaction", "install"]
    walking.run(poetry, folder=project, timeout_s=180, environment=environment).ok()
    python = project / ".venv/bin/python"
    assert walking.run([python, "-c", PRINT_VERSION]).ok().out.strip() == SIX
    digest = walking.wheel()["hashes"]["sha256"]
    assert digest in (project / "poetry.lock").read_text()


def test_unknown_package_is_the_protocols_404_that_names_the_command(walking: Walking) -> None:
    answer = walking.get("/pypi/simple/nobody-built-this/")
    assert answer.status_code == 404
    assert "pyrsia build pypi nobody-built-this==VERSION" in answer.text
    told = walking.pip("download", "nobody-built-this")
    assert told.code != 0
    assert "No matching distribution found for nobody-built-this" in told.err


def test_unknown_version_is_a_404_that_names_the_known_ones(walking: Walking) -> None:
    name = walking.wheel()["filename"].replace(SIX, "9.9.9")
    for path in (f"/pypi/files/{'0' * 64}/{name}", "/pypi/simple/six/9.9.9/"):
        answer = walking.get(path)
        assert answer.status_code == 404
        assert f"versions known: {SIX}" in answer.text
        assert "pyrsia build pypi six==9.9.9" in answer.text
    told = walking.pip("download", "six==9.9.9")
    assert told.code != 0
    assert re.search(rf"from versions: {re.escape(SIX)}\)", told.err)


def test_reserved_looking_paths_never_reach_files(walking: Walking) -> None:
    for path in (
        "/pypi/simple/..%2f..%2fnode.toml/",
        "/pypi/files/%2e%2e/keys",
        "/log/../node.toml",
    ):
        assert walking.get(path).status_code in {400, 404}
