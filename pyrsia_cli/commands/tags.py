"""``tags list`` and ``tags history``: the tags of an image, and what each of them has been.

A step that the log made is shown only after its entry was proved against the user's own trust file
and found to be about this image, this tag and this digest. A step of a repository that was pushed
to the node is the node's word; the table says which is which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.images import image_path
from pyrsia_cli.output import Row, emit, format_option, note
from pyrsia_cli.proving import Prover, trust_path
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import InvalidInputError, UnavailableError, VerificationError
from pyrsia_node.model.image_files import ROOT, named_digest, role_of
from pyrsia_node.model.oci import TAG_DEFAULT, ImageName
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.distribution import TagList, TagStep, TagSteps
from pyrsia_node.schema.leaf_content import files_of, purl_of

TAG_COLUMNS: Final = ("tag",)
COLUMNS: Final = ("since", "digest", "by", "vouched", "entry", "deleted")
PAGES_MAX: Final = 10_000
STEPS_SHOWN: Final = 100


@click.group()
def tags() -> None:
    """Show the tags of an image, and what they have been."""


@tags.command("list")
@click.argument("image", metavar="[HOST/]REPOSITORY")
@format_option
def list_tags(image: str, output_format: str) -> None:
    """Show the tags of an image, sorted.

    \b
    pyrsia tags list team/app            pushed here, or of the default registry
    pyrsia tags list ghcr.io/team/app
    """  # noqa: D301 - click reads the backspace character
    path, tag = image_path(image)
    if tag is not None:
        raise InvalidInputError(f"name the repository alone, without :{tag}")
    with NodeApi(load_settings(settings_path())) as api:
        found = [each for page in _pages(api, f"{path}/tags/list") for each in _tags_of(page)]
    emit([{"tag": each} for each in found], TAG_COLUMNS, output_format, document=found)


@tags.command("history")
@click.argument("image", metavar="[HOST/]REPOSITORY[:TAG]")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=STEPS_SHOWN,
    show_default=True,
    help="Show the newest so many steps.",
)
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def show_history(image: str, limit: int, trust_file: str, output_format: str) -> None:
    """Show every change of a tag, newest first.

    What it became, when, and by whom. Each step of the log is proved; its time is that of its
    block. History stays when a tag is deleted.

    \b
    pyrsia tags history alpine:3.20
    pyrsia tags history team/app --format json | jq '.[0].digest'
    """  # noqa: D301 - click reads the backspace character
    path, tag = image_path(image)
    tag = tag or TAG_DEFAULT
    with NodeApi(load_settings(settings_path())) as api:
        steps = _steps(api, f"{path}/_oci/tag-history/{tag}", limit + 1)
        shown, more = steps[:limit], len(steps) > limit
        _prove(api, trust_file, path, tag, shown)
    rows = [_row(step) for step in shown]
    emit(rows, COLUMNS, output_format, document=[step.dump() for step in shown])
    if more:
        note(f"more than {limit} steps: --limit shows more")


def _pages(api: NodeApi, path: str) -> Iterator[object]:
    """Yield pages until the last; raises UnavailableError if they do not end."""
    for _ in range(PAGES_MAX):
        page, path = api.get_page(path)
        yield page
        if not path:
            return
    raise UnavailableError(f"the node's pages do not end after {PAGES_MAX}")


def _tags_of(page: object) -> list[str]:
    if not isinstance(page, dict):
        raise UnavailableError("the node's list of tags is no JSON object")
    return TagList.parse(page).tags


def _steps(api: NodeApi, path: str, count: int) -> list[TagStep]:
    found: list[TagStep] = []
    for page in _pages(api, path):
        found += TagSteps.parse({"steps": page}).steps
        if len(found) >= count:
            break
    return found[:count]


def _prove(api: NodeApi, trust_file: str, path: str, tag: str, steps: list[TagStep]) -> None:
    """Return if every step that claims to stand in the log does; raises VerificationError."""
    logged = [step for step in steps if step.verified == "log"]
    if not logged:
        return
    prover = Prover(api, trust_path(load_settings(settings_path()), trust_file))
    names: set[ImageName] = set()
    for step in logged:
        if step.index is None:
            raise VerificationError(f"the node names no entry for {step.digest}")
        _entry, leaf = prover.fetch(step.index)
        names.add(_check_step(step, leaf, path, tag))
    for name in sorted(names):
        if not path.startswith("/v2/f/"):
            note(f"the log has it as {name}")


def _check_step(step: TagStep, leaf: JsonObject, path: str, tag: str) -> ImageName:
    """Hold a step against the proved leaf; return the image that it is about.

    Raises:
        VerificationError: It is not this image, this tag, or this digest.
    """
    purl, found = Purl.parse(purl_of(leaf) or ""), _root_of(leaf)
    name = ImageName.from_purl(purl)
    # Without a registry in the path the node chose one: then the repository alone is held to it.
    asked = path.removeprefix("/v2/f/") if path.startswith("/v2/f/") else path.removeprefix("/v2/")
    is_asked = str(name) == asked or name.repository in {asked, f"library/{asked}"}
    if not is_asked or purl.version != tag or found != step.digest:
        raise VerificationError(
            f"entry {step.index} says {purl} is {found}; the node shows it for {asked}:{tag} as"
            f" {step.digest}"
        )
    return name


def _root_of(leaf: JsonObject) -> str:
    roots = [each for each in files_of(leaf) if role_of(each.name) == ROOT]
    if len(roots) != 1:
        raise VerificationError(f"an entry for an image has {len(roots)} roots")
    return str(named_digest(roots[0].name, parse_sha256(roots[0].sha256)))


def _row(step: TagStep) -> Row:
    by = step.actor or ", ".join(each.member for each in step.sightings)
    deleted = f"{step.deleted} by {step.deleted_by}" if step.deleted else ""
    return {
        "since": step.created,
        "digest": step.digest,
        "by": by,
        "vouched": "log, proved" if step.verified == "log" else "this node",
        "entry": step.index,
        "deleted": deleted,
    }
