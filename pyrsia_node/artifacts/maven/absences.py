"""What upstream Maven repositories lack, as far as a node remembers.

An absence is believed for a while without asking. After that it counts while the upstream cannot be
asked, for a day: Maven asks for much that exists nowhere, takes 404 as an answer, and stops at 503.
In memory alone, so that a client who asks for whatever it likes fills no disk.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

ABSENCES_KEPT: Final = 20_000
STALE_SECONDS: Final = 86_400.0
"""How long an absence counts while its upstream is down: longer, and what was published since would
be hidden; shorter, and a night without the upstream stops builds."""


class Absences:
    """Keys with the time at which they were last found absent. Times are monotonic seconds."""

    def __init__(self, believed_seconds: float) -> None:
        """Believe an absence so long without asking again."""
        self._believed_seconds = believed_seconds
        self._noted: OrderedDict[str, float] = OrderedDict()

    def note(self, key: str, now: float) -> None:
        """Remember that it is absent now; the one noted longest ago goes when there are many."""
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > ABSENCES_KEPT:
            self._noted.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget it: it is there now."""
        self._noted.pop(key, None)

    def is_believed(self, key: str, now: float) -> bool:
        """Tell whether it counts as absent without asking anybody."""
        noted = self._noted.get(key)
        return noted is not None and now - noted < self._believed_seconds

    def was_seen(self, key: str, now: float) -> bool:
        """Tell whether it counts as absent while nobody can be asked."""
        noted = self._noted.get(key)
        return noted is not None and now - noted < STALE_SECONDS
