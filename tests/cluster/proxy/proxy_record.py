"""Loads the texts of proxy_cases.py into a real kernel and writes what it prints to recordings/saves.json.

    python tests/cluster/proxy/proxy_record.py [iptables-legacy]

Needs root. Every case has a network namespace of its own (`unshare -n`); nothing else is touched. Jumps from built-in
chains come first, as in a full sync. Comments of iptables-save (with its times) are not kept.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from proxy_cases import cases  # noqa: E402

from kubenet.cluster.proxy import jump_rules  # noqa: E402

TOOL = sys.argv[1] if len(sys.argv) > 1 else "iptables"
TARGET = Path(__file__).parent / "recordings" / "saves.json"


def script(tool: str, texts: list[str]) -> str:
    """Jumps, restores, save."""
    lines = []
    for jump in jump_rules():
        make, put = jump.steps()
        lines.append(f"{shlex.join([tool, *make.argv()[1:]])} 2>/dev/null || test $? = 1")
        lines.append(shlex.join([tool, *put.argv()[1:]]))
    lines += [f"{tool}-restore -w 5 --noflush --counters <<'END'\n{text}END" for text in texts]
    return "\n".join([*lines, f"{tool}-save"])


def tables(printed: str) -> dict[str, list[str]]:
    """The lines of each table, comments dropped."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in printed.splitlines():
        if line.startswith("*"):
            name = line[1:]
        elif name and line != "COMMIT" and not line.startswith("#"):
            found.setdefault(name, []).append(line)
    return found


def main() -> None:
    """Record every case."""
    recorded = {}
    for name, (version, texts) in cases().items():
        tool = TOOL if version == 4 else TOOL.replace("iptables", "ip6tables")
        done = subprocess.run(
            ["unshare", "-n", "sh", "-e", "-c", script(tool, texts)], capture_output=True, text=True, check=True
        )
        recorded[name] = tables(done.stdout)
    version_text = subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    head = {"kernel": platform.release().split("-")[0], "tool": version_text}
    TARGET.write_text(json.dumps({**head, "saves": recorded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
