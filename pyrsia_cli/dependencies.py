"""What a set of pinned packages depends on, pinned too: pip's own resolver says so.

``pip install --dry-run --report`` resolves without installing; the user's own pip configuration
decides which index is asked. Only binary distributions are looked at: to resolve from source would
run other people's build scripts on the user's machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from packaging.utils import canonicalize_name

from pyrsia_node.model.errors import InvalidInputError, UnavailableError

TIMEOUT_S: Final = 300


def closure(pins: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return ``pins`` and everything they need here, as (name, version), dependencies first.

    Raises:
        InvalidInputError: pip cannot resolve them; its last lines are in the text.
        UnavailableError: pip takes longer than five minutes.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--only-binary", ":all:", "--report", "-"]
    command += [f"{name}=={version}" for name, version in pins]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, check=False, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"pip did not resolve within {TIMEOUT_S} s") from error
    if done.returncode != 0:
        tail = " ".join(done.stderr.strip().splitlines()[-3:])
        raise InvalidInputError(f"pip cannot resolve the dependencies: {tail}")
    return parse_report(done.stdout)


def parse_report(text: str) -> list[tuple[str, str]]:
    """Return (name, version) of everything a pip installation report would install.

    Raises:
        InvalidInputError: it is no such report.
    """
    try:
        entries = json.loads(text)["install"]
        found = [
            (canonicalize_name(str(each["metadata"]["name"])), str(each["metadata"]["version"]))
            for each in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"pip's report is malformed: {error}") from error
    return list(reversed(found))
