"""Who may not make namespaces is told so before anything is made."""

from __future__ import annotations

import subprocess
import sys

from tests.chaos.stage import ROOT

NOBODY = 65534
PROGRAM = f"""
import os, sys
from tests.chaos.__main__ import main
if os.geteuid() == 0:
    os.setuid({NOBODY})
sys.argv = ["chaos", "--seconds", "1"]
sys.exit(main())
"""


def test_without_root_the_harness_says_what_it_needs_and_makes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "chaos: network namespaces, mounts and TUN devices need root:"
        " run the chaos harness as root\n"
    )
