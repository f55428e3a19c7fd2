"""Routing: which device, which next hop, which source address.

    ip_route_output_key(net, daddr, ...) -> Dst     for packets made here; raises OSError as connect() would
    ip_route_input_noref(skb, dev) -> 0 or DropReason   for packets that came in; sets skb.dst
    fib_lookup(net, daddr, ...) -> Route or None    the forwarding table itself (fib.py), through the policy rules

The answer is a Dst, cached per (daddr, saddr, device, mark, tos) in net.dst_cache. `net.rt_genid` moves with every
change of routes, addresses, rules, exceptions or rp_filter, and whoever holds a Dst asks dst_valid() before using it
again. A Dst remembers its neighbour entry too, so a packet of a known flow costs one dict lookup here and none for
ARP.

Exceptions (`net.pmtu[AF_INET]`: daddr -> Exception) are what ICMP taught about one destination: a smaller path MTU or a
better gateway (pmtu.py). simplified: they are kept per destination, not per nexthop, and are not limited in number.

Martians: a source that is this machine's own, multicast, broadcast or loopback, a destination in 127/8 from outside
(unless route_localnet), or a source whose way back uses another device (rp_filter 1) end with their DropReason.
Sources: Linux net/ipv4/route.c, fib_frontend.c; RFC 1812 5.3.7 and 5.3.8, RFC 3704.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import IFF_LOOPBACK, IFF_UP, NetDevice, oserror
from kubenet.kernel.ipv4.fib import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    Flow,
    Route,
    fib_add,
    fib_del,
    fib_dump,
    fib_lookup,
)
from kubenet.kernel.ipv4.fib_rules import NO_PORTS
from kubenet.kernel.skbuff import DropReason, SkBuff
from kubenet.wire.addr import ip4_text

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

AF_INET = 2
IP_MAX_MTU = 0xFFFF
BROADCAST = 0xFFFFFFFF
DST_CACHE_MAX = 8192

DST_FAKE_RTABLE = 1  # dst.flags: stands for "through the bridge" while a frame is bridged

ROUTE_ERRORS = {RTN_BLACKHOLE: errno.EINVAL, RTN_UNREACHABLE: errno.EHOSTUNREACH, RTN_PROHIBIT: errno.EACCES}


def dst_words(dst: Dst) -> str:
    """The route behind a decision, as `ip route` would begin its line: "10.48.2.0/24 via 172.18.0.3". For stations."""
    route = dst.route
    if dst.local:
        return "local"
    if route is None:
        return f"dev {dst.dev.name}"
    target = f"{ip4_text(route.prefix)}/{route.plen}" if route.plen else "default"
    return f"{target} via {ip4_text(route.gateway)}" if route.gateway else f"{target} on link"


class Dst:
    """The answer to one routing question. Linux: struct rtable.

    gateway: 0 means the destination is on the link; nexthop: what ARP asks for; error: errno, the packet cannot go on
    (input routes); pmtu is valid until `expires` (ns); do_redirect: the sender could use a shorter way; neigh: cached.
    """

    __slots__ = ("net", "dev", "gateway", "nexthop", "type", "prefsrc", "mtu", "pmtu", "expires", "advmss", "flags",
                 "neigh", "genid", "route", "obsolete", "error", "do_redirect", "is_input", "local", "mtu_locked")

    def __init__(
        self, net: NetNamespace, dev: Any, gateway: int, nexthop: int, type: int, prefsrc: int, route: Route | None
    ) -> None:
        self.net = net
        self.dev: Any = dev
        self.gateway = gateway
        self.nexthop = nexthop
        self.type = type
        self.prefsrc = prefsrc
        self.mtu: int = route.mtu if route is not None else 0
        self.pmtu: int = 0
        self.expires: int = 0
        self.advmss: int = route.advmss if route is not None else 0
        self.flags: int = 0
        self.neigh: Any = None
        self.genid: int = net.rt_genid
        self.route = route
        self.obsolete: bool = False
        self.error: int = 0
        self.do_redirect: bool = False
        self.is_input: bool = False
        self.local: bool = type in (RTN_LOCAL, RTN_BROADCAST)
        self.mtu_locked: bool = route.mtu_lock if route is not None else False


class FibException:
    """What ICMP said about one destination; void at `expires` (ns). Linux: struct fib_nh_exception."""

    __slots__ = ("gateway", "mtu", "mtu_locked", "expires")

    def __init__(self, expires: int) -> None:
        self.gateway: int = 0
        self.mtu: int = 0
        self.mtu_locked: bool = False
        self.expires = expires


def rt_cache_flush(net: NetNamespace) -> None:
    """Every cached route is void. Linux: rt_cache_flush()."""
    net.rt_genid += 1
    net.dst_cache.clear()


def dst_valid(net: NetNamespace, dst: Dst | None) -> bool:
    """May `dst` still be used? Linux: dst_check(), ipv4_dst_check()."""
    return dst is not None and dst.genid == net.rt_genid and not dst.obsolete and (
        not dst.expires or dst.expires > net.loop.now)


def dst_mtu(dst: Dst) -> int:
    """The largest IP packet for this route: learned, configured, or the device's. Linux: ipv4_mtu()."""
    if dst.pmtu and dst.expires > dst.net.loop.now:
        return dst.pmtu
    mtu: int = dst.mtu or dst.dev.mtu
    return mtu if mtu < IP_MAX_MTU else IP_MAX_MTU


def ip_dst_mtu_forward(dst: Dst) -> int:
    """The same for a packet that is forwarded: a learned path MTU does not count, since anyone can claim one, unless
    ip_forward_use_pmtu is set. Linux: ip_dst_mtu_maybe_forward()."""
    if dst.mtu_locked or dst.net.sysctl.ipv4.ip_forward_use_pmtu:
        return dst_mtu(dst)
    mtu: int = dst.mtu or dst.dev.mtu
    return mtu if mtu < IP_MAX_MTU else IP_MAX_MTU


def ipv4_default_advmss(dst: Dst) -> int:
    """The MSS to announce. Linux: ipv4_default_advmss()."""
    if dst.advmss:
        return dst.advmss
    return min(max(dst_mtu(dst) - 40, dst.net.sysctl.route.min_adv_mss), IP_MAX_MTU - 40)


# -- addresses -------------------------------------------------------------------------------------------------------


def is_zeronet(addr: int) -> bool:
    """0.0.0.0/8."""
    return addr >> 24 == 0


def is_multicast(addr: int) -> bool:
    """224.0.0.0/4."""
    return addr >> 28 == 0xE


def inet_addr_type(net: NetNamespace, addr: int) -> int:
    """What `addr` is to this namespace: RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST.

    Linux: inet_addr_type().
    """
    if addr >> 24 == 0 or addr == BROADCAST:
        return RTN_BROADCAST
    if addr >> 28 == 0xE:
        return RTN_MULTICAST
    route: Route | None = net.fib[AF_INET].tables[RT_TABLE_LOCAL].lookup(Flow(addr))
    return int(route.type) if route is not None else RTN_UNICAST


def inet_select_addr(dev: NetDevice, dst: int, scope: int) -> int:
    """The source address for talking to `dst` through `dev`: on its subnet if there is one, else the first of that
    scope, else any other device's. 0 if there is none. Linux: inet_select_addr()."""
    first = 0
    for ifa in dev.ifaddrs:
        if ifa.secondary or ifa.scope > scope:
            continue
        if not dst or (dst ^ ifa.addr) >> (32 - ifa.plen) == 0:
            return ifa.addr
        first = first or ifa.addr
    if first:
        return first
    for other in dev.net.devs.values():
        for ifa in other.ifaddrs:
            if not ifa.secondary and ifa.scope != RT_SCOPE_LINK and ifa.scope <= scope:
                return int(ifa.addr)
    return 0


def inet_addr_onlink(dev: NetDevice, a: int, b: int) -> bool:
    """Are both addresses (b may be 0) on one subnet of the device? Linux: inet_addr_onlink()."""
    for ifa in dev.ifaddrs:
        shift = 32 - ifa.plen
        if (a ^ ifa.addr) >> shift == 0 and (not b or (b ^ ifa.addr) >> shift == 0):
            return True
    return False


# -- output ----------------------------------------------------------------------------------------------------------


def ip_route_output_key(
    net: NetNamespace, daddr: int, saddr: int = 0, oif: int = 0, mark: int = 0, tos: int = 0, proto: int = 0,
    uid: int = 0, sport: int = 0, dport: int = 0,
) -> Dst:
    """The route for a packet made here; dst.prefsrc is the source address to use. saddr 0: choose one. proto, sport and dport
    matter to rules that ask for them only.

    OSError: ENETUNREACH no route, EHOSTUNREACH, EACCES or EINVAL by a route of that kind, ENETUNREACH for a source that is
    not ours, ENODEV for a device that is not there. Linux: ip_route_output_key_hash_rcu().
    """
    key = (daddr, saddr, oif, mark, tos, 0)
    dst: Dst | None = net.dst_cache.get(key)
    if dst is not None and dst.genid == net.rt_genid and (not dst.expires or dst.expires > net.loop.now):
        return dst
    dst = _route_output(net, daddr, saddr, oif, mark, tos, (proto, sport, dport))
    _cache(net, key, dst)
    return dst


def _cache(net: NetNamespace, key: tuple[int, ...], dst: Dst) -> None:
    if net.fib[AF_INET].require_fldissect:
        return  # the key has no ports
    if len(net.dst_cache) >= DST_CACHE_MAX:
        net.dst_cache.clear()
    net.dst_cache[key] = dst


def _route_output(
    net: NetNamespace, daddr: int, saddr: int, oif: int, mark: int, tos: int, ports: tuple[int, int, int]
) -> Dst:
    if saddr:
        if is_multicast(saddr) or saddr == BROADCAST or is_zeronet(saddr):
            raise oserror(errno.EINVAL)
        if inet_addr_type(net, saddr) != RTN_LOCAL and not net.sysctl.ipv4.ip_nonlocal_bind:
            raise oserror(errno.ENETUNREACH)  # EINVAL before Linux 6.16
    dev = None
    if oif:
        dev = net.dev_by_index.get(oif)
        if dev is None:
            raise oserror(errno.ENODEV)
        if not dev.flags & IFF_UP:
            raise oserror(errno.ENETUNREACH)
        if not saddr and is_multicast(daddr):
            saddr = inet_select_addr(dev, 0, RT_SCOPE_LINK)
    if not daddr:
        daddr = saddr = saddr or 0x7F000001
        return Dst(net, net.lo, 0, daddr, RTN_LOCAL, saddr, None)
    if dev is not None and (daddr == BROADCAST or is_multicast(daddr)):
        return _make_output(net, dev, daddr, saddr or inet_select_addr(dev, 0, RT_SCOPE_LINK), None, RTN_UNICAST)
    flow = Flow(daddr, saddr, oif, 0, mark, tos, 0, ports)
    route = fib_lookup(net, flow)
    if route is None:
        if dev is None or dev.flags & IFF_LOOPBACK:
            raise oserror(errno.ENETUNREACH)
        # "Apparently, routing tables are wrong. Assume, that the destination is on link."
        return _make_output(net, dev, daddr, saddr or inet_select_addr(dev, 0, RT_SCOPE_LINK), None, RTN_UNICAST)
    if route.type in ROUTE_ERRORS:
        raise oserror(ROUTE_ERRORS[route.type])
    if route.type == RTN_LOCAL:
        return Dst(net, net.lo, 0, daddr, RTN_LOCAL, saddr or route.prefsrc or daddr, route)
    if not saddr:
        saddr = fib_result_prefsrc(route)
    return _make_output(net, route.dev, daddr, saddr, route, route.type)


def fib_result_prefsrc(route: Route) -> int:
    """The source address a route prefers: its own, else the device's best for the next hop.

    Linux: fib_result_prefsrc().
    """
    if route.prefsrc:
        return route.prefsrc
    return inet_select_addr(route.dev, route.gateway or route.prefix, RT_SCOPE_LINK if route.gateway else route.scope)


def _make_output(net: NetNamespace, dev: NetDevice, daddr: int, saddr: int, route: Route | None, type: int) -> Dst:
    """Linux: __mkroute_output()."""
    if saddr >> 24 == 127 and not dev.flags & IFF_LOOPBACK and not _or_conf(net, dev, "route_localnet"):
        raise oserror(errno.EINVAL)
    if daddr == BROADCAST:
        type = RTN_BROADCAST
    elif is_multicast(daddr):
        type = RTN_MULTICAST
    dst = _make_dst(net, dev, daddr, saddr, route, type)
    dst.local = type == RTN_LOCAL
    return dst


def _make_dst(net: NetNamespace, dev: NetDevice, daddr: int, saddr: int, route: Route | None, type: int) -> Dst:
    """A Dst with what an exception says about daddr worked in. Linux: rt_set_nexthop(), rt_bind_exception()."""
    gateway = route.gateway if route is not None and type == RTN_UNICAST else 0
    dst = Dst(net, dev, gateway, gateway or daddr, type, saddr, route)
    exceptions = net.pmtu.get(AF_INET)
    if exceptions:
        exception = exceptions.get(daddr)
        if exception is not None:
            if exception.expires <= net.loop.now:
                del exceptions[daddr]
            else:
                dst.expires = exception.expires
                dst.pmtu, dst.mtu_locked = exception.mtu, exception.mtu_locked
                if exception.gateway:
                    dst.gateway = dst.nexthop = exception.gateway
    return dst


# -- input -----------------------------------------------------------------------------------------------------------


def ip_route_input_noref(skb: SkBuff, dev: NetDevice) -> int:
    """skb, which came in on dev, has its dst, and 0; or the DropReason. A dst may carry an error: then ip_error() answers.

    Linux: ip_route_input_noref().
    """
    net, ip = skb.net, skb.ip
    key = (ip.daddr, ip.saddr, dev.ifindex, skb.mark, ip.tos, 1)
    dst: Dst | None = net.dst_cache.get(key)
    if dst is not None and dst.genid == net.rt_genid and (not dst.expires or dst.expires > net.loop.now):
        skb.dst = dst
        return 0
    ports = _flow_dissect(skb) if net.fib[AF_INET].require_fldissect else NO_PORTS
    found = ip_route_input_slow(net, ip.daddr, ip.saddr, dev, skb.mark, ip.tos, ports)
    if isinstance(found, int):
        return found
    _cache(net, key, found)
    skb.dst = found
    return 0


def _flow_dissect(skb: SkBuff) -> tuple[int, int, int]:
    """Protocol and ports of a packet; a later fragment has no ports. Linux: fib4_rules_early_flow_dissect()."""
    return skb.ip.proto, getattr(skb.l4, "sport", 0), getattr(skb.l4, "dport", 0)


def ip_route_input_slow(
    net: NetNamespace, daddr: int, saddr: int, dev: NetDevice, mark: int, tos: int, ports: tuple[int, int, int] = NO_PORTS
) -> Dst | int:
    """The route for a packet from saddr to daddr that came in on dev, or a DropReason. Linux: ip_route_input_slow()."""
    if is_multicast(daddr):
        return _route_input_mc(net, daddr, saddr, dev)
    if is_multicast(saddr) or saddr == BROADCAST:
        return martian_source(net, dev, saddr, daddr, DropReason.IP_INVALID_SOURCE)
    if daddr == BROADCAST or (saddr == 0 and daddr == 0):
        return _route_input_brd(net, daddr, saddr, dev, mark, tos, ports)
    if is_zeronet(saddr):
        return martian_source(net, dev, saddr, daddr, DropReason.IP_INVALID_SOURCE)
    if is_zeronet(daddr):
        return martian_destination(net, dev, saddr, daddr, DropReason.IP_INVALID_SOURCE)
    if (daddr >> 24 == 127 or saddr >> 24 == 127) and not dev.flags & IFF_LOOPBACK:
        if not _or_conf(net, dev, "route_localnet"):
            if daddr >> 24 == 127:
                return martian_destination(net, dev, saddr, daddr, DropReason.IP_LOCALNET)
            return martian_source(net, dev, saddr, daddr, DropReason.IP_LOCALNET)
    route = fib_lookup(net, Flow(daddr, saddr, 0, dev.ifindex, mark, tos, 0, ports))
    if route is None:
        return _error_dst(net, dev, daddr, errno.ENETUNREACH if dev.conf.forwarding else errno.EHOSTUNREACH)
    if route.type in ROUTE_ERRORS:
        return _error_dst(net, dev, daddr, ROUTE_ERRORS[route.type] if dev.conf.forwarding else errno.EHOSTUNREACH)
    if route.type == RTN_BROADCAST:
        return _route_input_brd(net, daddr, saddr, dev, mark, tos, ports)
    if route.type == RTN_LOCAL:
        return _route_input_local(net, daddr, saddr, dev, mark, tos, route, ports)
    if not dev.conf.forwarding:
        return _error_dst(net, dev, daddr, errno.EHOSTUNREACH)
    if route.type != RTN_UNICAST:
        return martian_destination(net, dev, saddr, daddr, DropReason.IP_INVALID_SOURCE)
    return _make_input(net, daddr, saddr, dev, mark, tos, route, ports)


def _make_input(
    net: NetNamespace, daddr: int, saddr: int, dev: NetDevice, mark: int, tos: int, route: Route,
    ports: tuple[int, int, int],
) -> Dst | int:
    """A forwarded packet. Linux: __mkroute_input()."""
    out = route.dev
    err = fib_validate_source(net, saddr, daddr, out.ifindex, dev, mark, tos, ports)
    if err < 0:
        return martian_source(net, dev, saddr, daddr, -err)
    dst = _make_dst(net, out, daddr, 0, route, RTN_UNICAST)
    dst.is_input = True
    if out is dev and err and _or_conf(net, dev, "send_redirects"):
        dst.do_redirect = bool(_or_conf(net, dev, "shared_media")) or inet_addr_onlink(out, saddr, dst.gateway)
    return dst


def _route_input_local(
    net: NetNamespace, daddr: int, saddr: int, dev: NetDevice, mark: int, tos: int, route: Route,
    ports: tuple[int, int, int],
) -> Dst | int:
    err = fib_validate_source(net, saddr, daddr, 0, dev, mark, tos, ports)
    if err < 0:
        return martian_source(net, dev, saddr, daddr, -err)
    dst = Dst(net, net.lo, 0, daddr, RTN_LOCAL, daddr, route)
    dst.is_input = True
    return dst


def _route_input_brd(
    net: NetNamespace, daddr: int, saddr: int, dev: NetDevice, mark: int, tos: int, ports: tuple[int, int, int]
) -> Dst | int:
    if not is_zeronet(saddr):
        err = fib_validate_source(net, saddr, 0, 0, dev, mark, tos, ports)
        if err < 0:
            return martian_source(net, dev, saddr, daddr, -err)
    dst = Dst(net, net.lo, 0, daddr, RTN_BROADCAST, 0, None)
    dst.is_input = True
    return dst


def _route_input_mc(net: NetNamespace, daddr: int, saddr: int, dev: NetDevice) -> Dst | int:
    """Groups joined here (net.extra["mc_groups"]: ifindex -> groups) are local; 224.0.0.1 everybody joins.

    Linux: ip_route_input_mc(), ip_check_mc_rcu().
    """
    if is_multicast(saddr) or saddr == BROADCAST:
        return DropReason.IP_INVALID_SOURCE
    joined = net.extra.get("mc_groups", {}).get(dev.ifindex, ())
    if daddr != 0xE0000001 and daddr not in joined:
        return DropReason.MULTICAST
    dst = Dst(net, net.lo, 0, daddr, RTN_MULTICAST, 0, None)
    dst.is_input = dst.local = True
    return dst


def _error_dst(net: NetNamespace, dev: NetDevice, daddr: int, error: int) -> Dst:
    """A route to ip_error(). Linux: ip_route_input_slow() no_route."""
    dst = Dst(net, dev, 0, daddr, RTN_UNREACHABLE, 0, None)
    dst.error = error
    dst.is_input = True
    return dst


def _or_conf(net: NetNamespace, dev: NetDevice, name: str) -> bool:
    """True if the setting is on for all devices or for this one. Linux: IN_DEV_ORCONF()."""
    return bool(getattr(net.sysctl.conf4["all"], name) or getattr(dev.conf, name))


def max_conf(net: NetNamespace, dev: NetDevice, name: str) -> int:
    """The larger of the setting for all devices and for this one. Linux: IN_DEV_MAXCONF()."""
    a: int = getattr(net.sysctl.conf4["all"], name)
    b: int = getattr(dev.conf, name)
    return a if a > b else b


def fib_validate_source(
    net: NetNamespace, src: int, dst: int, oif: int, dev: NetDevice, mark: int = 0, tos: int = 0,
    ports: tuple[int, int, int] = NO_PORTS,
) -> int:
    """Is `src` a believable source for a packet that came in on `dev`? Negative: -DropReason; 1: it is directly attached.

    Linux: fib_validate_source(), __fib_validate_source(); RFC 3704 for rp_filter 1 (strict) and 2 (loose).
    """
    rpf = max_conf(net, dev, "rp_filter")
    fib = net.fib[AF_INET]
    if not rpf and (dev.ifindex != oif or not _or_conf(net, dev, "send_redirects")):
        if _or_conf(net, dev, "accept_local"):
            return 0
        if not fib.custom_rules and not fib.custom_local:
            return -DropReason.IP_LOCAL_SOURCE if src in net.local_addrs[AF_INET] else 0
    proto, sport, dport = ports
    flow = Flow(src, dst, 0, oif, mark if mark and _or_conf(net, dev, "src_valid_mark") else 0, tos, 0, (proto, dport, sport))
    route = fib_lookup(net, flow)
    if route is None or route.type in ROUTE_ERRORS:
        return -DropReason.IP_RPFILTER if rpf else 0
    if route.type != RTN_UNICAST and (route.type != RTN_LOCAL or not _or_conf(net, dev, "accept_local")):
        return -DropReason.IP_LOCAL_SOURCE if route.type == RTN_LOCAL else -DropReason.IP_INVALID_SOURCE
    if route.dev is dev:
        return int(not route.gateway)
    if not dev.ifaddrs:
        return -DropReason.IP_RPFILTER if rpf else 0
    if rpf == 1:
        return -DropReason.IP_RPFILTER
    flow.oif = dev.ifindex
    route = fib_lookup(net, flow)
    return int(route is not None and route.type == RTN_UNICAST and not route.gateway)


def martian_source(net: NetNamespace, dev: NetDevice, saddr: int, daddr: int, reason: int) -> int:
    """`reason`; logged if log_martians says so. Linux: ip_handle_martian_source()."""
    if _or_conf(net, dev, "log_martians"):
        net.host.printk(f"IPv4: martian source {_text(daddr)} from {_text(saddr)}, on dev {dev.name}")
    return reason


def martian_destination(net: NetNamespace, dev: NetDevice, saddr: int, daddr: int, reason: int) -> int:
    """`reason`; logged likewise. Linux: ip_route_input_slow() martian_destination."""
    if _or_conf(net, dev, "log_martians"):
        net.host.printk(f"IPv4: martian destination {_text(daddr)} from {_text(saddr)}, dev {dev.name}")
    return reason


def _text(addr: int) -> str:
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


__all__ = [
    "DST_FAKE_RTABLE", "RTN_BLACKHOLE", "RTN_BROADCAST", "RTN_LOCAL", "RTN_MULTICAST", "RTN_PROHIBIT", "RTN_UNICAST",
    "RTN_UNREACHABLE", "RT_SCOPE_HOST", "RT_SCOPE_LINK", "Dst", "FibException", "Route", "dst_mtu", "dst_valid",
    "fib_add", "fib_del", "fib_dump", "fib_result_prefsrc", "fib_validate_source", "inet_addr_onlink",
    "inet_addr_type", "inet_select_addr", "ip_dst_mtu_forward", "ip_route_input_noref", "ip_route_input_slow",
    "ip_route_output_key", "ipv4_default_advmss", "max_conf", "rt_cache_flush",
]
