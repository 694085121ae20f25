"""Where pip is configured to fetch from, so that builds use the same upstream as people do.

Order: the environment (PIP_INDEX_URL, PIP_CERT), pip's configuration files from the most to the
least specific, pip's own default. Only the main index counts: an extra index would let anybody
who owns a name there choose a build's inputs. Reference: pip documentation, "Configuration".
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SECTIONS = ("install", "global")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The index's address, ending in a slash, and a file of certificates to trust, or None."""

    url: str
    certificates: str | None


def index_settings(
    environ: Mapping[str, str] | None = None, *, index_url: str | None = None
) -> IndexSettings:
    """Return pip's settings; ``index_url`` overrides the address."""
    environ = os.environ if environ is None else environ
    files = [_read(path) for path in _files(environ)]
    url = index_url or environ.get("PIP_INDEX_URL") or _first(files, "index-url") or _default_url()
    certificates = environ.get("PIP_CERT") or _first(files, "cert")
    return IndexSettings(url.rstrip("/") + "/", certificates or None)


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    explicit = environ.get("PIP_CONFIG_FILE")
    if explicit == os.devnull:
        return
    if explicit:
        yield Path(explicit)
    yield Path(sys.prefix) / "pip.conf"
    home = Path(environ.get("HOME") or "/")
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"
    yield home / ".pip/pip.conf"
    yield Path("/etc/pip.conf")
    yield Path("/etc/xdg/pip/pip.conf")


def _read(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text())
    except (OSError, UnicodeDecodeError, configparser.Error):
        return configparser.RawConfigParser()  # absent, or not ours to judge: pip will complain
    return parser


def _first(files: list[configparser.RawConfigParser], key: str) -> str:
    for parser in files:
        for section in _SECTIONS:
            if parser.has_option(section, key):
                return parser.get(section, key).strip()
    return ""


def _default_url() -> str:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # noqa: PLC0415 - a heavy import for one constant

    return str(PYPI_SIMPLE_ENDPOINT)
