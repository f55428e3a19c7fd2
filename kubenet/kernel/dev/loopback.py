"""lo: what a namespace sends to itself.

A packet that leaves through lo comes back one hand-over later, with its route and its connection still attached:
Linux's loopback_xmit() does not scrub, so conntrack sees such a packet once only and ip_rcv() does not route it again.
lo carries super-segments up to 64 KiB whole (MTU 65536) and needs no ARP.

Source: Linux drivers/net/loopback.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import (
    IFF_LOOPBACK,
    IFF_UP,
    OPER_DOWN,
    OPER_UNKNOWN,
    VETH_COST,
    NetDevice,
    eth_type_trans,
    netif_receive_skb,
    register_netdevice,
)
from kubenet.kernel.skbuff import SkBuff

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


class Loopback(NetDevice):
    """The one device every namespace has."""

    __slots__ = ()

    def __init__(self, net: NetNamespace) -> None:
        super().__init__(net, "lo", "loopback", mtu=65536, addr=0)
        self.flags = IFF_LOOPBACK

    def update_carrier(self) -> None:
        self.operstate = OPER_UNKNOWN if self.flags & IFF_UP else OPER_DOWN

    def xmit(self, skb: SkBuff) -> int:
        """The packet will be received here, 1 us from now. Linux: loopback_xmit()."""
        self.tx_packets += 1
        self.tx_bytes += skb.len + 14
        skb.sk = None
        loop = self.net.loop
        loop.call_at(loop.now + VETH_COST, loopback_deliver, skb)
        return 0


def loopback_deliver(skb: SkBuff) -> None:
    """The event at the far end of lo. Linux: process_backlog()."""
    dev = skb.dev
    dev.rx_packets += 1
    dev.rx_bytes += skb.len + 14
    eth_type_trans(skb, dev)
    netif_receive_skb(skb)


def loopback_net_init(net: NetNamespace) -> None:
    """net.lo exists, index 1, down; ip_net_init() brings it up with 127.0.0.1/8. Linux: loopback_net_init()."""
    net.lo = Loopback(net)
    register_netdevice(net, net.lo)
