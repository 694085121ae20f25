"""Files of container clients: in and out is nothing, twice is once, and others' words stay."""

from __future__ import annotations

import contextlib
import json
import tomllib

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pyrsia_cli import clients_images, json_lists
from pyrsia_node.model.errors import InvalidInputError

URL = "http://127.0.0.1:7888"
REMOTE = "http://node.example:7888"
TLS = "https://node.example:7888"
URLS = st.sampled_from((URL, REMOTE, TLS, "http://[::1]:7888"))

_texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_mirrors = st.lists(st.sampled_from(("https://a.example", "https://b.example/")), max_size=3)


@st.composite
def daemon_files(draw: st.DrawFn) -> str:
    """Any ``daemon.json``: members in any order, written in any of a few manners."""
    members = draw(st.dictionaries(_texts, _values, max_size=4))
    for key in ("registry-mirrors", "insecure-registries"):
        members.pop(key, None)
        if draw(st.booleans()):
            members[key] = draw(_mirrors)
    ordered = dict(draw(st.permutations(list(members.items()))))
    indent = draw(st.sampled_from((None, 0, 2, 4, "\t")))
    ascii_only = draw(st.booleans())
    text = json.dumps(ordered, indent=indent, ensure_ascii=ascii_only)
    if draw(st.booleans()):
        text = text.replace(",\n", " ,\r\n")
    space = draw(st.sampled_from(("", " ", "\n", "\n\n")))
    return space + text + draw(st.sampled_from(("", "\n", " \n")))


@given(daemon_files(), URLS)
@example("", URL)
@example("{}", REMOTE)
@example("{ \n }", REMOTE)
@example('{"registry-mirrors": []}', REMOTE)
@example('{"registry-mirrors": [ ]}', URL)
def test_what_goes_into_daemon_json_comes_out_again_to_the_byte(text: str, url: str) -> None:
    once = clients_images.docker_with(text, url)
    assert clients_images.docker_has(once, url)
    assert clients_images.docker_with(once, url) == once
    assert clients_images.docker_without(once, url) == text
    assert clients_images.docker_without(text, url) == text


@given(daemon_files(), URLS)
def test_every_other_member_of_daemon_json_stays_in_its_order(text: str, url: str) -> None:
    before = json.loads(text)
    after = json.loads(clients_images.docker_with(text, url))
    assert after["registry-mirrors"] == [url, *before.get("registry-mirrors", [])]
    kept = [key for key in after if key in before]
    assert kept == list(before)
    ours = {"registry-mirrors", "insecure-registries"}
    assert {key: after[key] for key in after if key not in ours} == {
        key: before[key] for key in before if key not in ours
    }


@given(daemon_files(), URLS, st.sampled_from((None, 1, 4)))
def test_the_node_comes_out_of_a_file_that_another_program_wrote_anew(
    text: str, url: str, indent: int | None
) -> None:
    before = json.loads(text)
    anew = json.dumps(json.loads(clients_images.docker_with(text, url)), indent=indent)
    after = json.loads(clients_images.docker_without(anew, url))
    empty: dict[str, object] = {"registry-mirrors": [], "insecure-registries": []}
    # A list without entries says the same as none.
    assert empty | after == empty | before


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
@example('{"registry-mirrors": {}}')
@example('{"registry-mirrors": null}')
@example('{"registry-mirrors": [1]}')
@example('{"a": 1, "a": 2}')
@example("[" * 100_000)
def test_only_our_error_leaves_the_editing_of_json(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        json_lists.without_entry(json_lists.with_entry(text, "k", "v"), "k", "v")


@st.composite
def hosts_files(draw: st.DrawFn) -> str:
    """A ``hosts.toml`` of somebody: comments, a server, other hosts, in any layout."""
    lines = ["# of somebody"] if draw(st.booleans()) else []
    if draw(st.booleans()):
        lines.append('  server = "https://registry.example"  # why not')
    if draw(st.booleans()):
        lines.append('ca = "/etc/ca.pem"')
    if draw(st.booleans()):
        lines.append('capabilities = [\n  "pull"\n]')
    for number in range(draw(st.integers(0, 2))):
        lines += ["", f'[host."https://mirror{number}.example"]', '  capabilities = ["pull"]']
    text = "\n".join(lines)
    return text + draw(st.sampled_from(("", "\n", "\n\n"))) if text else ""


@given(text=hosts_files(), url=URLS, enforce=st.booleans())
def test_what_goes_into_a_hosts_file_comes_out_again_to_the_byte(
    *, text: str, url: str, enforce: bool
) -> None:
    assume(not enforce or "[host" not in text)
    for ca_file in ("", "/etc/it's mine.pem"):
        once = clients_images.containerd_with(text, url, enforce=enforce, ca_file=ca_file)
        again = clients_images.containerd_with(once, url, enforce=enforce, ca_file=ca_file)
        assert again == once
        assert clients_images.containerd_without(once) == text
    assert clients_images.containerd_without(text) == text


@given(text=hosts_files(), url=URLS, enforce=st.booleans())
def test_the_node_is_the_first_host_or_the_server_and_the_rest_stays(
    *, text: str, url: str, enforce: bool
) -> None:
    assume(not enforce or "[host" not in text)
    before = tomllib.loads(text)
    after = tomllib.loads(clients_images.containerd_with(text, url, enforce=enforce))
    if enforce:
        assert after.pop("server") == url
        before.pop("server", None)
        assert set(after.pop("capabilities")) >= {"pull"}
        before.pop("capabilities", None)
    assert next(iter(after["host"])) == url
    assert after["host"].pop(url) == {"capabilities": ["pull", "resolve"]}
    if not after["host"]:
        after.pop("host")
    assert after == before


@given(hosts_files(), URLS)
def test_enforcing_and_then_not_is_the_same_as_not(text: str, url: str) -> None:
    assume("[host" not in text)
    enforced = clients_images.containerd_with(text, url, enforce=True)
    mild = clients_images.containerd_with(text, url, enforce=False)
    assert clients_images.containerd_with(enforced, url, enforce=False) == mild
    assert clients_images.containerd_with(mild, url, enforce=True) == enforced


@st.composite
def drop_ins(draw: st.DrawFn) -> str:
    """A file of ``registries.conf.d`` of somebody."""
    lines = ["# of somebody"] if draw(st.booleans()) else []
    if draw(st.booleans()):
        lines.append('unqualified-search-registries = ["docker.io"]')
    if draw(st.booleans()):
        lines += ["[aliases]", '"alpine" = "docker.io/library/alpine"']
    if draw(st.booleans()):
        lines += ["[[registry]]", 'prefix = "quay.example"', "blocked = true"]
    text = "\n".join(lines)
    return text + draw(st.sampled_from(("", "\n"))) if text else ""


REGISTRIES = st.lists(
    st.sampled_from(("docker.io", "ghcr.io", "registry.example:5000")), min_size=1, unique=True
)


@given(text=drop_ins(), url=URLS, registries=REGISTRIES, enforce=st.booleans())
def test_what_goes_into_a_drop_in_comes_out_again_to_the_byte(
    *, text: str, url: str, registries: list[str], enforce: bool
) -> None:
    once = clients_images.podman_with(text, url, registries, enforce=enforce)
    assert clients_images.podman_with(once, url, registries, enforce=enforce) == once
    assert clients_images.podman_without(once) == text
    before, after = tomllib.loads(text), tomllib.loads(once)
    added = after.pop("registry")[len(before.pop("registry", [])) :]
    assert [each["prefix"] for each in added] == registries
    assert after == before
    places = [each["location"] if enforce else each["mirror"][0]["location"] for each in added]
    host = url.partition("//")[2]
    assert places == [f"{host}/f/{registry}" for registry in registries]


@given(st.text(max_size=80))
@example('server = """\n[x]\nserver = """')
@example('x = """\n[host]\n"""')
@example("server.a = 1")
@example('[registries.search]\nregistries = ["docker.io"]')
def test_only_our_error_leaves_the_editing_of_toml(text: str) -> None:
    for enforce in (False, True):
        with contextlib.suppress(InvalidInputError):
            tomllib.loads(clients_images.containerd_with(text, URL, enforce=enforce))
        with contextlib.suppress(InvalidInputError):
            tomllib.loads(clients_images.podman_with(text, URL, ["docker.io"], enforce=enforce))


@pytest.mark.parametrize(
    ("text", "line"),
    [('{\n  "a": 1,\n  b\n}', "line 3"), ('{\n  "debug": true,\n}', "line 3"), ("[]", "line 1")],
)
def test_a_broken_daemon_json_is_refused_with_its_line(text: str, line: str) -> None:
    with pytest.raises(InvalidInputError, match=line):
        clients_images.docker_with(text, URL)


def test_a_broken_hosts_file_is_refused_with_its_line() -> None:
    with pytest.raises(InvalidInputError, match="line 2"):
        clients_images.containerd_with('server = "x"\n= 3\n', URL, enforce=False)
    with pytest.raises(InvalidInputError, match="line 1"):
        clients_images.podman_with("[[registry]\n", URL, ["docker.io"], enforce=False)
