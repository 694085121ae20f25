"""The command's own settings: which node to talk to, whom to trust. A small TOML file.

``$PYRSIA_CONFIG``, else ``$XDG_CONFIG_HOME/pyrsia/pyrsia.toml``, else ``~/.config/…``. Written
whole, through a temporary file; unknown keys are refused so that a typing error is not silent.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*\Z|\[?[0-9a-f:]+\]?\Z"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says. ``trust``, ``token_file`` and ``ca_file`` are paths, "" when not set.

    ``tls``: the node speaks HTTPS; ``ca_file`` holds whose certificates count, "" the system's.
    """

    host: str = "127.0.0.1"
    port: int = 7888
    trust: str = ""
    token_file: str = ""
    tls: bool = False
    ca_file: str = ""

    @property
    def url(self) -> str:
        """The node's base URL."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


_KEYS: Final = ", ".join(each.name for each in fields(Settings))


def settings_path() -> Path:
    """Return where the settings file is, or would be."""
    chosen = os.environ.get("PYRSIA_CONFIG")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "pyrsia" / "pyrsia.toml"


def load_settings(path: Path) -> Settings:
    """Read the file; a missing one means the defaults.

    Raises:
        InvalidInputError: it is no TOML, or a key or value is not allowed; all are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    return edited(Settings(), values, source=str(path))


def edited(settings: Settings, values: dict[str, object], *, source: str) -> Settings:
    """Return ``settings`` with ``values`` put in.

    Raises:
        InvalidInputError: naming every key or value that is not allowed.
    """
    problems = [problem for key, value in values.items() if (problem := _problem(key, value))]
    if problems:
        raise InvalidInputError(f"{source}: " + "; ".join(problems))
    return replace(settings, **values)  # type: ignore[arg-type] # each value was checked above


def save_settings(path: Path, settings: Settings) -> None:
    """Write the file whole; the old one stays until the new one is complete."""
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in asdict(settings).items()]
    write_whole(path, "".join(lines))


def write_whole(path: Path, text: str, *, mode: int | None = None) -> None:
    """Replace a text file by way of a temporary one beside it.

    Args:
        path: The file; its folder is made if need be.
        text: What it shall hold.
        mode: Its permission bits; None leaves them to the process's mask.

    Raises:
        InvalidInputError: the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}") from error


def _problem(key: str, value: object) -> str:
    match key:
        case "host":
            is_right = isinstance(value, str) and bool(_HOST.match(value))
            allowed = "a host name or an IP address"
        case "port":
            is_right = type(value) is int and 1 <= value <= 65535
            allowed = "an integer from 1 to 65535"
        case "trust" | "token_file" | "ca_file":
            is_right = isinstance(value, str)
            allowed = "a path, or empty"
        case "tls":
            is_right = isinstance(value, bool)
            allowed = "true or false"
        case _:
            return f"{key}: unknown; known are {_KEYS}"
    return "" if is_right else f"{key} = {value!r}: {allowed} is allowed"
