"""What members say of a package that is already in the log, and how a user's pip meets it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.e2e.walking import REPOSITORY, Finished, Walking
from tests.integration.network.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.xdist_group("walking"),
]

PROJECT, VERSION = "idna", "3.10"
PACKAGE = f"{PROJECT}=={VERSION}"
REASON = "steals credentials"
WAIT_S = 60.0
PIP = REPOSITORY / ".clients" / "bin" / "pip"


def admin(walking: Walking, label: str, *words: str) -> Finished:
    """Run the command as the admin of an authorized node, against that node."""
    node = walking.cluster.nodes[label]
    settings = walking.home / f"{label}.toml"
    port = node.http_url.rpartition(":")[2]
    token, trust = node.layout.root / "admin.token", walking.cluster.plan.trust
    settings.write_text(f'port = {port}\ntoken_file = "{token}"\ntrust = "{trust}"\n')
    return walking.pyrsia(*words, PYRSIA_CONFIG=str(settings))


def approve_all(walking: Walking, label: str, *, motions: int) -> None:
    """Approve everything that is under way, as soon as this node knows what it is."""

    def known() -> list[Any]:
        found = walking.cluster.call(label, "members", {})["motions"]
        assert isinstance(found, list)
        return [each for each in found if "content" in each]

    until(lambda: len(known()) == motions, f"{label} knows {motions} motions", WAIT_S)
    for motion in known():
        shown = admin(walking, label, "approve", motion["subject"], "--yes").ok().out
        assert motion["subject"] in shown


def files(walking: Walking) -> dict[str, dict[str, Any]]:
    return {each["filename"]: each for each in walking.page(PROJECT)["files"]}


def is_closed(walking: Walking, word: str) -> bool:
    return all(word in str(each["yanked"]) for each in files(walking).values())


def download(walking: Walking, target: str) -> Finished:
    words = [PIP, "download", "--no-cache-dir", "--no-deps", "--index-url", walking.index]
    return walking.run([*words, "--dest", walking.home / target, PACKAGE])


def size(walking: Walking) -> int:
    return int(walking.get("/api/v1/status").json()["published_size"])


def statements(walking: Walking, *words: str) -> set[str]:
    shown = walking.pyrsia("inspect-log", "pypi", PACKAGE, "--format", "json", *words).json()
    (accepted,) = [each for each in shown["entries"] if each["type"] == "accepted"]
    return {each["type"] for each in accepted["statements"]}


def test_advice_advises_and_a_quorum_closes_a_package_for_every_pip(walking: Walking) -> None:
    walking.pyrsia("build", "pypi", PACKAGE).ok()
    before = size(walking)

    said = ("--advisory", "CVE-2024-3094", "--reason", "reads what it should not")
    assert "entry" in admin(walking, "authorized-1", "vulnerable", PROJECT, *said).ok().out
    until(lambda: all("_statements" in each for each in files(walking).values()), "advice", WAIT_S)
    assert not any(each["yanked"] for each in files(walking).values())
    download(walking, "advised").ok()

    wish = ("revoke", PACKAGE, "--all-files", "--reason", REASON)
    shown = admin(walking, "authorized-1", *wish).ok().out
    assert "approved by 1 of 3; not yet by " in shown
    count = len(files(walking))
    approve_all(walking, "authorized-2", motions=count)
    # Two of four are no quorum: nothing is closed yet.
    assert not any(each["yanked"] for each in files(walking).values())
    approve_all(walking, "authorized-3", motions=count)
    until(partial(is_closed, walking, REASON), "the files are closed", WAIT_S)

    refused = download(walking, "revoked")
    assert refused.code != 0
    assert REASON in refused.out + refused.err
    assert "403" in refused.err
    for each in files(walking).values():
        answer = walking.get(f"/pypi/files/{each['hashes']['sha256']}/{each['filename']}")
        assert (answer.status_code, REASON in answer.text) == (403, True)

    assert statements(walking) == {"vulnerable", "revoke"}
    assert statements(walking, "--as-of", str(before)) == set()
    found = walking.pyrsia(
        "search", f"pkg:pypi/{PROJECT}", "status:revoked", "--format", "json"
    ).json()
    assert found["hits"]
