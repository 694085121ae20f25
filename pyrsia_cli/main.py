"""The ``pyrsia`` command: one entry, one place where errors become exit codes.

Exit codes: 0 ok, 1 other, 2 invalid input, 3 verification failed, 4 not found, 5 unavailable.
"""

from __future__ import annotations

import sys
from importlib import metadata

import click

from pyrsia_cli.commands import (
    auditing,
    building,
    building_maven,
    collecting,
    configuring,
    configuring_images,
    configuring_maven,
    evidence,
    explaining,
    following,
    log,
    members,
    networks,
    node,
    registry,
    search,
    shells,
    sources,
    statements,
    tags,
    trust,
    validating,
    watch,
)
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.printable import plain_message
from pyrsia_node.schema.exit_codes import INVALID, exit_code_of

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(metadata.version("pyrsia"), "-V", "--version", prog_name="pyrsia")
def cli() -> None:
    """Talk to a Pyrsia node, and trust only what can be verified here.

    \b
    First steps:
      pyrsia ping                                is a node there?
      pyrsia config trust devnet.trust           whose word counts
      pyrsia build pypi six==1.17.0              have it rebuilt from source
      pyrsia inspect-log pypi six                what the log says, proved
      pyrsia search dep:six                      who depends on it; --help teaches the rest
      pyrsia configure pip                       let pip install through the node
      pyrsia configure docker                    let docker pull through the node
      pyrsia configure maven                     let mvn fetch through the node

    Exit codes: 0 ok, 1 other, 2 invalid input, 3 verification failed, 4 not found,
    5 unavailable. Shell completion: eval "$(pyrsia completion bash)" (zsh, fish).
    """  # noqa: D301 - click reads the backspace character


for command in (
    node.ping,
    node.status,
    node.list_peers,
    node.config,
    building.build,
    following.follow,
    following.unfollow,
    log.inspect_log,
    log.browse,
    search.search,
    watch.watch,
    shells.completion,
    log.verify,
    auditing.audit,
    configuring.configure,
    members.nodes,
    members.authorize,
    members.remove,
    members.rotate_key,
    members.set_param,
    members.approve,
    evidence.evidence,
    statements.withdraw,
    statements.revoke,
    statements.deprecate,
    statements.vulnerable,
    sources.sources,
    networks.network,
    networks.devnet,
    trust.trust,
    registry.registry,
    tags.tags,
    collecting.gc,
    validating.validate,
):
    cli.add_command(command)
building.build.add_command(building_maven.maven)
building.build.add_command(explaining.explain)
for command in (
    configuring_images.docker,
    configuring_images.containerd,
    configuring_images.podman,
    configuring_maven.maven,
):
    configuring.configure.add_command(command)


def main() -> None:
    """Run the command; end the process with its exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except PyrsiaError as error:
        sys.stderr.write(plain_message("pyrsia", str(error)) + "\n")
        code = exit_code_of(error)
    except click.exceptions.Abort:
        sys.stderr.write("pyrsia: interrupted\n")
        code = 130
    except click.ClickException as error:
        error.show()
        code = INVALID
    sys.exit(code if isinstance(code, int) else 0)
