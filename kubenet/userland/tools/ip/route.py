"""ip route: the forwarding table, as show, add, del, replace, change, append, prepend, flush and get see it.

show leaves out of its lines what a selector has fixed already. `get` prints the answer to one question; the table `local` is
named there only where somebody has made a rule, since Linux asks local and main as one until then (fib_unmerge()).
Leaves out: nexthop objects and multipath, encap, and the metrics that this kernel does not follow (window, rtt, cwnd ...).
Source: ip-route(8), iproute2 ip/iproute.c, recordings of iproute2 6.1 on Linux 6.18 (tests/userland/golden/ip-route.txt).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from kubenet.kernel.dev.device import oserror
from kubenet.kernel.ipv4.fib import (
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN_ANYCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_UNICAST,
    Flow,
    Route,
    fib_add,
    fib_del,
    fib_dump,
    fib_lookup,
    fib_remove,
)
from kubenet.kernel.ipv4.route import ROUTE_ERRORS, Dst, ip_route_input_slow, ip_route_output_key
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import (
    IP_PROTOCOLS,
    PROTOCOLS,
    SCOPES,
    TABLES,
    TYPE_NUMBERS,
    TYPES,
    IpError,
    Options,
    address_of,
    device_of,
    dsfield_of,
    json_text,
    named_number,
    number_of,
    prefix_of,
    take,
)
from kubenet.wire.addr import ip4_text, prefix_mask

SEC = 1_000_000_000
METRICS = ("window", "rtt", "rttvar", "ssthresh", "cwnd", "initcwnd", "initrwnd", "hoplimit", "rto_min", "reordering", "quickack",
           "features", "congctl", "fastopen_no_cookie", "realms", "nexthop", "nhid", "encap", "weight", "ttl-propagate")


def route(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    """ip route [show|add|del|replace|change|append|prepend|flush|get] ..."""
    word = args.pop(0) if args else "list"
    names = ("list", "show", "lst", "get", "add", "change", "chg", "replace", "prepend", "append", "test", "delete", "flush", "help")
    command = next((n for n in names if n.startswith(word)), "")
    if command in ("list", "show", "lst"):
        return _show(net, options, args)
    if command == "get":
        return _get(proc, net, options, args)
    if command == "flush":
        return _flush(net, args)
    if command == "help" or command and not args:
        raise IpError(USAGE.rstrip())
    if command == "delete":
        _delete(net, args)
    elif command in ("add", "change", "chg", "replace", "prepend", "append"):
        _add(net, args, command)
    else:
        raise IpError(f'Command "{word}" is unknown, try "ip route help".')
    return ""


# ---- add, delete -----------------------------------------------------------------------------------------------------


@dataclass
class Given:
    """A route as a command line has it; table and scope -1: not given. Tool: iproute_modify()."""

    prefix: int = 0
    plen: int = -1
    type: int = RTN_UNICAST
    typed: bool = False
    gateway: int = 0
    dev: Any = None
    src: int = 0
    metric: int = 0
    scope: int = -1
    table: int = -1
    proto: int = 0
    tos: int = 0
    mtu: int = 0
    mtu_lock: bool = False
    advmss: int = 0
    onlink: bool = False

    def the_table(self) -> int:
        """local for addresses, else main, if none is given."""
        if self.table >= 0:
            return self.table
        return RT_TABLE_LOCAL if self.type in (RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST) else RT_TABLE_MAIN


def _parse(net: Any, args: list[str]) -> Given:
    given = Given()
    while args:
        word = args.pop(0)
        kind = "any valid" if given.plen < 0 else "inet"
        if word == "via":
            value = take(args)
            given.gateway = address_of(take(args) if value == "inet" else value, kind)
        elif word in ("dev", "oif"):
            given.dev = device_of(net, take(args))
        elif word == "src":
            given.src = address_of(take(args), kind)
        elif word in ("metric", "priority", "preference"):
            given.metric = number_of(take(args), '"metric" value is invalid\n')
        elif word == "scope":
            given.scope = named_number(take(args), SCOPES, 'invalid "scope" value\n')
        elif word == "table":
            given.table = named_number(take(args), TABLES, '"table" value is invalid\n', 0xFFFFFFFF)
        elif word == "protocol" or len(word) > 3 and "protocol".startswith(word):
            given.proto = named_number(take(args), PROTOCOLS, '"protocol" value is invalid\n')
        elif word in ("tos", "dsfield"):
            given.tos = dsfield_of(take(args))
        elif word == "mtu":
            value = take(args)
            given.mtu_lock = value == "lock"
            given.mtu = number_of(take(args) if given.mtu_lock else value, '"mtu" value is invalid\n')
        elif word == "advmss":
            given.advmss = number_of(take(args), '"mss" value is invalid\n')
        elif word == "onlink":
            given.onlink = True
        elif word in METRICS:
            raise oserror(errno.EOPNOTSUPP)
        else:
            if word == "to":
                word = take(args)
            if word in TYPE_NUMBERS:
                given.type, given.typed = TYPE_NUMBERS[word], True
                word = take(args)
            if given.plen >= 0:
                raise IpError(f'Error: either "to" is duplicate, or "{word}" is a garbage.')
            given.prefix, given.plen = prefix_of(word)
    given.plen = max(given.plen, 0)
    return given


def _add(net: Any, args: list[str], command: str) -> None:
    g = _parse(net, args)
    fib_add(net, g.prefix, g.plen, dev=g.dev, gateway=g.gateway, prefsrc=g.src, metric=g.metric, scope=g.scope, table=g.the_table(),
            type=g.type, protocol=g.proto or 3, tos=g.tos, mtu=g.mtu, mtu_lock=g.mtu_lock, advmss=g.advmss, onlink=g.onlink,
            append=command == "append", prepend=command == "prepend", replace=command in ("replace", "change", "chg"),
            create=command not in ("change", "chg"))


def _delete(net: Any, args: list[str]) -> None:
    g = _parse(net, args)
    fib_del(net, g.prefix, g.plen, dev=g.dev, gateway=g.gateway, prefsrc=g.src, metric=g.metric, scope=g.scope, table=g.the_table(),
            type=g.type if g.typed else 0, protocol=g.proto, tos=g.tos)


# ---- show, flush -----------------------------------------------------------------------------------------------------


@dataclass
class Filter:
    """What show selects, and so leaves out of its lines; table 0: all. Tool: struct filter, filter_nlmsg()."""

    table: int = RT_TABLE_MAIN
    how: str = "exact"  # the routes of this prefix, those in it (root), those that hold it (match)
    prefix: int = 0
    plen: int = -1
    cached: bool = False
    dev: Any = None
    via: int = -1
    src: int = -1
    metric: int = -1
    scope: int = -1
    proto: int = -1
    type: int = -1
    tos: int = -1

    def fits(self, r: Route) -> bool:
        """Is the route meant?"""
        mask = prefix_mask(max(self.plen, 0))
        within = (self.plen < 0 or (r.prefix, r.plen) == (self.prefix, self.plen) if self.how == "exact" else
                  r.plen >= self.plen and not (r.prefix ^ self.prefix) & mask if self.how == "root" else
                  r.plen <= self.plen and not (r.prefix ^ self.prefix) & prefix_mask(r.plen))
        return (within and not self.cached and (self.dev is None or r.dev is self.dev) and self.via in (-1, r.gateway)
                and self.src in (-1, r.prefsrc) and self.metric in (-1, r.metric) and self.scope in (-1, r.scope)
                and self.proto in (-1, r.protocol) and self.type in (-1, r.type) and self.tos in (-1, r.tos))


def _filter(net: Any, args: list[str]) -> Filter:
    f = Filter()
    while args:
        word = args.pop(0)
        kind = "any valid" if f.plen < 0 else "inet"
        if word == "table":
            value = take(args)
            f.cached = value == "cache"
            f.table = 0 if value == "all" else named_number(value, {**TABLES, 252: "cache"}, "table id value is invalid\n", 0xFFFFFFFF)
        elif word in ("cached", "cloned", "cache"):
            f.cached = True
        elif word in ("dev", "oif", "iif"):
            f.dev = device_of(net, take(args))
        elif word == "via":
            f.via = address_of(take(args), kind)
        elif word == "src":
            f.src = address_of(take(args), kind)
        elif word in ("metric", "priority", "preference"):
            f.metric = number_of(take(args), '"metric" value is invalid\n')
        elif word == "scope":
            f.scope = named_number(take(args), SCOPES, 'invalid "scope"\n')
        elif word == "protocol" or len(word) > 3 and "protocol".startswith(word):
            f.proto = named_number(take(args), PROTOCOLS, 'invalid "protocol"\n')
        elif word in ("tos", "dsfield"):
            f.tos = dsfield_of(take(args))
        elif word == "type":
            f.type = named_number(take(args), TYPES, "node type value is invalid\n")
        else:
            if word == "to":
                word = take(args)
            if word in ("root", "match", "exact"):
                f.how, word = word, take(args)
            f.prefix, f.plen = prefix_of(word, kind)
    return f


def _selected(net: Any, f: Filter) -> list[Route]:
    """Tables in the order of the kernel's hash of them. Linux: inet_dump_fib()."""
    known = net.fib[2].tables
    if f.table and f.table not in known and not f.cached:
        raise IpError("Error: ipv4: FIB table does not exist.\nDump terminated", 2)
    newest_first = list(known)[::-1]
    tables = [f.table] if f.table else sorted(newest_first, key=lambda table: table & 255)
    return [r for table in tables for r in fib_dump(net, table) if f.fits(r)]


def _show(net: Any, options: Options, args: list[str]) -> str:
    f = _filter(net, args)
    rows = [] if options.six else _selected(net, f)
    if options.json:
        return json_text([_fields(r, options, f) for r in rows], options)
    return "".join(_text(_fields(r, options, f), options) + "\n" for r in rows)


def _flush(net: Any, args: list[str]) -> str:
    if not args:
        raise IpError('"ip route flush" requires arguments.', 1)
    f = _filter(net, args)
    for r in _selected(net, f):
        fib_remove(net, r)
    return ""


def _named(names: dict[int, str], number: int, options: Options) -> str:
    return str(number) if options.numeric else names.get(number, str(number))


def _fields(r: Route, options: Options, f: Filter, table: int = -1) -> dict[str, Any]:
    """A route as `ip -j route` has it, in its order. Tool: print_route()."""
    out: dict[str, Any] = {}
    table = r.table if table < 0 else table
    if r.type != RTN_UNICAST or options.details:
        out["type"] = _named(TYPES, r.type, options)
    out["dst"] = "default" if not r.plen else ip4_text(r.prefix) + (f"/{r.plen}" if r.plen < 32 else "")
    if r.tos:
        out["tos"] = f"{r.tos:#x}"
    if r.gateway and f.via < 0:
        out["gateway"] = ip4_text(r.gateway)
    if r.dev is not None and f.dev is None:
        out["dev"] = r.dev.name
    if not f.table and table != RT_TABLE_MAIN:
        out["table"] = _named(TABLES, table, options)
    if (r.protocol != 3 or options.details) and f.proto < 0:
        out["protocol"] = _named(PROTOCOLS, r.protocol, options)
    if (r.scope or options.details) and f.scope < 0:
        out["scope"] = _named(SCOPES, r.scope, options)
    if r.prefsrc and f.src < 0:
        out["prefsrc"] = ip4_text(r.prefsrc)
    if r.metric and f.metric < 0:
        out["metric"] = r.metric
    out["flags"] = ["onlink"] if r.onlink else []
    if r.dev is not None and not (r.dev.flags & 1 and r.dev.carrier):
        out["flags"] += ["linkdown"]
    metrics = _metrics(r.mtu, r.mtu_lock, r.advmss, options)
    if metrics:
        out["metrics"] = [metrics]
    return out


def _metrics(mtu: int, locked: bool, advmss: int, options: Options) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if mtu:
        out["mtu"] = mtu if options.json else f"lock {mtu}" if locked else mtu
    if advmss:
        out["advmss"] = advmss
    return out


_TEXT = {"dst": "{} ", "from": "from {} ", "tos": "tos {} ", "gateway": "via {} ", "dev": "dev {} ", "table": "table {} ",
         "protocol": "proto {} ", "scope": "scope {} ", "prefsrc": "src {} ", "metric": "metric {} ", "mark": "mark {} ",
         "uid": "uid {} ", "type": "{} ", "expires": "expires {}sec ", "iif": "iif {} "}


def _text(fields: dict[str, Any], options: Options) -> str:
    out = ""
    for key, value in fields.items():
        if key == "flags":
            out += "".join(f"{flag} " for flag in value)
        elif key == "cache":
            out += ("\\" if options.oneline else "\n") + "    cache " + (f"<{','.join(value)}> " if value else "")
        elif key == "metrics":
            out += "".join(f"{name} {number} " for name, number in value[0].items())
        else:
            out += _TEXT[key].format(value)
    return out


def route_text(r: Route, table: int = RT_TABLE_MAIN) -> str:
    """One route as `ip route show` prints it, with the blank at its end; table 0: of all tables."""
    return _text(_fields(r, Options(), Filter(table)), Options())


# ---- get -------------------------------------------------------------------------------------------------------------


@dataclass
class Question:
    """What `ip route get` asks. Tool: iproute_get()."""

    daddr: int = 0
    saddr: int = 0
    tos: int = 0
    mark: int = 0
    uid: int = 0
    iif: Any = None
    oif: Any = None
    fibmatch: bool = False
    ports: tuple[int, int, int] = (0, 0, 0)


def _question(proc: Process, net: Any, args: list[str]) -> Question:
    q, given = Question(uid=proc.uid), False
    proto = sport = dport = 0
    while args:
        word = args.pop(0)
        kind = "inet" if given else "any valid"
        if word == "fibmatch":
            q.fibmatch = True
        elif word == "from":
            q.saddr = prefix_of(take(args), kind)[0]
        elif word in ("tos", "dsfield"):
            q.tos = dsfield_of(take(args))
        elif word == "iif":
            q.iif = device_of(net, take(args))
        elif word == "mark":
            q.mark = number_of(take(args), "invalid mark value")
        elif word in ("oif", "dev"):
            q.oif = device_of(net, take(args))
        elif word == "uid":
            q.uid = number_of(take(args), "invalid UID\n")
        elif word == "ipproto":
            proto = named_number(take(args), IP_PROTOCOLS, 'Invalid "ipproto" value\n')
        elif word == "sport":
            sport = number_of(take(args), 'invalid "sport" value\n', most=0xFFFF)
        elif word == "dport":
            dport = number_of(take(args), 'invalid "dport" value\n', most=0xFFFF)
        else:
            q.daddr, plen = prefix_of(take(args) if word == "to" else word, kind)
            given = True
            if plen != 32:
                proc.err(f"Warning: /{plen} as prefix is invalid, only /32 (or none) is supported.\n")
    if not given:
        raise IpError("need at least a destination address", 1)
    if (sport or dport) and proto not in (1, 6, 17):
        raise oserror(errno.EINVAL, "Unsupported ip proto." if proto else "")
    q.ports = (proto, sport, dport)
    return q


def _get(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    """Linux: inet_rtm_getroute()."""
    q = _question(proc, net, args)
    dst: Dst | int
    if q.iif is not None:
        dst = ip_route_input_slow(net, q.daddr, q.saddr, q.iif, q.mark, q.tos, q.ports)
        if isinstance(dst, int):
            raise oserror(errno.EINVAL)
        if dst.error:
            raise oserror(dst.error)
    else:
        dst = ip_route_output_key(net, q.daddr, q.saddr, q.oif.ifindex if q.oif is not None else 0, q.mark, q.tos, q.ports[0], q.uid,
                                  *q.ports[1:])
    fields = _fib_match(net, q, options) if q.fibmatch else _answer(net, q, dst, options)
    return json_text([fields], options) if options.json else _text(fields, options) + "\n"


def _fib_match(net: Any, q: Question, options: Options) -> dict[str, Any]:
    found = fib_lookup(net, Flow(q.daddr, q.saddr, q.oif.ifindex if q.oif is not None else 0, q.iif.ifindex if q.iif is not None else 0,
                                 q.mark, q.tos, 0, q.ports))
    if found is None or found.type in ROUTE_ERRORS:
        raise oserror(errno.EHOSTUNREACH)
    return _fields(found, options, Filter(table=0), _table_number(net, found))


def _table_number(net: Any, r: Route | None) -> int:
    """local and main are one table until somebody makes a rule. Linux: fib_unmerge()."""
    table = r.table if r is not None else RT_TABLE_MAIN
    return RT_TABLE_MAIN if table == RT_TABLE_LOCAL and not net.fib[2].custom_rules else table


def _answer(net: Any, q: Question, dst: Dst, options: Options) -> dict[str, Any]:
    """Linux: rt_fill_info(); tool: print_route() of a cloned route."""
    out: dict[str, Any] = {}
    local = dst.type == RTN_LOCAL
    if dst.type != RTN_UNICAST or options.details:
        out["type"] = _named(TYPES, dst.type, options)
    out["dst"] = ip4_text(q.daddr)
    if q.saddr:
        out["from"] = ip4_text(q.saddr)
    tos = dst.route.tos if dst.route is not None else 0
    if tos:
        out["tos"] = f"{tos:#x}"
    if dst.gateway:
        out["gateway"] = ip4_text(dst.gateway)
    out["dev"] = "lo" if local else dst.dev.name
    table = _table_number(net, dst.route)
    if table != RT_TABLE_MAIN or options.details:
        out["table"] = _named(TABLES, table, options)
    if not q.saddr and q.iif is None:
        out["prefsrc"] = ip4_text(dst.prefsrc or q.daddr)
    out["flags"] = ["rt_offload_failed"] if dst.type == 5 else []  # RTCF_MULTICAST has the bit of RTM_F_OFFLOAD_FAILED
    if q.mark:
        out["mark"] = q.mark if options.json or q.mark < 16 else f"{q.mark:#x}"
    if q.iif is None:
        out["uid"] = q.uid
    out["cache"] = ["local"] if local else {3: ["local", "brd"], 5: ["local", "mc"]}.get(dst.type, [])
    if dst.pmtu:
        out["expires"] = max(dst.expires - net.loop.now, 0) // SEC
    metrics = _metrics(dst.pmtu or dst.mtu, dst.mtu_locked, dst.advmss, options)
    if metrics:
        out["metrics"] = [metrics]
    if q.iif is not None:
        out["iif"] = q.iif.name
    return out


USAGE = """Usage: ip route { list | flush } SELECTOR
       ip route get [ fibmatch ] ADDRESS
                            [ from ADDRESS iif STRING ]
                            [ oif STRING ] [ tos TOS ]
                            [ mark NUMBER ]
                            [ uid NUMBER ] [ ipproto PROTOCOL ]
                            [ sport NUMBER ] [ dport NUMBER ]
       ip route { add | del | change | append | replace } ROUTE
SELECTOR := [ root PREFIX ] [ match PREFIX ] [ exact PREFIX ]
            [ table TABLE_ID ] [ proto RTPROTO ]
            [ type TYPE ] [ scope SCOPE ]
ROUTE := [ TYPE ] PREFIX [ tos TOS ]
             [ table TABLE_ID ] [ proto RTPROTO ]
             [ scope SCOPE ] [ metric METRIC ]
             [ via ADDRESS ] [ dev STRING ] [ onlink ] [ src ADDRESS ]
             [ mtu [ lock ] NUMBER ] [ advmss NUMBER ]
TYPE := { unicast | local | broadcast | multicast | throw |
          unreachable | prohibit | blackhole }
TABLE_ID := [ local | main | default | all | NUMBER ]
SCOPE := [ host | link | global | NUMBER ]
RTPROTO := [ kernel | boot | static | NUMBER ]
"""
