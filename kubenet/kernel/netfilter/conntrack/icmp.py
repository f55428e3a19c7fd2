"""Tracking ICMP: questions and answers are flows by their id; errors belong to the flow of the packet they quote.

An error that quotes a packet of a known connection is RELATED to it, and never counts or refreshes it. One that quotes
nothing known, or comes to another address than that packet's sender, is INVALID.
Source: Linux nf_conntrack_proto_icmp.c.
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.entry import DEFAULT_ZONE, NfConn, Zone
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_refresh_acct
from kubenet.kernel.netfilter.conntrack.log import log_invalid
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET, REPLY, headers_tuple, nf_ct_invert_tuple
from kubenet.kernel.netfilter.core import PREROUTING
from kubenet.kernel.skbuff import CSUM_BAD, IP_CT_RELATED, IP_CT_RELATED_REPLY, SkBuff
from kubenet.units import SEC
from kubenet.wire.addr import ip4_text
from kubenet.wire.icmp import IcmpHdr, icmp_is_error

NR_ICMP_TYPES = 18
QUESTIONS = (8, 13, 15, 17)  # echo, timestamp, information, address mask


def nf_conntrack_icmp_packet(ct: NfConn, skb: SkBuff, direction: int, hook: int) -> int:
    """1, or -1: no flow starts with this type. Linux: nf_conntrack_icmp_packet()."""
    if ct.orig[3] >> 8 not in QUESTIONS:
        return -1
    nf_ct_refresh_acct(ct, direction, skb, ct.net.sysctl.netfilter.nf_conntrack_icmp_timeout * SEC)
    return 1


def nf_conntrack_icmpv4_error(skb: SkBuff, hook: int, zone: Zone = DEFAULT_ZONE) -> int:
    """1 if the message is no error, or if it now has skb.ct, of the flow it quotes; -1 if INVALID. Linux: same name."""
    icmp = skb.l4
    if not isinstance(icmp, IcmpHdr):
        log_invalid(skb, hook, 1, "short packet")
        return -1
    if skb.csum == CSUM_BAD and hook == PREROUTING and skb.net.sysctl.netfilter.nf_conntrack_checksum:
        log_invalid(skb, hook, 1, "bad hw icmp checksum")
        return -1
    if icmp.type > NR_ICMP_TYPES:
        log_invalid(skb, hook, 1, "invalid icmp type")
        return -1
    if not icmp_is_error(icmp.type):
        return 1
    return nf_conntrack_inet_error(skb, hook, zone)


def nf_conntrack_inet_error(skb: SkBuff, hook: int, zone: Zone) -> int:
    """1 and RELATED, or -1. The quote is a packet one way, so the error goes the other way. Linux: same name."""
    quote = skb.inner
    quoted = None if quote is None else headers_tuple(quote.ip, quote.l4, AF_INET)
    answer = None if quoted is None else nf_ct_invert_tuple(quoted)
    found = None if answer is None else skb.net.ct.lookup(answer, zone)
    if found is None:
        return -1
    ct, direction = found
    expected = ct.tuple_of(direction)[2]
    if skb.ip.daddr != expected:
        log_invalid(skb, hook, 1, f"outer daddr {ip4_text(skb.ip.daddr)} != inner {ip4_text(expected)}")
        return -1
    skb.ct, skb.ctdir = ct, direction
    skb.ctinfo = IP_CT_RELATED_REPLY if direction == REPLY else IP_CT_RELATED
    return 1
