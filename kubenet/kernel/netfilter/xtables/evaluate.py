"""The walk that explains itself, and the plain interpreter that is the oracle of all others.

Packets with a trace go through here and leave a station for each rule that matched: table, chain, the rule's number as
`iptables -L --line-numbers` counts, the verdict, how many rules were tried before it in that chain, and what dice were
rolled. Packets caught by `-j TRACE` leave lines in the kernel log. Everything else (counters, state, random draws) is the
same as in the compiled chains, which a property test checks; that is why watching a packet changes nothing. A watched
packet looks at the rules that the chain's index gives, as any other; with plain=True every rule is looked at, one after the
other, as the kernel's loop does it.

Sources: Linux ipt_do_table(), trace_packet() (ip_tables.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.core import DROP, HOOK_NAMES
from kubenet.kernel.netfilter.xtables.compile import Entry, compile_chain, header_tests
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, RETURN, STANDARD, VERDICT_TEXT, ChainSpec, Ctx, HotDrop, RuleSpec
from kubenet.kernel.skbuff import SkBuff, station

if TYPE_CHECKING:
    from kubenet.kernel.netfilter.xtables.table import Table

NO_MATCH = "NO MATCH"


def packet_matches(skb: SkBuff, ctx: Ctx, rule: RuleSpec, chain: str, index: int) -> bool:
    """Header and matches of the rule all hold. Raises HotDrop."""
    for test in header_tests(rule.head):
        if not test(skb, ctx):
            return False
    for i, match in enumerate(rule.matches):
        found = match.compile((chain, index, i))
        if found is not None and not found(skb, ctx):
            return False
    return True


def record(skb: SkBuff, ctx: Ctx, chain: str, rule: int, verdict: str, tried: int, text: str) -> None:
    """A station for an armed packet, a log line for a traced one. `rule` counts from 1; -1: the policy."""
    table = ctx.table
    if skb.nf_trace and verdict != NO_MATCH:
        from kubenet.kernel.netfilter.xtables.targets.log import packet_text

        if rule == -1:
            kind, number = "policy", len(table.chains[chain].rules) + 1
        elif verdict == "RETURN":
            kind, number = "return", rule
        else:
            kind, number = "rule", rule
        ctx.net.host.printk(f"TRACE: {table.name}:{chain}:{kind}:{number} {packet_text(skb, 15)}")
    if skb.tr is not None:
        s = station(skb, "ipt_do_table", text)
        s.hook, s.prio, s.table, s.chain, s.rule, s.verdict = ctx.hook, ctx.prio, table.name, chain, rule, verdict
        s.data = {"tried": tried}
        if ctx.dice is not None:
            s.data["dice"] = ctx.dice


def entries(skb: SkBuff, chain: ChainSpec, plain: bool) -> Sequence[Entry]:
    """The rules to look at: all of them, or those the chain's index gives."""
    if plain:
        return [(2 * i, None, 0, None) for i in range(len(chain.rules))]
    if chain.walk is None:
        compile_chain(chain)
    found: Sequence[Entry] = chain.walk.todo(skb)
    return found


def run_chain(skb: SkBuff, ctx: Ctx, chain: ChainSpec, plain: bool) -> int:
    """The chain's verdict, or RETURN when the caller goes on."""
    name, rules = chain.name, chain.rules
    counters = ctx.counters.get(name)
    if counters is None:
        counters = ctx.counters[name] = [0] * (2 * len(rules))
    for at, test, _, action in entries(skb, chain, plain):
        i = at // 2
        rule = rules[i]
        ctx.dice = None
        if not (packet_matches(skb, ctx, rule, name, i) if plain else test is None or test(skb, ctx)):
            if ctx.dice is not None:  # dice were rolled, and it came to nothing
                record(skb, ctx, name, i + 1, NO_MATCH, i + 1, rule.comment or rule.jump)
            continue
        counters[2 * i] += 1
        counters[2 * i + 1] += skb.len
        if rule.target is not None:
            # recorded before the target acts: REJECT and NAT leave stations of their own, which come after
            record(skb, ctx, name, i + 1, rule.target.NAME, i + 1, rule.comment or rule.target.NAME)
            verdict = (action or rule.target.compile((name, i, len(rule.matches))))(skb, ctx)
            if verdict != CONTINUE:
                return verdict
        elif rule.verdict is not None:
            record(skb, ctx, name, i + 1, VERDICT_TEXT[rule.verdict], i + 1, rule.comment or rule.jump)
            return rule.verdict
        elif rule.jump:
            word = "goto" if rule.goto else "jump"
            record(skb, ctx, name, i + 1, f"{word} {rule.jump}", i + 1, rule.comment or f"{word} {rule.jump}")
            verdict = run_chain(skb, ctx, ctx.chains[rule.jump], plain)
            if rule.goto or verdict != RETURN:
                return verdict
        else:
            record(skb, ctx, name, i + 1, "CONTINUE", i + 1, rule.comment or "no target")
    return RETURN


def evaluate(table: Table, skb: SkBuff, hook: int, plain: bool = False) -> int:
    """The table's verdict, with stations and trace lines on the way."""
    ctx = table.ctx[hook]
    name = HOOK_NAMES[hook]
    chain = ctx.chains[name]
    try:
        verdict = run_chain(skb, ctx, chain, plain) if chain.rules else RETURN
    except HotDrop as reason:
        record(skb, ctx, name, 0, "DROP", len(chain.rules), f"hotdrop: {reason}")
        return DROP
    if verdict != RETURN:
        return verdict
    counts = table.policy_counters[name]
    counts[0] += 1
    counts[1] += skb.len
    policy = table.policies[name]
    record(skb, ctx, name, -1, policy, len(chain.rules), f"policy {policy}")
    return STANDARD[policy]
