"""Configuration of container clients, with the node put in and taken out again. Pure.

Docker reads ``daemon.json``, containerd a ``hosts.toml`` for each registry, and Podman, Buildah and
Skopeo the files in ``registries.conf.d``. Both directions are idempotent, and taking out gives back
what was there. What cannot be changed safely is refused with its line, never guessed at.

Sources: dockerd(8), containerd's ``docs/hosts.md``, containers-registries.conf(5).
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from pyrsia_cli import json_lists
from pyrsia_node.model.errors import InvalidInputError

_MIRRORS: Final = "registry-mirrors"
_INSECURE: Final = "insecure-registries"
_BEGIN: Final = "# >>> pyrsia >>>"
_END: Final = "# <<< pyrsia <<<"
_BLOCK: Final = re.compile(
    rf"\n?^{re.escape(_BEGIN)}$.*?^{re.escape(_END)}$\n?", re.DOTALL | re.MULTILINE
)
_WAS: Final = "# pyrsia: was: "
_OUR_WAS: Final = re.compile(rf"^{re.escape(_WAS)}", re.MULTILINE)
_TABLE: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
_SERVER: Final = re.compile(r"^(?=[ \t]*server[ \t]*=)", re.MULTILINE)


_CAPABLE: Final = {"capabilities": ["pull", "resolve"]}


def docker_with(text: str, url: str) -> str:
    """Return ``daemon.json`` with the node as the first mirror of dockerd's default registry.

    Raises:
        InvalidInputError: The text is no JSON object, or has a list of mirrors that is none.
    """
    text = json_lists.with_entry(text, _MIRRORS, url)
    place = _insecure_place(url)
    return json_lists.with_entry(text, _INSECURE, place) if place else text


def docker_without(text: str, url: str) -> str:
    """Undo :func:`docker_with`; raises as it does."""
    place = _insecure_place(url)
    if place:
        text = json_lists.without_entry(text, _INSECURE, place)
    return json_lists.without_entry(text, _MIRRORS, url)


def docker_has(text: str, url: str) -> bool:
    """Tell whether the node is among the mirrors; raises as :func:`docker_with`."""
    return url in json_lists.entries(text, _MIRRORS)


def docker_bypasses(text: str, url: str) -> list[str]:
    """Return the mirrors that dockerd would ask beside the node."""
    others = [each for each in json_lists.entries(text, _MIRRORS) if each != url]
    return [f"{_MIRRORS}: {each}" for each in others]


def containerd_with(text: str, url: str, *, enforce: bool, ca_file: str = "") -> str:
    """Return a ``hosts.toml`` that asks the node first; with ``enforce`` nobody else.

    containerd tries the hosts in the order of the file, then ``server``. Without ``server`` that
    is the registry of the image's name. So the node goes before all hosts, and enforced it is the
    ``server``, too.

    Args:
        text: The file as it is, "" if there is none.
        url: The node.
        enforce: Whether the node is the only one who is asked.
        ca_file: Whose certificates the node may show; "" leaves that to the system.

    Raises:
        InvalidInputError: The text is no TOML (the line is named), other hosts stand in it that
            would be asked although ``enforce`` is wanted, or it is written in a way that cannot be
            changed safely.
    """
    text = containerd_without(text)
    before = _toml(text)
    hosts = before.get("host", {})
    known = dict(hosts) if isinstance(hosts, dict) else {}
    others = sorted(known.keys() - {url})
    if enforce and others:
        raise InvalidInputError(f"other hosts would be asked, too: {', '.join(others)}")
    # The node may be asked, and nothing is pushed to it in another registry's name.
    node: dict[str, object] = {**_CAPABLE, **({"ca": ca_file} if ca_file else {})}
    ours: dict[str, object] = {}
    if enforce:
        ours = {"server": url, **{key: node[key] for key in node if key not in before}}
    lines = _assignments(ours)
    # With a server alone containerd 1.6 drops the whole file and asks the registry of the name.
    if url not in known:
        ours["host"] = {**known, url: node}
        lines += [f"[host.{json.dumps(url)}]", *_assignments(node)]
    if not lines:
        return text
    top = _TABLE.search(text)
    place = top.start() if top else len(text)
    head = _SERVER.sub(_WAS, text[:place]) if enforce else text[:place]
    return _checked(head + _block(lines, head) + text[place:], {**before, **ours})


def containerd_without(text: str) -> str:
    """Undo :func:`containerd_with`."""
    return _OUR_WAS.sub("", _BLOCK.sub("", text))


def podman_with(text: str, url: str, registries: Iterable[str], *, enforce: bool) -> str:
    """Return a file of ``registries.conf.d`` that lets images of ``registries`` come from the node.

    Not enforced the node is a mirror: the registry itself is asked after it. Enforced, the node
    is where these images are: nothing else is asked.

    Raises:
        InvalidInputError: The text is no TOML (the line is named), is of the old form, or
            configures one of the registries already.
    """
    text = podman_without(text)
    before = _toml(text)
    if "registries" in before:
        raise InvalidInputError("[registries] is the old form of this file; it holds no mirrors")
    wanted = list(dict.fromkeys(registries))
    taken = sorted(set(wanted) & podman_registries(text))
    if taken:
        raise InvalidInputError(f"it configures {', '.join(taken)} already; take that out first")
    tables = [_podman_table(each, url, enforce=enforce) for each in wanted]
    lines = [line for table in tables for line in table[0]]
    existing = before.get("registry", [])
    listed = [*(existing if isinstance(existing, list) else []), *(table[1] for table in tables)]
    return _checked(text + _block(lines, text), {**before, "registry": listed})


def podman_without(text: str) -> str:
    """Undo :func:`podman_with`."""
    return _BLOCK.sub("", text)


def podman_registries(text: str) -> set[str]:
    """Return the prefixes that a file of ``registries.conf.d`` configures, without our block.

    Raises:
        InvalidInputError: The text is no TOML.
    """
    tables = _toml(podman_without(text)).get("registry", [])
    found = [each for each in tables if isinstance(each, dict)] if isinstance(tables, list) else []
    return {str(each.get("prefix") or each.get("location") or "") for each in found}


def names_of_node(url: str) -> str:
    """Return what stands before an image's name so that it can come from the node alone."""
    return urlsplit(url).netloc


def _podman_table(registry: str, url: str, *, enforce: bool) -> tuple[list[str], dict[str, object]]:
    place = f"{names_of_node(url)}/f/{registry}"
    is_insecure = urlsplit(url).scheme == "http"
    location = place if enforce else registry
    node: dict[str, object] = {"location": place, **({"insecure": True} if is_insecure else {})}
    insecure = ["insecure = true"] if is_insecure else []
    lines = ["[[registry]]", f"prefix = {json.dumps(registry)}"]
    lines.append(f"location = {json.dumps(location)}")
    if enforce:
        return lines + insecure, {"prefix": registry, **node}
    lines += ["[[registry.mirror]]", f"location = {json.dumps(place)}", *insecure]
    return lines, {"prefix": registry, "location": registry, "mirror": [node]}


def _assignments(values: dict[str, object]) -> list[str]:
    # Texts and lists of texts are written in TOML as they are in JSON.
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]


def _block(lines: list[str], before: str) -> str:
    """Return the marked lines; one line break more keeps them apart from what stands before."""
    return ("\n" if before else "") + "\n".join([_BEGIN, *lines, _END]) + "\n"


def _checked(text: str, wanted: dict[str, object]) -> str:
    try:
        is_right = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise InvalidInputError("it is written in a way that cannot be changed safely by a command")
    return text


def _toml(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(str(error)) from None
    except RecursionError:
        raise InvalidInputError("nested too deeply to be read") from None


def _insecure_place(url: str) -> str:
    """Return HOST:PORT if dockerd would refuse it for want of TLS.

    It takes plain HTTP from 127.0.0.0/8 without being told to.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return parts.netloc
    return "" if address.version == 4 and address.is_loopback else parts.netloc
