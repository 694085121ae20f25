"""The node's registry against Debian's, by its short name: ``python -m benchmarks.registry``.

The same as ``benchmarks.macro.bench_registry``, which says what is measured and how.
"""

from __future__ import annotations

import sys

from benchmarks.macro.bench_registry import main

if __name__ == "__main__":
    sys.exit(main())
