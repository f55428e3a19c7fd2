"""Write down what the real kernel does: `python -m tests.rig.rig_record [FAMILY | CASE-GLOB ...]`.

Each family of cases becomes recordings/FAMILY.json: the kernel's version, the versions of the tools whose text is compared, the
command that made it, and per case its outcome (rig_normal.py says in which form) beside a fingerprint of what was asked, so that a
case or a rule text that has changed since is noticed (`stale`). A case named on the command line replaces its own entry and leaves
the others of its family alone. Needs root; every namespace is deleted again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from rig_cases import FAMILIES  # noqa: E402
from rig_rules import rule_steps  # noqa: E402
from rig_topology import TOPOLOGIES, Case  # noqa: E402

RECORDINGS = Path(__file__).parent / "recordings"
TOOLS = ("iptables-legacy --version", "conntrack --version", "ss -V")


def fingerprint(case: Case) -> str:
    """A digest of everything that the outcome depends on: places, settings, rules, script."""
    rules = [(space, rule_steps(space, kind)) for space, kind in case.rules]
    asked = repr((TOPOLOGIES[case.topology], case.script, case.sysctls, rules, case.gap))
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def load(family: str) -> dict[str, Any]:
    """The recordings of a family, {} without."""
    path = RECORDINGS / f"{family}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _dump(value: Any, depth: int = 0) -> str:
    """JSON with one line per frame, entry and result, so that a change can be read as a diff."""
    pad = "\n" + " " * (depth + 1)
    if isinstance(value, dict) and value:
        inside = [f"{json.dumps(k)}: {_dump(v, depth + 1)}" for k, v in value.items()]
        return "{" + pad + ("," + pad).join(inside) + "}"
    if isinstance(value, list) and value and not isinstance(value[0], (int, float)):
        return "[" + pad + ("," + pad).join(json.dumps(v) for v in value) + "]"
    return json.dumps(value)


def save(family: str, outcomes: dict[str, dict[str, Any]], command: str) -> None:
    """Put outcomes into the family's file, in the order of its table; what the table no longer has goes."""
    from rig_real import sh

    known = {**load(family).get("cases", {}), **outcomes}
    RECORDINGS.mkdir(exist_ok=True)
    whole = {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "tools": [sh(tool).stdout.splitlines()[0].strip() for tool in TOOLS],
        "command": command,
        "cases": {case.name: known[case.name] for case in FAMILIES[family] if case.name in known},
    }
    (RECORDINGS / f"{family}.json").write_text(_dump(whole) + "\n")


def main(argv: list[str]) -> int:
    """Record what was asked for, everything without arguments."""
    from rig_real import run_real, unavailable

    if why := unavailable():
        print(why, file=sys.stderr)
        return 1
    code = 0
    for family, cases in FAMILIES.items():
        chosen = [c for c in cases if not argv or family in argv or any(fnmatchcase(c.name, glob) for glob in argv)]
        outcomes = {}
        for case in chosen:
            print(f"{family} {case.name}", flush=True)
            try:
                outcomes[case.name] = {"asked": fingerprint(case), **run_real(case)}
            except RuntimeError as error:
                print(f"  {error}", file=sys.stderr)
                code = 1
        if outcomes:
            save(family, outcomes, " ".join(["python -m tests.rig.rig_record", *argv]))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
