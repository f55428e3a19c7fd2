r"""NAT: what a connection's packets are turned into, decided once, for its first packet, and undone for the answers.

    PREROUTING  -100   destination      INPUT        100   source
    OUTPUT      -100   destination      POSTROUTING  100   source

A NEW connection asks the providers of the hook (the chains of a rule engine) until one has bound it, that is, called
nf_nat_setup_info() (DNAT, SNAT, MASQUERADE, REDIRECT do); else it gets a null binding: everything stays, but if its
source is taken by another connection's answers even that one gets another port. The decision is kept as the
connection's reply tuple, and from then on each packet only looks at two status bits: IPS_DST_NAT changes destinations
of the original direction and therefore sources of the answers, each at the hook where that kind of change happens.

An INVALID packet has no connection and passes unchanged. An ICMP error is changed twice: its own header, and the packet
inside it, which its receiver must recognise as one it sent.

Sources: Linux nf_nat_core.c, nf_nat_proto.c, nf_nat_masquerade.c. simplified: checksums are not adjusted here, since
they are made when bytes are; no helpers, so no sequence adjustment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import NETDEV_DOWN, NETDEV_UNREGISTER, netdev_chain
from kubenet.kernel.ipv4.devinet import inetaddr_chain
from kubenet.kernel.ipv4.output import ip_route_me_harder
from kubenet.kernel.ipv4.route import inet_select_addr
from kubenet.kernel.netfilter.conntrack.entry import (
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_NAT_DONE_MASK,
    IPS_NAT_MASK,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    NfConn,
)
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_acct_update, nf_ct_kill
from kubenet.kernel.netfilter.conntrack.text import ct_summary
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET, AF_INET6, ORIGINAL, REPLY, inverse
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    DROP,
    INPUT,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    PRI_NAT_DST,
    PRI_NAT_SRC,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from kubenet.kernel.netfilter.nat_unique import (
    NF_NAT_MANIP_DST,
    NF_NAT_MANIP_SRC,
    NF_NAT_RANGE_MAP_IPS,
    NF_NAT_RANGE_PERSISTENT,
    NF_NAT_RANGE_PROTO_OFFSET,
    NF_NAT_RANGE_PROTO_RANDOM,
    NF_NAT_RANGE_PROTO_RANDOM_ALL,
    NF_NAT_RANGE_PROTO_RANDOM_FULLY,
    NF_NAT_RANGE_PROTO_SPECIFIED,
    NatRange,
    get_unique_tuple,
)
from kubenet.kernel.skbuff import (
    ETH_P_IP,
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    DropReason,
    SkBuff,
    drop,
    skb_ensure_writable,
    station,
)
from kubenet.wire.addr import endpoint_text, fmt
from kubenet.wire.icmp import ICMP_REDIRECT, IcmpHdr
from kubenet.wire.ipv4 import IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

__all__ = [
    "NF_NAT_MANIP_DST", "NF_NAT_MANIP_SRC", "NF_NAT_RANGE_MAP_IPS", "NF_NAT_RANGE_PERSISTENT", "NF_NAT_RANGE_PROTO_OFFSET",
    "NF_NAT_RANGE_PROTO_RANDOM", "NF_NAT_RANGE_PROTO_RANDOM_ALL", "NF_NAT_RANGE_PROTO_RANDOM_FULLY",
    "NF_NAT_RANGE_PROTO_SPECIFIED", "NatRange", "NatState", "nf_nat_initialized", "nf_nat_masquerade_ipv4",
    "nf_nat_register_provider", "nf_nat_setup_info", "nf_nat_unregister_provider",
]

ProviderFn = Callable[[SkBuff, int], int]

# hook -> which half of the packet is changed there. Linux: HOOK2MANIP()
_MANIP = {PREROUTING: NF_NAT_MANIP_DST, OUTPUT: NF_NAT_MANIP_DST, INPUT: NF_NAT_MANIP_SRC, POSTROUTING: NF_NAT_MANIP_SRC}
_PRIO = {PREROUTING: PRI_NAT_DST, OUTPUT: PRI_NAT_DST, INPUT: PRI_NAT_SRC, POSTROUTING: PRI_NAT_SRC}
RT_SCOPE_UNIVERSE = 0


class NatState:
    """Who is asked about new connections, per family and hook, by priority."""

    __slots__ = ("providers",)

    def __init__(self) -> None:
        self.providers: dict[tuple[int, int], list[tuple[int, ProviderFn]]] = {}


def nf_nat_register_provider(net: NetNamespace, pf: int, hook: int, priority: int, fn: ProviderFn) -> None:
    """New connections are asked about at this hook; the first provider switches NAT on. Linux: nf_nat_register_fn()."""
    if net.nat is None:
        net.nat = NatState()
        _register_hooks(net)
    if pf == NFPROTO_IPV6 and all(family != pf for family, _ in net.nat.providers):
        from kubenet.kernel.netfilter.nat6 import register_hooks

        register_hooks(net)
    providers = net.nat.providers.setdefault((pf, hook), [])
    at = len(providers)
    while at > 0 and providers[at - 1][0] > priority:
        at -= 1
    providers.insert(at, (priority, fn))


def nf_nat_unregister_provider(net: NetNamespace, pf: int, hook: int, fn: ProviderFn) -> None:
    """`fn` is not asked any more; without any provider NAT is off. Linux: nf_nat_unregister_fn()."""
    if net.nat is None:
        return
    state: NatState = net.nat
    left = [item for item in state.providers.get((pf, hook), []) if item[1] is not fn]
    if left:
        state.providers[(pf, hook)] = left
    else:
        state.providers.pop((pf, hook), None)
    if pf == NFPROTO_IPV6 and all(family != pf for family, _ in state.providers):
        from kubenet.kernel.netfilter.nat6 import unregister_hooks

        unregister_hooks(net)
    if not state.providers:
        for where, _, hook_fn in _HOOKS:
            nf_unregister_net_hook(net, NFPROTO_IPV4, where, hook_fn)
        net.nat = None


# -- the decision

def nf_nat_initialized(ct: NfConn, manip: int) -> bool:
    """Has this half been decided? Linux: nf_nat_initialized()."""
    return ct.status & (IPS_SRC_NAT_DONE if manip == NF_NAT_MANIP_SRC else IPS_DST_NAT_DONE) != 0


def nf_nat_setup_info(ct: NfConn, rng: NatRange, manip: int) -> int:
    """One half of the connection is bound: its reply tuple now says how. Linux: nf_nat_setup_info()."""
    if ct.status & IPS_CONFIRMED:
        return ACCEPT
    current = inverse(ct.reply)  # what the packet looks like now
    new = get_unique_tuple(current, rng, ct, manip)
    if new != current:
        ct.reply = inverse(new)
        ct.status |= IPS_SRC_NAT if manip == NF_NAT_MANIP_SRC else IPS_DST_NAT
    ct.status |= IPS_SRC_NAT_DONE if manip == NF_NAT_MANIP_SRC else IPS_DST_NAT_DONE
    return ACCEPT


def nf_nat_alloc_null_binding(ct: NfConn, hook: int) -> int:
    """Bound to the address it has; the port may have to change all the same. Linux: nf_nat_alloc_null_binding()."""
    manip = _MANIP[hook]
    addr = ct.reply[2] if manip == NF_NAT_MANIP_SRC else ct.reply[0]
    return nf_nat_setup_info(ct, NatRange(NF_NAT_RANGE_MAP_IPS, addr, addr), manip)


def nf_nat_masquerade_ipv4(skb: SkBuff, hook: int, rng: NatRange, outdev: Any) -> int:
    """The source becomes the address that `outdev` has towards the next hop. Linux: nf_nat_masquerade_ipv4()."""
    ct: NfConn = skb.ct
    if ct.orig[0] == 0:
        return ACCEPT  # DHCP asking for an address
    dst = skb.dst
    nexthop = dst.nexthop if dst is not None else skb.ip.daddr
    newsrc = inet_select_addr(outdev, nexthop, RT_SCOPE_UNIVERSE)
    if not newsrc:
        skb.net.host.printk(f"{outdev.name} ate my IP address")
        drop(skb, DropReason.NETFILTER_DROP)
        return DROP
    ct.masq_index = outdev.ifindex
    new = NatRange(rng.flags | NF_NAT_RANGE_MAP_IPS, newsrc, newsrc, rng.min_port, rng.max_port, rng.base_port)
    return nf_nat_setup_info(ct, new, NF_NAT_MANIP_SRC)


def nf_nat_inet_fn(skb: SkBuff, hook: int) -> int:
    """A new connection is bound, by a rule or to itself; then the packet is changed. Linux: nf_nat_inet_fn()."""
    ct: NfConn = skb.ct
    manip = _MANIP[hook]
    if not nf_nat_initialized(ct, manip):
        state: NatState = skb.net.nat
        for _, fn in state.providers.get((ct.family, hook), ()):
            verdict = fn(skb, hook)
            if verdict != ACCEPT:
                return verdict
            if nf_nat_initialized(ct, manip):
                break
        else:
            verdict = nf_nat_alloc_null_binding(ct, hook)
            if verdict != ACCEPT:
                return verdict
        if skb.tr is not None:
            _station_bound(skb, ct, hook, manip)
    elif _oif_changed(skb, ct, hook):
        return _kill(skb, ct)
    return nf_nat_packet(skb, ct, hook)


def _oif_changed(skb: SkBuff, ct: NfConn, hook: int) -> bool:
    """A masqueraded connection leaves by another device than before: its address is wrong there. Linux: same name."""
    return bool(ct.masq_index and hook == POSTROUTING and skb.ctdir == ORIGINAL and skb.outdev is not None
                and ct.masq_index != skb.outdev.ifindex)


def _kill(skb: SkBuff, ct: NfConn) -> int:
    nf_ct_acct_update(ct, skb.ctdir, skb)
    nf_ct_kill(ct)
    drop(skb, DropReason.NETFILTER_DROP)
    return DROP


# -- the packets

def nf_nat_packet(skb: SkBuff, ct: NfConn, hook: int) -> int:
    """The packet is changed if its connection's half is. Linux: nf_nat_packet()."""
    manip = _MANIP[hook]
    bit = IPS_SRC_NAT if manip == NF_NAT_MANIP_SRC else IPS_DST_NAT
    if skb.ctdir == REPLY:
        bit ^= IPS_NAT_MASK
    if ct.status & bit:
        nf_nat_manip_pkt(skb, ct, manip, hook)
    return ACCEPT


def nf_nat_manip_pkt(skb: SkBuff, ct: NfConn, manip: int, hook: int) -> None:
    """Address and port are what the other direction's tuple expects. Linux: nf_nat_manip_pkt(), l4proto_manip_pkt()."""
    if skb.cloned:
        skb_ensure_writable(skb)
    ip, l4 = skb.ip, skb.l4
    other = ct.reply if skb.ctdir == ORIGINAL else ct.orig
    before = _ends(skb, manip) if skb.tr is not None else ""
    proto = other[4] & 0xFF
    if manip == NF_NAT_MANIP_SRC:
        ip.saddr = other[2]
        if proto == IPPROTO_TCP or proto == IPPROTO_UDP:  # noqa: PLR1714, SIM109
            l4.sport = other[3]
    else:
        ip.daddr = other[0]
        if proto == IPPROTO_TCP or proto == IPPROTO_UDP:  # noqa: PLR1714, SIM109
            l4.dport = other[1]
    if proto == IPPROTO_ICMP:
        l4.rest = other[1] << 16 | l4.rest & 0xFFFF
    elif proto == IPPROTO_SCTP and skb.plen >= 4:
        ports = (other[3], None) if manip == NF_NAT_MANIP_SRC else (None, other[1])
        skb.payload = _sctp_ports(bytes(skb.payload), *ports)
    if skb.tr is not None:
        _station_manip(skb, ct, manip, hook, before)


def _sctp_ports(data: bytes, sport: int | None, dport: int | None) -> bytes:
    """The SCTP packet with these ports. simplified: its CRC32c, which nobody here looks at, is left. Linux:
    sctp_manip_pkt()."""
    left = data[:2] if sport is None else sport.to_bytes(2, "big")
    right = data[2:4] if dport is None else dport.to_bytes(2, "big")
    return left + right + data[4:]


def nf_nat_icmp_reply_translation(skb: SkBuff, ct: NfConn, hook: int) -> bool:
    """The error and the packet it quotes are changed; False: it must be dropped. Linux: same name."""
    icmp = skb.l4
    if isinstance(icmp, IcmpHdr) and icmp.type == ICMP_REDIRECT:
        if ct.status & IPS_NAT_DONE_MASK != IPS_NAT_DONE_MASK or ct.status & IPS_NAT_MASK:
            return False  # a shorter way for an address that is not the real one
    manip = _MANIP[hook]
    bit = IPS_SRC_NAT if manip == NF_NAT_MANIP_SRC else IPS_DST_NAT
    if skb.ctdir == REPLY:
        bit ^= IPS_NAT_MASK
    if not ct.status & bit:
        return True
    skb_ensure_writable(skb)
    before = _ends(skb, manip) if skb.tr is not None else ""
    other = ct.reply if skb.ctdir == ORIGINAL else ct.orig
    quote = skb.inner
    if manip == NF_NAT_MANIP_SRC:  # who the quoted packet went to, and who the error claims to be from
        quote.ip.daddr = other[2]
        _set_port(quote.l4, other[4] & 0xFF, False, other[3], other[1])
        skb.ip.saddr = other[2]
    else:  # who the quoted packet came from, and who the error is for
        quote.ip.saddr = other[0]
        _set_port(quote.l4, other[4] & 0xFF, True, other[1], other[1])
        skb.ip.daddr = other[0]
    if skb.tr is not None:
        _station_manip(skb, ct, manip, hook, before)
    return True


def _set_port(l4: Any, proto: int, source: bool, port: int, ident: int) -> None:
    """Port or ICMP id of the quoted header, if so much of it is there."""
    if proto == IPPROTO_ICMP:
        if isinstance(l4, IcmpHdr):
            l4.rest = ident << 16 | l4.rest & 0xFFFF
    elif l4 is not None and hasattr(l4, "sport"):
        if source:
            l4.sport = port
        else:
            l4.dport = port


# -- the four hooks

def nf_nat_ipv4_fn(skb: SkBuff, hook: int) -> int:
    """What the four hooks have in common, for packets that may be the first. Linux: nf_nat_ipv4_fn()."""
    if skb.ctinfo != IP_CT_NEW and skb.ip.proto == IPPROTO_ICMP:  # RELATED: an error
        if nf_nat_icmp_reply_translation(skb, skb.ct, hook):
            return ACCEPT
        drop(skb, DropReason.NETFILTER_DROP)
        return DROP
    return nf_nat_inet_fn(skb, hook)


def nf_nat_ipv4_pre_routing(skb: SkBuff, hook: int) -> int:
    """Destinations of what comes in; a changed one needs another route. Linux: nf_nat_ipv4_pre_routing()."""
    ct = skb.ct
    if ct is None:
        return ACCEPT
    ctinfo, daddr, verdict = skb.ctinfo, skb.ip.daddr, ACCEPT
    if ctinfo == IP_CT_ESTABLISHED or ctinfo == IP_CT_ESTABLISHED_REPLY:  # noqa: SIM109
        if not ct.status & (IPS_DST_NAT if ctinfo == IP_CT_ESTABLISHED else IPS_SRC_NAT):
            return ACCEPT
        nf_nat_manip_pkt(skb, ct, NF_NAT_MANIP_DST, hook)
    else:
        verdict = nf_nat_ipv4_fn(skb, hook)
    if verdict == ACCEPT and skb.ip.daddr != daddr:
        skb.dst = None
    return verdict


def nf_nat_ipv4_local_in(skb: SkBuff, hook: int) -> int:
    """Sources of what is for this machine. Linux: nf_nat_ipv4_local_in()."""
    ct = skb.ct
    if ct is None:
        return ACCEPT
    ctinfo = skb.ctinfo
    if ctinfo == IP_CT_ESTABLISHED or ctinfo == IP_CT_ESTABLISHED_REPLY:  # noqa: SIM109
        if ct.status & (IPS_SRC_NAT if ctinfo == IP_CT_ESTABLISHED else IPS_DST_NAT):
            nf_nat_manip_pkt(skb, ct, NF_NAT_MANIP_SRC, hook)
        return ACCEPT
    return nf_nat_ipv4_fn(skb, hook)


def nf_nat_ipv4_out(skb: SkBuff, hook: int) -> int:
    """Sources of what leaves. Linux: nf_nat_ipv4_out()."""
    ct = skb.ct
    if ct is None:
        return ACCEPT
    ctinfo = skb.ctinfo
    if ctinfo == IP_CT_ESTABLISHED or ctinfo == IP_CT_ESTABLISHED_REPLY:  # noqa: SIM109
        if ct.masq_index and _oif_changed(skb, ct, hook):
            return _kill(skb, ct)
        if ct.status & (IPS_SRC_NAT if ctinfo == IP_CT_ESTABLISHED else IPS_DST_NAT):
            nf_nat_manip_pkt(skb, ct, NF_NAT_MANIP_SRC, hook)
        return ACCEPT
    return nf_nat_ipv4_fn(skb, hook)


def nf_nat_ipv4_local_fn(skb: SkBuff, hook: int) -> int:
    """Destinations of what is made here; it was routed before, so it is routed again. Linux: nf_nat_ipv4_local_fn()."""
    ct = skb.ct
    if ct is None:
        return ACCEPT
    ctinfo = skb.ctinfo
    if ctinfo == IP_CT_ESTABLISHED or ctinfo == IP_CT_ESTABLISHED_REPLY:  # noqa: SIM109
        if not ct.status & (IPS_DST_NAT if ctinfo == IP_CT_ESTABLISHED else IPS_SRC_NAT):
            return ACCEPT
        nf_nat_manip_pkt(skb, ct, NF_NAT_MANIP_DST, hook)
    else:
        verdict = nf_nat_ipv4_fn(skb, hook)
        if verdict != ACCEPT:
            return verdict
    mine, other = (ct.orig, ct.reply) if skb.ctdir == ORIGINAL else (ct.reply, ct.orig)
    if mine[2] != other[0]:
        outdev = skb.outdev
        if ip_route_me_harder(skb):
            drop(skb, DropReason.IP_OUTNOROUTES)
            return DROP
        skb.outdev = outdev  # the hooks after this one still see the old device, as `-o` does on 6.18
    return ACCEPT


_HOOKS = ((PREROUTING, PRI_NAT_DST, nf_nat_ipv4_pre_routing), (OUTPUT, PRI_NAT_DST, nf_nat_ipv4_local_fn),
          (INPUT, PRI_NAT_SRC, nf_nat_ipv4_local_in), (POSTROUTING, PRI_NAT_SRC, nf_nat_ipv4_out))


def _register_hooks(net: NetNamespace) -> None:
    for hook, priority, fn in _HOOKS:
        nf_register_net_hook(net, NFPROTO_IPV4, hook, priority, fn, fn.__name__)


# -- masqueraded connections end with the address they were given

def masq_device_event(event: str, dev: Any) -> None:
    """A device went down: connections masqueraded behind it are gone. Linux: masq_device_event()."""
    if event in (NETDEV_DOWN, NETDEV_UNREGISTER) and dev.net.ct is not None:
        index = dev.ifindex
        dev.net.ct.flush(lambda ct: ct.masq_index == index)


def masq_inet_event(dev: Any, addr: int) -> None:
    """A device lost an address: connections masqueraded as it are gone. Linux: masq_inet_event()."""
    if dev.net.ct is not None:
        index = dev.ifindex
        dev.net.ct.flush(lambda ct: ct.masq_index == index and ct.reply[2] == addr)


netdev_chain.append(masq_device_event)
inetaddr_chain.append(masq_inet_event)


# -- what a trace shows

def _ends(skb: SkBuff, manip: int) -> str:
    ip, l4 = skb.ip, skb.l4
    addr, port = (ip.saddr, "sport") if manip == NF_NAT_MANIP_SRC else (ip.daddr, "dport")
    family = AF_INET if skb.protocol == ETH_P_IP else AF_INET6
    return endpoint_text(addr, getattr(l4, port), family) if hasattr(l4, port) else fmt(addr, family)


def _station_bound(skb: SkBuff, ct: NfConn, hook: int, manip: int) -> None:
    changed = ct.status & (IPS_SRC_NAT if manip == NF_NAT_MANIP_SRC else IPS_DST_NAT)
    half = "source" if manip == NF_NAT_MANIP_SRC else "destination"
    s = station(skb, "nf_nat_setup_info", f"{half} of the connection {'is translated' if changed else 'stays'}")
    s.hook, s.prio, s.ct = hook, _PRIO[hook], ct_summary(ct)


def _station_manip(skb: SkBuff, ct: NfConn, manip: int, hook: int, before: str) -> None:
    half = "source" if manip == NF_NAT_MANIP_SRC else "destination"
    s = station(skb, "nf_nat_manip_pkt", f"{half} {before} becomes {_ends(skb, manip)}")
    s.hook, s.prio, s.ct = hook, _PRIO[hook], ct_summary(ct)
    s.data = {"half": half, "before": before, "after": _ends(skb, manip)}
