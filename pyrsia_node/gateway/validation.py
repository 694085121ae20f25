"""Validation as it is asked for: ``GET /api/v1/validate`` and the webhook ``/validate-image``.

The rules file is read at the start, and again when it changed; one that cannot be read any more
leaves the rules before it in force, and the node's log says so. The decision is
``registry.validation``; what the log says of an image is ``artifacts``' business. Where the log
cannot be asked, an image that needs it does not run: the webhook says no, never an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

from fastapi import FastAPI, Query

from pyrsia_node.artifacts.images.found import LogWord
from pyrsia_node.gateway.errors import body_of
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.model.oci import ImageName
from pyrsia_node.registry.admission import (
    REVIEW_BYTES_MAX,
    Review,
    parse_review,
    review_answer,
)
from pyrsia_node.registry.validation import (
    RULES_BYTES_MAX,
    ValidationRules,
    Verdict,
    judge,
    needs_log,
    parse_rules,
    read_image,
)
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.registry import Validation
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer, answer_text

WEBHOOK: Final = b"validate-image"
JSON: Final = "application/json"
IMAGE_LENGTH_MAX: Final = 1024

_log = logging.getLogger("pyrsia.validation")
AskLog = Callable[[ImageName, str], Awaitable[LogWord | None]]


class RulesFile:
    """The operator's rules as the file has them now."""

    def __init__(self, path: Path | None, *, default_host: str) -> None:
        """Read the file; None allows everything.

        Raises:
            InvalidInputError: It cannot be read, or something in it is not allowed.
        """
        self._path = path
        self._default_host = default_host
        self._stamp = self._stamp_now()
        self._rules = self._read()

    @property
    def rules(self) -> ValidationRules:
        """Return the rules in force."""
        stamp = self._stamp_now()
        if stamp != self._stamp:
            # Noted before the read: a file that is wrong is complained about once.
            self._stamp = stamp
            try:
                self._rules = self._read()
            except InvalidInputError as error:
                _log.warning("the rules before stay in force: %s", error)
            else:
                _log.info("%s was read anew", self._path)
        return self._rules

    def _read(self) -> ValidationRules:
        if self._path is None:
            return ValidationRules(self._default_host)
        try:
            with self._path.open("rb") as file:
                text = file.read(RULES_BYTES_MAX + 1).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{self._path} cannot be read: {error}") from error
        return parse_rules(text, source=str(self._path), default_host=self._default_host)

    def _stamp_now(self) -> tuple[int, int, int]:
        if self._path is None:
            return (0, 0, 0)
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_ino, status.st_mtime_ns, status.st_size)


class Validator:
    """Judges images by the rules in force and by the log."""

    def __init__(self, file: RulesFile, ask_log: AskLog, *, default_host: str) -> None:
        """Judge by ``file``; ``ask_log`` says what the log knows of a tag or digest."""
        self._file = file
        self._ask_log = ask_log
        self._default_host = default_host

    async def explain(self, text: str) -> Validation:
        """Return the verdict on an image, and what the log says of it in any case.

        Raises:
            InvalidInputError: ``text`` is no reference.
            UnavailableError: The log cannot be asked now.
        """
        image = read_image(text, default_host=self._default_host)
        word = await self._ask_log(image.name, _reference(image.digest, image.version))
        verdict = judge(self._file.rules, image, word)
        told: dict[str, object] = {}
        if word is not None:
            told = {"digest": word.digest, "entry": word.index, "claim": word.claim}
            told |= {"closed": word.closed} if word.closed else {}
        return Validation.parse(
            {
                "image": verdict.image,
                "allowed": verdict.is_allowed,
                "reason": verdict.reason,
                **told,
            }
        )

    async def judge(self, text: str) -> Verdict:
        """Return the verdict on an image; whatever is wrong is a no with its reason."""
        try:
            image = read_image(text, default_host=self._default_host)
        except InvalidInputError as error:
            return Verdict(f"{text!r:.300}", is_allowed=False, reason=str(error))
        rules = self._file.rules
        if not needs_log(rules, image.name):
            return judge(rules, image, None)
        try:
            word = await self._ask_log(image.name, _reference(image.digest, image.version))
        except PyrsiaError as error:
            reason = f"the log cannot be asked just now: {error}"
            return Verdict(str(image), is_allowed=False, reason=reason)
        return judge(rules, image, word)

    async def webhook(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an AdmissionReview: ``POST /validate-image``."""
        if scope["method"] != "POST":
            headers = [("allow", "POST")]
            await answer_text(scope, send, 405, "post an AdmissionReview here", headers)
            return
        try:
            review = parse_review(await _body(receive))
        except InvalidInputError as error:
            await answer(scope, send, 400, body_of(error), media=JSON)
            return
        verdicts = await self._judge_all(review)
        _note(review, verdicts)
        body = json.dumps(review_answer(review, verdicts)).encode()
        await answer(scope, send, 200, body, media=JSON)

    async def _judge_all(self, review: Review) -> list[Verdict]:
        try:
            return [await self.judge(image) for image in review.images]
        except Exception:  # noqa: BLE001 - a cluster told to ignore failures would run what no answer denies
            _log.exception("review %.80r could not be judged", review.uid)
            return [Verdict("all images", is_allowed=False, reason="the node failed to judge them")]


def open_validator(layout: Layout, config: Config, ask_log: AskLog) -> Validator:
    """Return the validator of a node; raises InvalidInputError about its rules file."""
    name, default_host = config.registry.validation_file, config.docker.default_registry
    file = RulesFile(layout.root / name if name else None, default_host=default_host)
    return Validator(file, ask_log, default_host=default_host)


def add_validation_routes(app: FastAPI, validator: Validator) -> None:
    """Add the dry run to the control API; reading is for everybody."""

    @app.get("/api/v1/validate", response_model_exclude_none=True)
    async def validate(
        image: Annotated[
            str, Query(max_length=IMAGE_LENGTH_MAX, description="such as alpine:3.20")
        ],
    ) -> Validation:
        """Tell whether an image may run by this node's rules, and why."""
        return await validator.explain(image)


def _reference(digest: object, version: str) -> str:
    """Return what a runtime pulls: where a digest stands beside a tag, the digest counts."""
    return str(digest) if digest is not None else version


def _note(review: Review, verdicts: list[Verdict]) -> None:
    # Texts of the cluster's users: as literals, so that none forges a line of the log.
    if review.problem:
        _log.info("review %.80r denied: %.300r", review.uid, review.problem)
    for verdict in verdicts:
        if not verdict.is_allowed:
            _log.info(
                "review %.80r: %.300r denied: %.300r", review.uid, verdict.image, verdict.reason
            )


async def _body(receive: Receive) -> bytes:
    data = bytearray()
    while True:
        message = await receive()
        data += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(data) > REVIEW_BYTES_MAX:
            raise InvalidInputError(
                f"the review is cut off, or longer than {REVIEW_BYTES_MAX} bytes"
            )
        if not message.get("more_body", False):
            return bytes(data)
