"""NAT of IPv6: the same four hooks as nat.py has, on the IPv6 path.

    PREROUTING  -100   destination      INPUT        100   source
    OUTPUT      -100   destination      POSTROUTING  100   source

The decision (nf_nat_inet_fn) and the change of the packet (nf_nat_packet) are nat.py's: they work on tuples and on fields
both headers have. What differs is who routes again and where an own address comes from.
simplified: ICMPv6 errors are not translated; a packet made here is not routed again after its destination changed.

Source: Linux nf_nat_proto.c nf_nat_ipv6_ops, nf_nat_masquerade.c nf_nat_masquerade_ipv6().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.kernel.netfilter.conntrack.entry import NfConn
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    DROP,
    INPUT,
    NFPROTO_IPV6,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    PRI_NAT_DST,
    PRI_NAT_SRC,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from kubenet.kernel.netfilter.nat import nf_nat_inet_fn, nf_nat_packet, nf_nat_setup_info
from kubenet.kernel.netfilter.nat_unique import NF_NAT_MANIP_SRC, NF_NAT_RANGE_MAP_IPS, NatRange
from kubenet.kernel.skbuff import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, DropReason, SkBuff, drop

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

AF_INET6 = 10


def nf_nat_ipv6_fn(skb: SkBuff, hook: int) -> int:
    """What the four hooks have in common. Linux: nf_nat_ipv6_fn()."""
    ct: NfConn | None = skb.ct
    if ct is None:
        return ACCEPT
    if skb.ctinfo in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY):
        return nf_nat_packet(skb, ct, hook)
    daddr = skb.ip.daddr
    verdict = nf_nat_inet_fn(skb, hook)
    if verdict == ACCEPT and skb.ip.daddr != daddr:
        skb.dst = None
    return verdict


def ipv6_dev_get_saddr(net: NetNamespace, dev: Any) -> int:
    """An address of this device that the world can answer to, else its link-local one, else 0.

    Linux: ipv6_dev_get_saddr(). simplified: of RFC 6724's rules only scope counts.
    """
    mine = [addr for addr, owner in net.local_addrs.get(AF_INET6, {}).items() if owner is dev and addr != 1]
    wide = [addr for addr in mine if addr >> 118 != 0xFE80 >> 6]
    return next(iter(wide or mine), 0)


def nf_nat_masquerade_ipv6(skb: SkBuff, hook: int, rng: NatRange, outdev: Any) -> int:
    """The source becomes the address that `outdev` has. Linux: nf_nat_masquerade_ipv6()."""
    ct: NfConn = skb.ct
    newsrc = ipv6_dev_get_saddr(skb.net, outdev)
    if not newsrc:
        drop(skb, DropReason.NETFILTER_DROP)
        return DROP
    ct.masq_index = outdev.ifindex
    new = NatRange(rng.flags | NF_NAT_RANGE_MAP_IPS, newsrc, newsrc, rng.min_port, rng.max_port, rng.base_port)
    return nf_nat_setup_info(ct, new, NF_NAT_MANIP_SRC)


_HOOKS = ((PREROUTING, PRI_NAT_DST), (OUTPUT, PRI_NAT_DST), (INPUT, PRI_NAT_SRC), (POSTROUTING, PRI_NAT_SRC))


def register_hooks(net: NetNamespace) -> None:
    """IPv6 packets are translated from now on. Linux: nf_nat_ipv6_register_fn()."""
    for hook, priority in _HOOKS:
        nf_register_net_hook(net, NFPROTO_IPV6, hook, priority, nf_nat_ipv6_fn, "nf_nat_ipv6_fn")


def unregister_hooks(net: NetNamespace) -> None:
    """No IPv6 packet is translated any more."""
    for hook, _ in _HOOKS:
        nf_unregister_net_hook(net, NFPROTO_IPV6, hook, nf_nat_ipv6_fn)
