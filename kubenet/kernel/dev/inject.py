"""Frames from outside the emulation, received by a device as if they had come in on its cable.

    skb = skb_from_bytes(net, data)     a frame that was captured somewhere, as a packet
    dev_receive(dev, skb)               the device has it: counters, captures, then the bridge or the protocol

What a receiver cannot read is received all the same, and dropped where Linux drops it: a broken IP header by ip_rcv_core(), a
broken transport header by its protocol. What is neither IPv4 nor ARP stays bytes: bridges forward it, the stack has no handler.

simplified: padding behind a packet's own length is not counted in rx_bytes. Sources: Linux net/core/dev.c netif_receive_skb(),
net/ipv4/ip_input.c ip_rcv_core(), drivers' napi_gro_receive().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import NetDevice, eth_type_trans, ledger_frame, netif_receive_skb, skb_scrub_packet
from kubenet.kernel.dev.nic import Nic, nic_rx
from kubenet.kernel.dev.veth import Veth, veth_deliver
from kubenet.kernel.skbuff import CSUM_BAD, ETH_HLEN, ETH_P_ARP, ETH_P_IP, DropReason, SkBuff, arm, drop
from kubenet.wire.errors import WireError
from kubenet.wire.ethernet import EthHdr, parse_eth
from kubenet.wire.ipv4 import ip_hdrlen, ipv4_tot_len, parse_ipv4
from kubenet.wire.packet import ParsedFrame, bytes_to_frame, frame_len, inner_len

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

SYN, ACK = 2, 16


def skb_from_bytes(net: NetNamespace, data: bytes) -> SkBuff:
    """The frame as a packet; WireError if it is shorter than an Ethernet header."""
    eth = parse_eth(data)
    try:
        frame = bytes_to_frame(data)
        if eth.proto not in (ETH_P_IP, ETH_P_ARP):
            frame = ParsedFrame(eth, None, payload=data[ETH_HLEN:])
    except WireError:
        frame = _what_can_be_read(eth, data[ETH_HLEN:])
    return skb_from_frame(net, frame)


def _what_can_be_read(eth: EthHdr, packet: bytes) -> ParsedFrame:
    """The IP header without the transport header behind it, or nothing but bytes."""
    if eth.proto == ETH_P_IP:
        try:
            ip = parse_ipv4(packet)
            hlen, total = ip_hdrlen(ip), ipv4_tot_len(packet)
            if hlen <= total <= len(packet):
                return ParsedFrame(eth, ip, payload=packet[hlen:total])
        except WireError:
            pass
    return ParsedFrame(eth, None, payload=packet)


def skb_from_frame(net: NetNamespace, frame: ParsedFrame) -> SkBuff:
    """A frame that was taken apart, as a packet. Frames inside VXLAN come here too."""
    length = frame_len(None, frame.l3, frame.l4, frame.inner, frame.payload)
    proto = frame.eth.proto if frame.eth is not None else ETH_P_IP
    skb = SkBuff(net, proto, frame.l3, frame.l4, frame.payload, inner_len(frame.inner) + len(frame.payload), length)
    skb.eth, skb.inner = frame.eth, frame.inner
    if not frame.csum_ok:
        skb.csum = CSUM_BAD
    return skb


def dev_receive(dev: NetDevice, skb: SkBuff) -> None:
    """The device has received the frame."""
    skb.dev = dev
    if isinstance(dev, Nic | Veth):
        arm(skb, _opens(skb))
        if skb.ip is None and skb.protocol in (ETH_P_IP, ETH_P_ARP):
            return _unreadable(dev, skb)
        return nic_rx(skb) if isinstance(dev, Nic) else veth_deliver(skb)
    skb_scrub_packet(skb, dev.net)
    arm(skb, _opens(skb))
    if skb.ip is None and skb.protocol in (ETH_P_IP, ETH_P_ARP):
        return _unreadable(dev, skb)
    dev.rx_packets += 1
    dev.rx_bytes += skb.len + ETH_HLEN
    eth_type_trans(skb, dev)
    ledger_frame(dev, skb)
    return netif_receive_skb(skb)


def _opens(skb: SkBuff) -> bool:
    return getattr(skb.l4, "flags", 0) & (SYN | ACK) == SYN


def _unreadable(dev: NetDevice, skb: SkBuff) -> None:
    """IPv4 or ARP by its type, but not by its bytes. Linux: ip_rcv_core() inhdr_error, arp_rcv()."""
    skb.net = dev.net
    dev.rx_packets += 1
    dev.rx_bytes += skb.len + ETH_HLEN
    if skb.protocol == ETH_P_IP:
        dev.net.snmp["IpInReceives"] += 1
        return drop(skb, DropReason.IP_INHDR)
    return drop(skb, DropReason.ARP_IGNORED)
