"""ip route: the forwarding table. Source: ip-route(8), iproute2 ip/iproute.c, observed output."""

from __future__ import annotations

import errno
import json
from typing import Any

from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import (
    PROTOCOLS,
    SCOPE_NUMBERS,
    SCOPES,
    TABLES,
    TYPE_NUMBERS,
    TYPES,
    IpError,
    Options,
    address_of,
    cidr_of,
    command_of,
    device_of,
    take,
)
from kubenet.wire.addr import ip4, ip4_text, prefix_mask


def route_text(r: Any, table: int = 254) -> str:
    """One route as `ip route show` prints it, with the blank at its end."""
    dest = "default" if r.plen == 0 else ip4_text(r.prefix) + (f"/{r.plen}" if r.plen < 32 else "")
    out = (f"{TYPES.get(r.type, str(r.type))} " if r.type != 1 else "") + dest
    if r.gateway:
        out += f" via {ip4_text(r.gateway)}"
    if r.dev is not None:
        out += f" dev {r.dev.name}"
    if r.table not in (0, 254) and table == 0:  # the main table goes without saying
        out += f" table {TABLES.get(r.table, str(r.table))}"
    if r.protocol not in (0, 3):
        out += f" proto {PROTOCOLS.get(r.protocol, str(r.protocol))}"
    if r.scope not in (0,):
        out += f" scope {SCOPES.get(r.scope, str(r.scope))}"
    if r.prefsrc:
        out += f" src {ip4_text(r.prefsrc)}"
    if r.metric:
        out += f" metric {r.metric}"
    if r.mtu:
        out += f" mtu {r.mtu}"
    if r.advmss:
        out += f" advmss {r.advmss}"
    if getattr(r, "onlink", False):
        out += " onlink"
    if r.dev is not None and not r.dev.flags & 1:
        out += " linkdown"
    return out + " "


def route(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = command_of(args, ("show", "add", "delete", "get", "replace", "change", "append", "flush"))
    if command == "get":
        return _route_get(net, args)
    given = _route_args(net, args)
    if command in ("show", "flush"):
        return _route_show(net, options, given, command == "flush")
    from kubenet.kernel.ipv4.fib import fib_add, fib_del

    common: dict[str, Any] = {"dev": given["dev"], "gateway": given["gateway"], "table": given["table"], "metric": given["metric"]}
    if command == "delete":
        for name in ("dev", "gateway", "metric"):
            if not common[name]:
                common.pop(name)
        if given["type"] != 1:
            common["type"] = given["type"]
        fib_del(net, given["prefix"], given["plen"], **common)
        return ""
    extra: dict[str, Any] = {"prefsrc": given["src"], "type": given["type"], "protocol": given["proto"] or 3}
    if given["scope"] is not None:
        extra["scope"] = given["scope"]
    if given["onlink"]:
        extra["onlink"] = True
    if given["mtu"]:
        extra["mtu"] = given["mtu"]
    if command in ("replace", "change"):
        extra["replace"] = True
    if command == "append":
        extra["append"] = True
    fib_add(net, given["prefix"], given["plen"], **common, **extra)
    return ""


def _route_args(net: Any, args: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"prefix": 0, "plen": 0, "dev": None, "gateway": 0, "src": 0, "metric": 0, "scope": None, "table": 254,
                           "type": 1, "proto": 0, "onlink": False, "mtu": 0, "given": False, "all": False}
    while args:
        word = take(args)
        value = args[0] if args else ""
        if word == "via":
            value = take(args)
            if value in ("inet", "inet6"):
                value = take(args)
            out["gateway"] = address_of(value)
        elif word in ("dev", "oif"):
            out["dev"] = device_of(net, take(args))
        elif word == "src":
            out["src"] = address_of(take(args))
        elif word in ("metric", "priority", "preference"):
            out["metric"] = int(take(args))
        elif word == "scope":
            out["scope"] = SCOPE_NUMBERS[take(args)]
        elif word == "table":
            take(args)
            out["all"] = value == "all"
            out["table"] = next((n for n, t in TABLES.items() if t == value), int(value) if value.isdigit() else 0)
        elif word in ("proto", "protocol"):
            take(args)
            out["proto"] = next((n for n, t in PROTOCOLS.items() if t == value), int(value) if value.isdigit() else 0)
        elif word == "mtu":
            out["mtu"] = int(take(args) if value != "lock" else [take(args), take(args)][1])
        elif word == "onlink":
            out["onlink"] = True
        elif word in TYPE_NUMBERS:
            out["type"] = TYPE_NUMBERS[word]
        elif word in ("to", "exact", "root", "match"):
            continue
        else:
            try:
                if word not in ("default", "any"):
                    out["prefix"], out["plen"] = cidr_of(word) if "/" in word else (ip4(word), 32)
            except ValueError:
                raise IpError(f'Error: any valid prefix is expected rather than "{word}".', 1) from None
            out["given"] = True
            if out["prefix"] & ~prefix_mask(out["plen"]) & 0xFFFFFFFF:
                raise OSError(errno.EINVAL, "Invalid argument")
    return out


def _route_show(net: Any, options: Options, given: dict[str, Any], flush: bool) -> str:
    from kubenet.kernel.ipv4.fib import fib_dump, fib_remove

    if options.six:
        return ""
    tables = sorted(net.fib[2].tables, reverse=False) if given["all"] else [given["table"]]
    if given["all"]:
        tables = [t for t in tables if t not in (255, 254)] + [254, 255]
    rows = [r for t in tables for r in fib_dump(net, t)]
    if given["dev"] is not None:
        rows = [r for r in rows if r.dev is given["dev"]]
    if given["given"]:
        rows = [r for r in rows if r.prefix == given["prefix"] and r.plen == given["plen"]]
    if given["proto"]:
        rows = [r for r in rows if r.protocol == given["proto"]]
    if given["gateway"]:
        rows = [r for r in rows if r.gateway == given["gateway"]]
    if flush:
        for r in rows:
            fib_remove(net, r)
        return ""
    if options.json:
        return json.dumps([{"dst": "default" if r.plen == 0 else f"{ip4_text(r.prefix)}/{r.plen}", **(
            {"gateway": ip4_text(r.gateway)} if r.gateway else {}), "dev": r.dev.name if r.dev else None, "flags": []}
            for r in rows], separators=(",", ":")) + "\n"
    return "".join(route_text(r, 0 if given["all"] else given["table"]) + "\n" for r in rows)


def _route_get(net: Any, args: list[str]) -> str:
    from kubenet.kernel.ipv4.route import ip_route_output_key

    target, saddr, oif, mark, iif = 0, 0, 0, 0, ""
    while args:
        word = take(args)
        if word == "from":
            saddr = address_of(take(args))
        elif word in ("oif", "dev"):
            oif = device_of(net, take(args)).ifindex
        elif word == "iif":
            iif = take(args)
        elif word == "mark":
            mark = int(take(args), 0)
        elif word != "to":
            target = address_of(word.partition("/")[0])
    if iif:
        return _route_get_input(net, target, saddr, device_of(net, iif), mark)
    dst = ip_route_output_key(net, target, saddr, oif, mark)
    kind = {2: "local ", 3: "broadcast ", 5: "multicast "}.get(dst.type, "")
    out = kind + ip4_text(target) + (f" from {ip4_text(saddr)}" if saddr else "")
    if dst.gateway:
        out += f" via {ip4_text(dst.gateway)}"
    out += f" dev {dst.dev.name if dst.type != 2 else 'lo'}" + (" table local" if dst.type in (2, 3) else "")
    if not saddr:
        out += f" src {ip4_text(dst.prefsrc or target)}"
    cache = " <local>" if dst.type == 2 else " <local,brd>" if dst.type == 3 else ""
    mtu = f" expires {max(dst.expires - net.loop.now, 0) // 1_000_000_000}sec mtu {dst.pmtu}" if getattr(dst, "pmtu", 0) else ""
    return out + (f" mark {mark:#x}" if mark else "") + f" uid 0 \n    cache{cache}{mtu} \n"


def _route_get_input(net: Any, target: int, saddr: int, dev: Any, mark: int) -> str:
    from kubenet.kernel.ipv4.route import ip_route_input_slow

    dst = ip_route_input_slow(net, target, saddr, dev, mark, 0)
    if isinstance(dst, int):
        raise OSError(errno.EXDEV, "Invalid cross-device link")
    out = ("local " if dst.type == 2 else "") + f"{ip4_text(target)} from {ip4_text(saddr)}"
    out += (f" via {ip4_text(dst.gateway)}" if dst.gateway else "") + f" dev {dst.dev.name if dst.type != 2 else 'lo'}"
    return out + (" table local" if dst.type == 2 else "") + f" \n    cache {'<local> ' if dst.type == 2 else ''}iif {dev.name} \n"
