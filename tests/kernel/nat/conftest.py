"""NAT's tests share conntrack's router between two sides (../conntrack/ctworld.py)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "conntrack"))
