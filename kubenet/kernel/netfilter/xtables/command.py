"""The tool: `iptables ARGUMENTS` in a namespace, with its output, its error texts and its exit codes.

Sources: iptables 1.8.9 do_command4(), list_rules() (iptables.c), iptables_legacy_main().
"""

from __future__ import annotations

import errno

from kubenet.kernel.netfilter.xtables.draft import Work
from kubenet.kernel.netfilter.xtables.errors import VERSION_PROBLEM, IptcError, XtablesError, iptc_line
from kubenet.kernel.netfilter.xtables.listing import list_chains, rule_sentence
from kubenet.kernel.netfilter.xtables.parse import Command, Parser
from kubenet.kernel.netfilter.xtables.save import front_text, tail_text
from kubenet.kernel.netfilter.xtables.spec import AF_INET, RuleSpec
from kubenet.kernel.netfilter.xtables.table import TABLES, Table, xt_table
from kubenet.kernel.netns import NetNamespace


def check_target(work: Work, rule: RuleSpec) -> None:
    """The rule's jump leads somewhere. Raises XtablesError as do_command4() does."""
    name = rule.chain
    if name and name not in work.chains:
        if rule.goto:
            raise XtablesError(f"goto '{name}' is not a chain")
        raise XtablesError(f"Couldn't load target `{name}':No such file or directory\n")


def edit_rules(work: Work, command: Command) -> str:
    """-A -I -D -R -C with a rule; returns what -v echoes."""
    for rule in command.rules:
        check_target(work, rule)
    echo = ""
    for rule in command.rules:
        if command.verbose:
            echo += rule_sentence(rule)
        try:
            edit_rule(work, command, rule)
        except IptcError as error:
            error.out = echo
            raise
    return echo


def edit_rule(work: Work, command: Command, rule: RuleSpec) -> None:
    """One of the command's rules is added, replaced, deleted or found."""
    chain, letter = command.chain, command.letter
    if letter == "D":
        at = work.find(chain, rule, "delete")
        work.edit(chain, "delete").remove(at)
    elif letter == "C":
        work.find(chain, rule, "check")
    elif letter == "A":
        edit = work.edit(chain)
        edit.insert(len(edit.rules), rule, command.counters)
    elif letter == "I":
        edit = work.edit(chain)
        at = max(command.number, 1) - 1
        if at > len(edit.rules):
            raise IptcError(errno.E2BIG, "insert")
        edit.insert(at, rule, command.counters)
    else:
        edit = work.edit(chain)
        if command.number > len(edit.rules):
            raise IptcError(errno.E2BIG, "replace")
        edit.remove(command.number - 1)
        edit.insert(command.number - 1, rule, command.counters)


def delete_number(work: Work, command: Command) -> None:
    """-D chain number"""
    edit = work.edit(command.chain, "delete_num")
    if command.number > len(edit.rules):
        raise IptcError(errno.E2BIG, "delete_num")
    edit.remove(command.number - 1)


def flush_chains(work: Work, chain: str, verbose: int) -> str:
    """-F [chain]"""
    echo = ""
    for name in [chain] if chain else list(work.table.builtin) + work.user_chains():
        if verbose:
            echo += f"Flushing chain `{name}'\n"
        work.flush(name)
    return echo


def delete_chains(work: Work, chain: str, verbose: int) -> str:
    """-X [chain]: without a chain all that are empty and unused; the last failure is reported."""
    if chain:
        echo = f"Deleting chain `{chain}'\n" if verbose else ""
        work.delete_chain(chain)
        return echo
    echo, failed, refs = "", None, work.all_references()
    for name in work.user_chains():
        if verbose:
            echo += f"Deleting chain `{name}'\n"
        try:
            work.delete_chain(name, refs)
        except IptcError as error:
            failed = error
    if failed is not None:
        raise failed
    return echo


def zero_chains(work: Work, chain: str, number: int, verbose: int) -> str:
    """-Z [chain [number]]"""
    echo = ""
    for name in [chain] if chain else list(work.table.builtin) + work.user_chains():
        if verbose:
            echo += f"Zeroing chain `{name}'\n"
        work.zero(name, number)
    return echo


def apply(work: Work, command: Command) -> str:
    """Edits the draft as the command says; returns what is printed. Raises XtablesError, IptcError."""
    letter = command.letter
    if letter in "AIRC" or (letter == "D" and not command.number):
        return edit_rules(work, command)
    if letter == "D":
        delete_number(work, command)
    elif letter == "F":
        return flush_chains(work, command.chain, command.verbose)
    elif letter == "X":
        return delete_chains(work, command.chain, command.verbose)
    elif letter == "Z":
        return zero_chains(work, command.chain, command.number, command.verbose)
    elif letter == "N":
        work.create(command.chain)
    elif letter == "E":
        work.rename(command.chain, command.name)
    elif letter == "P":
        work.set_policy(command.chain, command.name, command.counters)
    return ""


def list_rules(table: Table, command: Command) -> str:
    """-S [chain [number]]. iptables: list_rules()."""
    names = [command.chain] if command.chain else table.names()
    out = ""
    for name in names:
        if command.number:
            continue
        if name in table.policies:
            packets, octets = table.policy_counters[name]
            count = f" -c {packets} {octets}" if command.verbose else ""
            out += f"-P {name} {table.policies[name]}{count}\n"
        else:
            out += f"-N {name}\n"
    for name in names:
        rules = table.chains[name].rules
        counts = table.counters.get(name) or [0] * (2 * len(rules))
        for i, rule in enumerate(rules):
            if command.number and command.number != i + 1:
                continue
            count = f" -c {counts[2 * i]} {counts[2 * i + 1]}" if command.verbose else ""
            out += f"-A {name}{front_text(rule)}{count}{tail_text(rule)}\n"
    return out


def show(table: Table, command: Command) -> str:
    """-L, -S"""
    if command.chain and command.chain not in table.chains:
        raise IptcError(errno.ENOENT)
    if command.letter == "S":
        return list_rules(table, command)
    return list_chains(table, command.chain, command.number, command.numeric, bool(command.verbose), command.exact,
                       command.line_numbers)


def program_of(family: int) -> str:
    """The tool's name in this family."""
    return "iptables" if family == AF_INET else "ip6tables"


def open_table(net: NetNamespace, family: int, name: str) -> Table:
    """The table, or the tool's words for its absence."""
    if name not in TABLES:
        raise XtablesError(f"can't initialize {program_of(family)} table `{name}': Table does not exist (do you need to insmod?)",
                           VERSION_PROBLEM)
    return xt_table(net, family, name)


def run(net: NetNamespace, family: int, command: Command) -> str:
    """Carries the command out, all or nothing; returns what is printed."""
    table = open_table(net, family, command.table)
    out = ""
    if command.letter in ("L", "S"):
        out = show(table, command)
        if not command.zero:
            return out
        command.letter, command.number = "Z", 0
        command.verbose = 0
    work = table.work()
    try:
        out += apply(work, command)
        if command.letter != "C":
            work.commit()
    except IptcError as error:
        error.out = out + error.out
        raise
    return out


def iptables_command(net: NetNamespace, family: int, argv: list[str]) -> tuple[int, str, str]:
    """`iptables` with these arguments (without the program's name): exit code, standard output, standard error."""
    parser = Parser(argv, "filter", restore=False, family=family)
    command = parser.command
    try:
        parser.run()
        if command.out:
            return 0, command.out, ""
        return 0, run(net, family, command), command.warning
    except XtablesError as error:
        return error.status, "", command.warning + error.dress(program_of(family)).text
    except IptcError as error:
        return 1, error.out, command.warning + iptc_line(error, program_of(family))
