"""Who may do what in the node-local registry: one decision, from settings and an account. Pure.

A client is an account or anonymous. Three things decide, nothing else:

- what anonymous clients may do at all (``registry.anonymous``);
- whether the repository is private: the longest namespace prefix that fits says so;
- the account's grants: the longest prefix that fits holds. A right to push is a right to pull.

An account never has fewer rights than a client without one. Prefixes end at path boundaries:
``team`` fits ``team`` and ``team/app``, never ``teams``. Deleting needs the right to push.

Not here: images that the log or a public upstream vouches for. They are public, read-only, and
nobody is asked for anything to pull them. What an upstream gave for this node's own credentials is
treated as a private repository called ``f/HOST/REPOSITORY``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import NAME_LENGTH_MAX, check_host, check_repository
from pyrsia_node.ports.registry import Grant, Namespace, User

ANONYMOUS: Final = "anonymous"
"""What histories call a client without an account; no account may be named so."""

SHARE: Final = "share"
"""The name that goes with a share as its password; no account may be named so either."""

GRANTS_MAX: Final = 256

AnonymousMode = Literal["push", "pull", "none"]

_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_UPSTREAM: Final = re.compile(r"f/(?P<host>localhost|[^/]*[.:][^/]*)(?:/(?P<rest>.*))?", re.DOTALL)
"""``f`` and a registry's host, which is told from a part of a name as in ``model.oci``."""


class Action(StrEnum):
    """What a client wants to do, in the words of token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The settings that hold for all clients."""

    anonymous: AnonymousMode
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)

    @classmethod
    def make(cls, anonymous: AnonymousMode, namespaces: list[Namespace]) -> AccessRules:
        """Return the rules with ``namespaces`` in the form in which they are looked up."""
        return cls(anonymous, {each.prefix: each for each in namespaces})

    def is_private(self, repository: str) -> bool:
        """Tell whether only accounts with a grant may know anything of a repository."""
        return any(
            self.namespaces[prefix].is_private
            for prefix in _first(prefixes_of(repository), self.namespaces)
        )


def anonymous_mode(setting: str, host: str) -> AnonymousMode:
    """Return what ``registry.anonymous`` means where the client port listens at ``host``.

    ``auto`` trusts whoever reaches a loopback address: people of this machine.
    """
    match setting:
        case "push" | "pull" | "none":
            return setting
        case _:
            return "push" if _is_loopback(host) else "pull"


def may(rules: AccessRules, user: User | None, action: Action, repository: str) -> bool:
    """Tell whether a client may do something to a repository of this node.

    Args:
        rules: The settings.
        user: The client's account; None is anonymous.
        action: What it wants to do.
        repository: A repository's name, or ``f/HOST/REPOSITORY`` (see the module).
    """
    return _anonymous_may(rules, action, repository) or (
        user is not None and _is_granted(user, action, repository)
    )


def _anonymous_may(rules: AccessRules, action: Action, repository: str) -> bool:
    if rules.is_private(repository):
        return False
    if _UPSTREAM.fullmatch(repository):
        # The operator's credentials bought it: for those alone who are trusted with pushes.
        return action is Action.PULL and rules.anonymous == "push"
    if action is Action.PULL:
        return rules.anonymous != "none"
    return rules.anonymous == "push"


def _is_granted(user: User, action: Action, repository: str) -> bool:
    # Were a prefix there twice, the wider right would hold.
    grants: dict[str, bool] = {}
    for each in user.grants:
        grants[each.prefix] = grants.get(each.prefix, False) or each.may_push
    return any(
        action is Action.PULL or grants[prefix]
        for prefix in _first(prefixes_of(repository), grants)
    )


def prefixes_of(repository: str) -> Iterator[str]:
    """Yield the prefixes that fit a repository, longest first, "" last."""
    prefix = repository
    while prefix:
        yield prefix
        prefix = prefix.rpartition("/")[0]
    yield ""


def _first(prefixes: Iterator[str], known: Mapping[str, object]) -> list[str]:
    """Return the first prefix that is known, in a list; [] if none is."""
    if not known:
        return []
    return next(([prefix] for prefix in prefixes if prefix in known), [])


def check_user_name(name: str) -> str:
    """Return ``name`` if an account may be called so; raises InvalidInputError."""
    if not _USER.fullmatch(name) or name.lower() in {ANONYMOUS, SHARE}:
        raise InvalidInputError(
            f"{name!r:.100} is no name for an account: 1 to 64 letters, digits, '.', '_', '@', '+'"
            f" and '-', beginning with a letter or digit; not {ANONYMOUS!r} or {SHARE!r}"
        )
    return name


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if rights can hang on it: "", a repository's path, or ``f/HOST[/PATH]``.

    Raises:
        InvalidInputError: It is none of them.
    """
    upstream = _UPSTREAM.fullmatch(prefix)
    if upstream is None:
        return check_repository(prefix) if prefix else prefix
    if len(prefix) > NAME_LENGTH_MAX:
        raise InvalidInputError(f"prefix of {len(prefix)} characters exceeds {NAME_LENGTH_MAX}")
    check_host(upstream["host"])
    if upstream["rest"] is not None:
        check_repository(upstream["rest"])
    return prefix


def with_grant(user: User, grant: Grant) -> User:
    """Return the account with one more grant, in place of one for the same prefix.

    Raises:
        InvalidInputError: It has as many as an account may have.
    """
    kept = [each for each in user.grants if each.prefix != grant.prefix]
    if len(kept) >= GRANTS_MAX:
        raise InvalidInputError(f"account {user.name} has {GRANTS_MAX} grants, as many as fit")
    grants = tuple(sorted([*kept, grant], key=lambda each: each.prefix))
    return User(user.name, user.password, grants)


def without_grant(user: User, prefix: str) -> User:
    """Return the account without its grant for exactly ``prefix``."""
    kept = tuple(each for each in user.grants if each.prefix != prefix)
    return User(user.name, user.password, kept)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
