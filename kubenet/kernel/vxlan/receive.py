"""VXLAN's receiving half: the kernel's UDP socket for a port, and the frame taken out of the packet.

One socket per port serves every device that is up, by VNI; `ss -lun` shows it, without a process. UDP hands its datagrams to
vxlan_rcv() in place of a queue (encap_rcv), so INPUT, conntrack and the UDP counters have seen them.

    udp_rcv -> encap_rcv = vxlan_rcv     the I flag, the VNI's device, our own MAC as source, learning, ECN
            -> netif_receive_skb         the inner frame, on the tunnel device

What cannot be taken out is dropped without an answer. Sources: RFC 7348 4.1; Linux drivers/net/vxlan/vxlan_core.c vxlan_rcv(),
vxlan_set_mac(), vxlan_sock_add(), vxlan_err_lookup(), vxlan_encap_bypass(), include/net/inet_ecn.h INET_ECN_decapsulate().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import IFF_UP, eth_type_trans, netif_receive_skb, oserror, skb_scrub_packet
from kubenet.kernel.dev.inject import skb_from_frame
from kubenet.kernel.skbuff import ETH_HLEN, ETH_P_ARP, ETH_P_IP, PACKET_HOST, DropReason, SkBuff, drop, station
from kubenet.kernel.socket.inet import sock_create
from kubenet.kernel.socket.sock import AF_INET, IPPROTO_UDP, SOCK_DGRAM
from kubenet.kernel.socket.udp import UdpSock, udp_prot
from kubenet.wire.addr import ip4_text
from kubenet.wire.arp import ARPOP_REPLY, ArpHdr
from kubenet.wire.errors import WireError
from kubenet.wire.ethernet import EthHdr
from kubenet.wire.packet import ParsedFrame, bytes_to_frame
from kubenet.wire.vxlan import VXLAN_HLEN, parse_vxlan

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace
    from kubenet.kernel.vxlan.device import Vxlan

LOOPBACK = 0x7F000001
ARP_LEN = 28


class VxlanSock:
    """The socket of one port, and the devices behind it by VNI. Linux: struct vxlan_sock."""

    __slots__ = ("sk", "devices")

    def __init__(self, sk: UdpSock) -> None:
        self.sk = sk
        self.devices: dict[int, Vxlan] = {}


def vxlan_socks(net: NetNamespace) -> dict[int, VxlanSock]:
    """The namespace's VXLAN sockets by port. Linux: struct vxlan_net sock_list."""
    found: dict[int, VxlanSock] = net.extra.setdefault("vxlan_socks", {})
    return found


def vxlan_sock_add(vxlan: Vxlan) -> None:
    """The device's port is open. OSError EADDRINUSE if a program has it. Linux: vxlan_sock_add(), udp_sock_create4()."""
    net, port = vxlan.underlay, vxlan.cfg.port
    socks = vxlan_socks(net)
    sock = socks.get(port)
    if sock is None:
        sk = sock_create(net, AF_INET, SOCK_DGRAM, IPPROTO_UDP)
        assert isinstance(sk, UdpSock)
        udp_prot.get_port(sk, port)
        sk.encap_rcv, sk.encap_err_lookup = vxlan_rcv, vxlan_err_lookup
        sock = socks[port] = VxlanSock(sk)
    if vxlan.cfg.vni in sock.devices:
        raise oserror(errno.EEXIST)
    sock.devices[vxlan.cfg.vni] = vxlan


def vxlan_sock_release(vxlan: Vxlan) -> None:
    """The device listens no more; the last one closes the socket. Linux: vxlan_sock_release()."""
    socks = vxlan_socks(vxlan.underlay)
    sock = socks.get(vxlan.cfg.port)
    if sock is None or sock.devices.get(vxlan.cfg.vni) is not vxlan:
        return
    del sock.devices[vxlan.cfg.vni]
    if not sock.devices:
        udp_prot.put_port(sock.sk)
        del socks[vxlan.cfg.port]


def vxlan_err_lookup(sk: UdpSock, quoted: bytes) -> bool:
    """Is a quoted packet one of ours? Linux: vxlan_err_lookup()."""
    return len(quoted) >= VXLAN_HLEN and int.from_bytes(quoted[4:7], "big") in vxlan_socks(sk.net)[sk.sport].devices


def vxlan_rcv(sk: UdpSock, outer: SkBuff) -> None:
    """The frame inside is received on the tunnel device of its VNI, or dropped. Linux: vxlan_rcv()."""
    outer.net.snmp["UdpInDatagrams"] += 1  # what is dropped here was received all the same
    frame, header = _inner(outer)
    if header is None or frame is None:
        return drop(outer, DropReason.VXLAN_INVALID_HDR)
    vxlan = vxlan_socks(sk.net)[sk.sport].devices.get(header)
    if vxlan is None:
        return drop(outer, DropReason.VXLAN_VNI_NOT_FOUND)
    oiph = outer.ip
    skb = _from_bytes(vxlan, outer, frame) if isinstance(frame, ParsedFrame) else frame.clone() if outer.cloned else frame
    skb.tr = skb.tr or outer.tr
    mark = outer.mark
    skb_scrub_packet(skb, vxlan.net)
    if vxlan.net is vxlan.underlay:
        skb.mark = mark  # skb_scrub_packet(xnet=false)
    skb.dev = vxlan
    eth_type_trans(skb, vxlan)
    assert skb.eth is not None
    if skb.eth.src == vxlan.addr:
        return drop(skb, DropReason.LOCAL_MAC)
    if vxlan.cfg.learning:
        reason = vxlan.fdb.snoop(skb.eth.src, oiph.saddr, bool(vxlan.flags & IFF_UP))
        if reason:
            return drop(skb, reason)
    if skb.protocol == ETH_P_IP and not ip_ecn_decapsulate(oiph.tos, skb):
        vxlan.rx_frame_errors += 1
        vxlan.rx_errors += 1
        return drop(skb, DropReason.IP_TUNNEL_ECN)
    vxlan.rx_packets += 1
    vxlan.rx_bytes += skb.len
    if skb.tr is not None:
        s = station(skb, "vxlan_rcv", f"unwrapped by {vxlan.name}: VNI {vxlan.cfg.vni}")
        s.data = {"vni": vxlan.cfg.vni, "from": ip4_text(oiph.saddr)}
    return netif_receive_skb(skb)


def _inner(outer: SkBuff) -> tuple[SkBuff | ParsedFrame | None, int | None]:
    """(the frame inside, the VNI) of a datagram, whoever made it; (None, None) if that is not VXLAN."""
    inner = outer.inner
    try:
        vni = parse_vxlan(outer.payload).vni
        if isinstance(inner, (SkBuff, ParsedFrame)):
            return inner, vni
        return bytes_to_frame(bytes(outer.payload[VXLAN_HLEN:])), vni  # a program's bytes
    except WireError:
        return None, None


def _from_bytes(vxlan: Vxlan, outer: SkBuff, frame: ParsedFrame) -> SkBuff:
    """The inner frame as a packet, where it was parsed from bytes (the outer one had been in pieces)."""
    skb = skb_from_frame(vxlan.net, frame)
    skb.id = outer.id
    return skb


def ip_ecn_decapsulate(outer: int, skb: SkBuff) -> bool:
    """The inner packet has the congestion mark that the outer one got; False: that is not allowed. RFC 6040 4.2.

    Linux: IP_ECN_decapsulate(), INET_ECN_decapsulate().
    """
    outer, inner = outer & 3, skb.ip.tos & 3
    if inner == 0:
        return outer != 3
    if outer == 3 or (outer == 1 and inner == 2):
        skb.ip.tos = skb.ip.tos & ~3 | outer
    return True


def vxlan_encap_bypass(skb: SkBuff, src: Vxlan, dst: Vxlan, snoop: bool = True) -> None:
    """The VTEP is this machine: the frame crosses to the other device without being wrapped. Linux: vxlan_encap_bypass()."""
    assert skb.eth is not None
    length = skb.len + ETH_HLEN
    if dst.cfg.learning and snoop:
        dst.fdb.snoop(skb.eth.src, LOOPBACK, bool(dst.flags & IFF_UP))
    src.tx_packets += 1
    src.tx_bytes += length
    dst.rx_packets += 1
    dst.rx_bytes += length
    skb_scrub_packet(skb, dst.net)
    skb.pkt_type = PACKET_HOST
    skb.dev = dst
    dst.net.loop.call_soon(netif_receive_skb, skb)


def vxlan_arp_reply(vxlan: Vxlan, request: SkBuff, mac: int) -> None:
    """The answer to an ARP request is received on the device itself. Linux: arp_reduce()."""
    arp: Any = request.ip
    reply = SkBuff(vxlan.net, ETH_P_ARP, ArpHdr(ARPOP_REPLY, mac, arp.tpa, arp.sha, arp.spa), None, b"", 0, ARP_LEN)
    reply.eth = EthHdr(arp.sha, mac, ETH_P_ARP)
    reply.dev = vxlan
    reply.pkt_type = PACKET_HOST
    vxlan.net.loop.call_soon(netif_receive_skb, reply)
