"""Reading ``node.toml`` from a data directory. What it may say: schema/config.py."""

from __future__ import annotations

from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.schema.config import Config, parse_config
from pyrsia_node.schema.layout import Layout


def read_config(layout: Layout) -> tuple[str, Config]:
    """Return the text of ``node.toml`` and what it says.

    Raises:
        NotFoundError: there is none; the text names the command that makes it.
        InvalidInputError: it is not valid; the text names each key.
    """
    try:
        text = layout.config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            f"{layout.config} cannot be read: {error}; `pyrsia-node init --data {layout.root}` "
            "makes a new node"
        ) from None
    return text, parse_config(text, source=str(layout.config))
