"""``run``: a node's life."""

from __future__ import annotations

import click

from pyrsia_node.cli.commands.options import data_option
from pyrsia_node.cli.run import run_node
from pyrsia_node.schema.layout import Layout


@click.command()
@data_option
def run(layout: Layout) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    Three processes are started and kept running: the core (votes, log), the gateway (bytes,
    clients) and, on an authorized node, the build worker.
    """
    run_node(layout)
