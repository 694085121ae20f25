"""``build maven``: have artifacts rebuilt from their sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.commands.building import post, report
from pyrsia_cli.configured_files import read_text
from pyrsia_cli.mapping_options import FileOfMappings, read_mapping_file
from pyrsia_cli.maven_names import GAV_METAVAR, name_of, parse_gav, parse_source
from pyrsia_cli.output import format_option, note
from pyrsia_cli.recipe_options import recipe_of, recipe_options
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.maven_builds import PIPELINE_EXTERNAL, MavenOptions, check_recipe_of


@click.command()
@click.argument("artifacts", nargs=-1, metavar=f"[{GAV_METAVAR}...]")
@click.option("--gav", "more", multiple=True, metavar=GAV_METAVAR, help="An artifact.")
@click.option(
    "--source", default="", help="Source, where members allow it: git+https://HOST/PATH@TAG."
)
@click.option(
    "--mapping",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Source and recipe from a file: JSON of a mapping server, or TOML of patterns.",
)
@recipe_options
@click.option("--external", is_flag=True, help="By an outside pipeline: never counts as rebuilt.")
@click.option("--class", "deadline_class", type=click.Choice(["S", "M", "L"]), help="Deadline.")
@click.option("--no-wait", is_flag=True, help="Print the build ids and return.")
@format_option
def maven(  # noqa: PLR0917 - click passes options by name
    artifacts: Sequence[str],
    more: Sequence[str],
    source: str,
    file: Path | None,
    deadline_class: str | None,
    output_format: str,
    *,
    external: bool,
    no_wait: bool,
    **recipe: Any,
) -> None:
    """Rebuild Maven artifacts from their sources.

    \b
    pyrsia build maven --gav commons-codec:commons-codec:1.15
    pyrsia build maven org.example:tool:2.0 --jdk 17 --module tool
    pyrsia build maven a:b:1 --source git+https://git.example/b.git@v1
    pyrsia build maven --mapping b-1.mapping

    Where an artifact comes from is said by the mapping in the log (`pyrsia sources add`). --source,
    --mapping and recipe options that say otherwise are for members who opted in.
    Waits for the outcome; what differs from the published files is told by `pyrsia build explain`.
    A build that differs from a published file is accepted too; it says CONTRADICTS, and where to
    read what differs.

    Exit codes: 0 every artifact was accepted, 1 one was not, 2 something is written wrongly or not
    mapped, 5 no node or sponsor answers.
    """  # noqa: D301 - click reads the backspace character
    wanted = [parse_gav(text) for text in (*artifacts, *more)]
    if file is not None and source:
        raise InvalidInputError("--source and --mapping both say where the source is; give one")
    mapped = _read_mapping(file) if file is not None else None
    if mapped is not None and mapped.purl is not None and not wanted:
        wanted = [mapped.purl]
    if not wanted:
        raise InvalidInputError("name at least one artifact, such as --gav org.example:tool:1.0")
    said: dict[str, object] = dict(parse_source(source)) if source else {}
    for name, value in recipe_of(recipe).items():
        said[name] = list(value) if isinstance(value, tuple) else value
    if external:
        said["pipeline"] = PIPELINE_EXTERNAL
    if len(wanted) > 1 and ("source" in said or "module" in said):
        raise InvalidInputError("--source and --module are for one artifact: build them one by one")
    bodies = []
    for purl in wanted:
        of_file = mapped.options_of(purl) if mapped is not None else {}
        bodies.append(_body(purl, checked({**of_file, **said}), deadline_class))
    with NodeApi(load_settings(settings_path())) as api:
        started = [post(api, body) for body in bodies]
        report(api, started, output_format, waits=not no_wait)


def _read_mapping(path: Path) -> FileOfMappings:
    text = read_text(path)
    if not text:
        raise InvalidInputError(f"{path} is not there, or empty")
    try:
        found = read_mapping_file(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    if found.has_build_spec:
        note(f"{path}: the build spec that it names is not run: a recipe is given by options")
    return found


def checked(said: dict[str, object]) -> dict[str, object]:
    """Return the options of a wish, if they hold together.

    Raises:
        InvalidInputError: They do not; the text names the option.
    """
    properties = said.get("properties")
    for each in properties if isinstance(properties, list) else []:
        name, equals, _ = str(each).partition("=")
        if not name or not equals:
            raise InvalidInputError(f"--property {each!r:.100} is not NAME=VALUE")
    own = sorted(said.keys() - {"pipeline", "source", "tag"})
    if "pipeline" in said and own:
        raise InvalidInputError(
            f"with --external, {own[0]} means nothing: an outside pipeline has its own recipe"
        )
    check_recipe_of(said)
    return MavenOptions.parse(said).dump()


def _body(purl: Purl, options: dict[str, object], deadline_class: str | None) -> dict[str, object]:
    body: dict[str, object] = {"ecosystem": "maven", "name": name_of(purl)}
    body["version"] = purl.version
    if options:
        body["options"] = options
    if deadline_class is not None:
        body["class"] = deadline_class
    return body
