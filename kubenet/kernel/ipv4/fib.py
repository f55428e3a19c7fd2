"""The forwarding information base: routes in tables, asked in the order that the rules say (fib_rules.py).

A table is {prefix length: {prefix: [routes]}}; a lookup tries the lengths that occur, longest first, and takes the
first route whose tos, scope and device fit (lowest metric first). Every namespace has the tables local (255) and
main (254), and the rules 0: local, 32766: main, 32767: default.

    fib_add(net, prefix, plen, dev=..., gateway=..., ...)      ip route add / append / replace
    fib_del(net, prefix, plen, ...)                            ip route del: every field that is given must match
    fib_dump(net, table)                                       in the order `ip route` prints
    fib_lookup(net, flow)

Errors are OSError with the errno of rtnetlink; where the kernel sends words along (extack), they are the error's text.
simplified: dicts by prefix length stand for the LC-trie; no multipath routes. Sources: Linux net/ipv4/fib_trie.c,
fib_semantics.c, include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import IFF_UP, oserror
from kubenet.kernel.ipv4.fib_rules import FR_ACT_GOTO, FR_ACT_NOP, FR_ACT_TO_TBL, NO_PORTS, FibRule

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

AF_INET = 2

RTN_UNSPEC, RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST = 0, 1, 2, 3, 4, 5
RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW = 6, 7, 8, 9

RT_SCOPE_UNIVERSE, RT_SCOPE_SITE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE = 0, 200, 253, 254, 255
RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL = 253, 254, 255
RTPROT_KERNEL, RTPROT_BOOT, RTPROT_STATIC = 2, 3, 4

INVALID_GATEWAY = "Nexthop has invalid gateway."


class Flow:
    """A routing question. scope: only routes of at least this scope answer; ports: protocol, source and destination port, where
    rules ask for them. Linux: struct flowi4."""

    __slots__ = ("daddr", "saddr", "oif", "iif", "mark", "tos", "scope", "ports")

    def __init__(
        self, daddr: int, saddr: int = 0, oif: int = 0, iif: int = 0, mark: int = 0, tos: int = 0, scope: int = 0,
        ports: tuple[int, int, int] = NO_PORTS,
    ) -> None:
        self.daddr = daddr
        self.saddr = saddr
        self.oif = oif
        self.iif = iif
        self.mark = mark
        self.tos = tos & 0xFC  # the DSCP alone routes, not ECN
        self.scope = scope
        self.ports = ports


class Route:
    """One route with its one next hop. Linux: struct fib_alias and fib_info."""

    __slots__ = ("prefix", "plen", "dev", "gateway", "prefsrc", "metric", "scope", "table", "type", "protocol", "tos",
                 "mtu", "advmss", "onlink", "mtu_lock")

    def __init__(self, prefix: int, plen: int, dev: Any, gateway: int, prefsrc: int, metric: int, scope: int, table: int,
                 type: int, protocol: int, tos: int = 0) -> None:
        self.prefix = prefix
        self.plen = plen
        self.dev = dev
        self.gateway = gateway
        self.prefsrc = prefsrc
        self.metric = metric
        self.scope = scope
        self.table = table
        self.type = type
        self.protocol = protocol
        self.tos = tos
        self.mtu: int = 0
        self.advmss: int = 0
        self.onlink: bool = False
        self.mtu_lock: bool = False

    def same_nexthop(self, other: Route) -> bool:
        """Is the other one the very same route? Linux: fib_find_info()."""
        return (self.type, self.dev, self.gateway, self.prefsrc, self.scope, self.protocol) == (
            other.type, other.dev, other.gateway, other.prefsrc, other.scope, other.protocol)


class FibTable:
    """The routes of one table."""

    __slots__ = ("id", "by_plen", "plens")

    def __init__(self, id: int) -> None:
        self.id = id
        self.by_plen: dict[int, dict[int, list[Route]]] = {}
        self.plens: list[int] = []  # that occur, longest first

    def bucket(self, prefix: int, plen: int) -> list[Route]:
        """The routes for exactly this prefix (a new list if there are none)."""
        routes = self.by_plen.get(plen)
        if routes is None:
            routes = self.by_plen[plen] = {}
            self.plens = sorted(self.by_plen, reverse=True)
        return routes.setdefault(prefix, [])

    def remove(self, route: Route) -> None:
        """The route is gone."""
        routes = self.by_plen[route.plen]
        left = [r for r in routes[route.prefix] if r is not route]
        if left:
            routes[route.prefix] = left
            return
        del routes[route.prefix]
        if not routes:
            del self.by_plen[route.plen]
            self.plens = sorted(self.by_plen, reverse=True)

    def lookup(self, flow: Flow) -> Route | None:
        """The best route of this table. Linux: fib_table_lookup()."""
        daddr = flow.daddr
        for plen in self.plens:
            found = self.by_plen[plen].get(daddr >> 32 - plen << 32 - plen)
            if found is None:
                continue
            for route in found:
                if route.tos and route.tos != flow.tos:
                    continue
                if route.scope < flow.scope:
                    continue
                if flow.oif and route.dev is not None and route.dev.ifindex != flow.oif:
                    continue
                if route.dev is not None and not route.dev.flags & IFF_UP and route.type != RTN_LOCAL:
                    continue
                return route
        return None

    def routes(self) -> list[Route]:
        """By address, the shorter prefix first: the order `ip route` prints."""
        out = [r for routes in self.by_plen.values() for found in routes.values() for r in found]
        return sorted(out, key=lambda r: (r.prefix, r.plen))  # stable: tos and metric order is kept


class Fib:
    """All tables and rules of one namespace and family."""

    __slots__ = ("tables", "rules", "custom_rules", "custom_local", "require_fldissect")

    def __init__(self) -> None:
        self.tables: dict[int, FibTable] = {
            t: FibTable(t) for t in (RT_TABLE_LOCAL, RT_TABLE_MAIN)}
        self.rules: list[FibRule] = [
            FibRule(pref, table, RTPROT_KERNEL)
            for pref, table in ((0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT))]
        self.custom_rules: bool = False
        self.custom_local: bool = False  # somebody put routes into `local` by hand
        self.require_fldissect: bool = False  # some rule asks for protocol or ports

    def new_table(self, id: int) -> FibTable:
        """The table of that number, made if it is not there. Linux: fib_new_table()."""
        table = self.tables.get(id)
        if table is None:
            table = self.tables[id] = FibTable(id)
        return table


def fib_lookup(net: NetNamespace, flow: Flow) -> Route | None:
    """The route for `flow`, one of an error type too (blackhole, unreachable, prohibit); None if nothing fits.

    A throw route ends the search in its table only. Linux: __fib_lookup(), fib_rules_lookup(), fib4_rule_action(),
    fib4_rule_suppress().
    """
    fib: Fib = net.fib[AF_INET]
    from_pref = 0  # a goto was taken: go on at this preference
    for rule in fib.rules:
        if rule.pref < from_pref or not rule.matches(flow):
            continue
        if rule.action != FR_ACT_TO_TBL:
            if rule.action == FR_ACT_GOTO:
                from_pref = rule.target if rule.resolved else from_pref
            elif rule.action != FR_ACT_NOP:
                type = rule.action if rule.action in (RTN_UNREACHABLE, RTN_PROHIBIT) else RTN_BLACKHOLE
                return Route(0, 0, None, 0, 0, 0, 0, 0, type, rule.protocol)
            continue
        table = fib.tables.get(rule.table)
        if table is not None:
            route = table.lookup(flow)
            if route is not None and route.type != RTN_THROW and route.plen > rule.suppress_prefixlen:
                return route
    return None


def _flush_cache(net: NetNamespace) -> None:
    net.rt_genid += 1
    net.dst_cache.clear()


def default_scope(type: int, gateway: int) -> int:
    """The scope iproute2 chooses when none is given."""
    if type == RTN_LOCAL:
        return RT_SCOPE_HOST
    if type in (RTN_BROADCAST, RTN_MULTICAST, RTN_ANYCAST) or (type == RTN_UNICAST and not gateway):
        return RT_SCOPE_LINK
    return RT_SCOPE_UNIVERSE


def fib_add(
    net: NetNamespace,
    prefix: int,
    plen: int,
    *,
    dev: Any = None,
    gateway: int = 0,
    prefsrc: int = 0,
    metric: int = 0,
    scope: int = -1,
    table: int = RT_TABLE_MAIN,
    type: int = RTN_UNICAST,
    protocol: int = RTPROT_BOOT,
    tos: int = 0,
    mtu: int = 0,
    advmss: int = 0,
    onlink: bool = False,
    append: bool = False,
    replace: bool = False,
    prepend: bool = False,
    create: bool = True,
    mtu_lock: bool = False,
) -> Route:
    """The route is in the table: behind its equals (append), before them (prepend), instead of the first (replace), else only
    if there is none; create False: replace or ENOENT. OSError: EINVAL host bits set or bad prefsrc, EEXIST, ENETUNREACH the
    gateway is not on a link, ENETDOWN, ENODEV. Linux: fib_table_insert(), fib_create_info(), fib_check_nh()."""
    if not 0 <= plen <= 32 or prefix & ((1 << 32 - plen) - 1):
        raise oserror(errno.EINVAL, "Invalid prefix for given prefix length.")
    if scope < 0:
        scope = default_scope(type, gateway)
    if type in (RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW):
        dev = None
    else:
        dev = _check_nexthop(net, dev, gateway, scope, type, onlink)
    if prefsrc and type != RTN_LOCAL and prefsrc not in net.local_addrs[AF_INET]:
        raise oserror(errno.EINVAL, "Invalid prefsrc address.")
    route = Route(prefix, plen, dev, gateway, prefsrc, metric, scope, table, type, protocol, tos)
    route.mtu, route.advmss, route.onlink, route.mtu_lock = mtu, advmss, onlink, mtu_lock
    fib: Fib = net.fib[AF_INET]
    if table == RT_TABLE_LOCAL and protocol != RTPROT_KERNEL:
        fib.custom_local = True
    _insert(fib.new_table(table), route, append or prepend, replace, create, prepend)
    _flush_cache(net)
    for watcher in net.watchers:
        watcher("route", ("add", route))
    return route


def _insert(table: FibTable, route: Route, several: bool, replace: bool, create: bool, before: bool) -> None:
    """In order of tos (highest first), then metric; equals only if asked for. Linux: fib_table_insert()."""
    bucket = table.by_plen.get(route.plen, {}).get(route.prefix, [])
    equals = [r for r in bucket if r.tos == route.tos and r.metric == route.metric]
    if equals and replace:
        if any(r.same_nexthop(route) for r in equals[1:]):
            raise oserror(errno.EEXIST)
        bucket[bucket.index(equals[0])] = route
        return
    if not create:
        raise oserror(errno.ENOENT)
    if equals and (not several or any(r.same_nexthop(route) for r in equals)):
        raise oserror(errno.EEXIST)
    bucket = table.bucket(route.prefix, route.plen)
    if equals and before:
        bucket.insert(bucket.index(equals[0]), route)
        return
    at = len([r for r in bucket if r.tos > route.tos or (r.tos == route.tos and r.metric <= route.metric)])
    bucket.insert(at, route)


def _check_nexthop(net: NetNamespace, dev: Any, gateway: int, scope: int, type: int, onlink: bool) -> Any:
    """The device of the next hop. Linux: fib_check_nh_v4_gw(), fib_check_nh_nongw()."""
    if not gateway:
        if dev is None:
            raise oserror(errno.ENODEV)
        if not dev.flags & IFF_UP and type != RTN_LOCAL:
            raise oserror(errno.ENETDOWN, "Device for nexthop is not up.")
        return dev
    if onlink:
        if scope >= RT_SCOPE_LINK:
            raise oserror(errno.EINVAL, "Nexthop has invalid scope.")
        if dev is None:
            raise oserror(errno.ENODEV)
        if not dev.flags & IFF_UP:
            raise oserror(errno.ENETDOWN, "Nexthop device is not up.")
        return dev
    if dev is not None and not dev.flags & IFF_UP:
        raise oserror(errno.ENETDOWN, "Nexthop device is not up.")
    oif = dev.ifindex if dev is not None else 0
    found = fib_lookup(net, Flow(gateway, oif=oif, scope=max(scope + 1, RT_SCOPE_LINK)))
    if found is None:
        raise oserror(errno.ENETUNREACH, INVALID_GATEWAY)
    if found.type != RTN_UNICAST and found.type != RTN_LOCAL:
        raise oserror(errno.EINVAL, INVALID_GATEWAY)
    return found.dev


def fib_del(
    net: NetNamespace,
    prefix: int,
    plen: int,
    *,
    dev: Any = None,
    gateway: int = 0,
    prefsrc: int = 0,
    metric: int = 0,
    scope: int = -1,
    table: int = RT_TABLE_MAIN,
    type: int = RTN_UNSPEC,
    protocol: int = 0,
    tos: int = 0,
) -> Route:
    """The first route that fits everything given is gone, and returned. OSError ESRCH. Linux: fib_table_delete()."""
    fib: Fib = net.fib[AF_INET]
    found = fib.tables[table].by_plen.get(plen, {}).get(prefix, []) if table in fib.tables else []
    for route in found:
        if (
            route.tos == tos
            and (not type or route.type == type)
            and (scope < 0 or route.scope == scope)
            and (not dev or route.dev is dev)
            and (not gateway or route.gateway == gateway)
            and (not prefsrc or route.prefsrc == prefsrc)
            and (not metric or route.metric == metric)
            and (not protocol or route.protocol == protocol)
        ):
            fib_remove(net, route)
            return route
    raise oserror(errno.ESRCH)


def fib_remove(net: NetNamespace, route: Route) -> None:
    """This very route is gone."""
    net.fib[AF_INET].tables[route.table].remove(route)
    _flush_cache(net)
    for watcher in net.watchers:
        watcher("route", ("del", route))


def fib_dump(net: NetNamespace, table: int = RT_TABLE_MAIN) -> list[Route]:
    """The routes of a table, in the order `ip route show table` prints them."""
    found = net.fib[AF_INET].tables.get(table)
    return found.routes() if found is not None else []


def fib_routes_of(net: NetNamespace, dev: Any) -> list[Route]:
    """Every route through `dev`, in all tables."""
    return [r for t in net.fib[AF_INET].tables.values() for r in t.routes() if r.dev is dev]
