"""``configure docker``, ``containerd`` and ``podman``: images through the node, and back.

A mirror is advice to a client, not a rule: who fails at a mirror asks the registry itself. So each
command says what the client does when the node denies, and ``--enforce`` takes the form in which
it cannot ask anybody else. Docker has no such setting: there the name of the image decides.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from pyrsia_cli import clients_images
from pyrsia_cli.commands.configuring import change_options, warn
from pyrsia_cli.configured_files import apply, read_text
from pyrsia_cli.output import say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import check_host

_DOCKER: Final = Path("/etc/docker/daemon.json")
_CERTS: Final = Path("/etc/containerd/certs.d")
_CONTAINERD: Final = Path("/etc/containerd/config.toml")
_SYSTEM: Final = Path("/etc/containers")
_DROP_IN: Final = "900-pyrsia.conf"
_CRI: Final = "io.containerd.grpc.v1.cri"


def _file_option(help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--file", type=click.Path(dir_okay=False, path_type=Path), default=None, help=help_text
    )


_enforce_option = click.option(
    "--enforce", is_flag=True, help="Take the form that cannot ask anybody but the node."
)


@click.command()
@change_options
@_enforce_option
@_file_option(f"The daemon's file, by default {_DOCKER}.")
def docker(*, remove: bool, dry_run: bool, enforce: bool, file: Path | None) -> None:
    """Make the node dockerd's mirror (daemon.json).

    A mirror serves the names of dockerd's own hub only, and when it denies an image or is down,
    dockerd asks the hub by itself. No setting forbids that: --enforce writes nothing, and prints
    the names that can come from the node alone.
    """
    url, path = _url(), file or _DOCKER
    text = read_text(path)
    try:
        if enforce and not remove:
            _say_names(url, is_mirror=clients_images.docker_has(text, url), path=path)
            return
        change = clients_images.docker_without if remove else clients_images.docker_with
        new = change(text, url)
        others = [] if remove else clients_images.docker_bypasses(new, url)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    apply(path, text, new, dry_run=dry_run)
    if text != new:
        say("for the change to take effect: systemctl reload docker (or send dockerd a SIGHUP)")
    if not remove:
        say(
            "When the node denies an image or is down, dockerd asks its hub by itself;",
            "names of other registries it never asks a mirror for. See: configure docker --enforce",
        )
        _say_certificate("/etc/docker/certs.d")
        warn(others)


@click.command()
@change_options
@_enforce_option
@_file_option(f"A hosts.toml, by default {_CERTS}/_default/hosts.toml: for all registries.")
def containerd(*, remove: bool, dry_run: bool, enforce: bool, file: Path | None) -> None:
    """Let containerd ask the node for images (hosts.toml).

    Not enforced, an image that the node denies is asked of its own registry. --enforce makes the
    node the server of all of them.
    """
    path = file or _CERTS / "_default" / "hosts.toml"
    text = read_text(path)
    try:
        if remove:
            new = clients_images.containerd_without(text)
        else:
            settings = load_settings(settings_path())
            ca_file = settings.ca_file if settings.tls else ""
            new = clients_images.containerd_with(
                text, settings.url, enforce=enforce, ca_file=ca_file
            )
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    apply(path, text, new, dry_run=dry_run)
    if remove:
        return
    if not enforce:
        say("When the node denies an image or is down, containerd asks the registry itself.")
    certs = path.parent.parent
    say(
        "The file is read at each pull; nothing is restarted.",
        f"ctr: ctr images pull --hosts-dir {certs} …",
    )
    if not _reads_certs(certs):
        say(
            f"Kubernetes (CRI) reads it where {_CONTAINERD} has (systemctl restart containerd):",
            f'    [plugins."{_CRI}".registry]',
            f'    config_path = "{certs}"',
        )
    if path.parent.name == "_default":
        own = [each for each in _folders(certs) if each.name != "_default"]
        warn([f"{each} (the rules of that registry alone)" for each in own])


@click.command()
@change_options
@_enforce_option
@click.option(
    "--registry",
    "registries",
    multiple=True,
    default=("docker.io",),
    show_default=True,
    help="Registry whose images come through the node; may be repeated.",
)
@_file_option(f"A drop-in file, by default registries.conf.d/{_DROP_IN} of root or of the user.")
def podman(
    *,
    remove: bool,
    dry_run: bool,
    enforce: bool,
    registries: tuple[str, ...],
    file: Path | None,
) -> None:
    """Let Podman, Buildah and Skopeo ask the node.

    Not enforced the node is a mirror: an image that it denies is asked of its own registry.
    --enforce makes the node the place where these images are.
    """
    path = file or _podman_path()
    text = read_text(path)
    try:
        if remove:
            new = clients_images.podman_without(text)
        else:
            chosen = [check_host(each) for each in registries]
            _refuse_what_others_say(path, set(chosen))
            new = clients_images.podman_with(text, _url(), chosen, enforce=enforce)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    apply(path, text, new, dry_run=dry_run)
    if remove:
        return
    say("The file is read by each command; nothing is restarted.")
    _say_certificate("/etc/containers/certs.d")
    if not enforce:
        say("When the node denies an image or is down, the registry itself is asked.")
    say(
        "Names without a registry (alpine) need an alias or unqualified-search-registries in"
        " registries.conf; whole names (docker.io/library/alpine) do not."
    )


def _url() -> str:
    return load_settings(settings_path()).url


def _say_certificate(folder: str) -> None:
    """Say where a client looks for whose certificates count, if the node's are not the system's."""
    settings = load_settings(settings_path())
    if settings.tls and settings.ca_file:
        place = f"{folder}/{clients_images.names_of_node(settings.url)}/ca.crt"
        say(f"The node's certificate counts there once you copy {settings.ca_file} to {place}")


def _say_names(url: str, *, is_mirror: bool, path: Path) -> None:
    node = clients_images.names_of_node(url)
    say(
        "dockerd has no setting that keeps it from its hub. These names can come from the node"
        " alone; use them in commands, Dockerfiles and compose files:",
        f"    {node}/library/alpine:3.20         in place of alpine:3.20",
        f"    {node}/f/ghcr.io/OWNER/NAME:TAG    in place of ghcr.io/OWNER/NAME:TAG",
        "Nothing was written.",
    )
    if is_mirror:
        say(f"warning: the node is a mirror in {path}: names without it still fall back to the hub")


def _podman_path() -> Path:
    folder = _SYSTEM if os.geteuid() == 0 else Path.home() / ".config" / "containers"
    return folder / "registries.conf.d" / _DROP_IN


def _refuse_what_others_say(path: Path, chosen: set[str]) -> None:
    """Raise if another file configures a registry: of two, the later file's tables count alone."""
    folder = path.parent
    if folder.name != "registries.conf.d":
        return
    others = [folder.parent / "registries.conf", *sorted(folder.glob("*.conf"))]
    for other in others:
        if other == path:
            continue
        try:
            taken = chosen & clients_images.podman_registries(read_text(other))
        except InvalidInputError as error:
            raise InvalidInputError(f"{other}: {error}") from error
        if taken:
            raise InvalidInputError(
                f"{other} configures {', '.join(sorted(taken))}, too, and only one of the two would"
                " count; take it out there, or name other registries with --registry"
            )


def _reads_certs(certs: Path) -> bool:
    """Tell whether the CRI plugin of containerd is told to read ``certs``."""
    try:
        value: object = tomllib.loads(read_text(_CONTAINERD))
    except (tomllib.TOMLDecodeError, InvalidInputError):
        return False
    for key in ("plugins", _CRI, "registry", "config_path"):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, str) and str(certs) in value.split(":")


def _folders(certs: Path) -> list[Path]:
    try:
        return sorted(each for each in certs.iterdir() if each.is_dir())
    except OSError:
        return []
