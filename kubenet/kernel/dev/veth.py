"""veth: a cable between two namespaces of one machine.

What one end sends, the other receives one hand-over later; a bridge's hand-over is paid together with it when the
sending end is a bridge port. A frame larger than the receiving end's MTU vanishes without a word: the classic black
hole (observed on 6.18: no ICMP; the sender's tx_dropped, the receiver's rx_dropped and IpOutDiscards of a datagram's
sender move).

A pair can be given a link (fabric/link.py), as tc-netem(8) gives a queueing discipline to a device: then that carries, delays or
loses the frames, both ways.

Source: Linux drivers/net/veth.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import (
    IFF_UP,
    NET_XMIT_DROP,
    NETIF_F_ALL,
    NETIF_F_TSO,
    OPER_DOWN,
    OPER_LOWERLAYERDOWN,
    OPER_UP,
    VETH_COST,
    NetDevice,
    eth_type_trans,
    ledger_frame,
    netif_receive_skb,
    register_netdevice,
    skb_scrub_packet,
    unregister_netdevice,
)
from kubenet.kernel.skbuff import DropReason, SkBuff, drop

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


class Veth(NetDevice):
    """One end. `cost`: ns until the other end has the frame. `link`: what carries the frames instead, or None."""

    __slots__ = ("cost", "link", "wanted")

    def __init__(self, net: NetNamespace, name: str, mtu: int = 1500) -> None:
        super().__init__(net, name, "veth", mtu=mtu, addr=net.host.mac(net.name, name))
        self.cost: int = VETH_COST
        self.link: Any = None
        self.wanted: int = NETIF_F_ALL  # the features without a link

    def set_link(self, link: Any) -> None:
        """The link begins (or None: ceases) to carry this end's frames, or its settings changed; it may forbid super-segments."""
        if self.link is None:
            self.wanted = self.features
        self.link = link
        self.features = self.wanted if link is None or link.offload else self.wanted & ~NETIF_F_TSO
        self.update_carrier()

    def update_carrier(self) -> None:
        """There is a carrier while both ends are up. Linux: veth_open(), veth_close()."""
        peer = self.peer
        plugged = self.link is None or self.link.up
        self.set_carrier(bool(self.flags & IFF_UP and peer is not None and peer.flags & IFF_UP and plugged))
        self.operstate = OPER_UP if self.carrier else OPER_LOWERLAYERDOWN if self.flags & IFF_UP else OPER_DOWN

    def xmit(self, skb: SkBuff) -> int:
        """The frame is in flight to the other end. Linux: veth_xmit(), veth_forward_skb()."""
        peer = self.peer
        if not self.carrier:
            drop(skb, DropReason.DEV_READY)
            return 0  # a device without carrier has the noop qdisc, and NET_XMIT_CN is no error
        if skb.len > peer.mtu + 4 and not skb.gso_size:  # is_skb_forwardable(peer, skb)
            self.tx_dropped += 1
            peer.rx_dropped += 1
            drop(skb, DropReason.DEV_MTU)
            return NET_XMIT_DROP
        self.tx_packets += 1
        self.tx_bytes += skb.len + 14
        loop = self.net.loop
        link = self.link
        if link is not None:
            return int(link.relay(skb, loop.now + self.cost, link.end_of(self)))
        skb.dev = peer
        loop.call_at(loop.now + self.cost, veth_deliver, skb)
        return 0

    def arrive(self, skb: SkBuff, at: int) -> None:
        """The link brings a frame, which will be here at time `at`."""
        skb.dev = self
        self.net.loop.call_at(at, veth_deliver, skb)


def veth_deliver(skb: SkBuff) -> None:
    """The event at the far end: the frame belongs to another namespace now. Linux: __dev_forward_skb()."""
    dev = skb.dev
    skb_scrub_packet(skb, dev.net)
    dev.rx_packets += 1
    dev.rx_bytes += skb.len + 14
    eth_type_trans(skb, dev)
    ledger_frame(dev, skb)
    netif_receive_skb(skb)


def create_veth_pair(
    net_a: NetNamespace, name_a: str, net_b: NetNamespace, name_b: str, mtu: int = 1500
) -> tuple[Veth, Veth]:
    """Two ends, both down, each visible in its namespace. OSError EEXIST. `ip link add A type veth peer name B netns N`."""
    a, b = Veth(net_a, name_a, mtu), Veth(net_b, name_b, mtu)
    register_netdevice(net_a, a)
    try:
        register_netdevice(net_b, b)
    except OSError:
        unregister_netdevice(a)
        raise
    a.peer, b.peer = b, a
    a.update_carrier()
    b.update_carrier()
    return a, b
