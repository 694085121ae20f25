"""Maven through a node against a plain server, by its short name: ``python -m benchmarks.maven``.

The same as ``benchmarks.macro.bench_maven``, which says what is measured and how.
"""

from __future__ import annotations

import sys

from benchmarks.macro.bench_maven import main

if __name__ == "__main__":
    sys.exit(main())
