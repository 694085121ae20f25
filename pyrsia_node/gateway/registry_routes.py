"""Routes about accounts and namespaces of the node-local registry. docs/spec/http-api.md.

All of them need the admin token and a client on this machine, also those that only read: who has
an account here is nobody else's business. Passwords come in and never go out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from fastapi import FastAPI, Request

from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.oci import check_repository
from pyrsia_node.ports.registry import Grant, Namespace, RegistryDb, User
from pyrsia_node.registry.access import (
    check_prefix,
    check_user_name,
    with_grant,
    without_grant,
)
from pyrsia_node.registry.accounts import Accounts
from pyrsia_node.registry.passwords import check_password, hash_password
from pyrsia_node.registry.shares import make_share
from pyrsia_node.registry.tokens import TokenSigner
from pyrsia_node.schema.registry import (
    AccountLine,
    AccountList,
    AccountName,
    GrantChange,
    GrantLine,
    NamespaceChange,
    NamespaceLine,
    NamespaceList,
    NamespacePrefix,
    NewAccount,
    NewPassword,
    Removed,
    Share,
    ShareWish,
)

Check = Callable[[Request], None]

USERS_MAX = 4096
"""Accounts of a node; all of them are in memory."""

NAMESPACES_MAX = 4096


@dataclass(frozen=True, slots=True)
class RegistryAdmin:
    """What the routes change, and what they sign with. ``now_ms`` is Unix time."""

    accounts: Accounts
    db: RegistryDb
    signer: TokenSigner
    now_ms: Callable[[], int]


def add_registry_routes(app: FastAPI, admin: RegistryAdmin, gate: AdminGate) -> None:
    """Add the routes to ``app``; ``gate`` says who may call them."""

    def check(request: Request) -> None:
        address = request.client.host if request.client is not None else None
        gate.check(authorization=request.headers.get("authorization"), address=address)

    _add_user_routes(app, admin.accounts, check)
    _add_share_routes(app, admin, check)
    _add_namespace_routes(app, admin.accounts, admin.db, check)


def _add_user_routes(app: FastAPI, accounts: Accounts, check: Check) -> None:
    @app.get("/api/v1/registry/users")
    async def users(request: Request) -> AccountList:
        """List accounts and their rights."""
        check(request)
        book = await accounts.book()
        return AccountList(
            anonymous=book.rules.anonymous,
            users=[_line(book.users[name]) for name in sorted(book.users)],
        )

    @app.post("/api/v1/registry/users", status_code=201)
    async def add_user(body: NewAccount, request: Request) -> AccountLine:
        """Make an account."""
        check(request)
        return _line(await accounts.change(lambda db: _add_user(db, body)))

    @app.post("/api/v1/registry/users/password")
    async def set_password(body: NewPassword, request: Request) -> AccountLine:
        """Give an account another password, which ends its tokens."""
        check(request)
        check_password(body.password)
        return _line(await accounts.change(lambda db: _set_password(db, body)))

    @app.post("/api/v1/registry/users/grant")
    async def grant(body: GrantChange, request: Request) -> AccountLine:
        """Give an account a right on a prefix, or take it."""
        check(request)
        return _line(await accounts.change(lambda db: _grant(db, body)))

    @app.post("/api/v1/registry/users/remove")
    async def remove_user(body: AccountName, request: Request) -> Removed:
        """Delete an account; what it pushed stays."""
        check(request)
        return Removed(removed=await accounts.change(lambda db: db.remove_user(body.name)))


def _add_share_routes(app: FastAPI, admin: RegistryAdmin, check: Check) -> None:
    @app.post("/api/v1/registry/shares", status_code=201)
    async def share(body: ShareWish, request: Request) -> Share:
        """Make a capability to pull one repository."""
        check(request)
        text, expires_s = make_share(
            admin.signer,
            await admin.accounts.book(),
            owner=body.owner,
            repository=body.repository,
            hours=body.hours,
            now_s=admin.now_ms() // 1000,
        )
        return Share(repository=body.repository, share=text, expires_ms=expires_s * 1000)


def _add_namespace_routes(app: FastAPI, accounts: Accounts, db: RegistryDb, check: Check) -> None:
    @app.get("/api/v1/registry/namespaces", response_model_exclude_none=True)
    async def namespaces(request: Request) -> NamespaceList:
        """List the settings of prefixes, and what their repositories hold."""
        check(request)
        return NamespaceList(namespaces=await asyncio.to_thread(_namespaces, db))

    @app.post("/api/v1/registry/namespaces", response_model_exclude_none=True)
    async def set_namespace(body: NamespaceChange, request: Request) -> NamespaceLine:
        """Set what holds for all repositories under a prefix."""
        check(request)
        return await accounts.change(lambda held: _set_namespace(held, body))

    @app.post("/api/v1/registry/namespaces/remove")
    async def remove_namespace(body: NamespacePrefix, request: Request) -> Removed:
        """Forget the settings of a prefix; a shorter one holds then."""
        check(request)
        removed = await accounts.change(lambda held: held.remove_namespace(body.prefix))
        return Removed(removed=removed)


def _add_user(db: RegistryDb, body: NewAccount) -> User:
    check_user_name(body.name)
    check_password(body.password)
    if db.user(body.name) is not None:
        raise InvalidInputError(f"there is an account {body.name} already")
    if len(db.users()) >= USERS_MAX:
        raise InvalidInputError(f"there are {USERS_MAX} accounts, as many as this node takes")
    user = User(body.name, "", ())
    grants = [Grant(check_prefix(prefix), may_push=False) for prefix in body.pull]
    grants += [Grant(check_prefix(prefix), may_push=True) for prefix in body.push]
    for each in grants:
        user = with_grant(user, each)
    user = replace(user, password=hash_password(body.password))
    db.put_user(user)
    return user


def _set_password(db: RegistryDb, body: NewPassword) -> User:
    user = replace(_existing(db, body.name), password=hash_password(body.password))
    db.put_user(user)
    return user


def _grant(db: RegistryDb, body: GrantChange) -> User:
    user, prefix = _existing(db, body.name), check_prefix(body.prefix)
    if body.right == "none":
        user = without_grant(user, prefix)
    else:
        user = with_grant(user, Grant(prefix, may_push=body.right == "push"))
    db.put_user(user)
    return user


def _existing(db: RegistryDb, name: str) -> User:
    user = db.user(name)
    if user is None:
        raise NotFoundError(f"there is no account {name!r:.100}; `pyrsia registry user list`")
    return user


def _set_namespace(db: RegistryDb, body: NamespaceChange) -> NamespaceLine:
    if body.prefix:
        check_repository(body.prefix)
    held = {each.prefix: each for each in db.namespaces()}
    if body.prefix not in held and len(held) >= NAMESPACES_MAX:
        raise InvalidInputError(f"there are {NAMESPACES_MAX} namespaces, as many as fit")
    old = held.get(body.prefix, Namespace(body.prefix))
    quota = old.quota_bytes if body.quota_bytes is None else body.quota_bytes or None
    immutable = old.immutable_tags if body.immutable_tags is None else body.immutable_tags
    private = old.is_private if body.private is None else body.private
    new = Namespace(body.prefix, immutable, quota, private)
    db.put_namespace(new)
    return _namespace_line(db, new)


def _namespaces(db: RegistryDb) -> list[NamespaceLine]:
    return [_namespace_line(db, each) for each in db.namespaces()]


def _namespace_line(db: RegistryDb, namespace: Namespace) -> NamespaceLine:
    return NamespaceLine(
        prefix=namespace.prefix,
        private=namespace.is_private,
        immutable_tags=namespace.immutable_tags,
        quota_bytes=namespace.quota_bytes,
        used_bytes=db.usage(namespace.prefix),
    )


def _line(user: User) -> AccountLine:
    grants = [
        GrantLine(prefix=each.prefix, right="push" if each.may_push else "pull")
        for each in user.grants
    ]
    return AccountLine(name=user.name, grants=grants)
