"""``configure maven``: artifacts through the node, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from pyrsia_cli.clients_maven import ALL, maven_bypasses, maven_with, maven_without
from pyrsia_cli.commands.configuring import change_options, warn
from pyrsia_cli.configured_files import apply, read_text
from pyrsia_cli.output import say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError

PATH: Final = "/maven2"


@click.command()
@change_options
@click.option(
    "--mirror-of",
    default=ALL,
    show_default=True,
    help="Which repositories: *, an id such as central, or a pattern of Maven's.",
)
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="A settings file, by default ~/.m2/settings.xml.",
)
def maven(*, remove: bool, dry_run: bool, mirror_of: str, file: Path | None) -> None:
    """Make the node Maven's mirror (settings.xml of the user).

    With --mirror-of '*' Maven asks nobody but the node; with central only what is not of another
    repository comes through it. Gradle reads no settings.xml: docs/guides/maven.md says what to
    write there. Exit codes: 0 ok, 2 the file cannot be read or written.
    """
    path = file or Path.home() / ".m2" / "settings.xml"
    settings = load_settings(settings_path())
    text = read_text(path)
    try:
        if remove:
            new = maven_without(text)
        else:
            new = maven_with(text, settings.url + PATH, mirror_of=mirror_of)
        past = [] if remove else maven_bypasses(new, urlsplit(settings.url).hostname or "")
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    apply(path, text, new, dry_run=dry_run)
    if remove:
        return
    say("The file is read by each mvn; nothing is restarted.")
    if settings.tls and settings.ca_file:
        say(
            f"Java has its own list of certificates that count: {settings.ca_file} must be in it"
            " (keytool -importcert, or -Djavax.net.ssl.trustStore)."
        )
    warn(past)
