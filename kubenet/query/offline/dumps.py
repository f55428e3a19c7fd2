"""What the tools of a real node printed, read back: `ip addr`, `ip route`, `sysctl -a`, `conntrack -L`.

    read_addresses(text, "ip-addr")     [Device]           ip addr, ip -o addr, ip -j addr
    read_routes(text, "routes")         [RouteLine]        ip route, ip route show table all (IPv4; IPv6 lines are passed over)
    read_sysctls(text, "sysctl")        {name: value}      sysctl -a
    read_conntrack(text, "conntrack")   [Entry]            conntrack -L, also -o extended, and /proc/net/nf_conntrack

Each raises ManifestError, with file and line, for what it cannot read; nothing is passed over in silence but what is named
here. Only IPv4 is loaded, since the emulated node has no IPv6 stack.

Sources: iproute2 ipaddress.c, iproute.c; libnetfilter_conntrack snprintf_default.c; observed on Linux 6.18.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from kubenet.errors import ManifestError
from kubenet.kernel.ipv4.fib import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from kubenet.kernel.netfilter.conntrack.tcp_states import STATE_NAMES
from kubenet.kernel.netfilter.conntrack.text import PROTO_NAMES
from kubenet.kernel.netfilter.conntrack.tuple import IP4, Tuple
from kubenet.wire.addr import ip4, mac, parse_cidr, prefix_mask

SCOPES = {"global": RT_SCOPE_UNIVERSE, "link": RT_SCOPE_LINK, "host": RT_SCOPE_HOST, "site": 200, "nowhere": 255}
TYPES = {
    "unicast": RTN_UNICAST, "local": RTN_LOCAL, "broadcast": RTN_BROADCAST, "multicast": RTN_MULTICAST,
    "blackhole": RTN_BLACKHOLE, "unreachable": RTN_UNREACHABLE, "prohibit": RTN_PROHIBIT, "throw": RTN_THROW,
}
ROUTE_FLAGS = ("onlink", "linkdown", "dead", "pervasive", "offload", "trap", "rt_offload", "rt_trap", "offload_failed")
ROUTE_IGNORED = (
    "proto", "pref", "expires", "nhid", "rtt", "rttvar", "window", "initcwnd", "initrwnd", "congctl", "hoplimit", "quickack",
    "realm", "realms", "cwnd", "ssthresh", "reordering", "rto_min", "features", "error", "age", "weight",
)
ROUTE_VALUES = ("via", "dev", "scope", "src", "metric", "table", "mtu", "advmss", "tos")


class Address(NamedTuple):
    """One IPv4 address of a device."""

    addr: int
    plen: int
    scope: int
    brd: int


class Device(NamedTuple):
    """A device as `ip addr` shows it."""

    name: str
    is_up: bool
    mtu: int
    mac: int
    addresses: tuple[Address, ...]


class RouteLine(NamedTuple):
    """A route as `ip route` shows it."""

    line: int
    prefix: int
    plen: int
    type: int
    dev: str
    gateway: int
    prefsrc: int
    metric: int
    scope: int
    table: str
    onlink: bool
    is_kernel: bool
    multipath: bool


class Entry(NamedTuple):
    """A connection as `conntrack -L` shows it. `state` is a TCP state's name or ""."""

    line: int
    seconds: int
    state: str
    orig: Tuple
    reply: Tuple
    unreplied: bool
    assured: bool
    mark: int
    zone: int


def _bad(what: str, file: str, line: int, text: str, why: str = "", try_: str = "") -> ManifestError:
    at = f"{file}:{line}\n{line} | {text.rstrip()[:100]}" if line else file
    return ManifestError(what, file, line, why=why, try_=try_, at=at)


# ---- ip addr

_HEAD = re.compile(r"(\d+): ([^\s:@]+)(?:@[^\s:]+)?: <([^>]*)>(.*)")
_ONE = re.compile(r"(\d+): ([^\s:@]+)(?:@[^\s:]+)?\s+(inet6?) (.*)")


def read_addresses(text: str, file: str) -> list[Device]:
    """The devices with their IPv4 addresses."""
    if text.lstrip().startswith("["):
        return _addresses_of_json(text, file)
    found: dict[str, Device] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        one, head = _ONE.match(line), _HEAD.match(line)
        if head is not None:
            name, words = head.group(2), head.group(4).split()
            mtu = int(words[1]) if words[:1] == ["mtu"] and words[1:2] and words[1].isdigit() else 1500
            found[name] = Device(name, "UP" in head.group(3).split(","), mtu, 0, ())
        elif one is not None:
            name = one.group(2)
            dev = found.setdefault(name, Device(name, True, 1500, 0, ()))
            if one.group(3) == "inet":
                found[name] = dev._replace(addresses=(*dev.addresses, _address(one.group(4), file, number, line)))
        elif line[:1] in (" ", "\t") and name:
            found[name] = _detail(found[name], line, file, number)
        elif line.strip():
            raise _bad(f"{file} is not what `ip addr` prints", file, number, line, try_="ip addr > ip-addr")
    return list(found.values())


def _detail(dev: Device, line: str, file: str, number: int) -> Device:
    """An indented line: link/ether, inet; what else `ip -d` prints means nothing here."""
    words = line.split()
    if words and words[0] == "inet":
        return dev._replace(addresses=(*dev.addresses, _address(line.strip()[5:], file, number, line)))
    if len(words) > 1 and words[0] == "link/ether":
        try:
            return dev._replace(mac=mac(words[1]))
        except ValueError as error:
            raise _bad(f"{file}: {error}", file, number, line) from None
    return dev


def _address(text: str, file: str, number: int, line: str) -> Address:
    """10.48.1.1/24 [peer 10.0.0.2/32] [brd 10.48.1.255] scope global ..."""
    words = text.split()
    try:
        addr, plen = parse_cidr(words[0])
        values = dict(zip(words[1::1], words[2::1], strict=False))
        if "peer" in values:
            plen = parse_cidr(values["peer"])[1]
        brd = ip4(values["brd"]) if "brd" in values else 0
        scope = SCOPES.get(values.get("scope", "global"), RT_SCOPE_UNIVERSE)
    except (ValueError, IndexError) as error:
        raise _bad(f"{file}: an address cannot be read", file, number, line, str(error)) from None
    if addr >> 32 or plen > 32:
        raise _bad(f"{file}: an address cannot be read", file, number, line, "`inet` is followed by an IPv4 address")
    return Address(addr, plen, scope, brd)


def _addresses_of_json(text: str, file: str) -> list[Device]:
    """ip -j addr"""
    try:
        data: Any = json.loads(text)
        out = []
        for item in data:
            if not item:
                continue  # iproute2 prints {} for what it filtered out
            mine = [a for a in item.get("addr_info") or () if a.get("family") == "inet"]
            found = tuple(
                Address(ip4(a["local"]), int(a["prefixlen"]), SCOPES.get(a.get("scope", "global"), 0),
                        ip4(a["broadcast"]) if a.get("broadcast") else 0) for a in mine)
            ether = mac(item["address"]) if item.get("link_type") == "ether" else 0
            if any(not 0 <= a.plen <= 32 for a in found):
                raise ValueError("a prefix length is from 0 to 32")
            out.append(Device(str(item["ifname"]), "UP" in item.get("flags", ()), int(item.get("mtu", 1500)), ether, found))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _bad(f"{file} is not what `ip -j addr` prints", file, 0, "", str(error), "ip addr > ip-addr") from None
    return out


# ---- ip route


def read_routes(text: str, file: str) -> list[RouteLine]:
    """The IPv4 routes, in order."""
    out: list[RouteLine] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if words[0] == "nexthop":
            if not out:
                raise _bad(f"{file}: a nexthop without a route", file, number, line)
            out[-1] = out[-1]._replace(multipath=True)
            continue
        route = _route(words, file, number, line)
        if route is not None:
            out.append(route)
    return out


def _route(words: list[str], file: str, number: int, line: str) -> RouteLine | None:
    """[TYPE] PREFIX [via G] [dev D] ...; None for an IPv6 route."""
    kind = TYPES.get(words[0], 0)
    at = 1 if kind else 0
    if len(words) <= at:
        raise _bad(f"{file} is not what `ip route` prints", file, number, line, try_="ip route show table all > routes")
    if ":" in words[at] or words[at:at + 1] == ["default"] and "pref" in words:
        return None
    values, flags = _route_words(words[at + 1:], file, number, line)
    try:
        prefix, plen = (0, 0) if words[at] == "default" else parse_cidr(words[at])
        if values.get("via") == "inet6":
            raise ValueError("its next hop is an IPv6 address, which the emulated node cannot use")
        gateway, prefsrc = ip4(values.get("via", "0.0.0.0")), ip4(values.get("src", "0.0.0.0"))
        metric = int(values.get("metric", "0"))
        default = "global" if gateway or kind > RTN_MULTICAST else "host" if kind == RTN_LOCAL else "link" if "dev" in values else "global"
        scope = SCOPES[values.get("scope", default)]
    except (ValueError, KeyError) as error:
        raise _bad(f"{file}: a route cannot be read", file, number, line, str(error).strip("'"),
                   "ip route show table all > routes") from None
    if prefix & ~prefix_mask(plen):
        raise _bad(f"{file}: a route cannot be read", file, number, line, "bits behind the prefix are set")
    return RouteLine(number, prefix, plen, kind or RTN_UNICAST, values.get("dev", ""), gateway, prefsrc, metric, scope,
                     values.get("table", "main"), "onlink" in flags, values.get("proto") == "kernel", False)


def _route_words(words: list[str], file: str, number: int, line: str) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    flags: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word in ROUTE_FLAGS:
            flags.append(word)
        elif word in ROUTE_VALUES or word in ROUTE_IGNORED:
            if at < len(words) and words[at] == "lock":
                at += 1
            if at >= len(words):
                raise _bad(f"{file}: a route cannot be read", file, number, line, f"{word!r} has no value")
            values[word] = words[at]
            at += 1
            if values[word] == "inet6":
                at += 1
        else:
            raise _bad(f"{file}: a route cannot be read", file, number, line, f"{word!r} is no word of `ip route` known here")
    return values, flags


# ---- sysctl


def read_sysctls(text: str, file: str) -> dict[str, str]:
    """name -> value, as `sysctl -a` prints them; its complaints ("sysctl: permission denied ...") are passed over."""
    out: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.partition("=")
        if equals and name.strip():
            out[name.strip().replace("/", ".")] = value.strip()
        elif line.strip() and not line.startswith(("sysctl:", "#", ";")):
            raise _bad(f"{file} is not what `sysctl -a` prints", file, number, line, try_="sysctl -a > sysctl")
    return out


# ---- conntrack

_NUMBERS = {name: number for number, name in PROTO_NAMES.items()}


def read_conntrack(text: str, file: str) -> list[Entry]:
    """The IPv4 connections, in order."""
    out: list[Entry] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0] == "conntrack" or words[0] == "ipv6" or "flow entries" in line:
            continue
        if words[0] == "ipv4":
            words = words[2:]
        try:
            entry = _entry(words, number)
        except (ValueError, IndexError, KeyError) as error:
            why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise _bad(f"{file} is not what `conntrack -L` prints", file, number, line, why, "conntrack -L > conntrack") from None
        if entry is not None:
            out.append(entry)
    return out


def _entry(words: list[str], line: int) -> Entry | None:
    """tcp 6 431999 ESTABLISHED src=... dst=... sport=... dport=... src=... [ASSURED] mark=0 use=1; None for IPv6."""
    proto = int(words[1])
    if words[0] not in ("unknown", PROTO_NAMES.get(proto)) or not 0 <= proto <= 255:
        raise ValueError(f"{words[0]} is not protocol {proto}")
    seconds = int(words[2]) if words[2].isdigit() else 0
    state, halves, rest = "", [{}, {}], {}  # type: ignore[var-annotated]
    half, flags = -1, []
    for word in words[2:]:
        name, equals, value = word.partition("=")
        if word.startswith("["):
            flags.append(word)
        elif not equals:
            if word in STATE_NAMES:
                state = word
        elif name == "src" and half < 1:
            half += 1
            halves[half][name] = value
        elif half >= 0 and name in ("dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey") and name not in halves[half]:
            halves[half][name] = value
        else:
            rest[name] = value
    if ":" in halves[0]["src"]:
        return None
    if proto == 6 and not state:
        raise ValueError("a TCP connection has a state")
    tuples = [_tuple(one, proto) for one in halves]
    return Entry(line, seconds, state, tuples[0], tuples[1], "[UNREPLIED]" in flags, "[ASSURED]" in flags,
                 int(rest.get("mark", "0"), 0), int(rest.get("zone", "0")))


def _tuple(one: dict[str, str], proto: int) -> Tuple:
    if "type" in one:
        return (ip4(one["src"]), int(one["id"]), ip4(one["dst"]), int(one["type"]) << 8 | int(one.get("code", "0")), IP4 | proto)
    sport, dport = int(one.get("sport", "0")), int(one.get("dport", "0"))
    return (ip4(one["src"]), sport, ip4(one["dst"]), dport, IP4 | proto)
