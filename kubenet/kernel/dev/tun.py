"""tun: a point-to-point device whose other side is a program: what the stack sends, the program reads, and the other way.

    tun = Tun(net, "tun0", reader)         reader(skb) is called with each packet the stack sends
    tun.inject(skb)                        the stack receives the packet, as if it had come over a wire

No Ethernet, no ARP, and nothing takes time: what is injected is received within the call's instant, by an event. Wire
scripts (packetdrill's tun0) and gateways to the real world stand on it.

Source: Linux drivers/net/tun.c (IFF_TUN | IFF_NO_PI).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import (
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_POINTOPOINT,
    NETIF_F_ALL,
    NETIF_F_TSO,
    NetDevice,
    netif_receive_skb,
    register_netdevice,
)
from kubenet.kernel.skbuff import PACKET_HOST, SkBuff

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


class Tun(NetDevice):
    """`ip tuntap add NAME mode tun`, opened by `reader`."""

    __slots__ = ("reader",)

    def __init__(
        self, net: NetNamespace, name: str, reader: Callable[[SkBuff], None], mtu: int = 1500, tso: bool = False
    ) -> None:
        super().__init__(net, name, "tun", mtu=mtu)
        self.flags = IFF_POINTOPOINT | IFF_MULTICAST | IFF_NOARP
        self.reader = reader
        self.txqlen = 500
        self.features = NETIF_F_ALL if tso else NETIF_F_ALL & ~NETIF_F_TSO
        register_netdevice(net, self)

    def xmit(self, skb: SkBuff) -> int:
        """The program has the packet. Linux: tun_net_xmit()."""
        self.tx_packets += 1
        self.tx_bytes += skb.len
        skb.eth = None
        self.reader(skb)
        return 0

    def inject(self, skb: SkBuff) -> None:
        """The packet is received in this instant. Linux: tun_get_user()."""
        skb.net = self.net
        skb.dev = self
        skb.pkt_type = PACKET_HOST
        self.rx_packets += 1
        self.rx_bytes += skb.len
        self.net.loop.call_soon(netif_receive_skb, skb)
