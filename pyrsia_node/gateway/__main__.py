"""Entry of the gateway process, started by the supervisor."""

from __future__ import annotations

import sys

from pyrsia_node.gateway.main import main

sys.exit(main())
