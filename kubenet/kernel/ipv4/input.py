"""IPv4 on the way in.

    ip_rcv(skb)            every packet a device received: sanity, PREROUTING
      ip_rcv_finish        route: for us, to be forwarded, or an error
        ip_local_deliver   reassembly, INPUT, then the transport protocol's handler (net.inet_protos)
        ip_forward         forward.py

A packet the bridge has already shown to PREROUTING (br_netfilter) is not shown again. Raw sockets see a copy of every
packet for us, through net.icmp.raw_deliver. Sources: Linux net/ipv4/ip_input.c, route.c ip_error(),
br_netfilter_hooks.c ip_sabotage_in(); RFC 1122 3.2.1.
"""

from __future__ import annotations

import errno

from kubenet.kernel.ipv4.forward import ip_forward
from kubenet.kernel.ipv4.fragment import IP_DEFRAG_CONNTRACK_IN, IP_DEFRAG_LOCAL_DELIVER, ip_defrag, nf_defrag_ipv4
from kubenet.kernel.ipv4.icmp import icmp_send
from kubenet.kernel.ipv4.route import DST_FAKE_RTABLE, RTN_BROADCAST, RTN_MULTICAST, ip_route_input_noref
from kubenet.kernel.netfilter.core import ACCEPT, INPUT, NFPROTO_IPV4, PREROUTING, nf_hook
from kubenet.kernel.skbuff import PACKET_OTHERHOST, DropReason, SkBuff, drop, station
from kubenet.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_HOST_UNREACH,
    ICMP_NET_UNREACH,
    ICMP_PKT_FILTERED,
    ICMP_PROT_UNREACH,
)
from kubenet.wire.ipv4 import IP_MF, IP_OFFSET

ECN_COUNTERS = ("IpExtInNoECTPkts", "IpExtInECT1Pkts", "IpExtInECT0Pkts", "IpExtInCEPkts")


def ip_rcv(skb: SkBuff) -> None:
    """Every IPv4 packet a device receives enters here. Linux: ip_rcv(), ip_rcv_core()."""
    net = skb.net
    if skb.pkt_type == PACKET_OTHERHOST:
        return drop(skb, DropReason.OTHERHOST)
    snmp = net.snmp
    snmp["IpInReceives"] += 1
    snmp["IpExtInOctets"] += skb.len
    snmp[ECN_COUNTERS[skb.ip.tos & 3]] += skb.gso_segs
    skb.indev = skb.dev
    skb.outdev = None
    if skb.tr is not None:
        station(skb, "ip_rcv", f"received on {skb.dev.name}")
    if skb.nf_bridge is not None:
        skb.nf_bridge = None  # the bridge has run PREROUTING: ip_sabotage_in()
        if skb.dst is not None and skb.dst.flags & DST_FAKE_RTABLE:
            skb.dst = None  # br_nf_local_in()
        return ip_rcv_finish(skb)
    if skb.ip.frag & (IP_MF | IP_OFFSET) and not nf_defrag_ipv4(skb, IP_DEFRAG_CONNTRACK_IN):
        return None
    if nf_hook(NFPROTO_IPV4, PREROUTING, skb) == ACCEPT:
        return ip_rcv_finish(skb)
    return None


def ip_rcv_finish(skb: SkBuff) -> None:
    """The route decides where the packet goes. Linux: ip_rcv_finish(), dst_input()."""
    dst = skb.dst
    if dst is None:
        reason = ip_route_input_noref(skb, skb.dev)
        if reason:
            return drop(skb, reason)
        dst = skb.dst
    if dst.error:
        return ip_error(skb)
    if dst.type == RTN_MULTICAST or dst.type == RTN_BROADCAST:
        kind = "Mcast" if dst.type == RTN_MULTICAST else "Bcast"
        skb.net.snmp[f"IpExtIn{kind}Pkts"] += 1
        skb.net.snmp[f"IpExtIn{kind}Octets"] += skb.len
        return ip_local_deliver(skb)
    if dst.local:
        return ip_local_deliver(skb)
    return ip_forward(skb)


def ip_local_deliver(skb: SkBuff) -> None:
    """The packet is for this machine: whole again, and past INPUT, it reaches its protocol.

    Linux: ip_local_deliver().
    """
    if skb.ip.frag & (IP_MF | IP_OFFSET):
        whole = ip_defrag(skb, IP_DEFRAG_LOCAL_DELIVER)
        if whole is None:
            return
        skb = whole
    skb.indev = skb.dev
    skb.outdev = None
    if skb.tr is not None:
        station(skb, "ip_local_deliver", "for this machine")
    if nf_hook(NFPROTO_IPV4, INPUT, skb) == ACCEPT:
        ip_local_deliver_finish(skb)


def ip_local_deliver_finish(skb: SkBuff) -> None:
    """The protocol's handler, and raw sockets, have it. Linux: ip_protocol_deliver_rcu()."""
    net = skb.net
    number = skb.ip.proto
    raw = net.raw is not None and bool(net.raw.raw) and net.icmp.raw_deliver(skb, number)
    proto = net.inet_protos.get(number)
    if proto is not None:
        net.snmp["IpInDelivers"] += 1
        return proto[0](skb)
    if raw:
        net.snmp["IpInDelivers"] += 1
        return None
    icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)
    return drop(skb, DropReason.IP_UNKNOWN_PROTO)


def ip_error(skb: SkBuff) -> None:
    """There is no way on: a router says so, a host is silent. Linux: ip_error()."""
    error = skb.dst.error
    dev = skb.dev
    if error == errno.EINVAL:
        return drop(skb, DropReason.IP_BLACKHOLE)
    if not dev.conf.forwarding:
        return drop(skb, DropReason.IP_INADDRERRORS if error == errno.EHOSTUNREACH else DropReason.IP_INNOROUTES)
    code = {errno.EHOSTUNREACH: ICMP_HOST_UNREACH, errno.EACCES: ICMP_PKT_FILTERED}.get(error, ICMP_NET_UNREACH)
    icmp_send(skb, ICMP_DEST_UNREACH, code, 0)
    if error == errno.ENETUNREACH:
        return drop(skb, DropReason.IP_INNOROUTES)
    return drop(skb, DropReason.NOT_SPECIFIED)

