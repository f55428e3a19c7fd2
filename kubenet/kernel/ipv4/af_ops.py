"""What a socket needs of its address family, as one table of functions: sk.af_ops.

TCP, UDP and ping reach IP only through an AfOps object, so they import nothing of ipv4/, a second family is a second
object, and a test puts a recorder in its place. An skb handed in has protocol, l4, payload, plen and len (the IP
header's 20 bytes included) set, and ip None.

IP ids: a connected socket counts its own up from sk.ip_ident (random at connect); a packet of no connection with DF
has id 0; one that may be fragmented takes the machine's counter for the address pair. Source: Linux struct
inet_connection_sock_af_ops ipv4_specific (tcp_ipv4.c), ip_output.c __ip_queue_xmit(), ip_build_and_send_pkt(),
ip_send_unicast_reply(), __ip_make_skb().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kubenet.kernel.ipv4.icmp import icmp_out_count
from kubenet.kernel.ipv4.neigh import neigh_confirm
from kubenet.kernel.ipv4.output import ip_local_out, ip_select_ident, ip_send_skb
from kubenet.kernel.ipv4.pmtu import ip_rt_update_pmtu, ipv4_update_pmtu
from kubenet.kernel.ipv4.route import (
    Dst,
    dst_mtu,
    inet_addr_type,
    ip_route_output_key,
    ipv4_default_advmss,
)
from kubenet.kernel.skbuff import ETH_P_IP, DropReason, SkBuff, arm, drop
from kubenet.wire.ipv4 import IP_DF, IPPROTO_ICMP, IpHdr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IP_HLEN = 20
MAX_DATAGRAM = 65535
IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE = 1, 2, 3  # ip(7), IP_MTU_DISCOVER; 0 is DONT


def _sk_route(net: NetNamespace, sk: Any) -> Dst:
    """The route of a connected socket. Linux: ip_route_output_ports() in __ip_queue_xmit()."""
    return ip_route_output_key(net, sk.daddr, sk.saddr, sk.bound_dev, sk.mark, sk.tos, sk.protocol, sk.uid, sk.sport, sk.dport)


class AfOps:
    """IPv4's functions for sockets; stateless, one instance: `ipv4_ops`."""

    __slots__ = ()

    family = 2
    net_header_len = IP_HLEN
    header_cls = IpHdr

    def route(self, net: NetNamespace, sk: Any, daddr: int, saddr: int, oif: int, dport: int = 0) -> Dst:
        """The route of a socket's packets; dst.prefsrc is the source. OSError as ip_route_output_key()."""
        if sk is None:
            return ip_route_output_key(net, daddr, saddr, oif)
        return ip_route_output_key(net, daddr, saddr, oif, sk.mark, sk.tos, sk.protocol, sk.uid, sk.sport, dport or sk.dport)

    def inet_addr_type(self, net: NetNamespace, addr: int) -> int:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST, for bind()."""
        return inet_addr_type(net, addr)

    def queue_xmit(self, sk: Any, skb: SkBuff) -> int:
        """A connected socket's packet is on its way. 0 or -errno. Linux: __ip_queue_xmit()."""
        dst: Dst | None = sk.dst
        net = skb.net
        if dst is None or dst.genid != net.rt_genid or dst.obsolete or (dst.expires and dst.expires <= net.loop.now):
            try:
                dst = sk.dst = _sk_route(net, sk)
            except OSError:
                drop(skb, DropReason.IP_OUTNOROUTES)
                return -errno.EHOSTUNREACH
        ident = sk.ip_ident
        sk.ip_ident = ident + skb.gso_segs & 0xFFFF
        ttl = sk.ttl if sk.ttl > 0 else net.sysctl.ipv4.ip_default_ttl
        skb.ip = IpHdr(sk.saddr, sk.daddr, sk.protocol, ident, 0 if dst.mtu_locked else IP_DF, ttl, sk.tos)
        skb.dst = dst
        skb.sk = sk
        skb.mark = sk.mark
        skb.priority = sk.priority
        return ip_local_out(skb)

    def build_and_send(
        self, net: NetNamespace, sk: Any, skb: SkBuff, saddr: int, daddr: int, dst: Dst | None, ttl: int = 0
    ) -> int:
        """A packet of no full socket: SYN-ACK, RST, TIME-WAIT's ACK; IP id 0, DF. 0 or -errno.

        dst None: routed here. sk (or None) lends mark, tos and priority. Linux: ip_build_and_send_pkt(), ip_send_unicast_reply().
        """
        mark, tos = (sk.mark, sk.tos) if sk is not None else (0, 0)
        if dst is None or dst.genid != net.rt_genid or dst.obsolete:
            try:
                dst = ip_route_output_key(net, daddr, saddr, sk.bound_dev if sk is not None else 0, mark, tos)
            except OSError as error:
                skb.ip = IpHdr(saddr, daddr, 6)
                drop(skb, DropReason.IP_OUTNOROUTES)
                return -(error.errno or errno.EHOSTUNREACH)
        if ttl <= 0:
            ttl = sk.ttl if sk is not None and sk.ttl > 0 else net.sysctl.ipv4.ip_default_ttl
        proto = sk.protocol if sk is not None else 6
        skb.ip = IpHdr(saddr or dst.prefsrc, daddr, proto, 0, 0 if dst.mtu_locked else IP_DF, ttl, tos)
        skb.dst = dst
        skb.sk = sk
        if sk is not None:
            skb.mark = sk.mark
            skb.priority = sk.priority
        return ip_local_out(skb)

    def send_datagram(
        self, net: NetNamespace, sk: Any, saddr: int, daddr: int, proto: int, l4: Any, payload: Any, dst: Dst,
        ttl: int, tos: int, pmtudisc: int, first: bool = False,
    ) -> int:
        """One datagram is on its way, in fragments if it is larger than the MTU. 0 or -errno.

        pmtudisc: IP_MTU_DISCOVER (ip(7)). WANT, the default, sets DF on what fits whole and lets the rest be cut; DO and PROBE
        set it always and refuse what is too large with EMSGSIZE, PROBE by the device's MTU (ip_sk_use_pmtu()); DONT and OMIT never
        set it. first: it opens a conversation (arms the trace). Linux: ip_make_skb(), ip_send_skb().
        """
        l4_len = 0 if l4 is None else 8
        length = IP_HLEN + l4_len + len(payload)
        must = pmtudisc in (IP_PMTUDISC_DO, IP_PMTUDISC_PROBE)  # not ip_sk_ignore_df()
        mtu = dst.dev.mtu if pmtudisc >= IP_PMTUDISC_PROBE else dst_mtu(dst)
        if length > (mtu if must else MAX_DATAGRAM):
            return -errno.EMSGSIZE
        frag = 0
        if must or (pmtudisc == IP_PMTUDISC_WANT and length <= dst_mtu(dst) and not dst.mtu_locked):  # ip_dont_fragment()
            frag = IP_DF
        if sk is not None and sk.daddr:  # ip_select_ident_segs()
            ident = sk.ip_ident
            sk.ip_ident = ident + 1 & 0xFFFF
        elif must:
            ident = 0
        else:
            ident = ip_select_ident(net, saddr, daddr, proto)
        ip = IpHdr(saddr, daddr, proto, ident, frag, ttl if ttl > 0 else net.sysctl.ipv4.ip_default_ttl, tos)
        skb = SkBuff(net, ETH_P_IP, ip, l4, payload, len(payload), length)
        skb.dst = dst
        skb.sk = sk
        skb.ignore_df = not must
        if sk is not None:
            skb.mark = sk.mark
            skb.priority = sk.priority
        arm(skb, first)
        if proto == IPPROTO_ICMP and l4 is not None:
            icmp_out_count(net, l4.type)
        return ip_send_skb(skb)

    def mtu(self, dst: Dst) -> int:
        """The largest packet for this route, IP header included."""
        return dst_mtu(dst)

    def advmss(self, dst: Dst) -> int:
        """The MSS to announce on this route."""
        return ipv4_default_advmss(dst)

    def local_mtu_reduced(self, sk: Any, mtu: int) -> None:
        """"Fragmentation needed" came for this socket: its destination has a new path MTU.

        Linux: inet_csk_update_pmtu().
        """
        net = sk.net
        dst = sk.dst
        if dst is None or dst.genid != net.rt_genid:
            try:
                dst = _sk_route(net, sk)
            except OSError:
                return
        ip_rt_update_pmtu(net, dst, sk.daddr, mtu)
        try:
            sk.dst = _sk_route(net, sk)
        except OSError:
            sk.dst = None

    def update_pmtu(self, net: NetNamespace, daddr: int, saddr: int, mtu: int) -> None:
        """Packets to daddr are at most `mtu` bytes, says a router. Linux: ipv4_sk_update_pmtu()."""
        ipv4_update_pmtu(net, daddr, mtu, saddr)

    def confirm(self, dst: Dst | None) -> None:
        """The peer made progress: its next hop is alive, no ARP needed.

        Linux: sk_dst_confirm(), dst_confirm_neigh().
        """
        if dst is not None and dst.neigh is not None:
            neigh_confirm(dst.neigh)


ipv4_ops = AfOps()
