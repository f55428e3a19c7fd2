"""Plays cases6.py on a real kernel and writes recordings/six.json, as record.py does for IPv4.

    python tests/kernel/xtables/record6.py [ip6tables-legacy]
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import cases6  # noqa: E402
import record  # noqa: E402


def main() -> None:
    """Record every case."""
    record.TOOL = sys.argv[1] if len(sys.argv) > 1 else "ip6tables-legacy"
    record.RULES, record.COMMANDS, record.RESTORES = cases6.RULES, cases6.COMMANDS, cases6.RESTORES
    version = subprocess.run([record.TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    made = {
        "kernel": platform.release(),
        "tool": version,
        "command": "record6.py",
        "rules": record.record_rules(),
        "commands": record.record_commands(),
        "restores": record.record_restores(),
    }
    (record.HERE / "six.json").write_text(json.dumps(made, indent=1) + "\n")
    subprocess.run(["ip", "netns", "del", record.NETNS], check=False)


if __name__ == "__main__":
    main()
