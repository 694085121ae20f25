"""``validate``: would the node's rules let these images run?"""

from __future__ import annotations

from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.schema.exit_codes import OTHER
from pyrsia_node.schema.registry import Validation

COLUMNS: Final = ("image", "allowed", "reason", "claim", "entry", "digest")


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@format_option
def validate(images: tuple[str, ...], output_format: str) -> None:
    """Ask whether images may run.

    The node answers by its rules and by what the log says.

    The rules are its registry.validation_file: prefixes that are allowed or denied, "must
    be in the log", the least claim. It is a dry run of what the admission webhook
    (/validate-image) answers to Kubernetes.

    \b
    pyrsia validate alpine:3.20 registry.example/team/app@sha256:...
    kubectl get pods -A -o json | jq -r '.items[].spec.containers[].image' | xargs pyrsia validate

    Exit codes: 0 all are allowed, 1 one is denied, 2 one is no image's name, 5 no node answers.
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        found = [api.get("/api/v1/validate", Validation, {"image": each}) for each in images]
    rows: list[Row] = [each.dump() for each in found]
    emit(rows, COLUMNS, output_format, lines=rows)
    if not all(each.allowed for each in found):
        click.get_current_context().exit(OTHER)
