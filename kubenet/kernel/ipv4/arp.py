"""ARP (RFC 826): asking for a MAC address and answering for one's own.

arp_rcv() handles every ARP frame: it answers requests for local addresses (subject to arp_ignore, arp_filter), and as
a proxy where proxy_arp says so; and it learns, from requests to us (an entry for the asker, STALE) and from answers to
us (REACHABLE). A frame that only mentions somebody we already know updates that entry; strangers' gratuitous ARP makes
one only with arp_accept. arp_solicit() asks: three times by broadcast for an unknown address, by unicast to confirm a
known one; the sender address in the request is the waiting packet's source if that is ours (arp_announce 0).

Sources: Linux net/ipv4/arp.c; RFC 826, RFC 5227 (probes); ip-sysctl.rst arp_*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import ETH_BROADCAST, IFF_LOOPBACK, IFF_NOARP, NetDevice, dev_queue_xmit
from kubenet.kernel.ipv4.neigh import (
    NUD_REACHABLE,
    NUD_STALE,
    NUD_VALID,
    Neighbour,
    NeighTable,
    map_noarp,
    neigh_update,
)
from kubenet.kernel.ipv4.route import (
    AF_INET,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    Dst,
    inet_addr_onlink,
    inet_addr_type,
    inet_select_addr,
    ip_route_input_slow,
    max_conf,
)
from kubenet.kernel.skbuff import ETH_P_ARP, PACKET_HOST, PACKET_OTHERHOST, DropReason, SkBuff, arm, drop, station
from kubenet.units import SEC
from kubenet.wire.arp import ARP_LEN, ARPOP_REPLY, ARPOP_REQUEST, ArpHdr
from kubenet.wire.ethernet import EthHdr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


def arp_constructor(neigh: Neighbour) -> None:
    """A new entry knows at once what needs no asking. Linux: arp_constructor()."""
    kind = inet_addr_type(neigh.table.net, neigh.ip)
    map_noarp(neigh, kind == RTN_BROADCAST, kind == RTN_MULTICAST)




def arp_send(
    dev: NetDevice, op: int, tpa: int, spa: int, tha: int, dst_mac: int = ETH_BROADCAST, cause: SkBuff | None = None
) -> None:
    """An ARP packet from `dev` is sent. Linux: arp_send_dst(), arp_create()."""
    if dev.flags & IFF_NOARP:
        return
    skb = SkBuff(dev.net, ETH_P_ARP, ArpHdr(op, dev.addr, spa, tha, tpa), None, b"", 0, ARP_LEN)
    skb.dev = dev
    skb.eth = EthHdr(dst_mac, dev.addr, ETH_P_ARP)
    arm(skb, False)
    if skb.tr is not None:
        station(skb, "arp_send", "who has" if op == ARPOP_REQUEST else "is at")
    dev_queue_xmit(skb)


def arp_solicit(neigh: Neighbour, skb: SkBuff | None) -> None:
    """Ask for the neighbour's MAC address. Linux: arp_solicit()."""
    dev = neigh.dev
    net = dev.net
    saddr = 0
    announce = max_conf(net, dev, "arp_announce")
    wanted = getattr(skb.ip, "saddr", 0) if skb is not None and skb.protocol == 0x0800 else 0
    if announce < 2 and wanted and inet_addr_type(net, wanted) == RTN_LOCAL:
        if announce == 0 or inet_addr_onlink(dev, neigh.ip, wanted):
            saddr = wanted
    if not saddr:
        saddr = inet_select_addr(dev, neigh.ip, RT_SCOPE_LINK)
    if neigh.probes <= dev.neigh_conf.ucast_solicit and neigh.state & NUD_VALID:
        arp_send(dev, ARPOP_REQUEST, neigh.ip, saddr, 0, neigh.ha)
    else:
        arp_send(dev, ARPOP_REQUEST, neigh.ip, saddr, 0)


def arp_rcv(skb: SkBuff) -> None:
    """An ARP frame came in; it ends here. Linux: arp_rcv(), arp_process()."""
    dev = skb.dev
    if dev.flags & IFF_NOARP or dev.flags & IFF_LOOPBACK or skb.pkt_type == PACKET_OTHERHOST:
        return drop(skb, DropReason.OTHERHOST if skb.pkt_type == PACKET_OTHERHOST else DropReason.ARP_IGNORED)
    arp: ArpHdr = skb.ip
    if arp.op not in (ARPOP_REQUEST, ARPOP_REPLY) or not dev.ifaddrs:
        return drop(skb, DropReason.ARP_IGNORED)
    if arp.tpa >> 28 == 0xE or (arp.tpa >> 24 == 127 and not max_conf(skb.net, dev, "route_localnet")):
        return drop(skb, DropReason.ARP_IGNORED)
    if skb.tr is not None:
        station(skb, "arp_rcv", "request" if arp.op == ARPOP_REQUEST else "reply")
    if arp.spa == 0:
        return _answer_probe(skb, dev, arp)
    if arp.op == ARPOP_REQUEST and _answer_request(skb, dev, arp):
        return None
    return _learn(skb, dev, arp)


def _answer_probe(skb: SkBuff, dev: NetDevice, arp: ArpHdr) -> None:
    """Somebody asks whether an address is taken, without having one. RFC 5227 2.1.1."""
    if arp.op == ARPOP_REQUEST and inet_addr_type(skb.net, arp.tpa) == RTN_LOCAL and not arp_ignore(dev, 0, arp.tpa):
        arp_send(dev, ARPOP_REPLY, 0, arp.tpa, arp.sha, arp.sha)


def _answer_request(skb: SkBuff, dev: NetDevice, arp: ArpHdr) -> bool:
    """Answer for our own address, or as a proxy; True if the request was for us to answer."""
    net = skb.net
    dst = ip_route_input_slow(net, arp.tpa, arp.spa, dev, 0, 0)
    if not isinstance(dst, Dst) or dst.error:
        return False
    table: NeighTable = net.neigh[AF_INET]
    if dst.type == RTN_LOCAL:
        if not arp_ignore(dev, arp.spa, arp.tpa):
            if neigh_event_ns(table, arp.sha, arp.spa, dev) is not None:
                arp_send(dev, ARPOP_REPLY, arp.spa, arp.tpa, arp.sha, arp.sha)
        return True
    proxied = (dev.ifindex, arp.tpa) in table.proxies or (arp_fwd_proxy(dev, dst) and dst.dev is not dev)
    if dev.conf.forwarding and dst.type == RTN_UNICAST and proxied:
        # simplified: Linux waits up to proxy_delay (0.8 s) before it answers a broadcast as a proxy
        if neigh_event_ns(table, arp.sha, arp.spa, dev) is not None:
            arp_send(dev, ARPOP_REPLY, arp.spa, arp.tpa, arp.sha, arp.sha)
        return True
    return False


def _learn(skb: SkBuff, dev: NetDevice, arp: ArpHdr) -> None:
    """What the frame says about its sender is worth knowing if we know the sender. Linux: arp_process()."""
    table: NeighTable = skb.net.neigh[AF_INET]
    neigh = table.lookup(dev, arp.spa)
    is_garp = arp.tpa == arp.spa and (arp.op == ARPOP_REQUEST or arp.tha == arp.sha or arp.tha in (0, ETH_BROADCAST))
    if neigh is None and max_conf(skb.net, dev, "arp_accept") and is_garp:
        if inet_addr_type(skb.net, arp.spa) == RTN_UNICAST:
            neigh = table.create(dev, arp.spa)
    if neigh is None:
        return
    locktime = dev.neigh_conf.locktime * SEC // 100
    override = is_garp or skb.net.loop.now > neigh.updated + locktime
    state = NUD_REACHABLE if arp.op == ARPOP_REPLY and skb.pkt_type == PACKET_HOST else NUD_STALE
    neigh_update(neigh, arp.sha, state, override)


def neigh_event_ns(table: NeighTable, mac: int, ip: int, dev: NetDevice) -> Neighbour | None:
    """Who asked us is known from now on. Linux: neigh_event_ns()."""
    neigh = table.create(dev, ip)
    if neigh is not None:
        neigh_update(neigh, mac, NUD_STALE, override=True)
    return neigh


def arp_ignore(dev: NetDevice, sip: int, tip: int) -> bool:
    """True if a request for our address is not to be answered on this device. Linux: arp_ignore()."""
    level = max_conf(dev.net, dev, "arp_ignore")
    if level == 0:
        return _arp_filter(dev, sip) if max_conf(dev.net, dev, "arp_filter") else False
    mine = [ifa for ifa in dev.ifaddrs if ifa.addr == tip]
    if level == 1:
        return not mine
    if level == 2:
        return not any((ifa.addr ^ sip) >> 32 - ifa.plen == 0 for ifa in mine)
    if level == 3:
        everywhere = [ifa for d in dev.net.devs.values() for ifa in d.ifaddrs]
        return not any(ifa.addr == tip and ifa.scope < RT_SCOPE_HOST for ifa in everywhere)
    return level == 8


def _arp_filter(dev: NetDevice, sip: int) -> bool:
    """True if we would answer the asker through another device. Linux: arp_filter()."""
    from kubenet.kernel.ipv4.route import ip_route_output_key

    try:
        return ip_route_output_key(dev.net, sip).dev is not dev
    except OSError:
        return True


def arp_fwd_proxy(dev: NetDevice, dst: Dst) -> bool:
    """proxy_arp: answer for what we would forward elsewhere. Linux: arp_fwd_proxy()."""
    return dst.dev is not dev and bool(max_conf(dev.net, dev, "proxy_arp"))


def arp_announce_addresses(net: NetNamespace, dev: NetDevice) -> None:
    """Gratuitous ARP for every address of the device (arp_notify=1, `arping -U`).

    Linux: inetdev_send_gratuitous_arp().
    """
    for ifa in dev.ifaddrs:
        arp_send(dev, ARPOP_REQUEST, ifa.addr, ifa.addr, 0)
