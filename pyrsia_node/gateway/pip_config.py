"""Which index pip is configured for on this machine: the default upstream.

Reads what pip reads (environment, then configuration files, later ones winning) without starting
it; no address is built in here. pip documentation, "Configuration".
"""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pypi_simple import PYPI_SIMPLE_ENDPOINT

_SECTIONS: Final = ("install", "global")


def pip_index_url(environment: Mapping[str, str], home: Path) -> str:
    """Return the address of the simple index that pip would use."""
    url = environment.get("PIP_INDEX_URL", "").strip()
    if url:
        return url
    found = None
    for path in _files(environment, home):
        found = _from_file(path) or found
    return found or PYPI_SIMPLE_ENDPOINT


def _files(environment: Mapping[str, str], home: Path) -> Iterable[Path]:
    """Yield pip's configuration files, the weakest first."""
    only = environment.get("PIP_CONFIG_FILE")
    if only:
        yield Path(only)
        return
    for folder in reversed(environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        if folder:
            yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"


def _from_file(path: Path) -> str | None:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return None  # pip itself would complain; for us there is simply no setting
    for section in _SECTIONS:
        url = parser.get(section, "index-url", fallback="").strip()
        if url:
            return url
    return None
