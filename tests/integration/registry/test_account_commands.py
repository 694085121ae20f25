"""``pyrsia registry``: accounts and namespaces of a running node, by the command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.image_node import PYRSIA, ImageNode, image_node

PASSWORD = "correct horse battery"


@dataclass
class Said:
    code: int
    out: str
    err: str


@dataclass
class Admin:
    """The command with the node's admin token."""

    node: ImageNode

    def pyrsia(self, *words: str, typed: str = "", token: bool = True) -> Said:
        settings = self.node.settings.with_name("admin.toml")
        text = f"port = {self.node.url.rpartition(':')[2]}\n"
        if token:
            text += f'token_file = "{self.node.layout.root / "admin.token"}"\n'
        settings.write_text(text)
        done = subprocess.run(
            [PYRSIA, "registry", *words],
            env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "PYRSIA_CONFIG": str(settings)},
            input=typed,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert PASSWORD not in done.stdout + done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, typed: str = "") -> str:
        said = self.pyrsia(*words, typed=typed)
        assert said.code == 0, said.err
        return said.out

    def listed(self, what: str) -> Any:
        return json.loads(self.ok(what, "list", "--format", "json"))

    def add(self, name: str, *words: str) -> None:
        self.ok("user", "add", name, "--password-stdin", *words, typed=f"{PASSWORD}\n")

    def status(self, path: str, name: str = "", method: str = "GET") -> int:
        auth = (name, PASSWORD) if name else None
        return httpx.request(method, self.node.url + path, auth=auth).status_code


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with image_node(tmp_path_factory.mktemp("accounts") / "node") as node:
        yield Admin(node)


def test_account_is_made_granted_and_removed(admin: Admin) -> None:
    admin.add("alice", "--push", "team", "--pull", "*")
    admin.ok("user", "grant", "alice", "--pull", "team/released", "--revoke", "*")
    users = {each["name"]: each["grants"] for each in admin.listed("user")["users"]}
    assert users["alice"] == [
        {"prefix": "team", "right": "push"},
        {"prefix": "team/released", "right": "pull"},
    ]
    assert "may push team" in admin.ok("user", "grant", "alice", "--push", "other")
    admin.ok("user", "remove", "alice")
    assert admin.pyrsia("user", "remove", "alice").code == 4


def test_rights_hold_at_once_at_the_port(admin: Admin) -> None:
    admin.add("carol")
    admin.ok("namespace", "set", "closed", "--private")
    path = "/v2/closed/app/tags/list"
    assert admin.status(path) == 401
    assert admin.status(path, "carol") == 403
    admin.ok("user", "grant", "carol", "--pull", "closed")
    assert admin.status(path, "carol") == 404
    admin.ok("namespace", "set", "closed", "--public")
    assert admin.status(path) == 404
    admin.ok("user", "remove", "carol")


def test_new_password_ends_the_old_one(admin: Admin) -> None:
    admin.add("dave")
    assert admin.status("/v2/", "dave") == 200
    admin.ok("user", "password", "dave", "--password-stdin", typed="another password\n")
    assert admin.status("/v2/", "dave") == 401
    admin.ok("user", "remove", "dave")


def test_account_is_not_made_twice_and_names_and_passwords_are_checked(admin: Admin) -> None:
    admin.add("erin")
    typed = f"{PASSWORD}\n"
    for name, password, reason in (
        ("erin", typed, "there is an account erin already"),
        ("anonymous", typed, "no name for an account"),
        ("a:b", typed, "no name for an account"),
        ("frank", "short\n", "shorter than 8"),
        ("frank", "x" * 300, "longer than 256"),
    ):
        said = admin.pyrsia("user", "add", name, "--password-stdin", typed=password)
        assert (said.code, reason in said.err) == (2, True), said.err
    said = admin.pyrsia("user", "add", "frank", "--password-stdin", "--push", "Team", typed=typed)
    assert (said.code, "'Team' is not legal" in said.err) == (2, True)
    assert admin.pyrsia("user", "grant", "nobody", "--push", "team").code == 4
    assert admin.pyrsia("user", "grant", "erin").code == 2
    admin.ok("user", "remove", "erin")


def test_settings_of_a_namespace_are_kept_until_they_are_named_again(admin: Admin) -> None:
    admin.ok("namespace", "set", "team", "--private", "--quota", "20GiB")
    said = admin.ok("namespace", "set", "team", "--immutable-tags")
    assert (
        said == f"team: private, tags never move, at most {20 * 1024**3} bytes; 0 bytes are held\n"
    )
    admin.ok("namespace", "set", "team", "--quota", "0", "--mutable-tags")
    held = {each["prefix"]: each for each in admin.listed("namespace")["namespaces"]}
    assert held["team"] == {
        "prefix": "team",
        "private": True,
        "immutable_tags": False,
        "used_bytes": 0,
    }
    assert admin.pyrsia("namespace", "set", "team", "--quota", "much").code == 2
    assert admin.pyrsia("namespace", "set", "team").code == 2
    assert admin.pyrsia("namespace", "set", "Team", "--private").code == 2
    admin.ok("namespace", "remove", "team")
    assert admin.pyrsia("namespace", "remove", "team").code == 4


def test_star_is_everything(admin: Admin) -> None:
    admin.ok("namespace", "set", "*", "--private")
    assert admin.status("/v2/any/thing/tags/list") == 401
    assert "*" in admin.ok("namespace", "list")
    admin.ok("namespace", "remove", "*")


def test_table_tells_what_clients_without_an_account_may_do(admin: Admin) -> None:
    said = admin.pyrsia("user", "list")
    assert "clients without an account: push and pull what is not private" in said.err


def test_nobody_without_the_admin_token_learns_or_changes_anything(admin: Admin) -> None:
    assert admin.pyrsia("user", "list", token=False).code == 2
    for path in ("users", "namespaces"):
        assert admin.status(f"/api/v1/registry/{path}") == 403
    mallory = {"name": "mallory", "password": PASSWORD}
    for path, body in (
        ("users", mallory),
        ("users/password", mallory),
        ("users/grant", {"name": "mallory", "prefix": "", "right": "push"}),
        ("users/remove", {"name": "mallory"}),
        ("namespaces", {"prefix": "mallory", "private": True}),
        ("namespaces/remove", {"prefix": "mallory"}),
    ):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            url = f"{admin.node.url}/api/v1/registry/{path}"
            assert httpx.post(url, json=body, headers=headers).status_code == 403, path
    assert "mallory" not in str(admin.listed("user")) + str(admin.listed("namespace"))


def test_stored_password_is_a_hash(admin: Admin) -> None:
    admin.add("grace")
    admin.node.stop()
    files = [path for path in admin.node.layout.root.iterdir() if "registry" in path.name]
    data = b"".join(path.read_bytes() for path in files if path.is_file())
    admin.node.start()
    assert b"$argon2id$v=19$m=65536,t=2,p=1$" in data
    assert PASSWORD.encode() not in data
    assert admin.status("/v2/", "grace") == 200
    admin.ok("user", "remove", "grace")


def test_file_of_the_registry_is_for_the_nodes_user_alone(admin: Admin) -> None:
    path: Path = admin.node.layout.registry
    assert path.stat().st_mode & 0o077 == 0
