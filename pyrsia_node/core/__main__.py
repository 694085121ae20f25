"""Entry of the core process, started by the supervisor."""

from __future__ import annotations

import sys

from pyrsia_node.core.main import main

sys.exit(main())
