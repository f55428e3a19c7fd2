"""Plays cases.py on a real kernel and writes recordings/*.json. Needs root; every case has a network namespace of its own.

    python tests/kernel/xtables/record.py [iptables-legacy]

Each file names the kernel and the tool. Times in the output are not kept. Nothing outside the new namespaces is touched.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cases import COMMANDS, RESTORES, RULES  # noqa: E402

HERE = Path(__file__).parent / "recordings"
TOOL = sys.argv[1] if len(sys.argv) > 1 else "iptables-legacy"
NETNS = f"xtrec{os.getpid()}"


def run(argv: list[str], text: str = "") -> dict[str, object]:
    done = subprocess.run(["ip", "netns", "exec", NETNS, *argv], input=text, capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "out": done.stdout, "err": done.stderr}


def fresh() -> None:
    subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "add", NETNS], check=True)


def record_rules() -> list[dict[str, object]]:
    fresh()
    result = []
    for table, chain, text in RULES:
        got: dict[str, object] = {"table": table, "chain": chain, "text": text}
        got["add"] = run([TOOL, "-t", table, "-A", chain, *shlex.split(text)])
        if got["add"]["rc"] == 0:  # type: ignore[index]
            got["save"] = run([f"{TOOL}-save", "-t", table])["out"]
            got["list"] = run([TOOL, "-t", table, "-L", chain, "-n", "-v"])["out"]
            got["names"] = run([TOOL, "-t", table, "-L", chain])["out"]
            run([TOOL, "-t", table, "-F", chain])
        result.append(got)
    return result


def record_commands() -> dict[str, list[dict[str, object]]]:
    result = {}
    for name, steps in COMMANDS.items():
        fresh()
        result[name] = [{"argv": step, **run([TOOL, *shlex.split(step)])} for step in steps]
    return result


def record_restores() -> dict[str, dict[str, object]]:
    result = {}
    for name, steps in RESTORES.items():
        fresh()
        done = [{"flags": flags, "in": text, **run([f"{TOOL}-restore", *shlex.split(flags)], text)} for flags, text in steps]
        result[name] = {"steps": done, "save": run([f"{TOOL}-save", "-c"])["out"]}
    return result


def main() -> None:
    version = subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    head = {"kernel": platform.release(), "tool": version, "command": f"record.py {TOOL}"}
    for name, make in (("rules", record_rules), ("commands", record_commands), ("restores", record_restores)):
        (HERE / f"{name}.json").write_text(json.dumps({**head, name: make()}, indent=1) + "\n")
    subprocess.run(["ip", "netns", "del", NETNS], check=False)


if __name__ == "__main__":
    main()
