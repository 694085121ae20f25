"""``python -m pyrsia_node.cli`` is ``pyrsia-node``."""

from __future__ import annotations

from pyrsia_node.cli.main import main

main()
