"""VXLAN devices: Ethernet frames inside UDP, so that pods of nodes that share no LAN think they do (flannel.1).

    vx = Vxlan(net, "flannel.1", vni=1, local=172.18.0.2)      MTU 50 below the underlay's 1500
    vx.fdb[mac] = remote                                       which node a MAC is behind (flannel writes it; no learning)

Sending wraps the frame: outer IP without DF, TTL 64, UDP to port 8472 from a source port that is a hash of the inner
flow, so that the underlay spreads flows; the inner packet travels inside by reference and keeps its id. Receiving is a
look at every UDP packet before sockets see it (Linux: a kernel socket with encap_rcv). A super-segment is cut before
it is wrapped.

Sources: RFC 7348; Linux drivers/net/vxlan/vxlan_core.c vxlan_xmit_one(), vxlan_rcv(), udp_tunnel.h udp_flow_src_port().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import (
    IFF_UP,
    NET_XMIT_DROP,
    NETIF_F_ALL,
    NETIF_F_TSO,
    OPER_DOWN,
    OPER_UNKNOWN,
    NetDevice,
    eth_type_trans,
    netif_receive_skb,
    register_netdevice,
    skb_scrub_packet,
)
from kubenet.kernel.ipv4.output import ip_local_out, ip_select_ident
from kubenet.kernel.ipv4.route import ip_route_output_key
from kubenet.kernel.skbuff import CSUM_BAD, ETH_HLEN, ETH_P_ARP, ETH_P_IP, DropReason, SkBuff, drop, station
from kubenet.sim.rng import hash64
from kubenet.wire.ipv4 import IPPROTO_UDP, IpHdr
from kubenet.wire.packet import ParsedFrame, frame_len
from kubenet.wire.udp import UdpHdr
from kubenet.wire.vxlan import VXLAN_HLEN, VXLAN_PORT, VxlanHdr, build_vxlan

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

VXLAN_HEADROOM = 20 + 8 + VXLAN_HLEN + ETH_HLEN  # 50


class Vxlan(NetDevice):
    """One tunnel device. vni: network; local: our end's address; port: UDP destination; fdb: MAC -> the other end's address."""

    __slots__ = ("vni", "local", "port", "fdb", "secret", "header")

    def __init__(
        self, net: NetNamespace, name: str, vni: int, local: int, port: int = VXLAN_PORT, mtu: int = 1500 - VXLAN_HEADROOM
    ) -> None:
        super().__init__(net, name, "vxlan", mtu=mtu, addr=net.host.mac(net.name, name))
        self.vni = vni
        self.local = local
        self.port = port
        self.fdb: dict[int, int] = {}
        self.header: bytes = build_vxlan(VxlanHdr(vni))
        self.secret: int = net.host.secret(f"vxlan {net.name} {name}")
        self.features = NETIF_F_ALL & ~NETIF_F_TSO
        register_netdevice(net, self)
        _vxlan_open(net, self)

    def update_carrier(self) -> None:
        self.operstate = OPER_UNKNOWN if self.flags & IFF_UP else OPER_DOWN

    def xmit(self, skb: SkBuff) -> int:
        """The frame is on its way to the node its MAC is behind, as a UDP packet.

        Linux: vxlan_xmit(), vxlan_xmit_one().
        """
        eth = skb.eth
        assert eth is not None
        remote = self.fdb.get(eth.dst)
        if remote is None:
            self.tx_dropped += 1
            drop(skb, DropReason.NEIGH_FAILED)
            return 0
        net = self.net
        try:
            dst = ip_route_output_key(net, remote, self.local)
        except OSError:
            self.tx_errors += 1
            drop(skb, DropReason.IP_OUTNOROUTES)
            return 0
        self.tx_packets += 1
        self.tx_bytes += skb.len + ETH_HLEN
        plen = VXLAN_HLEN + ETH_HLEN + skb.len
        ident = ip_select_ident(net, self.local, remote, IPPROTO_UDP)
        ip = IpHdr(self.local, remote, IPPROTO_UDP, ident, 0, net.sysctl.ipv4.ip_default_ttl)
        outer = SkBuff(net, ETH_P_IP, ip, UdpHdr(self.source_port(skb), self.port), self.header, plen, 28 + plen)
        outer.id, outer.tr = skb.id, skb.tr
        outer.inner = skb
        outer.dst = dst
        outer.mark = skb.mark
        if outer.tr is not None:
            station(outer, "vxlan_xmit", f"wrapped by {self.name}, vni {self.vni}")
        return NET_XMIT_DROP if ip_local_out(outer) < 0 else 0

    def source_port(self, skb: SkBuff) -> int:
        """32768..60999 by a hash of the inner flow. Linux: udp_flow_src_port()."""
        low, high = self.net.sysctl.ipv4.ip_local_port_range
        ip, l4 = skb.ip, skb.l4
        if skb.protocol == ETH_P_ARP:
            key = hash64(self.secret, ip.spa, ip.tpa)
        else:
            key = hash64(self.secret, ip.saddr, ip.daddr, ip.proto, getattr(l4, "sport", 0), getattr(l4, "dport", 0))
        return low + (key & 0xFFFFFFFF) * (high - low) // (1 << 32)


class _Tunnels:
    """The VXLAN devices of a namespace by (port, vni), in front of whoever handled UDP before."""

    __slots__ = ("devices", "next")

    def __init__(self, handler: Any) -> None:
        self.devices: dict[tuple[int, int], Vxlan] = {}
        self.next = handler


def _vxlan_open(net: NetNamespace, dev: Vxlan) -> None:
    tunnels = net.extra.get("vxlan")
    if tunnels is None:
        handler, err = net.inet_protos.get(IPPROTO_UDP, (None, None))
        tunnels = net.extra["vxlan"] = _Tunnels(handler)
        net.inet_protos[IPPROTO_UDP] = (vxlan_udp_rcv, err)
    tunnels.devices[(dev.port, dev.vni)] = dev


def vxlan_udp_rcv(skb: SkBuff) -> None:
    """A UDP packet came in: a tunnel's, or the sockets'. Linux: udp_queue_rcv_one_skb() with encap_rcv = vxlan_rcv."""
    tunnels: _Tunnels = skb.net.extra["vxlan"]
    if isinstance(skb.inner, (SkBuff, ParsedFrame)) and skb.l4 is not None:
        vni = int.from_bytes(skb.payload[4:7], "big")
        dev: Vxlan | None = tunnels.devices.get((skb.l4.dport, vni))
        if dev is not None and dev.name in skb.net.devs:
            return vxlan_rcv(dev, skb)
    if tunnels.next is not None:
        return tunnels.next(skb)  # type: ignore[no-any-return]
    return drop(skb, DropReason.NO_SOCKET)


def vxlan_rcv(dev: Vxlan, outer: SkBuff) -> None:
    """The frame inside is received on the tunnel device. Linux: vxlan_rcv()."""
    if outer.csum == CSUM_BAD:
        return drop(outer, DropReason.UDP_CSUM)
    inner = outer.inner
    skb = inner if isinstance(inner, SkBuff) else _from_bytes(dev, outer, inner)
    skb_scrub_packet(skb, dev.net)
    skb.dev = dev
    skb.tr = skb.tr or outer.tr
    dev.rx_packets += 1
    dev.rx_bytes += skb.len + ETH_HLEN
    eth_type_trans(skb, dev)
    if skb.tr is not None:
        station(skb, "vxlan_rcv", f"unwrapped by {dev.name}")
    netif_receive_skb(skb)
    return None


def _from_bytes(dev: Vxlan, outer: SkBuff, frame: ParsedFrame) -> SkBuff:
    """The inner frame as a packet, where it was parsed from bytes (the outer one had been in pieces)."""
    length = frame_len(None, frame.l3, frame.l4, frame.inner, frame.payload)
    proto = frame.eth.proto if frame.eth is not None else 0
    skb = SkBuff(dev.net, proto, frame.l3, frame.l4, frame.payload, len(frame.payload), length)
    skb.eth, skb.inner, skb.id = frame.eth, frame.inner, outer.id
    if not frame.csum_ok:
        skb.csum = CSUM_BAD
    return skb
