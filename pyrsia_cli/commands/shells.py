"""``completion``: the script that makes a shell complete commands, options and search terms."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

VARIABLE: Final = "_PYRSIA_COMPLETE"

_BASH_FIELDS: Final = """
_pyrsia_terms() {
    _pyrsia_completion "$@"
    # The value of a field follows its colon without a space.
    [[ ${COMPREPLY[0]-} == *: ]] && compopt -o nospace
    return 0
}

complete -o nosort -F _pyrsia_terms pyrsia
"""


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and search terms.

    \b
    eval "$(pyrsia completion bash)"             in ~/.bashrc
    eval "$(pyrsia completion zsh)"              in ~/.zshrc
    pyrsia completion fish > ~/.config/fish/completions/pyrsia.fish
    """  # noqa: D301 - click reads the backspace character
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "pyrsia", VARIABLE).source())
    if shell == "bash":
        click.echo(_BASH_FIELDS)
