"""Tuples: what identifies one direction of a flow.

    (saddr, sport, daddr, dport, family << 8 | proto)

A plain Python tuple, because it is the key of the connection table and is made once per packet and hook. TCP and UDP
have their ports. ICMP has the id as sport and type << 8 | code as dport, so an echo request and its reply are each
other's inverse. GRE and everything else have no ports: one entry per pair of addresses and protocol. The family is
part of the protocol element because an int does not say whether 1 is ::1 or 0.0.0.1.

A key of the table is the tuple itself in zone 0, and the tuple with the zone's number behind it in any other.

Sources: Linux nf_conntrack_core.c nf_ct_get_tuple(), nf_ct_invert_tuple(); nf_conntrack_proto_icmp.c. simplified:
SCTP has its ports (they are read from the payload) but no states; DCCP and GRE keys are not looked at.
"""

from __future__ import annotations

from typing import Any

from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

Tuple = tuple[int, int, int, int, int]
Key = tuple[int, ...]

AF_INET, AF_INET6 = 2, 10
IP4 = AF_INET << 8
IP6 = AF_INET6 << 8

ORIGINAL, REPLY = 0, 1

# Which ICMP types ask, and which answer them. Linux: invmap[] (nf_conntrack_proto_icmp.c)
ICMP_INVERSE = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}


def headers_tuple(ip: Any, l4: Any, family: int) -> Tuple | None:
    """The tuple of these headers; None where the transport header is missing or too short. Linux: nf_ct_get_tuple()."""
    proto = ip.proto if family == AF_INET else ip.nexthdr
    if proto in (IPPROTO_TCP, IPPROTO_UDP):
        if l4 is None:
            return None
        return (ip.saddr, l4.sport, ip.daddr, l4.dport, family << 8 | proto)
    if proto == IPPROTO_ICMP and family == AF_INET:
        if not isinstance(l4, IcmpHdr):
            return None
        ident = l4.rest >> 16 if l4.type in ICMP_INVERSE else 0
        return (ip.saddr, ident, ip.daddr, l4.type << 8 | l4.code, family << 8 | proto)
    return (ip.saddr, 0, ip.daddr, 0, family << 8 | proto)


def nf_ct_get_tuple(skb: SkBuff) -> Tuple | None:
    """The tuple of a packet. Linux: nf_ct_get_tuple()."""
    ip, family = skb.ip, AF_INET if skb.protocol == ETH_P_IP else AF_INET6
    if ip.proto == IPPROTO_SCTP:
        data = skb.payload
        if skb.plen < 4 or ip.frag & 0x1FFF:
            return None
        return (ip.saddr, data[0] << 8 | data[1], ip.daddr, data[2] << 8 | data[3], family << 8 | IPPROTO_SCTP)
    return headers_tuple(ip, skb.l4, family)


def nf_ct_invert_tuple(t: Tuple) -> Tuple | None:
    """The tuple of the answer; None if there is none (an ICMP type nobody answers). Linux: nf_ct_invert_tuple()."""
    saddr, sport, daddr, dport, proto = t
    if proto == IP4 | IPPROTO_ICMP:
        answer = ICMP_INVERSE.get(dport >> 8)
        return None if answer is None else (daddr, sport, saddr, answer << 8 | dport & 0xFF, proto)
    return (daddr, dport, saddr, sport, proto)


def inverse(t: Tuple) -> Tuple:
    """nf_ct_invert_tuple() of a tuple known to have an inverse: that of a connection."""
    if t[4] == IP4 | IPPROTO_ICMP:
        return (t[2], t[1], t[0], ICMP_INVERSE[t[3] >> 8] << 8 | t[3] & 0xFF, t[4])
    return (t[2], t[3], t[0], t[1], t[4])


def key_of(t: Tuple, zone_id: int) -> Key:
    """The table's key for a tuple in a zone."""
    return t if zone_id == 0 else (*t, zone_id)
