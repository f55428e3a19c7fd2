"""Chains as functions: what runs for every packet that nobody watches.

A chain becomes a list of entries (place of its counters, test, kind, argument) and one function that walks it. The test is
one closure per rule; it closes over the rule's numbers and over nothing that belongs to a namespace. A jump goes by name
through ctx.chains, so changing a chain compiles no other.

Long chains get an index. A rule can be skipped without looking when it demands a /32 destination, a protocol or a
destination port that the packet does not have. The index groups all rules of a chain by which of these three they demand
and keeps a dict per group, so a packet looks at the few rules that can match (in the chain's order, so counters and
verdicts are those of the plain walk) and at the rules that demand none. The answer is remembered per (daddr, proto, dport).
The port counts only while the tests before it are free of effects: a dice roll must happen whether or not a later test
fails, or the dice of later packets would move.

evaluate.py is the specification: tests compare both on random rules and packets.

Source: Linux ipt_do_table() (ip_tables.c); the index is ours.
"""

from __future__ import annotations

from typing import Any

from kubenet.kernel.netfilter.xtables.spec import (
    CONTINUE,
    FULL_MASK,
    RETURN,
    Action,
    ChainSpec,
    Ctx,
    Header,
    Match,
    Predicate,
    RuleSpec,
)
from kubenet.kernel.skbuff import SkBuff

VERDICT, JUMP, GOTO, TARGET, NOTHING = 0, 1, 2, 3, 4

Entry = tuple[int, Predicate | None, int, Any]  # (2 * rule index, test, kind, argument)

INDEX_FROM = 6  # shorter chains are walked
CACHE_SIZE = 1024  # answers remembered per chain


def iface_test(name: str, inverted: bool, incoming: bool) -> Predicate | None:
    """-i / -o: the device's name, or its beginning if it ends in +."""
    if name == "+":
        return (lambda skb, ctx: False) if inverted else None
    if name.endswith("+"):
        start = name[:-1]
        if incoming:
            return lambda skb, ctx: (skb.indev is not None and skb.indev.name.startswith(start)) != inverted
        return lambda skb, ctx: (skb.outdev is not None and skb.outdev.name.startswith(start)) != inverted
    if incoming:
        return lambda skb, ctx: (skb.indev is not None and skb.indev.name == name) != inverted
    return lambda skb, ctx: (skb.outdev is not None and skb.outdev.name == name) != inverted


def header_tests(head: Header) -> list[Predicate]:
    """The tests of a rule's header, in the kernel's order. Linux: ip_packet_match()."""
    tests: list[Predicate] = []
    if head.smask or head.src_inv:
        src, smask, src_inv = head.src, head.smask, head.src_inv
        tests.append(lambda skb, ctx: (skb.ip.saddr & smask == src) != src_inv)
    if head.dmask or head.dst_inv:
        dst, dmask, dst_inv = head.dst, head.dmask, head.dst_inv
        tests.append(lambda skb, ctx: (skb.ip.daddr & dmask == dst) != dst_inv)
    for name, inverted, incoming in ((head.iface, head.in_inv, True), (head.outface, head.out_inv, False)):
        test = iface_test(name, inverted, incoming) if name else None
        if test is not None:
            tests.append(test)
    if head.proto:
        proto, proto_inv = head.proto, head.proto_inv
        tests.append(lambda skb, ctx: (skb.ip.proto == proto) != proto_inv)
    if head.frag:
        want = head.frag > 0
        tests.append(lambda skb, ctx: (skb.ip.frag & 0x1FFF != 0) == want)
    return tests


def all_of(tests: list[Predicate]) -> Predicate | None:
    """One test that is true when all are; evaluated from the left, stopping at the first false one."""
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        a, b = tests
        return lambda skb, ctx: a(skb, ctx) and b(skb, ctx)
    if len(tests) == 3:
        a, b, c = tests
        return lambda skb, ctx: a(skb, ctx) and b(skb, ctx) and c(skb, ctx)
    many = tuple(tests)

    def every(skb: SkBuff, ctx: Ctx) -> bool:
        return all(test(skb, ctx) for test in many)

    return every


def rule_tests(rule: RuleSpec, chain: str, index: int) -> list[Predicate]:
    """All tests of a rule: header, then matches."""
    tests = header_tests(rule.head)
    for i, match in enumerate(rule.matches):
        test = match.compile((chain, index, i))
        if test is not None:
            tests.append(test)
    return tests


def compile_rule(rule: RuleSpec, chain: str, index: int) -> Entry:
    """The rule as an entry of its chain's walk."""
    test = all_of(rule_tests(rule, chain, index))
    if rule.target is not None:
        return (2 * index, test, TARGET, rule.target.compile((chain, index, len(rule.matches))))
    if rule.verdict is not None:
        return (2 * index, test, VERDICT, rule.verdict)
    if rule.jump:
        return (2 * index, test, GOTO if rule.goto else JUMP, rule.jump)
    return (2 * index, test, NOTHING, None)


def port_match(matches: tuple[Match, ...]) -> tuple[int, int] | None:
    """(protocol, port) if a tcp or udp match demands one destination port and no test with effects stands before it."""
    for match in matches:
        if not match.PURE:
            return None
        if match.NAME in ("tcp", "udp"):
            dport: tuple[int, int] = getattr(match, "dport")  # noqa: B009  the two matches have it, others do not
            if dport[0] == dport[1] and not getattr(match, "dport_inv"):  # noqa: B009
                return (6 if match.NAME == "tcp" else 17), dport[0]
    return None


IndexKey = tuple[int, int, int]  # (daddr, proto, dport); -1: not demanded


def index_key(rule: RuleSpec) -> IndexKey:
    """What a packet must have for the rule to match, as far as the index can tell."""
    head = rule.head
    daddr = head.dst if head.dmask == FULL_MASK[head.family] and not head.dst_inv else -1
    proto = head.proto if head.proto and not head.proto_inv else -1
    found = port_match(rule.matches)
    dport = -1
    if found is not None and found[0] == proto:
        dport = found[1]
    return daddr, proto, dport


class Index:
    """Which entries of a chain a packet has to look at."""

    __slots__ = ("entries", "groups", "always", "cache")

    def __init__(self, entries: list[Entry], rules: tuple[RuleSpec, ...]) -> None:
        self.entries = tuple(entries)
        self.groups: dict[tuple[bool, bool, bool], dict[IndexKey, list[Entry]]] = {}
        self.always: list[Entry] = []
        self.cache: dict[IndexKey, tuple[Entry, ...]] = {}
        for entry, rule in zip(entries, rules, strict=True):
            key = index_key(rule)
            if key == (-1, -1, -1):
                self.always.append(entry)
            else:
                group = self.groups.setdefault((key[0] >= 0, key[1] >= 0, key[2] >= 0), {})
                group.setdefault(key, []).append(entry)

    def find(self, key: IndexKey) -> tuple[Entry, ...]:
        """The entries that a packet with this daddr, proto and dport may match, in the chain's order."""
        found = self.cache.get(key)
        if found is not None:
            return found
        daddr, proto, dport = key
        hits = list(self.always)
        for (by_daddr, by_proto, by_dport), group in self.groups.items():
            hits += group.get((daddr if by_daddr else -1, proto if by_proto else -1, dport if by_dport else -1), ())
        hits.sort(key=_place)
        if len(self.cache) >= CACHE_SIZE:
            self.cache.clear()
        found = self.cache[key] = tuple(hits)
        return found


def _place(entry: Entry) -> int:
    return entry[0]


class Walk:
    """A compiled chain's entries and, if it is long, their index."""

    __slots__ = ("everything", "index")

    def __init__(self, chain: ChainSpec) -> None:
        entries = [compile_rule(rule, chain.name, i) for i, rule in enumerate(chain.rules)]
        self.everything = tuple(entries)
        self.index: Index | None = None
        if len(entries) >= INDEX_FROM:
            index = Index(entries, chain.rules)
            if len(index.always) < len(entries):
                self.index = index

    def todo(self, skb: SkBuff) -> tuple[Entry, ...]:
        """The entries to look at for this packet, as run() in compile_chain() chooses them."""
        ip, l4, index = skb.ip, skb.l4, self.index
        if index is None:
            return self.everything
        if ip.proto != 6 and ip.proto != 17:
            return index.find((ip.daddr, ip.proto, -2))
        return self.everything if l4 is None else index.find((ip.daddr, ip.proto, l4.dport))


def compile_chain(chain: ChainSpec) -> Action:
    """The chain as a function that returns a verdict, or RETURN when the caller goes on. Kept in chain.run."""
    name, size = chain.name, 2 * len(chain.rules)
    walk = chain.walk = Walk(chain)
    everything, index = walk.everything, walk.index

    def run(skb: SkBuff, ctx: Ctx) -> int:
        todo = everything
        if index is not None:
            ip, l4 = skb.ip, skb.l4
            proto = ip.proto  # Walk.todo(), written out: a call less per chain and packet
            if proto != 6 and proto != 17:
                todo = index.find((ip.daddr, proto, -2))
            elif l4 is not None:
                todo = index.find((ip.daddr, proto, l4.dport))
        counters = ctx.counters.get(name)
        if counters is None:
            counters = ctx.counters[name] = [0] * size
        length = skb.len
        for at, test, kind, arg in todo:
            if test is not None and not test(skb, ctx):
                continue
            counters[at] += 1
            counters[at + 1] += length
            if kind == VERDICT:
                return arg  # type: ignore[no-any-return]
            if kind == TARGET:
                verdict = arg(skb, ctx)
                if verdict != CONTINUE:
                    return verdict  # type: ignore[no-any-return]
                length = skb.len
            elif kind == JUMP:
                spec = ctx.chains[arg]
                verdict = (spec.run or compile_chain(spec))(skb, ctx)
                if verdict != RETURN:
                    return verdict
            elif kind == GOTO:
                spec = ctx.chains[arg]
                return (spec.run or compile_chain(spec))(skb, ctx)
        return RETURN

    chain.run = run
    return run
