"""Real releases from pip's configured index: the table of docs/rebuilds.md, asserted.

Needs that index, so it runs with `make e2e` and not with `make test`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from buildpipelines.inputs.pipconf import index_settings
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.spec.messages import BuildResult
from buildpipelines.survey import Row, rebuilt_file, survey
from buildpipelines.worker.service import Options

IDENTICAL = """click==8.5.1 attrs==26.1.0 requests==2.34.2 urllib3==2.8.0 idna==3.20 packaging==26.3
six==1.17.0 certifi==2026.10.18 tomlkit==0.15.2 rich==15.0.0 pluggy==1.7.0 unearth==0.19.0"""
NATIVE = "markupsafe==3.0.4 msgpack==1.2.4 pyyaml==6.0.3 simplejson==4.3.0 wrapt==2.5.2"

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


def surveyed(release: str, folder: Path) -> Row:
    async def run() -> Row:
        options = Options(folder, index_settings(), SandboxLimits(seconds=800))
        rows = [row async for row in survey([release], options)]
        return rows[0]

    return asyncio.run(run())


@pytest.mark.parametrize("release", IDENTICAL.split())
def test_published_wheel_is_rebuilt_bit_for_bit_by_two_nodes(release: str, tmp_path: Path) -> None:
    row = surveyed(release, tmp_path)
    assert isinstance(row.trial, BuildResult), row.trial
    file = rebuilt_file(row.trial)
    assert (file.level, row.agreement()) == (0, "L0"), file.differences


@pytest.mark.parametrize("release", NATIVE.split())
def test_native_release_is_built_equal_by_two_nodes(release: str, tmp_path: Path) -> None:
    row = surveyed(release, tmp_path)
    assert row.agreement() == "L0", row
    assert isinstance(row.trial, BuildResult)
    assert "linux_" in rebuilt_file(row.trial).name
