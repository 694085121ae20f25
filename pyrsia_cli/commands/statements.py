"""``withdraw``, ``revoke``, ``deprecate``, ``vulnerable``: what to think of what is in the log.

The log forgets nothing. A statement is one more entry, and gateways act by it: what was withdrawn
or revoked is not served any more; a deprecation or an advisory only advises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.commands.members import bring, heights_option, require_answer, until_committed
from pyrsia_cli.maven_names import parse_gav
from pyrsia_cli.output import note, say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, PyrsiaError, UnavailableError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.http import Entry, InspectLog
from pyrsia_node.schema.motions import AdviceTaken

_REASON: Final = "What happened, in a sentence; it stands in the log for ever."
reason_option = click.option("--reason", required=True, help=_REASON)


@click.command()
@click.argument("entry", type=click.IntRange(0))
@reason_option
@heights_option
def withdraw(entry: int, reason: str, heights: int) -> None:
    """Approve that an ACCEPTED entry counts no more.

    ENTRY is its index in the log; `pyrsia inspect-log` shows it. For a build that should never
    have been accepted. Another entry may then name other bytes for the same file.
    """
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get(f"/api/v1/entries/{entry}", Entry)
    if found.type != "accepted" or found.purl is None:
        raise InvalidInputError(f"entry {entry} is {found.type}; only accepted ones are withdrawn")
    bring("withdraw", {"entry": entry, "purl": found.purl, "reason": reason}, heights)


@click.command()
@click.argument("package", metavar="NAME==VERSION|G:A:V")
@click.option("--sha256", "digests", multiple=True, help="A file's digest; may be repeated.")
@click.option("--all-files", is_flag=True, help="Every file of every entry of the version.")
@reason_option
@heights_option
def revoke(
    package: str, digests: Sequence[str], reason: str, heights: int, *, all_files: bool
) -> None:
    """Approve that nobody should serve certain bytes any more.

    For files that harm. The digest counts, in whichever entry it stands.

    \b
    pyrsia revoke six==1.17.0 --sha256 4721f391... --reason "steals credentials"
    pyrsia revoke six==1.17.0 --all-files --reason "steals credentials"
    pyrsia revoke org.example:tool:2.0 --all-files --reason "opens a shell"
    """  # noqa: D301 - click reads the backspace character
    purl = version_purl(package)
    if all_files == bool(digests):
        raise InvalidInputError("say which files: --sha256 DIGEST, or --all-files")
    failures: list[PyrsiaError] = []
    for digest in digests or _files_of(purl):
        try:
            bring("revoke", {"purl": str(purl), "reason": reason, "sha256": digest}, heights)
        except (InvalidInputError, UnavailableError) as error:
            # One that is revoked already must not keep the others from it.
            note(f"sha256:{digest}: {error}")
            failures.append(error)
    if failures:
        raise failures[0]


@click.command()
@click.argument("package", metavar="NAME[==VERSION]|G:A[:V]")
@click.option("--instead", default="", help="What to use instead: NAME or NAME==VERSION.")
@reason_option
def deprecate(package: str, instead: str, reason: str) -> None:
    """Advise against a package, or one version of it. Nothing is blocked."""
    other = str(any_purl(instead)) if instead else ""
    _advise("deprecate", {"purl": str(any_purl(package)), "reason": reason, "instead": other})


@click.command()
@click.argument("package", metavar="NAME[==VERSION]|G:A[:V]")
@click.option("--advisory", required=True, help="The advisory's name, such as CVE-2024-3094.")
@reason_option
def vulnerable(package: str, advisory: str, reason: str) -> None:
    """Say that an advisory speaks of a package or version.

    Nothing is blocked.
    """
    content: dict[str, object] = {"purl": str(any_purl(package)), "reason": reason}
    _advise("vulnerable", {**content, "advisory": advisory})


def any_purl(text: str) -> Purl:
    """Return the package that a text means.

    That is NAME or NAME==VERSION of Python, GROUP:ARTIFACT[:VERSION] of Maven, or a package URL.

    Raises:
        InvalidInputError: It means none.
    """
    if text.startswith("pkg:"):
        return Purl.from_user(text)
    if ":" in text:
        return parse_gav(text, needs_version=False)
    name, _, version = text.partition("==")
    return Purl.pypi(name.strip(), version.strip() or None)


def version_purl(text: str) -> Purl:
    """Return the version that a text means; raises InvalidInputError where it names none."""
    purl = any_purl(text)
    if purl.version is None:
        raise InvalidInputError(
            f"{text}: name the version too, as NAME==VERSION or GROUP:ARTIFACT:VERSION"
        )
    return purl


def _files_of(purl: Purl) -> list[str]:
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get("/api/v1/inspect-log", InspectLog, {"purl": str(purl)})
    digests = {
        file.sha256 for entry in found.entries if entry.type == "accepted" for file in entry.files
    }
    if not digests:
        raise NotFoundError(f"the log has no accepted entry of {purl}")
    return sorted(digests)


def _advise(op: str, content: dict[str, object]) -> None:
    with NodeApi(load_settings(settings_path())) as api:
        taken = api.post("/api/v1/advice", AdviceTaken, {"op": op, "content": content})
        state = require_answer(until_committed(api, taken.transaction))
    say(f"{op} {content['purl']}: entry {state.leaf} of the log")
