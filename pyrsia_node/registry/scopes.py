"""Token scopes: what a client says it will do with a token it asks for. Pure.

Grammar of the distribution project's token scopes: ``TYPE:NAME:ACTION[,ACTION…]``, several
separated by spaces. A scope limits a token and never widens it: what the account may do is decided
when the token is used (``registry.access``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.access import Action

SCOPES_MAX: Final = 16
"""Resources in one token; a push that mounts from another repository names two."""

SCOPE_LENGTH_MAX: Final = 400
REPOSITORY: Final = "repository"

_ACTIONS: Final = frozenset(Action)
_ALL: Final = "*"
_TYPE: Final = re.compile(r"[a-z]+(?:\([a-z]+\))?")
_NAME: Final = re.compile(r"[A-Za-z0-9._:/\[\]-]+")


@dataclass(frozen=True, slots=True)
class TokenScope:
    """One resource and what may be done to it."""

    type: str
    name: str
    actions: frozenset[Action]

    def __str__(self) -> str:
        """Return the scope as it stands in a token and in a challenge."""
        # Clients are used to "pull,push"; an order of ours would only puzzle those who compare.
        actions = ",".join(each for each in Action if each in self.actions)
        return f"{self.type}:{self.name}:{actions}"


def parse_scopes(texts: Iterable[str]) -> tuple[TokenScope, ...]:
    """Return the scopes that clients ask for; actions and types that nobody here knows are dropped.

    Args:
        texts: Values of the parameter ``scope``, each with one scope or several.

    Raises:
        InvalidInputError: One is malformed or too long, or there are too many.
    """
    words = [word for text in texts for word in text.split(" ") if word]
    if len(words) > SCOPES_MAX:
        raise InvalidInputError(f"{len(words)} scopes are asked for; {SCOPES_MAX} are allowed")
    return tuple(_parse(word) for word in words)


def _parse(word: str) -> TokenScope:
    kind, _, rest = word.partition(":")
    # The name may hold a colon (HOST:PORT/…), the list of actions cannot.
    name, colon, actions = rest.rpartition(":")
    if len(word) > SCOPE_LENGTH_MAX or not (
        colon and _TYPE.fullmatch(kind) and _NAME.fullmatch(name)
    ):
        raise InvalidInputError(f"scope {word!r:.120} is not TYPE:NAME:ACTION[,ACTION]")
    asked = set(actions.split(","))
    known = _ACTIONS if _ALL in asked else {each for each in _ACTIONS if each in asked}
    return TokenScope(kind, name, frozenset(known))


def allow(scopes: Iterable[TokenScope], action: Action, repository: str) -> bool:
    """Tell whether one of ``scopes`` names the repository and the action."""
    return any(
        each.type == REPOSITORY and each.name == repository and action in each.actions
        for each in scopes
    )


def scope_for(action: Action, repository: str) -> str:
    """Return the scope that a client needs to do ``action``, as a challenge names it."""
    wanted = {Action.PULL, action} if action is Action.PUSH else {action}
    return str(TokenScope(REPOSITORY, repository, frozenset(wanted)))
