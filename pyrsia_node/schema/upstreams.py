"""The registries that a node may fetch images from: the allow-list ``docker.upstreams``. Pure.

An entry is an inline table, ``{ host = "registry.example", url = "https://registry.example" }``;
``allow_private = true`` lets it live at a loopback, link-local or private address. Its images are
then for clients of this node alone: an import would make them public to the network, whoever
asked for it, so that takes ``importable = true`` as well. The host ``*`` stands for every registry
that is not named, at ``https://HOST``: only public addresses then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import check_host
from pyrsia_node.schema.rules import Rule, is_url

ANY_HOST: Final = "*"
_COUNT_MAX: Final = 64
_FLAGS: Final = ("allow_private", "importable")


@dataclass(frozen=True, slots=True)
class RegistryUpstream:
    """One registry. ``host`` is how images name it, ``url`` where its ``/v2/`` answers."""

    host: str
    url: str
    allow_private: bool = False
    importable: bool = False

    @property
    def may_import(self) -> bool:
        """Whether its images may become public: those of a private network only if told so."""
        return self.importable or not self.allow_private


DEFAULT_UPSTREAMS: Final = (RegistryUpstream("docker.io", "https://registry-1.docker.io"),)


def upstream_tables() -> Rule:
    """Return the rule of a list of registries."""
    return Rule(
        allowed='a list of { host = "HOST[:PORT]" or "*", url = "https://…" or "http://…", '
        "allow_private = true or false, importable = true or false }, each host once",
        fits=_fits,
        read=lambda value: tuple(_read(each) for each in _entries(value)),
    )


def find_upstream(upstreams: tuple[RegistryUpstream, ...], host: str) -> RegistryUpstream | None:
    """Return the entry that allows to ask a registry, or None if none does."""
    named = {each.host: each for each in upstreams}
    if host in named:
        return named[host]
    if ANY_HOST in named:
        return RegistryUpstream(host, f"https://{host}")
    return None


def _fits(value: object) -> bool:
    entries = _entries(value)
    is_list = isinstance(value, list | tuple) and len(entries) == len(value) <= _COUNT_MAX
    if not is_list or not all(_is_entry(each) for each in entries):
        return False
    hosts = [each["host"] for each in entries]
    return len(set(map(str, hosts))) == len(hosts)


def _entries(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list | tuple):
        return []
    return [each for each in value if isinstance(each, dict)]


def _is_entry(entry: dict[str, object]) -> bool:
    if not {"host"} <= entry.keys() <= {"host", "url", *_FLAGS}:
        return False
    host, url = entry["host"], entry.get("url")
    flags = [entry.get(flag, False) for flag in _FLAGS]
    if not isinstance(host, str) or not all(isinstance(each, bool) for each in flags):
        return False
    if host == ANY_HOST:
        # Anything goes would be no allow-list if it led into the operator's own network.
        return url is None and not any(flags)
    try:
        check_host(host)
    except InvalidInputError:
        return False
    return isinstance(url, str) and is_url(url, ("https", "http"))


def _read(entry: dict[str, object]) -> RegistryUpstream:
    host = str(entry["host"])
    return RegistryUpstream(
        host=host,
        url=str(entry.get("url", "")).rstrip("/"),
        allow_private=entry.get("allow_private", False) is True,
        importable=entry.get("importable", False) is True,
    )
