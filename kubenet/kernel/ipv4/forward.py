"""Packets that are not for this machine: TTL, MTU, redirect, FORWARD.

ip_forward() is reached when the route of a received packet leads to a device. TTL 1 ends in ICMP time exceeded; a
packet with DF that is too large for the next link in "fragmentation needed" with that MTU; a packet that goes back
where it came from is forwarded, and the sender gets a redirect. IpForwDatagrams counts what has TTL left, also what
MTU, FORWARD or ARP stop then. The TTL is one less when FORWARD sees the packet (observed on 6.18).

Sources: Linux net/ipv4/ip_forward.c; RFC 1812 5.2, 5.3.1, RFC 1191.
"""

from __future__ import annotations

from kubenet.kernel.dev.gso import skb_gso_network_seglen
from kubenet.kernel.ipv4.icmp import icmp_send, ip_rt_send_redirect
from kubenet.kernel.ipv4.output import ip_output
from kubenet.kernel.ipv4.route import Dst, dst_words, ip_dst_mtu_forward
from kubenet.kernel.netfilter.core import ACCEPT, FORWARD, NFPROTO_IPV4, nf_hook
from kubenet.kernel.skbuff import PACKET_HOST, DropReason, SkBuff, drop, station
from kubenet.wire.icmp import ICMP_DEST_UNREACH, ICMP_EXC_TTL, ICMP_FRAG_NEEDED, ICMP_TIME_EXCEEDED
from kubenet.wire.ipv4 import IP_DF


def ip_forward(skb: SkBuff) -> None:
    """The packet goes on to its next hop, or its sender hears why not. Linux: ip_forward()."""
    dst: Dst = skb.dst
    ip = skb.ip
    if skb.pkt_type != PACKET_HOST:
        return drop(skb, DropReason.NOT_SPECIFIED)
    if ip.ttl <= 1:
        icmp_send(skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0)
        return drop(skb, DropReason.IP_TTL)
    skb.net.snmp["IpForwDatagrams"] += 1
    if skb.len > dst.dev.mtu or dst.mtu or dst.pmtu:
        mtu = ip_dst_mtu_forward(dst)
        if ip_exceeds_mtu(skb, mtu):
            icmp_send(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
            return drop(skb, DropReason.PKT_TOO_BIG)
    ip.ttl -= 1
    if dst.do_redirect:
        ip_rt_send_redirect(skb)
    skb.indev = skb.dev
    skb.outdev = dst.dev
    if skb.tr is not None:
        station(skb, "ip_forward", f"ttl {ip.ttl}, to {dst.dev.name}").data = {"route": dst_words(dst), "dev": dst.dev.name}
    if nf_hook(NFPROTO_IPV4, FORWARD, skb) == ACCEPT:
        ip_output(skb)
    return None


def ip_exceeds_mtu(skb: SkBuff, mtu: int) -> bool:
    """Too large, and DF forbids to cut it. Linux: ip_exceeds_mtu()."""
    if skb.len <= mtu or not skb.ip.frag & IP_DF or skb.ignore_df:
        return False
    return skb_gso_network_seglen(skb) > mtu
