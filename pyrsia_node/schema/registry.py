"""Bodies of the HTTP API about accounts, namespaces and validation (docs/spec/http-api.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pyrsia_node.schema.fields import Answer, Count, LongText, Params, Text

Name = Annotated[str, StringConstraints(max_length=256)]
Prefix = Annotated[str, StringConstraints(max_length=256)]


class NewAccount(Params):
    """``POST /api/v1/registry/users``; an account that is there already is an error."""

    name: Name
    password: Annotated[str, Field(repr=False, max_length=1024)]
    pull: list[Prefix] = Field(default_factory=list, max_length=256)
    push: list[Prefix] = Field(default_factory=list, max_length=256)


class NewPassword(Params):
    """``POST /api/v1/registry/users/password``."""

    name: Name
    password: Annotated[str, Field(repr=False, max_length=1024)]


class GrantChange(Params):
    """``POST /api/v1/registry/users/grant``: one right on a prefix, "" being everything."""

    name: Name
    prefix: Prefix
    right: Literal["pull", "push", "none"]


class AccountName(Params):
    """``POST /api/v1/registry/users/remove``."""

    name: Name


class GrantLine(Answer):
    """A right of an account."""

    prefix: str
    right: Literal["pull", "push"]


class AccountLine(Answer):
    """An account, without its password."""

    name: str
    grants: list[GrantLine]


class AccountList(Answer):
    """``GET /api/v1/registry/users``; ``anonymous`` is what clients without an account may do."""

    anonymous: Literal["push", "pull", "none"]
    users: list[AccountLine]


class ShareWish(Params):
    """``POST /api/v1/registry/shares``: let somebody pull one repository for some hours."""

    owner: Name
    repository: Prefix
    hours: Annotated[int, Field(ge=1, le=24 * 7)] = 24


class Share(Answer):
    """A share, shown as a Bearer token or as the password of the user ``share``."""

    repository: str
    share: str = Field(repr=False)
    expires_ms: Count


class NamespaceChange(Params):
    """``POST /api/v1/registry/namespaces``: what is left out stays as it is.

    ``quota_bytes`` 0 takes the bound away.
    """

    prefix: Prefix
    private: bool | None = None
    immutable_tags: bool | None = None
    quota_bytes: Count | None = None


class NamespacePrefix(Params):
    """``POST /api/v1/registry/namespaces/remove``."""

    prefix: Prefix


class NamespaceLine(Answer):
    """The settings of a prefix, and the bytes that its repositories hold."""

    prefix: str
    private: bool
    immutable_tags: bool
    quota_bytes: Count | None = None
    used_bytes: Count


class NamespaceList(Answer):
    """``GET /api/v1/registry/namespaces``."""

    namespaces: list[NamespaceLine]


class Removed(Answer):
    """Whether there was something to remove."""

    removed: bool


class Validation(Answer):
    """``GET /api/v1/validate``: whether an image may run, by the operator's rules, and why.

    The rest is what the log says of it, if anything: the manifest's digest, the entry's leaf, the
    claim, and why the network closed the entry.
    """

    image: Text
    allowed: bool
    reason: LongText
    digest: Text | None = None
    entry: Count | None = None
    claim: Text | None = None
    closed: LongText | None = None
