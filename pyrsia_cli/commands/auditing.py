"""``audit``: the node's own command, reachable from here as well, with the user's trust file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from pyrsia_cli.commands.networks import PASS_ON, run_node_command
from pyrsia_cli.settings import Settings, load_settings, settings_path

_NAMES_THE_NETWORK: Final = frozenset({"--trust", "--network-id", "-h", "--help"})


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def audit(arguments: Sequence[str]) -> None:
    """Derive another node's whole log again.

    The same as `pyrsia-node audit`, with the trust file that is configured here.

    Without --trust and --network-id the trust file of `pyrsia config trust` names the network, and
    the head that `pyrsia trust update` has seen must be a prefix.
    """
    run_node_command("audit", with_trust(arguments, load_settings(settings_path())))


def with_trust(arguments: Sequence[str], settings: Settings) -> list[str]:
    """Return the arguments, with the configured trust file where they name no network."""
    given = {each.partition("=")[0] for each in arguments}
    if not arguments or not settings.trust or given & _NAMES_THE_NETWORK:
        return list(arguments)
    return [*arguments, "--trust", settings.trust]
