"""The library's log, quieter and under our name."""

from __future__ import annotations

import logging


class _Forward(logging.Handler):
    """Hands the library's records to our logger, two levels quieter.

    What the library calls an error is mostly a peer that went away; a stranger must not be able
    to fill an operator's log.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's text under ``pyrsia.p2p.libp2p``."""
        level = logging.INFO if record.levelno >= logging.CRITICAL else logging.DEBUG
        logging.getLogger("pyrsia.p2p.libp2p").log(
            level, "%s: %s", record.name, record.getMessage()
        )


def forward_log() -> None:
    """Give the library's logger a handler, once: it does not propagate and would be mute."""
    logger = logging.getLogger("libp2p")
    if not any(isinstance(handler, _Forward) for handler in logger.handlers):
        logger.addHandler(_Forward())
