"""conntrack -I and -A: an entry made by hand, as a lab makes a stale one; and -o xml.

Sources: conntrack-tools 1.4.7 src/conntrack.c do_command_ct(), its output on Linux 6.18; Linux ctnetlink_create_conntrack();
libnetfilter_conntrack src/conntrack/snprintf_xml.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.conntrack.entry import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_NAT_DONE_MASK,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    NfConn,
    TcpTrack,
    Zone,
)
from kubenet.kernel.netfilter.conntrack.select import Filter
from kubenet.kernel.netfilter.conntrack.tcp_states import STATE_NAMES
from kubenet.kernel.netfilter.conntrack.tcp_window import F_BE_LIBERAL
from kubenet.kernel.netfilter.conntrack.text import proto_name, seconds_left, state_name
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET, ORIGINAL, REPLY, Tuple, inverse, key_of
from kubenet.units import SEC
from kubenet.wire.addr import fmt

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

ICMP, TCP, ICMP6 = 1, 6, 58


def create(net: NetNamespace, want: Filter, timeout: int) -> NfConn | None:
    """The entry is in the table; None if its tuple is taken. Linux: ctnetlink_create_conntrack(), nf_conntrack_hash_check_insert()."""
    assert want.orig_src is not None and want.orig_dst is not None and want.family is not None
    key = want.family << 8 | (want.proto or 0)
    ports = (want.sport or 0, want.dport or 0)
    if want.proto in (ICMP, ICMP6):
        ports = (want.icmp_id or 0, (want.icmp_type or 0) << 8 | (want.icmp_code or 0))
    orig: Tuple = (want.orig_src[0], ports[0], want.orig_dst[0], ports[1], key)
    src, sport, dst, dport, _ = straight = inverse(orig)
    if want.reply_src is not None:
        src, sport = want.reply_src[0], want.reply_sport if want.reply_sport is not None else sport
    if want.reply_dst is not None:
        dst, dport = want.reply_dst[0], want.reply_dport if want.reply_dport is not None else dport
    if want.dnat:
        src, sport = want.dnat[0], want.dnat[1] if len(want.dnat) > 1 else sport
    if want.snat:
        dst, dport = want.snat[0], want.snat[1] if len(want.snat) > 1 else dport
    ct = NfConn(net, orig, (src, sport, dst, dport, key), Zone(want.zone or 0))
    if any(net.ct._live(key_of(t, ct.zone.of(direction))) is not None for direction, t in enumerate(ct.tuples)):
        return None
    ct.status = IPS_CONFIRMED | IPS_NAT_DONE_MASK | want.status
    ct.status |= (IPS_DST_NAT if (src, sport) != straight[0:2] else 0) | (IPS_SRC_NAT if (dst, dport) != straight[2:4] else 0)
    ct.timeout = net.loop.now + timeout * SEC
    ct.confirmed_at = net.loop.now
    ct.mark = want.mark[0] if want.mark is not None else 0
    if want.proto == TCP:
        ct.proto = TcpTrack()
        ct.proto.state = STATE_NAMES.index(want.state or "NONE")
        for peer in ct.proto.seen:
            peer.flags |= F_BE_LIBERAL  # nobody watched its window
    net.ct.insert(ct)
    return ct


def _tuple_xml(t: Tuple, direction: str) -> str:
    family, proto = t[4] >> 8, t[4] & 0xFF
    layer3 = f'<layer3 protonum="{family}" protoname="{"ipv4" if family == AF_INET else "ipv6"}">'
    addrs = f"<src>{fmt(t[0], family)}</src><dst>{fmt(t[2], family)}</dst></layer3>"
    if proto in (ICMP, ICMP6):
        inner = f"<type>{t[3] >> 8}</type><code>{t[3] & 0xFF}</code><id>{t[1]}</id>"
    else:
        inner = f"<sport>{t[1]}</sport><dport>{t[3]}</dport>"
    layer4 = f'<layer4 protonum="{proto}" protoname="{proto_name(proto)}">{inner}</layer4>'
    return f'<meta direction="{direction}">{layer3}{addrs}{layer4}'


def _counters_xml(ct: NfConn, direction: int) -> str:
    if ct.packets is None or ct.bytes is None:
        return ""
    return f"<counters><packets>{ct.packets[direction]}</packets><bytes>{ct.bytes[direction]}</bytes></counters>"


def xml(entries: list[NfConn], now: int) -> str:
    """What -o xml prints."""
    out = ""
    for ct in entries:
        out += "<flow>" + _tuple_xml(ct.orig, "original") + _counters_xml(ct, ORIGINAL) + "</meta>"
        out += _tuple_xml(ct.reply, "reply") + _counters_xml(ct, REPLY) + '</meta><meta direction="independent">'
        state = state_name(ct)
        out += (f"<state>{state}</state>" if state else "") + f"<timeout>{seconds_left(ct, now)}</timeout><mark>{ct.mark}</mark>"
        out += (f"<zone>{ct.zone.id}</zone>" if ct.zone.id else "") + f"<use>1</use><id>{ct.id}</id>"
        out += ("<assured/>" if ct.status & IPS_ASSURED else "") + ("" if ct.status & IPS_SEEN_REPLY else "<unreplied/>")
        out += "</meta></flow>\n"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<conntrack>\n{out}</conntrack>\n'
