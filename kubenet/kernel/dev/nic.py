"""A network card: where a machine ends and the fabric begins.

The card knows three lines of the fabric: `nic.link.send(skb, nic)` -> 0 or NET_XMIT_DROP (queue full), which computes
queueing, serialisation and latency and makes one event; nic_rx(skb), which that event calls at the far card; and
`nic.offload`, which the link sets to False when it carries wire-sized frames only (impaired or rate-limited links):
super-segments are then cut before they leave, as ethtool's `tso off` would do. A frozen machine's cards neither send
nor receive. simplified: no GRO; frames that were cut stay cut.

Source: no driver in particular; Linux drivers/net/ethernet/*, net/core/dev.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import (
    IFF_UP,
    NET_XMIT_DROP,
    NETIF_F_ALL,
    NETIF_F_TSO,
    OPER_DOWN,
    OPER_UP,
    NetDevice,
    eth_type_trans,
    ledger_frame,
    netif_receive_skb,
    register_netdevice,
    skb_scrub_packet,
)
from kubenet.kernel.dev.gso import skb_gso_network_seglen
from kubenet.kernel.dev.qdisc import PfifoFast
from kubenet.kernel.skbuff import DropReason, SkBuff, drop

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


class Nic(NetDevice):
    """One card with one cable. `wanted` are the features ethtool asked for; the link may forbid some."""

    __slots__ = ("link", "wanted")

    def __init__(self, net: NetNamespace, name: str, mtu: int = 1500) -> None:
        super().__init__(net, name, "ether", mtu=mtu, addr=net.host.mac(net.name, name))
        self.link: Any = None
        self.wanted: int = NETIF_F_ALL
        self.default_qdisc = "pfifo_fast"
        self.qdisc = PfifoFast()
        self.carrier = False
        register_netdevice(net, self)

    def set_link(self, link: Any) -> None:
        """The cable is plugged in, pulled out (None), or its abilities changed."""
        self.link = link
        offload = link is None or link.offload
        self.features = self.wanted if offload else self.wanted & ~NETIF_F_TSO
        self.update_carrier()

    def set_features(self, wanted: int) -> None:
        """`ethtool -K`: what the card should do by itself."""
        self.wanted = wanted
        self.set_link(self.link)

    def update_carrier(self) -> None:
        """A carrier is there while the cable is up. Linux: netif_carrier_on()/off()."""
        self.set_carrier(self.link is not None and self.link.up)
        self.operstate = OPER_UP if self.carrier and self.flags & IFF_UP else OPER_DOWN

    def xmit(self, skb: SkBuff) -> int:
        """The frame is the link's."""
        link = self.link
        if link is None or not self.carrier:
            drop(skb, DropReason.LINK_DOWN)
            return 0  # as a veth without its peer
        if not self.net.host.alive:
            drop(skb, DropReason.HOST_DEAD)
            return NET_XMIT_DROP
        self.tx_packets += skb.gso_segs
        self.tx_bytes += skb.len + 14
        return int(link.send(skb, self) or 0)

    def arrive(self, skb: SkBuff, at: int) -> None:
        """The frame will be here at time `at`: the one event of its way from the other machine."""
        skb.dev = self
        self.net.loop.call_at(at, nic_rx, skb)


def nic_rx(skb: SkBuff) -> None:
    """The frame has arrived at the card skb.dev, on another machine than it left. Linux: napi_gro_receive()."""
    dev = skb.dev
    net = dev.net
    skb_scrub_packet(skb, net)
    if not net.host.alive:
        return drop(skb, DropReason.HOST_DEAD)
    if skb.len > dev.mtu + 4 and skb_gso_network_seglen(skb) > dev.mtu + 4:
        dev.rx_errors += 1
        return drop(skb, DropReason.DEV_MTU)
    dev.rx_packets += skb.gso_segs
    dev.rx_bytes += skb.len + 14
    eth_type_trans(skb, dev)
    ledger_frame(dev, skb)
    return netif_receive_skb(skb)
