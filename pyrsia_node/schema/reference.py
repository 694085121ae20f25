"""The reference of ``node.toml``, written from the declarations that parsing uses.

``python -m pyrsia_node.schema.reference > docs/reference/config.md`` makes the page; a test fails
when the page says anything else.
"""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Final

from pyrsia_node.schema.config import SECTIONS, describe_keys

_HEAD: Final = """\
# Configuration keys

A node reads `node.toml` in its data directory once, at its start. `pyrsia-node init` writes it
with every key and its meaning. A key that is left out has the default. A key or section that is
not listed here, or a value that is not allowed, keeps the node from starting, and all such
problems are named at once. Change the file, then restart the node.

Beyond the rules of single keys: a regular node has `build.enabled = false`; `data.url` begins with
`https` exactly if `data.tls` is true; `fault.enabled` may be true only where the network's name
begins with `devnet`.

This page is written by `python -m pyrsia_node.schema.reference`.
"""


def config_reference() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD.rstrip("\n")]
    for section, keys in groupby(describe_keys(), key=lambda key: key.section):
        about = (SECTIONS[section].__doc__ or "").partition("] ")[2]
        lines += ["", f"## [{section}]", "", about, ""]
        lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
        for key in keys:
            default = f"`{key.default}`" if key.default else "none: must be given"
            allowed = key.allowed.replace("|", "\\|")
            lines.append(f"| `{key.name}` | {default} | {allowed} | {key.about} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(config_reference())
