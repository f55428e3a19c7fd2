"""IPv4 addresses on devices, the routes they bring, and the net.ipv4.conf settings.

    inet_addr_add(dev, addr, plen)      ip addr add: the address, a local route, and while the device is up a route to its
                                        subnet and the broadcast address
    inet_addr_del(dev, addr, plen)      ip addr del: the first address of a subnet takes its secondaries along
    inet_conf_write(net, name, key, v)  sysctl -w net.ipv4.conf.NAME.KEY=v with what else that moves
    ip_forward_write(net, v)            sysctl -w net.ipv4.ip_forward=v: every device's `forwarding` follows

When a device goes down its routes go, those in `local` excepted: the machine still answers for the address (observed on
6.18). They come back from the addresses when it goes up; routes that were added by hand do not.
Sources: Linux net/ipv4/devinet.c, fib_frontend.c fib_add_ifaddr(), fib_del_ifaddr(), fib_netdev_event().
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import (
    IFF_LOOPBACK,
    IFF_UP,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    IfAddr,
    NetDevice,
    netdev_chain,
    oserror,
)
from kubenet.kernel.ipv4.fib import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_UNICAST,
    RTPROT_KERNEL,
    fib_add,
    fib_remove,
    fib_routes_of,
)
from kubenet.kernel.ipv4.route import AF_INET, rt_cache_flush

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

inetaddr_chain: list[Callable[[NetDevice, int], None]] = []  # told of every address that goes (MASQUERADE listens)


def inet_addr_add(
    dev: NetDevice, addr: int, plen: int, brd: int | None = None, label: str | None = None, scope: int | None = None
) -> IfAddr:
    """`addr`/`plen` is the device's. brd None: none (as `ip addr add`). OSError EINVAL, EEXIST.

    Linux: inet_rtm_newaddr().
    """
    if not 0 <= plen <= 32 or addr >> 28 == 0xE:
        raise oserror(errno.EINVAL)
    if scope is None:
        scope = RT_SCOPE_HOST if addr >> 24 == 127 else 0
    ifa = IfAddr(addr, plen, scope, brd or 0, label or dev.name)
    shift = 32 - plen
    for other in dev.ifaddrs:
        if other.plen == plen and (other.addr ^ addr) >> shift == 0:
            if other.addr == addr:
                raise oserror(errno.EEXIST, "ipv4: Address already assigned.")
            ifa.secondary = True
    at = len(dev.ifaddrs)
    if not ifa.secondary:  # after the last primary one of no smaller scope: inet_insert_ifa()
        at = max((n for n, other in enumerate(dev.ifaddrs, 1) if not other.secondary and scope <= other.scope), default=0)
    dev.ifaddrs.insert(at, ifa)
    _local_addrs_changed(dev.net)
    fib_add_ifaddr(dev, ifa)
    rt_cache_flush(dev.net)
    for watcher in dev.net.watchers:
        watcher("addr", ("add", dev, ifa))
    return ifa


def inet_addr_del(dev: NetDevice, addr: int, plen: int = -1) -> None:
    """The address is gone, and with the first of its subnet the secondaries too. OSError EADDRNOTAVAIL.

    Linux: inet_del_ifa().
    """
    for ifa in dev.ifaddrs:
        if ifa.addr == addr and (plen < 0 or ifa.plen == plen):
            break
    else:
        raise oserror(errno.EADDRNOTAVAIL, "ipv4: Address not found.")
    shift = 32 - ifa.plen
    gone = [ifa]
    if not ifa.secondary:
        gone += [o for o in dev.ifaddrs if o.secondary and o.plen == ifa.plen and (o.addr ^ addr) >> shift == 0]
    for old in reversed(gone):
        dev.ifaddrs.remove(old)
        fib_del_ifaddr(dev, old)
        for watcher in dev.net.watchers:
            watcher("addr", ("del", dev, old))
        for fn in inetaddr_chain:
            fn(dev, old.addr)
    _local_addrs_changed(dev.net)
    rt_cache_flush(dev.net)


def _local_addrs_changed(net: NetNamespace) -> None:
    """net.local_addrs[AF_INET]: address -> device, for quick questions."""
    net.local_addrs[AF_INET] = {ifa.addr: dev for dev in net.devs.values() for ifa in dev.ifaddrs}


def _subnet(ifa: IfAddr) -> int:
    return ifa.addr >> 32 - ifa.plen << 32 - ifa.plen


def _magic(dev: NetDevice, type: int, prefix: int, plen: int, ifa: IfAddr, metric: int = 0) -> None:
    """A route the kernel makes itself; one that is there already is enough. Linux: fib_magic()."""
    table = RT_TABLE_MAIN if type == RTN_UNICAST else RT_TABLE_LOCAL
    scope = RT_SCOPE_HOST if type == RTN_LOCAL else RT_SCOPE_LINK
    try:
        fib_add(dev.net, prefix, plen, dev=dev, prefsrc=ifa.addr, scope=scope, table=table, type=type,
                protocol=RTPROT_KERNEL, metric=metric, append=True)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def fib_add_ifaddr(dev: NetDevice, ifa: IfAddr) -> None:
    """The routes of one address: local always; subnet and broadcast while the device is up. Linux: fib_add_ifaddr()."""
    _magic(dev, RTN_LOCAL, ifa.addr, 32, ifa)
    if not dev.flags & IFF_UP:
        return
    prefix = _subnet(ifa)
    if ifa.brd and ifa.brd != 0xFFFFFFFF:
        _magic(dev, RTN_BROADCAST, ifa.brd, 32, ifa)
    if ifa.secondary or prefix >> 24 == 0 or (prefix == ifa.addr and ifa.plen == 32):
        return
    _magic(dev, RTN_LOCAL if dev.flags & IFF_LOOPBACK else RTN_UNICAST, prefix, ifa.plen, ifa)
    if ifa.plen < 31:
        _magic(dev, RTN_BROADCAST, prefix | (1 << 32 - ifa.plen) - 1, 32, ifa)


def fib_del_ifaddr(dev: NetDevice, ifa: IfAddr) -> None:
    """The routes an address brought are gone, and every route that prefers it as source.

    Linux: fib_del_ifaddr(), fib_sync_down_addr().
    """
    net = dev.net
    still_local = any(o.addr == ifa.addr for d in net.devs.values() for o in d.ifaddrs)
    for table in net.fib[AF_INET].tables.values():
        for route in table.routes():
            mine = route.protocol == RTPROT_KERNEL and route.prefsrc == ifa.addr and route.dev is dev
            if mine or (route.prefsrc == ifa.addr and not still_local and route.type != RTN_LOCAL):
                fib_remove(net, route)


def inetdev_event(event: str, dev: NetDevice) -> None:
    """Routes follow their device. Linux: inetdev_event(), fib_netdev_event()."""
    net = dev.net
    if AF_INET not in net.fib:
        return  # lo, registered before IPv4 is there
    if event == NETDEV_UP:
        if dev.flags & IFF_LOOPBACK and not dev.ifaddrs:
            inet_addr_add(dev, 0x7F000001, 8)
        for ifa in dev.ifaddrs:
            fib_add_ifaddr(dev, ifa)
    elif event == NETDEV_DOWN:
        for route in fib_routes_of(net, dev):
            if route.table != RT_TABLE_LOCAL or route.type != RTN_LOCAL:
                fib_remove(net, route)
    elif event == NETDEV_UNREGISTER:
        for ifa in list(dev.ifaddrs):
            if ifa in dev.ifaddrs:
                inet_addr_del(dev, ifa.addr, ifa.plen)
        for route in fib_routes_of(net, dev):
            fib_remove(net, route)
    rt_cache_flush(net)


netdev_chain.append(inetdev_event)

# settings that routes were computed with
_FLUSHING = ("forwarding", "accept_local", "route_localnet", "rp_filter", "send_redirects", "shared_media",
             "src_valid_mark")


def inet_conf_write(net: NetNamespace, name: str, key: str, value: int) -> None:
    """net.ipv4.conf.`name`.`key` is `value`. `forwarding` of `all` is ip_forward. OSError ENOENT.

    Linux: devinet_conf_proc().
    """
    conf = net.sysctl.conf4.get(name)
    if conf is None or key not in conf.names():
        raise oserror(errno.ENOENT)
    if key == "forwarding" and name == "all":
        return ip_forward_write(net, value)
    setattr(conf, key, value)
    if key in _FLUSHING:
        rt_cache_flush(net)
    return None


def ip_forward_write(net: NetNamespace, value: int) -> None:
    """The machine forwards, or does not, on every device there is and will be. Linux: inet_forward_change()."""
    value = int(bool(value))
    net.sysctl.ipv4.ip_forward = value
    for conf in net.sysctl.conf4.values():
        conf.forwarding = value
    rt_cache_flush(net)
