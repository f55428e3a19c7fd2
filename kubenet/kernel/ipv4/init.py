"""IPv4 of a new namespace: its tables, empty, and its handlers, in the places where the other layers look for them.

Source: Linux net/ipv4/af_inet.c inet_init(), ip_fib_net_init(), icmp_sk_init(), ipv4_frags_init_net().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.ipv4.arp import arp_constructor, arp_rcv, arp_solicit
from kubenet.kernel.ipv4.devinet import inetdev_event
from kubenet.kernel.ipv4.fib import AF_INET, Fib
from kubenet.kernel.ipv4.fragment import FragTable
from kubenet.kernel.ipv4.icmp import IcmpState, icmp_err, icmp_rcv, ipv4_link_failure
from kubenet.kernel.ipv4.input import ip_rcv
from kubenet.kernel.ipv4.neigh import NeighTable
from kubenet.kernel.skbuff import ETH_P_ARP, ETH_P_IP
from kubenet.wire.ipv4 import IPPROTO_ICMP

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


def ip_net_init(net: NetNamespace) -> None:
    """`net` speaks IPv4, ARP and ICMP, and lo is up with 127.0.0.1/8 (as container runtimes leave it)."""
    net.fib[AF_INET] = Fib()
    net.local_addrs[AF_INET] = {}
    net.neigh[AF_INET] = NeighTable(net, AF_INET, arp_solicit, ipv4_link_failure, arp_constructor)
    net.frags = FragTable()
    net.icmp = IcmpState(net)
    net.ptype[ETH_P_IP] = ip_rcv
    net.ptype[ETH_P_ARP] = arp_rcv
    net.inet_protos[IPPROTO_ICMP] = (icmp_rcv, icmp_err)
    dev_change_flags(net.lo, True)


__all__ = ["inetdev_event", "ip_net_init"]
