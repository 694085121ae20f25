"""``registry user`` and ``registry namespace``: who may push and pull, and what holds where.

They talk to the node's control API with the admin token, on the node's own machine. Passwords come
from a prompt or from standard input, never from an argument that other users of the machine see.
"""

from __future__ import annotations

import re
import sys
from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option, note, say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.schema.registry import (
    AccountLine,
    AccountList,
    NamespaceLine,
    NamespaceList,
    Removed,
    Share,
)

USER_COLUMNS: Final = ("name", "push", "pull")
NAMESPACE_COLUMNS: Final = ("prefix", "private", "immutable_tags", "quota_bytes", "used_bytes")
EVERYTHING: Final = "*"
"""How people write the empty prefix."""

PASSWORD_BYTES_MAX: Final = 4096

_USERS: Final = "/api/v1/registry/users"
_NAMESPACES: Final = "/api/v1/registry/namespaces"
_QUOTA: Final = re.compile(r"(?P<number>[0-9]{1,15})\s*(?P<unit>[KMGT]i?B|B|)", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4} | {
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}

push_option = click.option(
    "--push", multiple=True, metavar="PREFIX", help="May push below it; * is everything."
)
pull_option = click.option(
    "--pull", multiple=True, metavar="PREFIX", help="May pull below it, private or not."
)
stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@click.group()
def registry() -> None:
    """Say who may push and pull what.

    Without accounts, clients on the node's own machine may push and everybody may pull
    (registry.anonymous). What the network vouches for is public whatever is set here.
    """


@registry.group()
def user() -> None:
    """Make accounts for `docker login`, and give them rights."""


@user.command("add")
@click.argument("name")
@stdin_option
@push_option
@pull_option
def add_user(
    name: str, push: tuple[str, ...], pull: tuple[str, ...], *, password_stdin: bool
) -> None:
    """Make an account.

    \b
    pyrsia registry user add alice --push team --pull other/team
    pass show ci | pyrsia registry user add ci --password-stdin --push '*'
    """  # noqa: D301 - click reads the backspace character
    password = _password(from_stdin=password_stdin)
    body = {"name": name, "password": password, "push": _plain(push), "pull": _plain(pull)}
    with NodeApi(load_settings(settings_path())) as api:
        added = api.post(_USERS, AccountLine, body)
    say(f"account {added.name} made; {_rights(added)}")
    if not added.grants:
        note(f"give it rights with `pyrsia registry user grant {added.name} --push PREFIX`")


@user.command("password")
@click.argument("name")
@stdin_option
def set_password(name: str, *, password_stdin: bool) -> None:
    """Give an account another password.

    Who is logged in with the old one must log in again.
    """
    body = {"name": name, "password": _password(from_stdin=password_stdin)}
    with NodeApi(load_settings(settings_path())) as api:
        api.post(f"{_USERS}/password", AccountLine, body)
    say(f"account {name} has a new password")


@user.command("remove")
@click.argument("name")
def remove_user(name: str) -> None:
    """Delete an account. What it pushed stays."""
    with NodeApi(load_settings(settings_path())) as api:
        if not api.post(f"{_USERS}/remove", Removed, {"name": name}).removed:
            raise NotFoundError(f"there is no account {name}")
    say(f"account {name} removed")


@user.command("list")
@format_option
def list_users(output_format: str) -> None:
    """List accounts and the prefixes that each may push or pull below."""
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get_as_admin(_USERS, AccountList)
    rows = [_user_row(each) for each in found.users]
    emit(rows, USER_COLUMNS, output_format, document=found.dump())
    if output_format == "table":
        note(f"clients without an account: {_ANONYMOUS[found.anonymous]}")


@user.command()
@click.argument("name")
@push_option
@pull_option
@click.option("--revoke", multiple=True, metavar="PREFIX", help="Take the right on it away.")
def grant(name: str, push: tuple[str, ...], pull: tuple[str, ...], revoke: tuple[str, ...]) -> None:
    """Give an account rights, or take them.

    Of the prefixes that fit a repository the longest decides: with --push team --pull
    team/released, the account pushes everywhere below team but there.

    \b
    pyrsia registry user grant alice --push team --pull team/released
    pyrsia registry user grant alice --pull f/registry.example/acme    by this node's credentials
    pyrsia registry user grant alice --revoke team
    """  # noqa: D301 - click reads the backspace character
    changes = [("push", each) for each in _plain(push)]
    changes += [("pull", each) for each in _plain(pull)]
    changes += [("none", each) for each in _plain(revoke)]
    if not changes:
        raise InvalidInputError("say what to change: --push, --pull or --revoke with a PREFIX")
    held = ""
    with NodeApi(load_settings(settings_path())) as api:
        for right, prefix in changes:
            body = {"name": name, "prefix": prefix, "right": right}
            held = _rights(api.post(f"{_USERS}/grant", AccountLine, body))
    say(f"account {name}: {held}")


@registry.command()
@click.argument("repository")
@click.option("--owner", required=True, help="The account that answers for it: it may push there.")
@click.option(
    "--hours", type=click.IntRange(1, 24 * 7), default=24, show_default=True, help="How long."
)
def share(repository: str, owner: str, hours: int) -> None:
    """Let somebody without an account pull one repository.

    Prints a share: a password for the user `share`. Another node pulls with it where its
    docker.auth_file has it for this registry. Whoever holds it may use it, until its time is up,
    or the owner has another password, no right to pull any more, or is removed.

    \b
    pyrsia registry share team/app --owner alice --hours 8 > share
    docker login -u share --password-stdin registry.example:7888 < share
    """  # noqa: D301 - click reads the backspace character
    body = {"repository": repository, "owner": owner, "hours": hours}
    with NodeApi(load_settings(settings_path())) as api:
        made = api.post("/api/v1/registry/shares", Share, body)
    say(made.share)
    note(f"good for pulls of {made.repository}, for {hours} h: `docker login -u share`")


@registry.group()
def namespace() -> None:
    """Say what holds under a prefix.

    The longest prefix that fits a repository decides.
    """


@namespace.command("set")
@click.argument("prefix")
@click.option("--private/--public", default=None, help="Only accounts with a right see anything.")
@click.option(
    "--immutable-tags/--mutable-tags", default=None, help="A tag that was pushed never moves."
)
@click.option("--quota", help="Bytes that may be held, such as 20GiB; 0 is no bound.")
def set_namespace(
    prefix: str, *, private: bool | None, immutable_tags: bool | None, quota: str | None
) -> None:
    """Set what holds under a prefix; what is not named stays as it is.

    \b
    pyrsia registry namespace set team --private --quota 20GiB
    pyrsia registry namespace set team/released --private --immutable-tags
    """  # noqa: D301 - click reads the backspace character
    given: dict[str, object] = {"private": private, "immutable_tags": immutable_tags}
    given["quota_bytes"] = None if quota is None else _bytes(quota)
    body = {key: value for key, value in given.items() if value is not None}
    if not body:
        raise InvalidInputError("say what to set: --private, --immutable-tags or --quota")
    with NodeApi(load_settings(settings_path())) as api:
        body["prefix"] = _plain((prefix,))[0]
        held = api.post(_NAMESPACES, NamespaceLine, body)
    words = ["private" if held.private else "public"]
    words += ["tags never move"] if held.immutable_tags else []
    words += [f"at most {held.quota_bytes} bytes"] if held.quota_bytes is not None else []
    say(f"{prefix}: {', '.join(words)}; {held.used_bytes} bytes are held")


@namespace.command("remove")
@click.argument("prefix")
def remove_namespace(prefix: str) -> None:
    """Forget the settings of a prefix. Repositories stay, and a shorter prefix holds for them."""
    with NodeApi(load_settings(settings_path())) as api:
        body = {"prefix": _plain((prefix,))[0]}
        if not api.post(f"{_NAMESPACES}/remove", Removed, body).removed:
            raise NotFoundError(f"there are no settings for {prefix}")
    say(f"settings of {prefix} removed")


@namespace.command("list")
@format_option
def list_namespaces(output_format: str) -> None:
    """List settings, and the bytes that the repositories below hold."""
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get_as_admin(_NAMESPACES, NamespaceList)
    rows: list[Row] = [
        {**each.dump(), "prefix": each.prefix or EVERYTHING} for each in found.namespaces
    ]
    emit(rows, NAMESPACE_COLUMNS, output_format, document=found.dump())


_ANONYMOUS: Final = {
    "push": "push and pull what is not private",
    "pull": "pull what is not private",
    "none": "nothing but what the network vouches for",
}


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        text = sys.stdin.read(PASSWORD_BYTES_MAX)
        return text.removesuffix("\n").removesuffix("\r")
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return typed


def _plain(prefixes: tuple[str, ...]) -> list[str]:
    return ["" if each == EVERYTHING else each.removesuffix("/") for each in prefixes]


def _user_row(line: AccountLine) -> Row:
    by_right = {
        right: [each.prefix or EVERYTHING for each in line.grants if each.right == right]
        for right in ("push", "pull")
    }
    return {"name": line.name, **by_right}


def _rights(line: AccountLine) -> str:
    said = [f"may {each.right} {each.prefix or EVERYTHING}" for each in line.grants]
    return ", ".join(said) or "it has no rights of its own"


def _bytes(text: str) -> int:
    found = _QUOTA.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(f"--quota {text!r:.40}: allowed: a size such as 500MB or 20GiB")
    return int(found["number"]) * _UNITS[found["unit"].lower()]
