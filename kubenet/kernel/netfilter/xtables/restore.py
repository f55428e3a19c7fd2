"""iptables-restore: many rules at once, table by table, each table all or nothing at its COMMIT.

    *filter                        start of a table; without --noflush the draft begins empty
    :KUBE-SERVICES - [0:0]         the chain exists and is empty (built-in: its policy)
    -A KUBE-SERVICES ... -j REJECT any iptables command line
    [5:300] -A ...                 with counters, which --counters takes over
    COMMIT

Lines are interned by their text: a line seen before, in any namespace, costs one dict lookup and gives the same RuleSpec.
So a sync that repeats 10,000 lines pays for those that changed, and a thousand nodes with equal rules hold them once.

Sources: iptables 1.8.9 ip46tables_restore_main() (iptables-restore.c), add_param_to_argv().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.xtables.command import apply, check_target
from kubenet.kernel.netfilter.xtables.draft import Edit, Work
from kubenet.kernel.netfilter.xtables.errors import OTHER_PROBLEM, PARAMETER_PROBLEM, IptcError, XtablesError, iptc_strerror
from kubenet.kernel.netfilter.xtables.parse import parse_command
from kubenet.kernel.netfilter.xtables.spec import AF_INET, RuleSpec
from kubenet.kernel.netfilter.xtables.table import TABLES, xt_table
from kubenet.kernel.netfilter.xtables.words import CHAIN_MAX, split_line

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

INTERNED_MAX = 2_000_000  # lines remembered; beyond that the memory starts again

_LINES: dict[tuple[int, str], dict[str, tuple[str, RuleSpec]]] = {}  # (family, table) -> line -> chain, rule


def parse_counters(text: str) -> tuple[int, int] | None:
    """[packets:bytes], or None."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    packets, colon, octets = text[1:-1].partition(":")
    return (int(packets), int(octets)) if colon and packets.isdigit() and octets.isdigit() else None


class Restore:
    """One run over an input."""

    __slots__ = ("net", "family", "noflush", "counters", "test", "only", "verbose", "line", "work", "table", "skipping", "out",
                 "lines", "program")

    def __init__(self, net: NetNamespace, family: int) -> None:
        self.net = net
        self.family = family
        self.program = "iptables-restore" if family == AF_INET else "ip6tables-restore"
        self.noflush = False
        self.counters = False
        self.test = False
        self.only = ""  # -T: only this table
        self.verbose = 0
        self.line = 0
        self.work: Work | None = None
        self.table = ""
        self.skipping = False
        self.out = ""
        self.lines: dict[str, tuple[str, RuleSpec]] = {}

    def failed(self) -> XtablesError:
        """The kernel or libiptc refused what this line asks for."""
        return XtablesError(f"{self.program}: line {self.line} failed\n", OTHER_PROBLEM, plain=True).dress(self.program)

    def run(self, text: str) -> None:
        """Carries the input out. Raises XtablesError, its text dressed with the line number."""
        try:
            self.walk(text.split("\n"))
        except IptcError:
            raise self.failed() from None
        except XtablesError as error:
            raise error.dress(self.program, self.line) from None
        if self.work is not None or self.skipping:
            self.line += 1
            raise XtablesError(f"{self.program}: COMMIT expected at line {self.line}\n", OTHER_PROBLEM, plain=True).dress(self.program)

    def walk(self, lines: list[str]) -> None:
        """Line by line. The first half is the fast path: a rule whose line is known, appended to a chain."""
        if lines and lines[-1] == "":
            lines.pop()
        edits: dict[str, Edit] = {}
        work: Work | None = None
        base = self.line
        for count, line in enumerate(lines):
            hit = self.lines.get(line)
            if hit is not None and work is not None and not self.verbose:
                chain, rule = hit
                edit = edits.get(chain)
                if edit is not None and (rule.target is not None or rule.verdict is not None or rule.chain in work.chains
                                         or not rule.jump):
                    edit.rules.append(rule)
                    if edit.counts is not None:
                        edit.counts += (0, 0)
                    continue
            self.line = base + count + 1
            self.slow(line)
            work = self.work
            if work is not None:
                edits = work.edits
        self.line = base + len(lines)

    def slow(self, line: str) -> None:
        """Any line."""
        if not line:
            return
        if line[0] == "#":
            if self.verbose:
                self.out += line + "\n"
            return
        if self.skipping:
            self.skipping = line != "COMMIT"
            return
        if line == "COMMIT" and self.work is not None:
            self.commit()
        elif line[0] == "*" and self.work is None:
            self.begin(line[1:].strip())
        elif line[0] == ":" and self.work is not None:
            self.chain_line(line[1:])
        elif self.work is not None:
            self.rule_line(line)
        else:
            raise self.failed()

    def begin(self, name: str) -> None:
        """*table"""
        if not name:
            raise XtablesError(f"{self.program}: line {self.line} table name invalid\n")
        if self.only and self.only != name:
            self.skipping = True
            return
        if name not in TABLES:
            raise XtablesError(f"{self.program}: unable to initialize table '{name}'", PARAMETER_PROBLEM)
        table = xt_table(self.net, self.family, name)
        self.table = name
        self.work = table.work()
        self.lines = _LINES.setdefault((self.family, name), {})
        if len(self.lines) > INTERNED_MAX:
            self.lines.clear()
        if not self.noflush:
            self.empty(self.work)

    def empty(self, work: Work) -> None:
        """Without --noflush a table begins without rules and user chains."""
        users = work.user_chains()
        for name in list(work.table.builtin) + users:
            if self.verbose:
                self.out += f"Flushing chain `{name}'\n"
            work.flush(name)
        for name in users:
            if self.verbose:
                self.out += f"Deleting chain `{name}'\n"
            work.delete_chain(name, {})

    def commit(self) -> None:
        """COMMIT"""
        assert self.work is not None
        if not self.test:
            self.work.commit()
        self.work = None
        self.lines = {}

    def chain_line(self, text: str) -> None:
        """:CHAIN POLICY [packets:bytes]"""
        work = self.work
        assert work is not None
        words = text.split()
        if not words:
            raise XtablesError(f"{self.program}: line {self.line} chain name invalid\n")
        name = words[0]
        if len(name) >= CHAIN_MAX:
            raise XtablesError(f"Invalid chain name `{name}' ({CHAIN_MAX - 1} chars max)")
        if name not in work.table.builtin:
            if self.noflush and name in work.chains:
                work.flush(name)
            else:
                try:
                    work.create(name)
                except IptcError as error:
                    raise XtablesError(f"error creating chain '{name}':{error.strerror}\n") from None
                work.edit(name)
        if len(words) < 2:
            raise XtablesError(f"{self.program}: line {self.line} policy invalid")
        policy = words[1]
        if policy != "-":
            counts = None
            if self.counters:
                counts = parse_counters(words[2]) if len(words) > 2 else None
                if counts is None:
                    raise XtablesError(f"invalid policy counters for chain '{name}'")
            try:
                work.set_policy(name, policy, counts)
            except IptcError as error:
                why = iptc_strerror(error.errno or 0, "policy")
                message = f"Can't set policy `{policy}' on `{name}' line {self.line}: {why}\n"
                raise XtablesError(message, OTHER_PROBLEM) from None

    def rule_line(self, line: str) -> None:
        """A command line, perhaps with [packets:bytes] in front."""
        work = self.work
        assert work is not None
        counts = None
        text = line
        if line[0] == "[":
            front, bracket, text = line.partition("]")
            colon = front.find(":")
            if not bracket or colon < 0:
                raise XtablesError(f"Bad line {self.line}: need ]")
            counts = parse_counters(front + "]")
            if counts is None:
                raise XtablesError(f"invalid counters in line {self.line}" if self.counters else f"Bad line {self.line}: need ]")
            text = text.lstrip(" ")
            hit = self.lines.get(text)
            if hit is not None and hit[0] in work.chains:
                check_target(work, hit[1])
                edit = work.edit(hit[0])
                edit.insert(len(edit.rules), hit[1], counts if self.counters else None)
                return
        command = parse_command(split_line(text), self.table, restore=True, family=self.family)
        if command.skip:
            return
        plain = command.letter == "A" and len(command.rules) == 1 and command.counters is None and not command.verbose
        if self.counters and counts is not None:
            command.counters = counts
        command.verbose = command.verbose or self.verbose
        self.out += apply(work, command)
        if plain:
            self.lines[text] = (command.chain, command.rules[0])


def iptables_restore(net: NetNamespace, family: int, text: str, noflush: bool = False, counters: bool = False,
                     test: bool = False, source: str = "") -> None:
    """The tables in `text` are in force. Raises XtablesError: `.text` as the tool prints it, `.status` its exit code.

    A table whose COMMIT was reached before the error stays in force; `source` names the input for people.
    """
    restore = Restore(net, family)
    restore.noflush, restore.counters, restore.test = noflush, counters, test
    restore.run(text)


def iptables_restore_command(net: NetNamespace, family: int, argv: list[str], text: str) -> tuple[int, str, str]:
    """`iptables-restore ARGUMENTS < text`: exit code, standard output, standard error."""
    restore = Restore(net, family)
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word in ("-n", "--noflush"):
            restore.noflush = True
        elif word in ("-c", "--counters"):
            restore.counters = True
        elif word in ("-t", "--test"):
            restore.test = True
        elif word in ("-v", "--verbose"):
            restore.verbose += 1
        elif word in ("-T", "--table") and at < len(argv):
            restore.only = argv[at]
            at += 1
        elif word.startswith("--table="):
            restore.only = word[8:]
        elif word in ("-w", "--wait", "-W", "--wait-interval"):
            if at < len(argv) and argv[at].isdigit():
                at += 1
        elif word.startswith(("-w", "--wait")):
            pass
        else:
            return 1, "", f"{restore.program}: unrecognized option '{word}'\n"
    try:
        restore.run(text)
    except XtablesError as error:
        return error.status, restore.out, error.text
    return 0, restore.out, ""
