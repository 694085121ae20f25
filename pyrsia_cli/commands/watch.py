"""``watch``: what is new in the log and matches, to standard output or a webhook.

At least once: the place up to which everything was delivered is written down only after delivery,
so whoever is interrupted, at whatever moment, delivers the last event again and skips none. The
log itself is the queue: nothing is lost while nobody watches.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.commands.search import QUERY_SETTINGS, QueryCommand, complete_term
from pyrsia_cli.delivery import Deliver, Event, Webhook, read_secret, to_stdout
from pyrsia_cli.entries import shown
from pyrsia_cli.output import note
from pyrsia_cli.proving import HeadNotProvedError, Prover, load_following, trust_path
from pyrsia_cli.retelling import HEIGHT_MAX, looks_at_statements, told_again, within
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_cli.watch_state import WatchState
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.schema.http import Search

PAGE: Final = 50
DELAY_FIRST_S: Final = 1.0
DELAY_MAX_S: Final = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Watcher:
    """One watch: where it asks, whom it believes, where it delivers.

    ``retries`` bounds how often one failing step is tried again; ``sleep`` takes seconds.
    """

    api: NodeApi
    prover: Prover
    query: str
    deliver: Deliver
    state: WatchState
    retries: int
    with_proof: bool
    sleep: Callable[[float], None]

    def begin_at_the_end(self) -> None:
        """Begin after everything that is in the log now."""
        self.state.advance(self._insist(lambda: self._ask(None, 1)).as_of - 1)

    def check_query(self) -> None:
        """Refuse now what the node would refuse when a statement comes.

        Raises:
            InvalidInputError: the query is wrong, or so long that no block can be named with it.
        """
        self._insist(lambda: self._ask(None, 1))
        if looks_at_statements(self.query):
            try:
                self._insist(lambda: self._ask(None, 1, query=within(self.query, HEIGHT_MAX)))
            except InvalidInputError as error:
                room = len(within("", HEIGHT_MAX))
                raise InvalidInputError(
                    f"too much for a watch: a watch of a status has {room} characters less than a"
                    f" search, and a term and a parenthesis less: {error}"
                ) from error

    def catch_up(self) -> None:
        """Deliver everything that matches and was not delivered, up to the node's checkpoint.

        Raises:
            UnavailableError: the node or the receiver failed ``retries`` times in a row.
            HeadNotProvedError: the node's head was not proved as often.
            VerificationError: the node sent what is not in the log.
        """
        as_of = self._tell_again() if looks_at_statements(self.query) else None
        cursor = self.state.cursor
        while True:
            page, leaves = self._insist(functools.partial(self._page, cursor, as_of))
            for hit, leaf in zip(page.hits, leaves, strict=True):
                event = Event(hit.index, shown(hit, leaf, with_proof=self.with_proof))
                self._insist(functools.partial(self.deliver, event))
                self.state.advance(hit.index)
            if page.next is None:
                break
            cursor = page.next
            if page.complete:
                self.state.advance(cursor)  # nothing that matches lies before
        if page.complete:
            self.state.advance(page.as_of - 1)

    def _tell_again(self) -> int:
        """Deliver older entries that match by new statements; return the size that was looked at.

        The state does not move: whoever is interrupted after this tells them again. The entries
        behind the state are to be told as of the same size, so that no statement is passed over.
        """
        after = -1 if self.state.cursor is None else self.state.cursor
        as_of = self._insist(lambda: self._ask(after, 1)).as_of

        def ask(query: str, cursor: int | None, size: int) -> tuple[Search, list[JsonObject]]:
            return self._insist(functools.partial(self._whole_page, query, cursor, size))

        for told in told_again(ask, self.query, after=after, as_of=as_of):
            entry = shown(told.entry, told.leaf, with_proof=self.with_proof)
            event = Event(
                told.entry.index, {**entry, "by_statement": told.statement}, told.statement
            )
            self._insist(functools.partial(self.deliver, event))
        return as_of

    def _whole_page(
        self, query: str, cursor: int | None, as_of: int
    ) -> tuple[Search, list[JsonObject]]:
        page = self._ask(cursor, PAGE, query=query, as_of=as_of)
        if not page.complete:
            raise UnavailableError("the node's index is behind its log")
        return page, self.prover.prove(page.hits)

    def _page(self, cursor: int | None, as_of: int | None) -> tuple[Search, list[JsonObject]]:
        page = self._ask(cursor, PAGE, as_of=as_of)
        return page, self.prover.prove(page.hits)

    def _ask(
        self, cursor: int | None, limit: int, *, query: str = "", as_of: int | None = None
    ) -> Search:
        params: dict[str, str | int] = {
            "q": query or self.query,
            "order": "log",
            "limit": limit,
            "proof": 1,
        }
        if as_of is not None:
            params["as_of"] = as_of
        if cursor is not None and cursor >= 0:
            params["cursor"] = cursor
        return self.api.get("/api/v1/search", Search, params)

    def _insist(self, step: Callable[[], _T]) -> _T:
        """Try a step again, ever later, while it fails for a reason that may pass.

        A head that nobody stands behind may be one of members whom the next try learns of.
        """
        delay = DELAY_FIRST_S
        for left in range(self.retries, -1, -1):
            try:
                return step()
            except (UnavailableError, HeadNotProvedError) as error:
                if not left:
                    raise
                note(f"{error}; again in {delay:g} s")
                self.sleep(delay)
                delay = min(2 * delay, DELAY_MAX_S)
        raise AssertionError("the last try returns or raises")


@click.command(cls=QueryCommand, context_settings=QUERY_SETTINGS)
@click.argument("query", nargs=-1, required=True, shell_complete=complete_term)
@click.option("--state", "state_file", help="Remember here what was delivered; go on from there.")
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    help="Begin at this entry; default: what is new from now on.",
)
@click.option("--webhook", help="POST each event to this address instead of printing it.")
@click.option("--secret-file", help="Key of the webhook's HMAC signature: a private file.")
@click.option("--until-caught-up", is_flag=True, help="End when the end of the log is reached.")
@click.option("--proof", "with_proof", is_flag=True, help="Put each entry's proof in its event.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    help="Seconds from one look at the log to the next.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 1000),
    default=8,
    show_default=True,
    help="How often in a row a failing node or receiver is tried again, after 1, 2, 4 … 60 s.",
)
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
def watch(  # noqa: PLR0917 - click passes options by name
    query: Sequence[str],
    state_file: str | None,
    start: int | None,
    webhook: str | None,
    secret_file: str | None,
    interval: float,
    retries: int,
    trust_file: str,
    *,
    until_caught_up: bool,
    with_proof: bool,
) -> None:
    """Follow the log: a JSON line or POST for each new match.

    The arguments are alternatives in the language of `pyrsia search`: what matches any of them is
    an event.

    \b
    pyrsia watch 'pkg:pypi/django*' dep:six 'author:"Benjamin Peterson"'
    pyrsia watch sha256:4721f391ed90541f* --from 0 --until-caught-up
    pyrsia watch 'pkg:pypi/six status:revoked' 'pkg:pypi/six status:withdrawn'
    pyrsia watch 'pkg:pypi/six' type:revoke --state six.json \\
        --webhook https://hooks.example/pyrsia --secret-file hook.key

    An older entry is told again when a statement makes it match: `status:revoked` tells each entry
    as it is revoked, with the statement in `by_statement`. The statements themselves are entries,
    too: type:revoke, or the package's pkg: term.

    At least once: the state moves only after delivery. A receiver drops what it has seen by the
    header X-Pyrsia-Delivery, and checks X-Pyrsia-Signature, `sha256=` and the HMAC of the body.
    A failing node or receiver is tried again, ever later, up to --retries times; then the command
    ends with 5, and the next run goes on where it ended.
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    trusted = trust_path(settings, trust_file)
    trust = load_following(trusted).trust
    combined = " OR ".join(f"({each})" for each in query) if len(query) > 1 else query[0]
    if webhook is None and secret_file is not None:
        raise InvalidInputError("--secret-file signs what goes to a --webhook; there is none")
    secret = read_secret(Path(secret_file)) if secret_file else None
    deliver = to_stdout(sys.stdout) if webhook is None else Webhook(webhook, trust.origin, secret)
    state = WatchState.open(
        Path(state_file) if state_file else None, origin=trust.origin, query=combined
    )
    with NodeApi(settings) as api:
        prover = Prover(api, trusted)
        watcher = Watcher(api, prover, combined, deliver, state, retries, with_proof, time.sleep)
        watcher.check_query()
        if state.cursor is None:
            if start is None:
                watcher.begin_at_the_end()
            else:
                state.advance(start - 1)
        while True:
            watcher.catch_up()
            if until_caught_up:
                return
            time.sleep(interval)
