"""The order of Maven's versions, held against Maven's own answers."""

from __future__ import annotations

import json
from pathlib import Path

from buildpipelines.spec.maven_order import version_key

VECTORS = Path(__file__).parents[2] / "vectors" / "maven" / "version-order.json"


def test_order_is_that_of_maven_itself() -> None:
    wrong = []
    for one, said, other in json.loads(VECTORS.read_text()):
        left, right = version_key(one), version_key(other)
        found = "<" if left < right else "==" if left == right else ">"
        if found != said:
            wrong.append((one, found, other))
    assert wrong == []
