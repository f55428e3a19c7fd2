"""Rules with parts that the emulated kernel does not know, made loadable without guessing.

    text, unknown = set_aside(iptables_save_text, "rules")
    unknown["UNKNOWN-17"]       Unknown(line=17, table="filter", chain="FORWARD", number=3, part="-m bpf --bytecode ...", is_target=False)

Each line of iptables-save's output is tried. In one that does not parse, the matches and the target are tried one by one; what
cannot be read is taken out, and the rule then jumps to an empty chain of its own. So the rules keep their numbers, and a
packet that passes the rest of such a rule is seen to have done so: from there on its fate depends on what is not known. The
same is done with matches whose answer is not in any of the files (PARTS_ELSEWHERE): to which process a socket belongs, by which
port of a bridge a packet came. A line of which nothing can be made is the person's mistake: ManifestError.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from kubenet.errors import ManifestError
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.parse import parse_command
from kubenet.kernel.netfilter.xtables.spec import AF_INET, find_target
from kubenet.kernel.netfilter.xtables.table import TABLES
from kubenet.kernel.netfilter.xtables.words import split_line

VERDICTS = ("ACCEPT", "DROP", "RETURN", "QUEUE")
PARTS_ELSEWHERE = {"owner": "the socket's owner is in no file", "physdev": "the bridge's ports are in no file"}


class Unknown(NamedTuple):
    """A part of a rule that was set aside. line: in the file; number: as `iptables -L --line-numbers` counts."""

    line: int
    table: str
    chain: str
    number: int
    part: str
    is_target: bool
    why: str


def set_aside(text: str, file: str, sets: Container[str] = ()) -> tuple[str, dict[str, Unknown]]:
    """The text with loadable rules, and by chain what was taken out. sets: the IP sets that are known. ManifestError with file and line."""
    table = ""
    chains: set[str] = set()
    count: dict[str, int] = {}
    unknown: dict[str, Unknown] = {}
    names: list[str] = []
    out: list[str] = []
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith("*"):
            table, chains, count, names = line[1:].strip(), set(), {}, []
            if table not in TABLES:
                raise _bad(f"there is no table {table!r}", file, at, line, "tables are " + ", ".join(sorted(TABLES)))
        elif line.startswith(":"):
            chains.add(line[1:].split(" ")[0])
        elif line == "COMMIT":
            start = max((i for i, text in enumerate(out) if text.startswith("*")), default=0)
            out[start + 1 : start + 1] = [f":{name} - [0:0]" for name in names]
        elif line.strip() and not line.startswith("#"):
            if not table:
                raise _bad(f"{file} is not what iptables-save prints", file, at, line, "a rule stands before any *table")
            line, found = _rule(_without_set(line, sets), table, chains, sets, file, at)
            chain = _chain_of(line)
            count[chain] = count.get(chain, 0) + 1
            if found is not None:
                name = f"UNKNOWN-{at}"
                names.append(name)
                unknown[name] = found._replace(chain=chain, number=count[chain])
        out.append(line)
    if not any(line.startswith("*") for line in out):
        raise ManifestError(f"{file} is not what iptables-save prints", file, 1, why="it has no *table", try_="iptables-save > rules")
    return "\n".join(out) + "\n", unknown


def _bad(what: str, file: str, line: int, text: str, why: str) -> ManifestError:
    return ManifestError(what, file, line, why=why, try_="iptables-save > rules", at=f"{file}:{line}\n{line} | {text.rstrip()[:100]}")


def _chain_of(line: str) -> str:
    words = line.split()
    at = words.index("-A") if "-A" in words else -1
    return words[at + 1] if 0 <= at < len(words) - 1 else ""


def _unknown_sets(words: list[str], sets: Container[str]) -> list[str]:
    """The sets asked for that are in no file."""
    return [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--match-set" and words[at + 1] not in sets]


def _without_set(line: str, sets: Container[str]) -> str:
    """A rule that only changes a set of which nothing is known does nothing that could be seen: its target is taken away."""
    head, found, tail = line.partition(" -j SET ")
    words = tail.split()
    named = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("--add-set", "--del-set", "--map-set")]
    return head if found and any(name not in sets for name in named) else line


def _rule(line: str, table: str, chains: set[str], sets: Container[str], file: str, at: int) -> tuple[str, Unknown | None]:
    """The line as it can be loaded."""
    counters, rest = "", line
    if line.startswith("["):
        front, bracket, rest = line.partition("]")
        counters, rest = front + bracket + " ", rest.lstrip(" ")
    try:
        words = split_line(rest)
    except XtablesError as refusal:
        raise _bad(f"{file}: a rule cannot be read", file, at, line, refusal.message) from None
    elsewhere = [name for name in PARTS_ELSEWHERE if _has_match(words, name)] + _unknown_sets(words, sets)
    error = _error(words, table)
    if not elsewhere and error is None and _target_known(words, table, chains):
        return line, None
    head, matches, target = _parts(words)
    if len(head) < 2 or head[0] != "-A" or _error(head, table) is not None:
        raise _bad(f"{file}: a rule cannot be read", file, at, line, str(error or "no -A CHAIN").strip())
    kept, lost, why = list(head), [], ""
    for match in matches:
        if match[1:2] and match[1] in PARTS_ELSEWHERE:
            lost.append(match)
            why = PARTS_ELSEWHERE[match[1]]
        elif absent := _unknown_sets(match, sets):
            lost.append(match)
            why = f"the set {absent[0]} is in no file: ipset save > sets, --ipset sets"
        elif (refused := _error([*head, *match], table)) is not None:
            lost.append(match)
            why = str(refused).strip().removesuffix(":No such file or directory")
        else:
            kept += match
    target_known = _target_known(words, table, chains) and _error([*kept, *target], table) is None
    if not lost and target_known:
        raise _bad(f"{file}: a rule cannot be read", file, at, line, str(error).strip())
    if not target_known:
        lost.append(target)
        why = why or f"the target {target[1] if len(target) > 1 else ''} is not known here"
    part = " ".join(" ".join(words) for words in lost)
    unknown = Unknown(at, table, "", 0, part, not target_known, why)
    return counters + " ".join(_quoted(word) for word in [*kept, "-j", f"UNKNOWN-{at}"]), unknown


def _has_match(words: list[str], name: str) -> bool:
    return any(a == "-m" and b == name for a, b in zip(words, words[1:], strict=False))


def _parts(words: list[str]) -> tuple[list[str], list[list[str]], list[str]]:
    """Chain and header, each -m with its options, the target with its options."""
    head: list[str] = []
    matches: list[list[str]] = []
    target: list[str] = []
    now = head
    for word in words:
        if word == "-m":
            now = []
            matches.append(now)
        elif word in ("-j", "-g"):
            now = target
        now.append(word)
    return head, matches, target


def _error(words: list[str], table: str) -> XtablesError | None:
    try:
        parse_command(words, table, restore=True, family=AF_INET)
    except XtablesError as error:
        return error
    return None


def _target_known(words: list[str], table: str, chains: set[str]) -> bool:
    """Whether the rule's target is a verdict, a chain of the file, or one that can be loaded."""
    target = _parts(words)[2]
    return len(target) < 2 or target[1] in VERDICTS or target[1] in chains or find_target(target[1], AF_INET) is not None


def _quoted(word: str) -> str:
    if word and not set(word) & set(" \"'\\\t"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
