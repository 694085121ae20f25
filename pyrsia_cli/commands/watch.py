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

    def catch_up(self) -> None:
        """Deliver everything that matches and was not delivered, up to the node's checkpoint.

        Raises:
            UnavailableError: the node or the receiver failed ``retries`` times in a row.
            HeadNotProvedError: the node's head was not proved as often.
            VerificationError: the node sent what is not in the log.
        """
        cursor = self.state.cursor
        while True:
            page, leaves = self._insist(functools.partial(self._page, cursor))
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

    def _page(self, cursor: int | None) -> tuple[Search, list[JsonObject]]:
        page = self._ask(cursor, PAGE)
        return page, self.prover.prove(page.hits)

    def _ask(self, cursor: int | None, limit: int) -> Search:
        params: dict[str, str | int] = {
            "q": self.query,
            "order": "log",
            "limit": limit,
            "proof": 1,
        }
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
    pyrsia watch 'pkg:pypi/six' type:revoke --state six.json \\
        --webhook https://hooks.example/pyrsia --secret-file hook.key

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
