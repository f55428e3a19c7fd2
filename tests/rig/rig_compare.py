"""What differs between two outcomes of a case, and which of it is meant to.

    differences(recorded, emulated) -> [Difference(part, text)]
    allowed = read_allowed()          the rows of differences.md
    allowed_by(case, difference, allowed) -> Allowed | None
    read_expected()               cases that differ as a whole, and why

A part is a path: results, frames/a/eth0, times/a/eth0, ss/b, ct/n1, timeouts/n1, rules/n1, snmp/b/TcpExtTW. Times of frames are compared
between frames that stand side by side in both lists: a timer of a real kernel is late by up to an eighth (its wheel) and a
step of the script takes it a little, so DT_SLACK and DT_SHARE are granted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

DT_SLACK = 15.0  # ms
DT_SHARE = 0.15
TIMEOUT_SLACK = 4  # s
DIFFERENCES = Path(__file__).parent / "differences.md"


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same."""

    part: str
    text: str

    def __str__(self) -> str:
        return f"{self.part}: {self.text}"


def _lines(part: str, real: list[str], emulated: list[str]) -> list[Difference]:
    """Lines that only one of them has, in order."""
    found = []
    for op, a, b, c, d in SequenceMatcher(None, real, emulated, autojunk=False).get_opcodes():
        if op != "equal":
            found += [Difference(part, f"real {i + 1:>2} {real[i]}") for i in range(a, b)]
            found += [Difference(part, f"ours {i + 1:>2} {emulated[i]}") for i in range(c, d)]
    return found


def _times(part: str, real: list[list[Any]], emulated: list[list[Any]]) -> list[Difference]:
    """Gaps between neighbouring frames that are too different."""
    found = []
    matcher = SequenceMatcher(None, [row[1] for row in real], [row[1] for row in emulated], autojunk=False)
    for block in matcher.get_matching_blocks():
        for k in range(1, block.size):
            i, j = block.a + k, block.b + k
            one, two = real[i][0] - real[i - 1][0], emulated[j][0] - emulated[j - 1][0]
            before = emulated[j - 1][0] - emulated[j - 2][0] if j > 1 else 0
            if abs(one - two) > DT_SLACK + DT_SHARE * max(two, before):
                found.append(Difference(part, f"real {i + 1:>2} after {one:.0f} ms, ours after {two:.0f} ms: {real[i][1]}"))
    return found


def differences(real: dict[str, Any], emulated: dict[str, Any]) -> list[Difference]:
    """Everything that is not the same."""
    found: list[Difference] = []
    for (step, one), (_, two) in zip(real["results"], emulated["results"], strict=True):
        if isinstance(one, str):
            if one != two:
                found.append(Difference("results", f"{step.strip()}: real {one}, ours {two}"))
        elif step.split()[1] == "ct":
            found += _entries(f"ct/{step.split(':')[0]}", one, two)
        else:
            found += _lines(f"ss/{step.split(':')[0]}", one, two)
    for part in sorted({*real["frames"], *emulated["frames"]}):
        one, two = real["frames"].get(part, []), emulated["frames"].get(part, [])
        found += _lines(f"frames/{part}", [row[1] for row in one], [row[1] for row in two])
        found += _times(f"times/{part}", one, two)
    for kind in ("ss", "rules"):
        for space in sorted({*real[kind], *emulated[kind]}):
            found += _lines(f"{kind}/{space}", real[kind].get(space, []), emulated[kind].get(space, []))
    for space in sorted({*real["ct"], *emulated["ct"]}):
        found += _entries(f"ct/{space}", real["ct"].get(space, []), emulated["ct"].get(space, []))
    for space in sorted({*real["snmp"], *emulated["snmp"]}):
        one, two = real["snmp"].get(space, {}), emulated["snmp"].get(space, {})
        found += [Difference(f"snmp/{space}/{name}", f"real {one.get(name, 0)}, ours {two.get(name, 0)}")
                  for name in sorted({*one, *two}) if one.get(name, 0) != two.get(name, 0)]
    return found


def _entries(part: str, real: list[list[Any]], emulated: list[list[Any]]) -> list[Difference]:
    """conntrack entries: lines, and the seconds they have left where the lines agree."""
    found = _lines(part, [row[1] for row in real], [row[1] for row in emulated])
    if not found:
        found = [Difference(part.replace("ct/", "timeouts/"), f"real {one[0]} s, ours {two[0]} s: {one[1]}")
                 for one, two in zip(real, emulated, strict=True) if abs(one[0] - two[0]) > TIMEOUT_SLACK]
    return found


@dataclass(frozen=True)
class Allowed:
    """A row of differences.md."""

    cases: str
    part: str
    pattern: str
    reason: str

    def covers(self, case: str, difference: Difference) -> bool:
        """True if it excuses this difference of this case."""
        return (any(fnmatchcase(case, glob) for glob in self.cases.split()) and fnmatchcase(difference.part, self.part)
                and re.search(self.pattern, difference.text) is not None)


def read_allowed(text: str | None = None) -> list[Allowed]:
    """The table of differences.md: | cases | part | pattern | reason |. Raises ValueError for a row without a reason."""
    rows = []
    for line in (DIFFERENCES.read_text() if text is None else text).splitlines():
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 4 or cells[0] in ("cases", "") or set(cells[0]) <= {"-", ":"}:
            continue
        if not cells[3]:
            raise ValueError(f"differences.md: no reason: {line}")
        rows.append(Allowed(cells[0], cells[1], cells[2].replace("\\|", "|"), cells[3]))
    return rows


def read_expected(text: str | None = None) -> dict[str, str]:
    """The second table of differences.md, | case | reason |: what is known to differ as a whole."""
    found = {}
    for line in (DIFFERENCES.read_text() if text is None else text).splitlines():
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 2 and cells[0] != "case" and not set(cells[0]) <= {"-", ":"}:
            if not cells[1]:
                raise ValueError(f"differences.md: no reason: {line}")
            found[cells[0]] = cells[1]
    return found


def allowed_by(case: str, difference: Difference, allowed: list[Allowed]) -> Allowed | None:
    """The first row that excuses it."""
    return next((row for row in allowed if row.covers(case, difference)), None)
