"""Tracking IPv6: the first phase for packets with an IPv6 header; the second (nf_confirm) serves both families.

Written out beside nf_conntrack_in() and not merged with it, so that IPv4, which is nearly every packet, pays nothing.
simplified: ICMPv6 is tracked by its addresses alone, and its errors belong to no connection; no fragments.

Source: Linux nf_conntrack_in(), which is one function for both families; nf_conntrack_proto.c.
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.core import _invalid, _no_entry, _told, resolve_normal_ct
from kubenet.kernel.netfilter.conntrack.entry import IPS_EXPECTED, IPS_SEEN_REPLY, IPS_TEMPLATE, NfConn
from kubenet.kernel.netfilter.conntrack.generic import nf_conntrack_generic_packet
from kubenet.kernel.netfilter.conntrack.tcp import nf_conntrack_tcp_packet
from kubenet.kernel.netfilter.conntrack.tuple import REPLY, nf_ct_get_tuple
from kubenet.kernel.netfilter.conntrack.udp import nf_conntrack_udp_packet
from kubenet.kernel.netfilter.core import ACCEPT
from kubenet.kernel.skbuff import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_UNTRACKED,
    SkBuff,
)
from kubenet.wire.ipv4 import IPPROTO_TCP, IPPROTO_UDP

_TRACKERS = {IPPROTO_TCP: nf_conntrack_tcp_packet, IPPROTO_UDP: nf_conntrack_udp_packet}


def ipv6_conntrack_in(skb: SkBuff, hook: int) -> int:
    """The packet knows its connection, or is INVALID. Linux: nf_conntrack_in()."""
    tmpl: NfConn | None = skb.ct
    if tmpl is not None or skb.ctinfo == IP_CT_UNTRACKED:
        if tmpl is None or not tmpl.status & IPS_TEMPLATE:
            return ACCEPT
        skb.ct = None
    t = nf_ct_get_tuple(skb)
    if t is None:
        return _invalid(skb, hook, "invalid")
    found = resolve_normal_ct(skb, skb.net.ct, t, tmpl)
    if found is None:
        return _no_entry(skb, hook)
    ct, skb.ctdir = found
    skb.ct = ct
    if skb.ctdir == REPLY:
        skb.ctinfo = IP_CT_ESTABLISHED_REPLY
    elif ct.status & IPS_SEEN_REPLY:
        skb.ctinfo = IP_CT_ESTABLISHED
    else:
        skb.ctinfo = IP_CT_RELATED if ct.status & IPS_EXPECTED else IP_CT_NEW
    verdict = _TRACKERS.get(skb.ip.nexthdr, nf_conntrack_generic_packet)(ct, skb, skb.ctdir, hook)
    if verdict <= 0:
        skb.ct, skb.ctdir, skb.ctinfo = None, 0, 0
        return _invalid(skb, hook, "invalid" if verdict < 0 else "drop")
    if skb.ctdir == REPLY:
        ct.status |= IPS_SEEN_REPLY
    return _told(skb, hook)
