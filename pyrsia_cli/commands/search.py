"""``search``: what the log holds, page by page, each hit proved before it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click
from click.shell_completion import CompletionItem

from pyrsia_cli.api import NodeApi
from pyrsia_cli.entries import COLUMNS, ORDERS, rows_of, shown, stamp_of, tell_stamp
from pyrsia_cli.output import Row, emit, format_option, note
from pyrsia_cli.proving import Prover, trust_path
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.schema.http import Search
from pyrsia_node.schema.search_terms import CLAIMS, FIELDS, STATUSES, UNIT_TYPES

PAGE_MAX: Final = 200
"""Hits that one request asks for; the node answers no more."""

HITS_MAX: Final = 100_000
_VALUES: Final = {"claim": CLAIMS, "status": STATUSES, "type": tuple(sorted(UNIT_TYPES))}


def complete_term(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the field of a term, or the value of ``status:`` and ``type:``.

    bash ends words at colons: there the field stands among the words before.
    """
    before = [str(each) for each in ctx.params.get("query") or ()]
    text = incomplete
    if text == ":" and before:
        text = f"{before[-1]}:"
    elif len(before) >= 2 and before[-1] == ":":
        text = f"{before[-2]}:{incomplete}"
    is_split = text != incomplete
    sign = "-" if text.startswith("-") else ""
    field, colon, value = text.removeprefix("-").partition(":")
    if not colon:
        return [
            CompletionItem(f"{sign}{name}:", help=what, type="plain")
            for name, what in FIELDS.items()
            if name.startswith(field)
        ]
    lead = "" if is_split else f"{sign}{field}:"
    return [
        CompletionItem(lead + each) for each in _VALUES.get(field, ()) if each.startswith(value)
    ]


class QueryCommand(click.Command):
    """A command whose words are a query: what begins with ``-`` and is no option excludes.

    So ``-h`` asks for help only where it stands alone, and ``-height:1..5`` is a term: click must
    not learn of ``-h``, and the help page has it all the same.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, with ``-h`` as on every other page; as ``click.Command``."""
        option = self.get_help_option(ctx)
        assert option is not None
        option.opts.insert(0, "-h")
        try:
            super().format_options(ctx, formatter)
        finally:
            option.opts.remove("-h")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; as ``click.Command``."""
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


QUERY_SETTINGS: Final = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


@click.command(cls=QueryCommand, context_settings=QUERY_SETTINGS)
@click.argument("query", nargs=-1, required=True, shell_complete=complete_term)
@click.option(
    "--limit",
    type=click.IntRange(1, HITS_MAX),
    default=50,
    show_default=True,
    help="Most hits; more than a page are fetched page by page.",
)
@click.option("--cursor", type=click.IntRange(min=0), help="Go on where an answer ended.")
@click.option(
    "--order",
    type=click.Choice(list(ORDERS)),
    default="newest",
    show_default=True,
    help="Newest first, oldest first, or best match of the words first.",
)
@click.option("--as-of", type=click.IntRange(min=0), help="See the log as it was at this size.")
@click.option("--proof", "with_proof", is_flag=True, help="Print each hit's proof, too (JSON).")
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def search(  # noqa: PLR0917 - click passes options by name
    query: Sequence[str],
    limit: int,
    cursor: int | None,
    order: str,
    as_of: int | None,
    trust_file: str,
    output_format: str,
    *,
    with_proof: bool,
) -> None:
    """Search the log. Every hit was proved against your trust file before it is shown.

    \b
    Packages
      pyrsia search pkg:pypi/six                    every version
      pyrsia search pkg:pypi/six@1.17.0             one version
      pyrsia search 'pkg:maven/org.apache.*'        all that begin so
      pyrsia search requests http                   words of name, summary, author, ...
      pyrsia search '"date and time"' 'pars*'       words in a row; words that begin so

    \b
    Files and sources
      pyrsia search sha256:4721f391ed90541f*        which entry lists this file
      pyrsia search file:six-1.17.0.tar.gz
      pyrsia search repo:github.com/psf             the repository, and all below
      pyrsia search repo:https://github.com/benjaminp/six

    \b
    Who and what
      pyrsia search 'author:"Benjamin Peterson"' license:MIT
      pyrsia search dep:attrs status:accepted       what depends on attrs
      pyrsia search neededby:pkg:pypi/black@26.1.0  what black depends on
      pyrsia search builder:node2 status:diverged   what node2 took part in, and nobody agreed
      pyrsia search status:revoked                  also withdrawn, deprecated, vulnerable
      pyrsia search type:set                        when members came and went

    \b
    When
      pyrsia search since:2026-11-01 until:2026-11-07T12:00
      pyrsia search height:100..200
      pyrsia search pkg:pypi/six --as-of 120000     as if the log ended there

    Terms must all hold. OR stands between alternatives, - excludes, parentheses group:

    \b
      pyrsia search '(dep:six OR dep:attrs) -status:accepted'

    Best match first needs words, and gives one page: the best 200 at most, of up to 50,000
    matches. The answer says how many matched. If more do, it has the newest first, and says so.

    \b
      pyrsia search date time parser --order rank --limit 20

    The answer says for which size and root of the log it holds, and whether it is complete; where
    it was cut, `more:` says how to go on.

    Exit codes: 0 ok, also if nothing was found; 2 the query is wrong, and a caret shows where; 3 a
    proof does not hold; 5 no node answers.
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    trusted = trust_path(settings, trust_file)
    params: dict[str, str | int] = {"q": " ".join(query), "order": order, "proof": 1}
    if as_of is not None:
        params["as_of"] = as_of
    if cursor is not None:
        params["cursor"] = cursor
    if with_proof and output_format not in {"json", "jsonl"}:
        note("--proof is for --format json and jsonl; no proof is printed")
    with NodeApi(settings) as api:
        prover = Prover(api, trusted)
        found = _print(_pages(api, params, limit), prover, output_format, with_proof=with_proof)
    if order == "rank" and found.order != order:
        note("not ranked: too many match; the newest come first")


def _pages(api: NodeApi, params: dict[str, str | int], limit: int) -> Iterator[Search]:
    """Yield pages as of the size of the first one, so that together they are one answer."""
    left = limit
    while True:
        found = api.get("/api/v1/search", Search, {**params, "limit": min(left, PAGE_MAX)})
        yield found
        left -= len(found.hits)
        if found.next is None or left <= 0:
            return
        # Too many to be ranked come in another order than was asked for, and go on in that.
        params |= {"cursor": found.next, "as_of": found.as_of, "order": found.order}


def _print(
    pages: Iterator[Search], prover: Prover, output_format: str, *, with_proof: bool
) -> Search:
    """Print the hits of all pages and what they hold for; return the last page."""
    rows: list[Row] = []
    hits: list[dict[str, object]] = []
    is_complete = True
    found = None
    for found in pages:
        leaves = prover.prove(found.hits)
        lines = [
            shown(hit, leaf, with_proof=with_proof)
            for hit, leaf in zip(found.hits, leaves, strict=True)
        ]
        is_complete = is_complete and found.complete
        if output_format == "jsonl":  # page by page: there may be very many
            emit([], (), "jsonl", lines=lines)
        else:
            rows += rows_of(found.hits, leaves)
            hits += lines
    assert found is not None
    stamp = {**stamp_of(found), "complete": is_complete, "order": found.order, "next": found.next}
    if found.matches is not None:
        stamp["matches"] = found.matches
    if output_format == "jsonl":
        emit([], (), "jsonl", lines=[stamp])
        tell_stamp(stamp, output_format)
        return found
    emit(rows, COLUMNS, output_format, document={**stamp, "hits": hits})
    tell_stamp(stamp, output_format, _more(found))
    return found


def _more(found: Search) -> str:
    """Say how to get what was cut after the last page; "" if nothing was."""
    if found.next is not None:
        return f"--cursor {found.next} --as-of {found.as_of} --order {found.order}"
    shown, matches = len(found.hits), found.matches or 0
    if shown >= matches:
        return ""
    ways = [f"--limit {min(matches, PAGE_MAX)}"] if shown < PAGE_MAX else []
    if matches > PAGE_MAX:
        ways.append("all of them by --order newest")
    return f"the best {shown} of {matches} matches are shown; {', or '.join(ways)}"
