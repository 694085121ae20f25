"""Shares: capabilities to pull one repository, for who has no account here. Pure.

The owner, an account that may push to the repository, answers for a share: it ends with its time,
and before that when the owner loses the right to pull, gets another password or is removed. It
opens exactly one repository, to pull; whoever holds it may use it.
"""

from __future__ import annotations

from typing import Final

from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.oci import check_repository
from pyrsia_node.registry.access import Action, may
from pyrsia_node.registry.accounts import AccessBook
from pyrsia_node.registry.scopes import REPOSITORY, TokenScope
from pyrsia_node.registry.tokens import Token, TokenSigner, password_stamp

HOURS_MAX: Final = 24 * 7


def make_share(
    signer: TokenSigner, book: AccessBook, *, owner: str, repository: str, hours: int, now_s: int
) -> tuple[str, int]:
    """Return a share's text, and when it ends in Unix seconds.

    Raises:
        NotFoundError: There is no such account.
        InvalidInputError: It may not push there, or it would hold for longer than a week.
    """
    check_repository(repository)
    if not 1 <= hours <= HOURS_MAX:
        raise InvalidInputError(f"a share holds for 1 to {HOURS_MAX} hours, not {hours}")
    user = book.users.get(owner)
    if user is None:
        raise NotFoundError(f"there is no account {owner!r:.100} to answer for a share")
    if not may(book.rules, user, Action.PUSH, repository):
        raise InvalidInputError(f"account {owner} may not push to {repository}: it is not its own")
    scope = TokenScope(REPOSITORY, repository, frozenset({Action.PULL}))
    expires_s = now_s + hours * 3600
    token = Token("share", owner, password_stamp(user.password), (scope,), expires_s)
    return signer.issue(token), expires_s
