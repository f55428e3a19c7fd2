"""A table of one namespace, and its hooks.

A table comes into being when something first names it: its built-in chains stand empty and its hook functions are
registered, as loading iptable_filter does. Its rules change only through a draft (draft.py), which replaces them whole.

Sources: Linux ip_tables.c ipt_do_table(), iptable_{raw,mangle,nat,filter,security}.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.core import (
    ACCEPT,
    DROP,
    FORWARD,
    HOOK_NAMES,
    INPUT,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    PRI_FILTER,
    PRI_MANGLE,
    PRI_NAT_DST,
    PRI_NAT_SRC,
    PRI_RAW,
    PRI_SECURITY,
    nf_ready,
    nf_register_net_hook,
)
from kubenet.kernel.netfilter.xtables.compile import compile_chain
from kubenet.kernel.netfilter.xtables.draft import Work
from kubenet.kernel.netfilter.xtables.evaluate import evaluate
from kubenet.kernel.netfilter.xtables.spec import AF_INET, DROPPED, RETURN, STANDARD, ChainSpec, Ctx, HotDrop, chain_spec, count_references
from kubenet.kernel.skbuff import DropReason, SkBuff, drop

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

# table -> {hook: priority}
TABLES: dict[str, dict[int, int]] = {
    "filter": {INPUT: PRI_FILTER, FORWARD: PRI_FILTER, OUTPUT: PRI_FILTER},
    "nat": {PREROUTING: PRI_NAT_DST, INPUT: PRI_NAT_SRC, OUTPUT: PRI_NAT_DST, POSTROUTING: PRI_NAT_SRC},
    "mangle": dict.fromkeys((PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING), PRI_MANGLE),
    "raw": {PREROUTING: PRI_RAW, OUTPUT: PRI_RAW},
    "security": {INPUT: PRI_SECURITY, FORWARD: PRI_SECURITY, OUTPUT: PRI_SECURITY},
}

class Table:
    """The rules of one table in one namespace, and what the namespace adds: policies, counters, state."""

    __slots__ = ("net", "family", "name", "chains", "builtin", "policies", "policy_counters", "counters", "state", "ctx",
                 "generation", "tracked", "reach")

    def __init__(self, net: NetNamespace, family: int, name: str) -> None:
        self.net = net
        self.family = family
        self.name = name
        self.builtin: dict[str, int] = {HOOK_NAMES[hook]: hook for hook in TABLES[name]}
        self.chains: dict[str, ChainSpec] = {chain: chain_spec(chain, ()) for chain in self.builtin}
        self.policies: dict[str, str] = dict.fromkeys(self.builtin, "ACCEPT")
        self.policy_counters: dict[str, list[int]] = {chain: [0, 0] for chain in self.builtin}
        self.counters: dict[str, list[int]] = {}  # chain -> packets, bytes, packets, bytes ...; absent: all zero
        self.state: dict[object, object] = {}  # of limit, quota, nth: by (chain, rule, match)
        self.generation: int = 0
        self.reach: dict[str, int] = {}  # chain -> hooks that lead to it, as of the last commit
        self.tracked: bool = False  # its rules have switched connection tracking on
        self.ctx: dict[int, Ctx] = {hook: Ctx(self, net, hook, prio) for hook, prio in TABLES[name].items()}
        self.publish()

    def publish(self) -> None:
        """The hook functions see the present chains, counters and state."""
        for ctx in self.ctx.values():
            ctx.chains = self.chains
            ctx.counters = self.counters
            ctx.state = self.state

    @property
    def module(self) -> str:
        """The kernel module whose name stands before its complaints."""
        return "ip_tables" if self.family == AF_INET else "ip6_tables"

    def names(self) -> list[str]:
        """Built-in chains in the order of their hooks, then user chains by name."""
        return list(self.builtin) + sorted(name for name in self.chains if name not in self.builtin)

    def references(self) -> dict[str, int]:
        """user chain -> how many rules jump to it."""
        return count_references(self.chains)

    def work(self) -> Work:
        """A draft of this table."""
        return Work(self)


def ipt_do_table(table: Table, skb: SkBuff, hook: int) -> int:
    """The table's verdict on this packet; it is not dropped yet. Linux: ipt_do_table() (ip_tables.c).

    Packets with a trace, or caught by a TRACE rule, go through the plain interpreter, all others through compiled chains.
    """
    if skb.tr is not None or skb.nf_trace:
        return evaluate(table, skb, hook)
    ctx = table.ctx[hook]
    name = HOOK_NAMES[hook]
    chain = ctx.chains[name]
    try:
        verdict = (chain.run or compile_chain(chain))(skb, ctx)
    except HotDrop:
        return DROP
    if verdict == RETURN:
        counts = table.policy_counters[name]
        counts[0] += 1
        counts[1] += skb.len
        return STANDARD[table.policies[name]]
    return verdict


class FilterHook:
    """The hook function of filter, raw and security: ask the table, and drop what it refuses."""

    __slots__ = ("table",)

    def __init__(self, table: Table) -> None:
        self.table = table

    def __call__(self, skb: SkBuff, hook: int) -> int:
        """Linux: ipt_do_table() as the hook function; nf_hook_slow() frees on NF_DROP."""
        table = self.table
        if skb.tr is None and not skb.nf_trace:
            name = HOOK_NAMES[hook]
            if not table.chains[name].rules and table.policies[name] == "ACCEPT":  # most of mangle, on most nodes
                counts = table.policy_counters[name]
                counts[0] += 1
                counts[1] += skb.len
                return ACCEPT
        verdict = ipt_do_table(table, skb, hook)
        if verdict == DROP:
            drop(skb, DropReason.NETFILTER_DROP)
        return verdict


class MangleOutHook(FilterHook):
    """mangle's OUTPUT: a packet of our own whose routing key a rule has changed is routed again."""

    __slots__ = ()

    def __call__(self, skb: SkBuff, hook: int) -> int:
        """Linux: iptable_mangle_hook(), ipt_mangle_out(). simplified: IPv6 packets are not routed again."""
        if skb.tr is None and not self.table.chains["OUTPUT"].rules:
            return FilterHook.__call__(self, skb, hook)
        ip = skb.ip
        before = (ip.saddr, ip.daddr, skb.mark, ip.tos)
        verdict = ipt_do_table(self.table, skb, hook)
        if verdict == DROP:
            drop(skb, DropReason.NETFILTER_DROP)
        elif verdict == ACCEPT and self.table.family == AF_INET:
            ip = skb.ip
            if (ip.saddr, ip.daddr, skb.mark, ip.tos) != before:
                from kubenet.kernel.ipv4.output import ip_route_me_harder

                if ip_route_me_harder(skb) < 0:
                    drop(skb, DropReason.NETFILTER_DROP)
                    return DROP
        return verdict


class NatHook:
    """nat's provider: nat.py asks it about connections that nothing has bound yet."""

    __slots__ = ("table",)

    def __init__(self, table: Table) -> None:
        self.table = table

    def __call__(self, skb: SkBuff, hook: int) -> int:
        """Linux: iptable_nat's ipt_do_table(), called by nf_nat_inet_fn()."""
        verdict = ipt_do_table(self.table, skb, hook)
        if verdict == DROPPED:
            return DROP
        if verdict == DROP:
            drop(skb, DropReason.NETFILTER_DROP)
        return verdict


def register(table: Table) -> None:
    """The table's chains are asked from now on."""
    net = table.net
    if table.name == "nat":
        from kubenet.kernel.netfilter.nat import nf_nat_register_provider

        provider = NatHook(table)
        for hook, priority in TABLES["nat"].items():
            nf_nat_register_provider(net, table.family, hook, priority, provider)
        return
    for hook, priority in TABLES[table.name].items():
        fn = MangleOutHook(table) if table.name == "mangle" and hook == OUTPUT else FilterHook(table)
        nf_register_net_hook(net, table.family, hook, priority, fn, f"{'iptable' if table.family == AF_INET else 'ip6table'}_{table.name}")


def xt_table(net: NetNamespace, family: int, name: str) -> Table:
    """The table of this name, made and hooked up if nothing has asked for it before. KeyError: there is no such table."""
    nf_ready(net)
    tables = net.xt.setdefault(family, {})
    found: Table | None = tables.get(name)
    if found is None:
        found = Table(net, family, name)
        register(found)
        tables[name] = found
    return found


def active_tables(net: NetNamespace, family: int) -> list[Table]:
    """The tables something has touched, the latest first (/proc/net/ip_tables_names)."""
    nf_ready(net)
    return list(reversed(net.xt.get(family, {}).values()))
