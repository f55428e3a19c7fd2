r"""Netfilter's hooks: five places on the path of every packet, per address family, where others may look and decide.

                     +-> FORWARD ---------------------+
    PREROUTING -> route                                +-> POSTROUTING -> device
                     +-> INPUT -> socket -> OUTPUT ----+

nf_hook(pf, hook, skb) asks the functions registered there, in order of priority: raw -300, conntrack -200, mangle -150,
dstnat -100, filter 0, security 50, srcnat 100, confirm last. Each answers with a verdict, a plain int. ACCEPT goes on to the
next; anything else ends the walk, and the hook function has then disposed of the packet (DROP: dropped with its reason;
STOLEN: kept). The caller goes on only on ACCEPT, so the path of a packet reads top to bottom, without callbacks:

    if nf_hook(NFPROTO_IPV4, PREROUTING, skb) == ACCEPT:
        ip_rcv_finish(skb)

Sources: Linux net/netfilter/core.c nf_hook_slow(), include/uapi/linux/netfilter.h and netfilter_ipv4.h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kubenet.kernel.skbuff import SkBuff

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

NFPROTO_IPV4, NFPROTO_ARP, NFPROTO_BRIDGE, NFPROTO_IPV6 = 2, 3, 7, 10

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = 0, 1, 2, 3, 4
HOOK_NAMES = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")

DROP, ACCEPT, STOLEN, QUEUE, REPEAT = 0, 1, 2, 3, 4
VERDICT_NAMES = ("DROP", "ACCEPT", "STOLEN", "QUEUE", "REPEAT")

PRI_CONNTRACK_DEFRAG = -400
PRI_RAW = -300
PRI_CONNTRACK = -200
PRI_MANGLE = -150
PRI_NAT_DST = -100
PRI_FILTER = 0
PRI_SECURITY = 50
PRI_NAT_SRC = 100
PRI_CONNTRACK_CONFIRM = 1 << 31

HookFn = Callable[[SkBuff, int], int]


class HookEntry:
    """One registered function: who is asked, when, and under which name the trace shows it."""

    __slots__ = ("fn", "priority", "name")

    def __init__(self, fn: HookFn, priority: int, name: str) -> None:
        self.fn = fn
        self.priority = priority
        self.name = name


class Hooks:
    """All hooks of one namespace. `run[pf][hook]` is what nf_hook() walks: the functions alone, in order."""

    __slots__ = ("entries", "run", "deferred")

    def __init__(self) -> None:
        self.deferred: Callable[[], None] | None = None  # makes rules that nobody has needed yet: nf_defer()
        self.entries: dict[tuple[int, int], list[HookEntry]] = {}
        self.run: dict[int, list[Sequence[HookFn]]] = {pf: [()] * 5 for pf in (NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_BRIDGE)}


def nf_register_net_hook(net: NetNamespace, pf: int, hook: int, priority: int, fn: HookFn, name: str) -> None:
    """`fn` is asked about every packet at this hook from now on. Equal priorities: first come, first asked."""
    entries = net.nf.entries.setdefault((pf, hook), [])
    at = len(entries)
    while at > 0 and entries[at - 1].priority > priority:
        at -= 1
    entries.insert(at, HookEntry(fn, priority, name))
    net.nf.run[pf][hook] = [entry.fn for entry in entries]


def nf_unregister_net_hook(net: NetNamespace, pf: int, hook: int, fn: HookFn) -> None:
    """`fn` is not asked any more."""
    entries = [entry for entry in net.nf.entries.get((pf, hook), []) if entry.fn != fn]
    net.nf.entries[(pf, hook)] = entries
    net.nf.run[pf][hook] = [entry.fn for entry in entries]


def nf_defer(net: NetNamespace, make: Callable[[], None]) -> None:
    """`make` is called, once, before the first IPv4 packet meets a hook or somebody looks at tables or connections.

    What it makes must not depend on when it is called: a thousand nodes have rules that are never asked.
    """
    net.nf.deferred = make
    net.nf.run[NFPROTO_IPV4] = [[_first_packet] for _ in HOOK_NAMES]


def nf_ready(net: NetNamespace) -> None:
    """Deferred rules are in force: whoever reads tables or connections calls this first."""
    make = net.nf.deferred
    if make is not None:
        net.nf.deferred = None
        net.nf.run[NFPROTO_IPV4] = [[entry.fn for entry in net.nf.entries.get((NFPROTO_IPV4, hook), [])] for hook in range(5)]
        make()


def _first_packet(skb: SkBuff, hook: int) -> int:
    """The only hook function of a namespace whose rules are deferred."""
    nf_ready(skb.net)
    return nf_hook(NFPROTO_IPV4, hook, skb)


def nf_hook(pf: int, hook: int, skb: SkBuff) -> int:
    """ACCEPT if everyone lets the packet pass; otherwise it is no longer the caller's. Linux: nf_hook_slow()."""
    for fn in skb.net.nf.run[pf][hook]:
        verdict = fn(skb, hook)
        if verdict != ACCEPT:
            return verdict
    return ACCEPT
