"""``follow`` and ``unfollow``: have new versions of a tag imported as they appear."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.entries import time_text
from pyrsia_cli.images import checked_platforms
from pyrsia_cli.output import Row, emit, format_option, note, say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import ImageName, split_reference
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.following import (
    EVERY_S_DEFAULT,
    EVERY_S_MAX,
    EVERY_S_MIN,
    Followed,
    Follows,
)
from pyrsia_node.schema.links import Done

COLUMNS: Final = ("image", "every", "node", "looked", "seen", "logged", "state", "problem")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PAUSE: Final = re.compile(r"([0-9]{1,7})([smhd]?)")
_DIGEST_SHOWN: Final = 19


@click.command()
@click.argument("image", required=False)
@click.option("--every", default=f"{EVERY_S_DEFAULT}s", help="Pause, such as 30m, 1h, 1d.")
@click.option("--platform", "platforms", multiple=True, help="As os/arch[/variant]; default: all.")
@click.option("--list", "lists", is_flag=True, help="Show what is followed.")
@format_option
def follow(
    image: str | None, every: str, platforms: Sequence[str], output_format: str, *, lists: bool
) -> None:
    """Have a tag looked at, and imported when it moves.

    \b
    pyrsia follow alpine:3.20 --every 1h
    pyrsia follow pkg:docker/ghcr.io/a/b@1 --platform linux/amd64
    pyrsia follow --list

    An authorized node asks the upstream what the tag is and, when it is something new, requests the
    import: several that follow one tag make one request. The tag moves in the log once enough
    authorized nodes saw the same. Without an image or with --list, shows what is followed.
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        if lists or image is None:
            _show(api.get("/api/v1/follows", Follows), output_format)
            return
        wanted = checked_platforms(platforms)
        body = {**_asked(image), "every_s": _seconds(every), "platforms": wanted}
        found = api.post("/api/v1/follows", Followed, body)
        if output_format == "table":
            say(f"{found.purl} is followed by {found.node}, every {_pause(found.every_s)}")
        else:
            emit([_row(found)], COLUMNS, output_format, document=found.dump())


@click.command()
@click.argument("image")
def unfollow(image: str) -> None:
    """Have a tag looked at no more.

    \b
    pyrsia unfollow alpine:3.20

    What the log says of it stays.
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        api.post("/api/v1/follows/end", Done, _asked(image))
    say(f"{image} is not followed any more")


def _asked(text: str) -> dict[str, object]:
    """Return the members that name what is followed."""
    if text.startswith("pkg:"):
        purl = Purl.from_user(text)
        if purl.version is None:
            raise InvalidInputError(f"{text!r} names no tag")
        name = str(ImageName.from_purl(purl)) if purl.type == "docker" else purl.name
        return {"ecosystem": _ecosystem(purl), "name": name, "version": purl.version}
    name, tag, digest = split_reference(text)
    version = tag if tag is not None else str(digest or "latest")
    return {"ecosystem": "docker", "name": name, "version": version}


def _ecosystem(purl: Purl) -> str:
    if purl.type not in {"docker", "pypi"}:
        raise InvalidInputError(f"{purl}: only tags of images are followed")
    return purl.type


def _seconds(text: str) -> int:
    match = _PAUSE.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match is not None else 0
    if not EVERY_S_MIN <= seconds <= EVERY_S_MAX:
        raise InvalidInputError(
            f"--every {text!r} is no pause from {EVERY_S_MIN}s to {_pause(EVERY_S_MAX)}"
        )
    return seconds


def _pause(seconds: int) -> str:
    unit = next(each for each in "dhms" if seconds % _UNITS[each] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _show(found: Follows, output_format: str) -> None:
    rows = [_row(each) for each in found.follows]
    emit(rows, COLUMNS, output_format, document=found.dump())
    if found.away:
        note(f"not asked, because they do not answer: {', '.join(found.away)}")


def _row(each: Followed) -> Row:
    return {
        "image": each.purl,
        "every": _pause(each.every_s),
        "node": each.node,
        "looked": time_text(each.looked_ms) if each.looked_ms else "",
        "seen": each.seen[:_DIGEST_SHOWN],
        "logged": each.logged[:_DIGEST_SHOWN],
        "state": _state(each),
        "problem": each.problem,
    }


def _state(each: Followed) -> str:
    if not each.seen:
        return "not seen yet"
    if each.seen == each.logged:
        return "up to date"
    return "importing" if each.build_id else "new"
