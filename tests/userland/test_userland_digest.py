"""One run is one digest, whatever seed the host's hashes have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCENARIO = Path(__file__).parent / "digest_scenario.py"


def test_digest_does_not_depend_on_the_hash_seed() -> None:
    """77 and 0 order sets of strings differently."""
    runs = [
        subprocess.run([sys.executable, str(SCENARIO)], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
                       check=True)
        for seed in ("0", "77")
    ]
    assert runs[0].stdout == runs[1].stdout
