"""dummy: a device that takes packets and forgets them; a place to put addresses (kube-ipvs0, nodelocaldns).

Source: Linux drivers/net/dummy.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import IFF_NOARP, IFF_UP, OPER_DOWN, OPER_UNKNOWN, NetDevice, register_netdevice
from kubenet.kernel.skbuff import SkBuff

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


class Dummy(NetDevice):
    """`ip link add NAME type dummy`."""

    __slots__ = ()

    def __init__(self, net: NetNamespace, name: str) -> None:
        super().__init__(net, name, "dummy", addr=net.host.mac(net.name, name))
        self.flags |= IFF_NOARP
        register_netdevice(net, self)

    def update_carrier(self) -> None:
        self.operstate = OPER_UNKNOWN if self.flags & IFF_UP else OPER_DOWN

    def xmit(self, skb: SkBuff) -> int:
        """The packet is counted and gone. Linux: dummy_xmit()."""
        self.tx_packets += 1
        self.tx_bytes += skb.len + 14
        return 0
