r"""Connection tracking's own hooks, and the two phases of an entry.

    PREROUTING, OUTPUT     nf_conntrack_in: which connection is this packet of? None: a new one, in the packet only
    POSTROUTING, INPUT     nf_confirm: the packet has survived every rule, so its new connection enters the table

A packet dropped or rejected in between therefore leaves no entry. Between the phases NAT may change the reply tuple;
another packet may meanwhile have confirmed an entry with one of the tuples (a clash): that is resolved at
confirmation, or the packet is dropped and insert_failed counts it.

What a packet gets: skb.ct, skb.ctdir (0 original, 1 reply) and skb.ctinfo (NEW, ESTABLISHED, RELATED, + reply). No
skb.ct and ctinfo 0 is INVALID; ctinfo UNTRACKED is raw's NOTRACK. A packet that crosses to another namespace loses all
three (whoever hands it over does that); over loopback it keeps them and is not looked up again.

A namespace tracks nothing until something needs it: nf_ct_netns_get().

Sources: Linux nf_conntrack_core.c, nf_conntrack_proto.c. simplified: the entry of a packet on its way is not counted
until it is confirmed, since no other packet can come in between; no expectations (no helpers).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOMEM
from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.conntrack.entry import (
    DEFAULT_ZONE,
    IPCT_NEW,
    IPCT_RELATED,
    IPCT_REPLY,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_FIXED_TIMEOUT,
    IPS_NAT_CLASH,
    IPS_NAT_DONE_MASK,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT_DONE,
    IPS_TEMPLATE,
    NfConn,
)
from kubenet.kernel.netfilter.conntrack.generic import nf_conntrack_generic_packet
from kubenet.kernel.netfilter.conntrack.icmp import nf_conntrack_icmp_packet, nf_conntrack_icmpv4_error
from kubenet.kernel.netfilter.conntrack.table import ConntrackTable
from kubenet.kernel.netfilter.conntrack.tcp import REPEAT, nf_conntrack_tcp_packet, nf_ct_tcp_fixup
from kubenet.kernel.netfilter.conntrack.text import ct_summary
from kubenet.kernel.netfilter.conntrack.tuple import (
    AF_INET,
    IP4,
    ORIGINAL,
    REPLY,
    Tuple,
    key_of,
    nf_ct_get_tuple,
    nf_ct_invert_tuple,
)
from kubenet.kernel.netfilter.conntrack.udp import nf_conntrack_udp_packet
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    DROP,
    INPUT,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    PRI_CONNTRACK,
    PRI_CONNTRACK_CONFIRM,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from kubenet.kernel.skbuff import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    DropReason,
    SkBuff,
    drop,
    station,
)
from kubenet.units import SEC
from kubenet.wire.ipv4 import IP_MF, IP_OFFSET, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

PacketFn = Callable[[NfConn, SkBuff, int, int], int]

_TRACKERS: dict[int, PacketFn] = {
    IPPROTO_TCP: nf_conntrack_tcp_packet,
    IPPROTO_UDP: nf_conntrack_udp_packet,
    IPPROTO_ICMP: nf_conntrack_icmp_packet,
}
INIT_NETNS = 4026531833  # the inode of a machine's first network namespace. Linux: NET_NS_INIT_INO
_PORTS = (IPPROTO_TCP, IPPROTO_UDP)


# -- first phase

def nf_conntrack_in(skb: SkBuff, hook: int) -> int:
    """The packet knows its connection, or is INVALID. ACCEPT; DROP if there is no room. Linux: nf_conntrack_in()."""
    tmpl: NfConn | None = skb.ct
    if tmpl is not None or skb.ctinfo == IP_CT_UNTRACKED:
        if tmpl is None or not tmpl.status & IPS_TEMPLATE:
            return ACCEPT  # untracked, or seen before (loopback)
        skb.ct = None
    ip, table = skb.ip, skb.net.ct
    proto = ip.proto
    if proto in _PORTS and skb.l4 is not None:
        t = (ip.saddr, skb.l4.sport, ip.daddr, skb.l4.dport, IP4 | proto)
    else:
        if proto == IPPROTO_ICMP:
            verdict = nf_conntrack_icmpv4_error(skb, hook, DEFAULT_ZONE if tmpl is None else tmpl.zone)
            if verdict < 0:
                return _invalid(skb, hook, "error")
            if skb.ct is not None:
                return _told(skb, hook)
        other = nf_ct_get_tuple(skb)
        if other is None:
            return _invalid(skb, hook, "invalid")
        t = other
    tracker = _TRACKERS.get(proto, nf_conntrack_generic_packet)
    while True:
        found = table.table.get(t) if tmpl is None else table.lookup(t, tmpl.zone)
        if found is None or found[0].timeout <= table.net.loop.now or table.race_ns:
            found = resolve_normal_ct(skb, table, t, tmpl)
            if found is None:
                return _no_entry(skb, hook)
        ct, direction = found
        skb.ct, skb.ctdir = ct, direction
        status = ct.status
        if direction == REPLY:
            skb.ctinfo = IP_CT_ESTABLISHED_REPLY
        elif status & IPS_SEEN_REPLY:
            skb.ctinfo = IP_CT_ESTABLISHED
        else:
            skb.ctinfo = IP_CT_RELATED if status & IPS_EXPECTED else IP_CT_NEW
        verdict = tracker(ct, skb, direction, hook)
        if verdict > 0:
            break
        skb.ct, skb.ctdir, skb.ctinfo = None, 0, 0
        if verdict != REPEAT:
            return _invalid(skb, hook, "invalid" if verdict < 0 else "drop")
    if direction == REPLY and not status & IPS_SEEN_REPLY:
        ct.status |= IPS_SEEN_REPLY
        ct.events |= IPCT_REPLY
    if skb.tr is not None:
        return _told(skb, hook)
    return ACCEPT


def ipv4_conntrack_local(skb: SkBuff, hook: int) -> int:
    """nf_conntrack_in for packets from here; fragments (IP_NODEFRAG) stay out. Linux: ipv4_conntrack_local()."""
    if skb.ip.frag & (IP_MF | IP_OFFSET):
        return ACCEPT
    return nf_conntrack_in(skb, hook)


def _told(skb: SkBuff, hook: int) -> int:
    if skb.tr is not None:
        s = station(skb, "nf_conntrack_in", ct_state_name(skb))
        s.hook, s.prio, s.ct = hook, PRI_CONNTRACK, ct_summary(skb.ct) if skb.ct is not None else ""
    return ACCEPT


def _invalid(skb: SkBuff, hook: int, counter: str) -> int:
    """The packet goes on without a connection; a verdict of "drop" ends it. Linux: nf_conntrack_in(), ret <= 0."""
    stats = skb.net.ct.stats
    stats[counter] += 1
    if counter == "drop":
        stats["invalid"] += 1
        drop(skb, DropReason.NETFILTER_DROP)
        return DROP
    return _told(skb, hook)


def _no_entry(skb: SkBuff, hook: int) -> int:
    """No connection could be made: the table is full (then the packet ends), or the tuple has no inverse."""
    t = nf_ct_get_tuple(skb)
    if t is None or nf_ct_invert_tuple(t) is None:
        return _invalid(skb, hook, "invalid")
    skb.net.ct.stats["drop"] += 1
    drop(skb, DropReason.CONNTRACK_FULL)
    return DROP


def resolve_normal_ct(skb: SkBuff, table: ConntrackTable, t: Tuple, tmpl: NfConn | None) -> tuple[NfConn, int] | None:
    """The live entry of this tuple, else a new one that is not in the table yet. Linux: resolve_normal_ct()."""
    found = table.lookup(t, DEFAULT_ZONE if tmpl is None else tmpl.zone)
    if found is not None and not (table.race_ns and _still_racing(table, found)):
        return found
    try:
        ct = init_conntrack(skb, table, t, tmpl)
    except OSError:
        return None
    return None if ct is None else (ct, ORIGINAL)


def _still_racing(table: ConntrackTable, found: tuple[NfConn, int]) -> bool:
    """Another CPU made this entry so short a time ago that the packet does not see it yet (race_ns)."""
    ct, direction = found
    if direction == REPLY or ct.status & IPS_SEEN_REPLY:
        return False
    return table.net.loop.now - ct.confirmed_at < table.race_ns


def init_conntrack(skb: SkBuff, table: ConntrackTable, t: Tuple, tmpl: NfConn | None) -> NfConn | None:
    """A new, unconfirmed connection; None if the tuple has no inverse, ENOMEM if the table is full. Linux:
    init_conntrack()."""
    reply = nf_ct_invert_tuple(t)
    if reply is None:
        return None
    net = table.net
    limit = net.host.nf_conntrack_max
    if limit and table.count >= limit and not table.early_drop(t):
        table_full(net)
        raise OSError(ENOMEM, "nf_conntrack: table full")
    ct = NfConn(net, t, reply) if tmpl is None else NfConn(net, t, reply, tmpl.zone)
    sysctl = net.sysctl.netfilter
    if sysctl.nf_conntrack_acct:
        ct.packets, ct.bytes = [0, 0], [0, 0]
    if tmpl is not None and tmpl.helper is not None:
        ct.helper = tmpl.helper
    ct.id = table.conn_id(t)
    return ct


def table_full(net: NetNamespace) -> None:
    """The kernel log says so, at most 10 lines in 5 s (net_warn_ratelimited)."""
    start, said = net.host.extra.get("net_ratelimit", (-5 * SEC, 0))
    now = net.loop.now
    if now - start >= 5 * SEC:
        start, said = now, 0
    if said < 10:
        number = INIT_NETNS if net is next(iter(net.host.namespaces.values())) else 0xF0000000 | net.ct.secret & 0xFFFFFF
        net.host.printk(f"nf_conntrack: nf_conntrack: table full in netns {number}, dropping packet")
    net.host.extra["net_ratelimit"] = (start, said + 1)


# -- second phase

def nf_confirm(skb: SkBuff, hook: int) -> int:
    """The packet leaves netfilter: its connection is in the table from now on. Linux: nf_confirm(),
    nf_conntrack_confirm()."""
    ct: NfConn | None = skb.ct
    if ct is None:
        return ACCEPT
    if not ct.status & IPS_CONFIRMED:
        verdict = nf_conntrack_confirm(skb, ct, hook)
        if verdict != ACCEPT:
            return verdict
        ct = skb.ct
    if ct is not None and ct.events:
        nf_ct_deliver_cached_events(ct)
    return ACCEPT


def nf_conntrack_confirm(skb: SkBuff, ct: NfConn, hook: int) -> int:
    """ACCEPT and the entry is in the table, or DROP: somebody else's has its tuple. Linux: __nf_conntrack_confirm()."""
    if skb.ctdir != ORIGINAL or ct.status & IPS_TEMPLATE:
        return ACCEPT  # a REJECT's answer: the connection it belongs to is not there yet and never will be
    table: ConntrackTable = ct.net.ct
    if ct.status & IPS_DYING:
        return _lost(skb, table, ct)
    for direction, t in enumerate(ct.tuples):
        clash = table._live(key_of(t, ct.zone.of(direction)))
        if clash is not None:
            return nf_ct_resolve_clash(skb, table, ct, clash, hook)
    now = table.net.loop.now
    ct.status |= IPS_CONFIRMED
    ct.timeout += now  # until here it was a duration
    ct.confirmed_at = now
    if ct.net.sysctl.netfilter.nf_conntrack_timestamp:
        ct.start = now
    table.insert(ct)
    _remember_source(table, ct)
    ct.events |= IPCT_RELATED if ct.master is not None else IPCT_NEW
    if skb.tr is not None:
        s = station(skb, "nf_confirm", "the new connection enters the table")
        s.hook, s.prio, s.ct = hook, PRI_CONNTRACK_CONFIRM, ct_summary(ct)
    return ACCEPT


def _remember_source(table: ConntrackTable, ct: NfConn) -> None:
    """NAT will find how this source was mapped. Linux: nf_nat_setup_info(), nat_bysource."""
    if ct.status & IPS_SRC_NAT_DONE:
        key = (*ct.orig[:2], ct.orig[4], ct.zone.of(ORIGINAL))
        table.bysource.setdefault(key, []).insert(0, ct)


def nf_ct_resolve_clash(skb: SkBuff, table: ConntrackTable, loser: NfConn, clash: tuple[NfConn, int], hook: int) -> int:
    """UDP: the packet joins the entry that was first, or is let through beside it; else it is dropped. Linux: same
    name."""
    winner = clash[0]
    level = table.clash_resolution if loser.protonum == IPPROTO_UDP else 0
    if level >= 1 and not winner.status & IPS_DYING:
        if not winner.status & IPS_NAT_DONE_MASK or (winner.orig == loser.orig and winner.reply == loser.reply):
            if winner.packets and winner.bytes:
                winner.packets[skb.ctdir] += 1
                winner.bytes[skb.ctdir] += skb.len
            skb.ct = winner
            return _resolved(skb, table, hook, "joins the entry another packet made first")
    if level >= 2 and table._live(key_of(loser.reply, loser.zone.of(REPLY))) is None:
        # Both have one original tuple and different answers: this entry is found by its answer only, for one second.
        loser.timeout = loser.confirmed_at = table.net.loop.now
        loser.timeout += SEC
        loser.status |= IPS_CONFIRMED | IPS_FIXED_TIMEOUT | IPS_NAT_CLASH
        table.insert(loser, reply_only=True)
        return _resolved(skb, table, hook, "another packet was first: this entry lives a second, for its answer")
    return _lost(skb, table, loser)


def _resolved(skb: SkBuff, table: ConntrackTable, hook: int, what: str) -> int:
    table.stats["clash_resolve"] += 1
    if skb.tr is not None:
        s = station(skb, "nf_ct_resolve_clash", what)
        s.hook, s.prio, s.ct = hook, PRI_CONNTRACK_CONFIRM, ct_summary(skb.ct)
    return ACCEPT


def _lost(skb: SkBuff, table: ConntrackTable, ct: NfConn) -> int:
    table.stats["insert_failed"] += 1
    table.stats["drop"] += 1
    drop(skb, DropReason.NAT_NO_PORT if ct.no_port else DropReason.CONNTRACK_CLASH)
    return DROP


def nf_ct_deliver_cached_events(ct: NfConn) -> None:
    """Watchers hear what happened since the last packet left. Linux: nf_ct_deliver_cached_events()."""
    events, ct.events = ct.events, 0
    if ct.net.watchers and not ct.status & IPS_DYING:
        ct.net.ct.tell("NEW" if events & (IPCT_NEW | IPCT_RELATED) else "UPDATE", ct)


# -- for others

def nf_conntrack_attach(skb: SkBuff, cause: SkBuff) -> None:
    """An answer made here (REJECT's RST, an ICMP error) is RELATED to the connection of its cause. Linux:
    nf_conntrack_attach()."""
    if cause.ct is None:
        return
    skb.ct = cause.ct
    skb.ctdir = 1 - cause.ctdir
    skb.ctinfo = IP_CT_RELATED_REPLY if cause.ctdir == ORIGINAL else IP_CT_RELATED


def ct_state_name(skb: SkBuff) -> str:
    """The word `--ctstate` has for the packet. Linux: xt_conntrack.c state mapping."""
    if skb.ct is None:
        return "UNTRACKED" if skb.ctinfo == IP_CT_UNTRACKED else "INVALID"
    return {IP_CT_NEW: "NEW", IP_CT_RELATED: "RELATED", IP_CT_RELATED_REPLY: "RELATED"}.get(skb.ctinfo, "ESTABLISHED")


def _forget_source(ct: NfConn) -> None:
    """A connection that is gone maps no source any more. Linux: nf_nat_cleanup_conntrack()."""
    if ct.status & IPS_SRC_NAT_DONE:
        bysource: dict[tuple[int, ...], list[NfConn]] = ct.net.ct.bysource
        key = (*ct.orig[:2], ct.orig[4], ct.zone.of(ORIGINAL))
        others = bysource.get(key)
        if others is not None and ct in others:
            others.remove(ct)
            if not others:
                del bysource[key]


_HOOKS = ((PREROUTING, PRI_CONNTRACK, nf_conntrack_in), (OUTPUT, PRI_CONNTRACK, ipv4_conntrack_local),
          (POSTROUTING, PRI_CONNTRACK_CONFIRM, nf_confirm), (INPUT, PRI_CONNTRACK_CONFIRM, nf_confirm))


def _ipv6_conntrack_in(skb: SkBuff, hook: int) -> int:
    from kubenet.kernel.netfilter.conntrack.ipv6 import ipv6_conntrack_in

    return ipv6_conntrack_in(skb, hook)


_HOOKS6 = ((PREROUTING, PRI_CONNTRACK, _ipv6_conntrack_in), (OUTPUT, PRI_CONNTRACK, _ipv6_conntrack_in), *_HOOKS[2:])


def nf_conntrack_init_net(net: NetNamespace) -> ConntrackTable:
    """The namespace has a (still idle) connection table."""
    if net.ct is None:
        net.ct = ConntrackTable(net)
        net.ct.forget.append(_forget_source)
    table: ConntrackTable = net.ct
    return table


def nf_ct_netns_get(net: NetNamespace, family: int = AF_INET) -> None:
    """The namespace tracks connections, as long as anyone needs it. Linux: nf_ct_netns_get()."""
    table = nf_conntrack_init_net(net)
    table.users[family] = table.users.get(family, 0) + 1
    if table.users[family] > 1:
        return
    for hook, priority, fn in _HOOKS if family == AF_INET else _HOOKS6:
        nf_register_net_hook(net, family, hook, priority, fn, fn.__name__)
    for ct in table.entries():
        nf_ct_tcp_fixup(ct)


def nf_ct_netns_put(net: NetNamespace, family: int = AF_INET) -> None:
    """One user less; with the last one tracking stops, and entries end by their timeouts. Linux: nf_ct_netns_put()."""
    table = net.ct
    if table is None or not table.users.get(family):
        return
    table.users[family] -= 1
    if table.users[family] == 0:
        for hook, _, fn in _HOOKS if family == AF_INET else _HOOKS6:
            nf_unregister_net_hook(net, family, hook, fn)
