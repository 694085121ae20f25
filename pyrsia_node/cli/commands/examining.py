"""``doctor``: what is wrong with a node, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrsia_node.cli.commands.options import data_option
from pyrsia_node.cli.doctor import examine
from pyrsia_node.cli.findings import Finding
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.schema.exit_codes import OTHER
from pyrsia_node.schema.layout import Layout

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@data_option
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def doctor(layout: Layout, form: str) -> None:
    """Look at what the node depends on; exit 1 if something keeps it from its work."""
    findings = examine(layout, SystemClock())
    if form == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    if any(finding.level == "fail" for finding in findings):
        click.get_current_context().exit(OTHER)


def _print_findings(findings: list[Finding]) -> None:
    table = Table("check", "", "found", "what to do")
    for finding in findings:
        colour = _COLOURS[finding.level]
        level = f"[{colour}]{finding.level}[/{colour}]"
        table.add_row(finding.check, level, escape(finding.found), escape(finding.advice))
    Console().print(table)
