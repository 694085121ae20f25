"""Whom a node may ask for Maven's files, and for which groups: ``maven.upstreams`` and policies.

An upstream is an inline table, ``{ id = "central", url = "https://repository.example/maven2" }``.
``allow_private = true`` lets it live at a loopback, link-local or private address. Its files are
then for clients of this node alone: a build would tell the network about them, whoever asked for
it, and peers would get them, so that takes ``importable = true`` as well. Files that come with a
password stay here in any case. ``unchecked = true`` lets files through for which
the upstream has no checksum; else those are refused. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pyrsia_node.schema.rules import Rule, is_url

DENY: Final = "deny"
UPSTREAM: Final = "upstream"
_POLICIES: Final = (DENY, UPSTREAM)
_COUNT_MAX: Final = 64
_FLAGS: Final = ("allow_private", "importable", "unchecked")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_GROUP: Final = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class MavenUpstream:
    """One repository. ``id`` names it in answers and errors; ``url`` is without a slash at the end.

    The URL may hold a user and a password; they go to its host alone.
    """

    id: str
    url: str
    allow_private: bool = False
    importable: bool = False
    unchecked: bool = False

    @property
    def may_import(self) -> bool:
        """Whether builds may use it: files of a private network only if the operator said so."""
        return self.importable or not self.allow_private

    @property
    def is_public(self) -> bool:
        """Whether its files may become public, for peers to have: not those behind a password."""
        return self.may_import and "@" not in urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """What happens to files of a group, and of those below it, that the log does not know."""

    prefix: str
    policy: str


def covers(prefix: str, group: str) -> bool:
    """Tell whether ``group`` is the group ``prefix`` or one below it: whole segments count."""
    return group == prefix or group.startswith(f"{prefix}.")


def policy_of(group: str, policies: Sequence[GroupPolicy], *, default: str) -> str:
    """Return the policy of a group: that of the longest prefix which covers it."""
    fitting = [each for each in policies if covers(each.prefix, group)]
    return max(fitting, key=lambda each: len(each.prefix)).policy if fitting else default


def maven_upstreams() -> Rule:
    """Return the rule of a list of repositories."""
    return Rule(
        allowed='a list of { id = "NAME", url = "https://…" or "http://…", allow_private, '
        "importable, unchecked = true or false }, each id once",
        fits=lambda value: _is_list(value, "id", _is_upstream),
        read=lambda value: tuple(_upstream(each) for each in _tables(value)),
    )


def group_policies() -> Rule:
    """Return the rule of a list of policies."""
    return Rule(
        allowed='a list of { prefix = "org.example", policy = "deny" or "upstream" }, '
        "each prefix once",
        fits=lambda value: _is_list(value, "prefix", _is_policy),
        read=lambda value: tuple(
            GroupPolicy(str(each["prefix"]), str(each["policy"])) for each in _tables(value)
        ),
    )


def group_prefixes() -> Rule:
    """Return the rule of a list of groups, each of which stands for those below it as well."""
    return Rule(
        allowed='a list of groups ("com.acme"); each covers the groups below it',
        fits=lambda value: (
            isinstance(value, list | tuple)
            and len(value) <= _COUNT_MAX
            and all(isinstance(each, str) and _GROUP.fullmatch(each) for each in value)
        ),
    )


def _is_list(value: object, key: str, fits: Callable[[dict[str, object]], bool]) -> bool:
    """Tell whether all are tables that fit, of which no two have the same ``key``."""
    tables = _tables(value)
    if not isinstance(value, list | tuple) or len(tables) != len(value) or len(value) > _COUNT_MAX:
        return False
    return all(fits(each) for each in tables) and len({str(e[key]) for e in tables}) == len(tables)


def _tables(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list | tuple):
        return []
    return [each for each in value if isinstance(each, dict)]


def _is_upstream(table: dict[str, object]) -> bool:
    if not {"id", "url"} <= table.keys() <= {"id", "url", *_FLAGS}:
        return False
    name, url = table["id"], table["url"]
    return (
        isinstance(name, str)
        and _ID.fullmatch(name) is not None
        and isinstance(url, str)
        and is_url(url, ("https", "http"))
        and all(isinstance(table.get(flag, False), bool) for flag in _FLAGS)
    )


def _is_policy(table: dict[str, object]) -> bool:
    if table.keys() != {"prefix", "policy"}:
        return False
    prefix = table["prefix"]
    is_group = isinstance(prefix, str) and _GROUP.fullmatch(prefix) is not None
    return is_group and table["policy"] in _POLICIES


def _upstream(table: dict[str, object]) -> MavenUpstream:
    return MavenUpstream(
        id=str(table["id"]),
        url=str(table["url"]).rstrip("/"),
        allow_private=table.get("allow_private", False) is True,
        importable=table.get("importable", False) is True,
        unchecked=table.get("unchecked", False) is True,
    )
