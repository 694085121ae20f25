"""Under which name ``pyrsia-node`` was called, for help pages that teach the words to type.

``pyrsia`` hands some subcommands on to it, and says so in the environment.
"""

from __future__ import annotations

from typing import Final

CALLED_AS: Final = "PYRSIA_CALLED_AS"
"""The variable that holds the name of the command that was typed."""
