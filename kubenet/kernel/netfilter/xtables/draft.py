"""Changing a table: a draft is edited, checked and swapped in by commit(), all or nothing.

That is what libiptc and the kernel do (setsockopt IPT_SO_SET_REPLACE), with the same consequences:

* rules that stay keep their counters, by position in the draft; new ones start at 0 or at what the caller gives;
* the counters of built-in chains' policies start again at 0 with every commit, unless given (libiptc marks them so);
* the state of limit, quota and nth starts again with every commit, for it lives in the replaced blob; recent lists do not.

The kernel refuses loops (ELOOP), jumps to built-in chains, extensions without their -p, in a wrong table, or reachable from
a wrong hook (EINVAL), and puts the reason into its log.

Sources: Linux ip_tables.c translate_table(), check_match(), x_tables.c xt_check_match(),
xt_check_target(); iptables 1.8.9 libiptc.c TC_COMMIT().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.core import HOOK_NAMES
from kubenet.kernel.netfilter.xtables.errors import IptcError
from kubenet.kernel.netfilter.xtables.reach import kernel_error, mark_source_chains, marks_after
from kubenet.kernel.netfilter.xtables.spec import STANDARD, ChainSpec, Extension, RuleSpec, chain_spec, count_references

if TYPE_CHECKING:
    from kubenet.kernel.netfilter.xtables.table import Table


class Edit:
    """A chain being edited. `counts` None: every counter is 0."""

    __slots__ = ("rules", "counts")

    def __init__(self, rules: list[RuleSpec], counts: list[int] | None) -> None:
        self.rules = rules
        self.counts = counts

    def insert(self, at: int, rule: RuleSpec, counters: tuple[int, int] | None) -> None:
        """`rule` stands at index `at`; the rest moves down."""
        self.rules.insert(at, rule)
        if counters is not None and self.counts is None:
            self.counts = [0] * (2 * (len(self.rules) - 1))
        if self.counts is not None:
            self.counts[2 * at:2 * at] = counters or (0, 0)

    def remove(self, at: int) -> None:
        """The rule at index `at` is gone."""
        del self.rules[at]
        if self.counts is not None:
            del self.counts[2 * at:2 * at + 2]


class Work:
    """A draft of a table (libiptc's handle). Every method raises IptcError with the errno libiptc would set."""

    __slots__ = ("table", "chains", "edits", "policies", "policy_counts", "counters", "changed")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.chains: dict[str, ChainSpec] = dict(table.chains)
        self.edits: dict[str, Edit] = {}
        self.policies: dict[str, str] = dict(table.policies)
        self.policy_counts: dict[str, list[int]] = {}
        self.counters: dict[str, list[int]] = dict(table.counters)
        self.changed = False

    def edit(self, name: str, op: str = "") -> Edit:
        """The chain, open for editing."""
        found = self.edits.get(name)
        if found is None:
            chain = self.chains.get(name)
            if chain is None:
                raise IptcError(errno.ENOENT, op)
            counts = self.counters.get(name)
            found = self.edits[name] = Edit(list(chain.rules), None if counts is None else list(counts))
        self.changed = True
        return found

    def rules(self, name: str, op: str = "") -> list[RuleSpec]:
        """The chain's present rules."""
        found = self.edits.get(name)
        if found is not None:
            return found.rules
        chain = self.chains.get(name)
        if chain is None:
            raise IptcError(errno.ENOENT, op)
        return list(chain.rules)

    def user_chains(self) -> list[str]:
        """Names of the chains that are not built in, sorted."""
        return sorted(name for name in self.chains if name not in self.table.builtin)

    def create(self, name: str) -> None:
        """-N"""
        if name in self.chains or name in STANDARD:
            raise IptcError(errno.EEXIST, "create")
        self.chains[name] = chain_spec(name, ())
        self.edits.pop(name, None)
        self.counters.pop(name, None)
        self.changed = True

    def flush(self, name: str) -> None:
        """-F chain"""
        if name not in self.chains:
            raise IptcError(errno.ENOENT, "flush")
        self.edits[name] = Edit([], None)
        self.changed = True

    def references(self, name: str) -> int:
        """How many rules jump to the chain."""
        count = 0
        for other, chain in self.chains.items():
            found = self.edits.get(other)
            if found is not None:
                count += sum(1 for rule in found.rules if rule.chain == name)
            elif name in chain.jumps:
                count += sum(1 for rule in chain.rules if rule.chain == name)
        return count

    def all_references(self) -> dict[str, int]:
        """references() of all chains at once."""
        chains = {name: chain for name, chain in self.chains.items() if name not in self.edits}
        found = count_references(chains)
        for edit in self.edits.values():
            for rule in edit.rules:
                if rule.chain:
                    found[rule.chain] = found.get(rule.chain, 0) + 1
        return found

    def delete_chain(self, name: str, refs: dict[str, int] | None = None) -> None:
        """-X chain. `refs`: the references, if the caller has counted them."""
        if name not in self.chains:
            raise IptcError(errno.ENOENT, "delete_chain")
        if name in self.table.builtin:
            raise IptcError(errno.EINVAL, "delete_chain")
        if (self.references(name) if refs is None else refs.get(name, 0)) > 0:
            raise IptcError(errno.EMLINK, "delete_chain")
        if self.rules(name):
            raise IptcError(errno.ENOTEMPTY, "delete_chain")
        del self.chains[name]
        self.edits.pop(name, None)
        self.counters.pop(name, None)
        self.changed = True

    def rename(self, old: str, new: str) -> None:
        """-E old new: rules that jump there follow."""
        if new in self.chains or new in STANDARD:
            raise IptcError(errno.EEXIST, "rename")
        if old not in self.chains or old in self.table.builtin:
            raise IptcError(errno.ENOENT, "rename")
        edit = self.edit(old)
        del self.edits[old], self.chains[old]
        self.counters.pop(old, None)
        self.chains[new] = chain_spec(new, ())
        self.edits[new] = edit
        for name, chain in list(self.chains.items()):
            if name in self.edits or old in chain.jumps:
                rules = self.edit(name).rules
                for i, rule in enumerate(rules):
                    if rule.chain == old:
                        rules[i] = RuleSpec(rule.head, rule.matches, None, new, rule.goto)

    def set_policy(self, name: str, policy: str, counters: tuple[int, int] | None = None) -> None:
        """-P"""
        if name not in self.table.builtin:
            raise IptcError(errno.ENOENT, "policy")
        if policy not in ("ACCEPT", "DROP"):
            raise IptcError(errno.EINVAL, "policy")
        self.policies[name] = policy
        if counters is not None:
            self.policy_counts[name] = list(counters)
        self.changed = True

    def zero(self, name: str, rule: int = 0) -> None:
        """-Z chain [rule]"""
        count = len(self.rules(name))
        if rule > count:
            raise IptcError(errno.E2BIG, "zero_num")
        self.changed = True
        edit = self.edit(name)
        if rule == 0:
            edit.counts = None
        elif edit.counts is not None:
            edit.counts[2 * rule - 2:2 * rule] = [0, 0]

    def find(self, name: str, rule: RuleSpec, op: str) -> int:
        """The index of the first rule equal to this one."""
        for i, other in enumerate(self.rules(name, op)):
            if other is rule or other.text == rule.text:
                return i
        raise IptcError(errno.ENOENT, op)

    def commit(self) -> None:
        """The draft is the table. Nothing changes if the kernel refuses it."""
        if not self.changed:
            return
        table = self.table
        chains, counters = self.chains, self.counters
        for name, edit in self.edits.items():
            chains[name] = chain_spec(name, tuple(edit.rules))
            if edit.counts is not None and any(edit.counts):
                counters[name] = edit.counts
            else:
                counters.pop(name, None)
        table.reach = check_table(table, chains)
        table.chains, table.counters = chains, counters
        table.policies = self.policies
        table.policy_counters = {name: self.policy_counts.get(name, [0, 0]) for name in table.builtin}
        table.state = {}
        table.generation += 1
        table.publish()


# --- what the kernel checks ------------------------------------------------------------------------------------------------


def check_table(table: Table, chains: dict[str, ChainSpec]) -> dict[str, int]:
    """The kernel takes these chains: returns the hooks that lead to each. Raises IptcError. Linux: translate_table().

    A chain that stood before, reached from the same hooks, was checked then. If no chain leads elsewhere than before,
    the hooks are the same, too: a sync that changes few rules is not charged for all.
    """
    before, known = table.chains, table.reach
    changed = [chain for name, chain in chains.items() if before.get(name) is not chain]
    same = bool(known) and len(chains) == len(before)
    for chain in changed:
        for jump in chain.jumps:
            if jump not in chains:
                raise IptcError(errno.ENOENT)
            if jump in table.builtin:
                raise kernel_error(table, f"{table.module}: bad jump from {chain.name} to built-in chain {jump}", errno.EINVAL)
        old = before.get(chain.name)
        same = same and old is not None and old.jumps == chain.jumps
    if same:
        reach = known
    elif known:
        reach = marks_after(table, before, known, chains, changed)
    else:
        reach = mark_source_chains(table, chains)
    if not same:
        changed = [chain for name, chain in chains.items()
                   if before.get(name) is not chain or reach.get(name, 0) != known.get(name, 0)]
    track = False
    for chain in changed:
        track = check_chain(table, chain, reach.get(chain.name, 0)) or track
    if track and not table.tracked:
        from kubenet.kernel.netfilter.conntrack import nf_ct_netns_get

        table.tracked = True
        nf_ct_netns_get(table.net, table.family)
    return reach


def check_chain(table: Table, chain: ChainSpec, hooks: int) -> bool:
    """Every extension may stand in this chain; True if one of them needs connection tracking."""
    track = False
    for rule in chain.checked:
        for match in rule.matches:
            if match.CONNTRACK or match.PROTOS or match.HOOKS != 0x1F or type(match).check is not Extension.check:
                check_extension(table, rule, match, "match", hooks)
                track = track or match.CONNTRACK
        if rule.target is not None:
            check_extension(table, rule, rule.target, "target", hooks)
            track = track or rule.target.CONNTRACK
    return track


def check_extension(table: Table, rule: RuleSpec, ext: Extension, kind: str, hooks: int) -> None:
    """xt_check_match(), xt_check_target(): -p, table and hooks are what it needs."""
    prefix = f"{table.module}: {ext.NAME} {kind}:"
    if ext.TABLES and table.name not in ext.TABLES:
        raise kernel_error(table, f"{prefix} only valid in {ext.TABLES[0]} table, not {table.name}", errno.EINVAL)
    if hooks & ~ext.HOOKS:
        word = "valid" if kind == "match" else "usable"
        used, valid = ("/".join(HOOK_NAMES[h] for h in range(5) if mask >> h & 1) for mask in (hooks, ext.HOOKS))
        raise kernel_error(table, f"{prefix} used from hooks {used}, but only {word} from {valid}", errno.EINVAL)
    if ext.PROTOS and (rule.head.proto not in ext.PROTOS or rule.head.proto_inv):
        raise kernel_error(table, f"{prefix} only valid for protocol {ext.PROTOS[0]}", errno.EINVAL)
    number = ext.check(table.net, rule, table.name, hooks)
    if number:
        raise kernel_error(table, f"{prefix} refused its options", number)
