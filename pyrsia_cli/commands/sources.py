"""``sources``: where the sources of packages are, as a quorum of the members says in the log.

A mapping is a motion: the admin of each authorized node brings the same one to that node, or
approves the one that another brought, and at the quorum it is ordered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.commands.members import bring, heights_option
from pyrsia_cli.maven_names import parse_gav
from pyrsia_cli.output import Row, emit, format_option, json_text, note, say
from pyrsia_cli.proving import Prover, trust_path
from pyrsia_cli.recipe_options import recipe_of, recipe_options
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.mappings import SourceMapping, check_mapping, patterns_for
from pyrsia_node.schema.followable import check_followable
from pyrsia_node.schema.http import Search
from pyrsia_node.schema.mapping_files import FILE_CHARACTERS_MAX, pattern_of, read_mappings
from pyrsia_node.schema.sources import SourceLine, Sources

COLUMNS: Final = ("pattern", "repository", "tag", "recipe", "leaf", "approved", "reason")
_PATTERN: Final = "GROUP:ARTIFACT or GROUP:*"
_PAGES_MAX: Final = 1_000
_HITS_MAX: Final = 50

pattern_argument = click.argument("pattern", metavar="GROUP:ARTIFACT|GROUP:*")
reason_option = click.option(
    "--reason", required=True, help="How it is known, in a sentence; it stands in the log for ever."
)


@click.group()
def sources() -> None:
    """Say and show where packages are built from.

    A mapping counts once a quorum of the authorized nodes approved it: whoever may say where a
    name comes from may say what is published under it.
    """


@sources.command()
@click.argument("pattern", required=False, default="", metavar="[GROUP:ARTIFACT|GROUP:*]")
@click.option("--repository", default="", help="git+https://HOST/PATH, or an archive's https://…")
@click.option("--tag", default="", help="The tags of its versions, such as v{version}.")
@recipe_options
@click.option(
    "--mapping",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of mappings, TOML or the JSON of a mapping server, instead of the options.",
)
@reason_option
@heights_option
def add(  # noqa: PLR0917 - click passes options by name
    pattern: str,
    repository: str,
    tag: str,
    file: Path | None,
    reason: str,
    heights: int,
    **options: Any,
) -> None:
    """Approve where the sources of an artifact, or of a whole group, are.

    {version} and {artifact} in the address and the tag stand for those of the package. A git
    repository needs a tag. Of several patterns that fit a name the longest counts.

    \b
    pyrsia sources add commons-codec:commons-codec --reason "named by its pom"
        --repository git+https://git.example/commons/codec --tag rel/commons-codec-{version}
    pyrsia sources add --mapping mappings.toml --reason "reviewed on Monday"

    Exit codes: 0 this node approved it, or the log says so already; 2 it is written wrongly or was
    refused, 5 no node answers or it cannot be carried out.
    """  # noqa: D301 - click reads the backspace character
    recipe = recipe_of(options)
    if file is not None:
        if pattern or repository or tag or recipe:
            raise InvalidInputError("--mapping says it all: give no pattern and no other option")
        _bring_all(read_file(file), reason, heights)
        return
    if not pattern or not repository:
        raise InvalidInputError(f"name a pattern ({_PATTERN}) and its --repository, or --mapping")
    mapping = SourceMapping(pattern_of(pattern), repository, tag, recipe)
    check_mapping(mapping)
    check_followable(mapping)
    _bring(mapping, reason, heights)


@sources.command()
@pattern_argument
@reason_option
@heights_option
def remove(pattern: str, reason: str, heights: int) -> None:
    """Approve that a pattern's mapping is taken back.

    The next longest pattern that fits a name counts then, if there is one. What was built stays.

    Exit codes: 0 this node approved it, or it is taken back already; 2 it was refused, as for a
    pattern that was never mapped; 5 no node answers or it cannot be carried out.
    """
    _bring(SourceMapping(pattern_of(pattern), ""), reason, heights)


@sources.command("list")
@format_option
def list_sources(output_format: str) -> None:
    """List every mapping that counts, and who approved it.

    Those that lack approvals are motions still: `pyrsia nodes` lists them.

    \b
    pyrsia sources list --format csv
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        found = _all(api)
    if not found and output_format == "table":
        say("No sources are mapped.")
        return
    document = {"sources": [each.dump() for each in found]}
    emit([_row(each) for each in found], COLUMNS, output_format, document=document)


@sources.command()
@click.argument("artifact", metavar="GROUP:ARTIFACT[:VERSION]")
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def show(artifact: str, trust_file: str, output_format: str) -> None:
    """Show the mapping that counts for an artifact, proved.

    Its entry of the log is proved here. With a version, the address and the tag are those of that
    version. That no newer mapping exists is the node's word: `pyrsia search type:add_source` lists
    them all.

    Exit codes: 0 ok, 2 invalid input, 3 a proof does not hold, 4 no mapping fits, 5 no node
    answers.
    """
    purl = parse_gav(artifact, needs_version=False)
    settings = load_settings(settings_path())
    path = trust_path(settings, trust_file)
    with NodeApi(settings) as api:
        found = api.get("/api/v1/sources", Sources, {"purl": str(purl)}).sources
        if not found:
            raise NotFoundError(f"no mapping in the log fits {artifact}")
        line = found[0]
        if line.pattern not in patterns_for(purl):
            raise VerificationError(f"the node answered {purl} with a mapping of {line.pattern}")
        _entry, leaf = Prover(api, path).fetch(line.leaf)
    mapping = _mapping(line, leaf)
    row = _row(line)
    if purl.version is not None:
        row = {**row, "repository": mapping.source_url(purl), "tag": mapping.tag_of(purl)}
    emit([row], COLUMNS, output_format, document={**line.dump(), "verified": True})


def read_file(path: Path) -> tuple[SourceMapping, ...]:
    """Return the mappings of a file.

    Raises:
        InvalidInputError: It cannot be read, or a mapping in it is refused.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(FILE_CHARACTERS_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    try:
        found = read_mappings(text)
        for mapping in found:
            check_followable(mapping)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    return found


def _bring_all(mappings: tuple[SourceMapping, ...], reason: str, heights: int) -> None:
    failures: list[PyrsiaError] = []
    for mapping in mappings:
        try:
            _bring(mapping, reason, heights)
        except (InvalidInputError, UnavailableError) as error:
            # One that is refused must not keep the others from it.
            note(f"{mapping.pattern}: {error}")
            failures.append(error)
    if failures:
        raise failures[0]


def _bring(mapping: SourceMapping, reason: str, heights: int) -> None:
    """Bring a mapping; one that the log has already, as it came a second late, is no error."""
    try:
        bring("add_source", {**mapping.members(), "reason": reason}, heights)
    except (InvalidInputError, UnavailableError):
        leaf = _leaf_that_says(mapping)
        if leaf is None:
            raise
        say(f"{mapping.pattern}: the log says so already (leaf {leaf})")


def _leaf_that_says(mapping: SourceMapping) -> int | None:
    """Return the leaf by which exactly this mapping is in force, or taken back; None without one.

    It is the node's word, as the refusal was.
    """
    try:
        with NodeApi(load_settings(settings_path())) as api:
            lines = {each.pattern: each for each in _all(api)}
            line = lines.get(mapping.pattern)
            if line is None:
                return _taken_back_at(api, mapping.pattern) if mapping.is_taken_back else None
    except PyrsiaError:
        return None  # Why the motion was refused says more than why this cannot be looked up.
    facts = (line.repository, line.tag, line.recipe)
    wanted = mapping.members()
    is_same = facts == (wanted["repository"], wanted["tag"], wanted["recipe"])
    return line.leaf if is_same else None


def _taken_back_at(api: NodeApi, pattern: str) -> int | None:
    """Return the newest leaf about a pattern if it takes it back; None for one never mapped."""
    query: dict[str, str | int] = {"q": f"type:add_source {pattern}", "limit": _HITS_MAX}
    hits = api.get("/api/v1/search", Search, query).hits
    newest = next((each for each in hits if each.purl == pattern), None)
    if newest is None or newest.leaf.get("repository") != "":
        return None
    return newest.index


def _all(api: NodeApi) -> list[SourceLine]:
    found: list[SourceLine] = []
    for _ in range(_PAGES_MAX):
        after = found[-1].pattern if found else ""
        page = api.get("/api/v1/sources", Sources, {"after": after})
        found += page.sources
        if page.is_last or not page.sources:
            return found
    raise UnavailableError(f"the node lists more than {_PAGES_MAX} pages of mappings")


def _mapping(line: SourceLine, leaf: JsonObject) -> SourceMapping:
    """Return the mapping of a proved leaf, if it is what the node said.

    Raises:
        VerificationError: It is not.
    """
    said: dict[str, object] = {"pattern": line.pattern, "repository": line.repository}
    said["tag"] = line.tag
    said |= {"recipe": line.recipe, "reason": line.reason, "t": "add_source"}
    wrong = [name for name, value in said.items() if leaf.get(name) != value]
    if wrong:
        raise VerificationError(f"entry {line.leaf} of the log says otherwise of {wrong[0]}")
    return SourceMapping(line.pattern, line.repository, line.tag)


def _row(line: SourceLine) -> Row:
    return {
        "pattern": line.pattern,
        "repository": line.repository,
        "tag": line.tag,
        "recipe": json_text(line.recipe) if line.recipe else "",
        "leaf": line.leaf,
        "approved": [each.label or each.id for each in line.approved_by],
        "reason": line.reason,
    }
