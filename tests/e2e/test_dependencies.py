"""A package whose dependency nobody requested: the error says what to do, and doing it helps."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.e2e.walking import Walking

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

JINJA, MARKUPSAFE = "3.1.6", "3.0.2"


def test_missing_dependency_is_named_with_the_command_that_brings_it(
    walking: Walking, tmp_path: Path
) -> None:
    walking.pyrsia("build", "pypi", f"jinja2=={JINJA}").ok()
    python = walking.new_environment(tmp_path / "venv")
    index = ["--no-cache-dir", "--index-url", walking.index]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", *index]
    refused = walking.run([*pip, f"jinja2=={JINJA}"])
    assert refused.code != 0
    assert "No matching distribution found for MarkupSafe" in refused.err
    answer = walking.get("/pypi/simple/markupsafe/")
    assert answer.status_code == 404
    command = re.search(r"pyrsia (build pypi markupsafe==)VERSION", answer.text)
    assert command is not None
    walking.pyrsia(*shlex.split(command[1] + MARKUPSAFE)).ok()
    walking.run([*pip, f"jinja2=={JINJA}"]).ok()
    greeting = "import jinja2; print(jinja2.Template('{{ a }}').render(a='<&>'))"
    assert walking.run([python, "-c", greeting]).ok().out.strip() == "<&>"
