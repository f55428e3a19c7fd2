"""IPv4 on the way out.

    ip_local_out(skb)     packets made here: OUTPUT
      ip_output(skb)      also forwarded ones: POSTROUTING
        ip_finish_output  fragmentation, if it is larger than the route's MTU
          ip_finish_output2   counters, neighbour, device

Each returns 0 or -errno, as Linux's do: -EPERM when a rule dropped the packet (a program's send() then fails with it),
-EMSGSIZE when it does not fit and may not be fragmented, -ENOBUFS, -ENETDOWN.
simplified: own broadcasts and multicasts are not looped back to sockets of this machine.

Sources: Linux net/ipv4/ip_output.c, net/ipv4/netfilter.c ip_route_me_harder(), net/ipv4/route.c __ip_select_ident().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kubenet.kernel.dev.gso import skb_gso_network_seglen, skb_gso_segment
from kubenet.kernel.ipv4.fragment import frag_max_size, ip_do_fragment
from kubenet.kernel.ipv4.neigh import neigh_output
from kubenet.kernel.ipv4.route import (
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    Dst,
    dst_mtu,
    dst_words,
    inet_addr_type,
    ip_dst_mtu_forward,
    ip_route_output_key,
)
from kubenet.kernel.netfilter.core import ACCEPT, DROP, NFPROTO_IPV4, OUTPUT, POSTROUTING, nf_hook
from kubenet.kernel.skbuff import DropReason, SkBuff, drop, station
from kubenet.sim.rng import hash64
from kubenet.wire.icmp import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED
from kubenet.wire.ipv4 import IP_DF

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IDENT_BUCKETS = 2048


def ip_local_out(skb: SkBuff) -> int:
    """The packet, complete with IP header and skb.dst, is on its way. 0 or -errno. Linux: ip_local_out()."""
    net = skb.net
    net.snmp["IpOutRequests"] += 1
    skb.indev = None
    skb.outdev = skb.dev = skb.dst.dev
    if skb.tr is not None:
        station(skb, "ip_local_out", "made here").data = {"route": dst_words(skb.dst), "dev": skb.dev.name}
    verdict = nf_hook(NFPROTO_IPV4, OUTPUT, skb)
    if verdict == ACCEPT:
        return ip_output(skb)
    return -errno.EPERM if verdict == DROP else 0


def ip_send_skb(skb: SkBuff) -> int:
    """The same for what is not TCP: a packet that could not be sent is counted. 0 or -errno. Linux: ip_send_skb()."""
    result = ip_local_out(skb)
    if result:
        skb.net.snmp["IpOutDiscards"] += 1
    return result


def ip_output(skb: SkBuff) -> int:
    """The packet, made here or forwarded, is routed and meets POSTROUTING. 0 or -errno. Linux: ip_output()."""
    skb.indev = None
    skb.outdev = skb.dev = skb.dst.dev
    if skb.tr is not None:
        station(skb, "ip_output", f"to {skb.dev.name}")
    verdict = nf_hook(NFPROTO_IPV4, POSTROUTING, skb)
    if verdict == ACCEPT:
        return ip_finish_output(skb)
    return -errno.EPERM if verdict == DROP else 0


def ip_finish_output(skb: SkBuff) -> int:
    """The packet is sent, in pieces if need be. 0 or -errno. Linux: ip_finish_output(), ip_finish_output_gso()."""
    dst: Dst = skb.dst
    if skb.len > dst.dev.mtu or dst.mtu or dst.pmtu or skb.ignore_df:
        mtu = ip_dst_mtu_forward(dst) if dst.is_input else dst_mtu(dst)
        mtu = min(mtu, frag_max_size(skb) or mtu)
        if skb.len > mtu and skb_gso_network_seglen(skb) > mtu:
            return ip_fragment(skb, mtu)
    return ip_finish_output2(skb)


def ip_finish_output2(skb: SkBuff) -> int:
    """The packet goes to its next hop. 0 or -errno. Linux: ip_finish_output2()."""
    snmp = skb.net.snmp
    kind = skb.dst.type
    if kind == RTN_MULTICAST:
        snmp["IpExtOutMcastPkts"] += 1
        snmp["IpExtOutMcastOctets"] += skb.len
    elif kind == RTN_BROADCAST:
        snmp["IpExtOutBcastPkts"] += 1
        snmp["IpExtOutBcastOctets"] += skb.len
    snmp["IpOutTransmits"] += 1
    snmp["IpExtOutOctets"] += skb.len
    return neigh_output(skb)


def ip_fragment(skb: SkBuff, mtu: int) -> int:
    """The packet leaves as fragments, or not at all if DF forbids it. 0 or -EMSGSIZE.

    Linux: ip_fragment(), ip_do_fragment(), ip_finish_output_gso().
    """
    net = skb.net
    if skb.gso_size and not skb.ip.frag & IP_DF:  # a tunnel's super-segment
        result = 0
        for segment in skb_gso_segment(skb):
            result = ip_fragment(segment, mtu) or result
        return result
    if skb.ip.frag & IP_DF and not skb.ignore_df:
        net.icmp.send(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
        drop(skb, DropReason.PKT_TOO_BIG)
        return -errno.EMSGSIZE
    pieces = ip_do_fragment(skb, mtu)
    net.snmp["IpFragCreates"] += len(pieces)
    net.snmp["IpFragOKs"] += 1
    result = 0
    for piece in pieces:
        result = ip_finish_output2(piece) or result
    return result


def ip_select_ident(net: NetNamespace, saddr: int, daddr: int, proto: int, segs: int = 1) -> int:
    """The IP id for a packet that may be fragmented: a counter per hash of the addresses. Linux: __ip_select_ident().

    simplified: the counter does not also run with time.
    """
    secret = net.extra.get("ip_ident_secret")
    if secret is None:
        secret = net.extra["ip_ident_secret"] = net.host.secret(f"ip_ident {net.name}")
    bucket = hash64(secret, saddr, daddr, proto) % IDENT_BUCKETS
    ident = net.ip_ident.get(bucket)
    if ident is None:
        ident = hash64(secret, bucket) & 0xFFFF
    net.ip_ident[bucket] = ident + segs
    return ident & 0xFFFF


def ip_route_me_harder(skb: SkBuff) -> int:
    """The route fits what OUTPUT has made of the packet (address, mark, tos). 0 or -errno.

    Linux: ip_route_me_harder().
    """
    net, ip = skb.net, skb.ip
    saddr = ip.saddr
    if inet_addr_type(net, saddr) != RTN_LOCAL:
        saddr = 0
    oif = skb.sk.bound_dev if skb.sk is not None else 0
    try:
        skb.dst = ip_route_output_key(net, ip.daddr, saddr, oif or 0, skb.mark, ip.tos)
    except OSError as error:
        return -(error.errno or errno.ENETUNREACH)
    skb.outdev = skb.dev = skb.dst.dev
    return 0
