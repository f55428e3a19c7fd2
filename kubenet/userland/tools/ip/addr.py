"""ip addr: addresses of devices. Source: ip-address(8), iproute2 ip/ipaddress.c, observed output."""

from __future__ import annotations

import json
from typing import Any

from kubenet.userland.netview import addresses
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import SCOPES, IpError, Options, cidr_of, command_of, device_of, take
from kubenet.userland.tools.ip.link import head_line, link_json, link_line, select_devices, shown_name, stats_lines
from kubenet.wire.addr import ip4, ip4_text


def addr(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = command_of(args, ("show", "add", "delete", "flush", "change", "replace"))
    if command == "show":
        devs = select_devices(net, args)
        if options.json:
            return json.dumps([link_json(dev, True) for dev in devs], separators=(",", ":")) + "\n"
        return "".join(_addr_text(dev, options) for dev in devs)
    from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_addr_del

    given = _address_args(net, args, command)
    if command == "flush":
        for address in addresses(given["dev"]):
            inet_addr_del(given["dev"], address.addr, address.plen)
    elif command == "delete":
        inet_addr_del(given["dev"], given["addr"], given["plen"])
    else:
        exists = any(a.addr == given["addr"] and a.plen == given["plen"] for a in addresses(given["dev"]))
        if not (exists and command in ("change", "replace")):
            inet_addr_add(given["dev"], given["addr"], given["plen"], given["brd"], given["label"])
    return ""


def _address_args(net: Any, args: list[str], command: str) -> dict[str, Any]:
    out: dict[str, Any] = {"dev": None, "addr": 0, "plen": 32, "brd": None, "label": None}
    while args:
        word = take(args)
        if word == "dev":
            out["dev"] = device_of(net, take(args))
        elif word in ("brd", "broadcast"):
            value = take(args)
            out["brd"] = "+" if value == "+" else ip4(value)
        elif word == "label":
            out["label"] = take(args)
        elif word in ("scope", "metric", "valid_lft", "preferred_lft"):
            take(args)
        elif word not in ("local", "noprefixroute"):
            try:
                out["addr"], out["plen"] = cidr_of(word)
            except ValueError:
                raise IpError(f'Error: any valid prefix is expected rather than "{word}".', 1) from None
    if out["dev"] is None:
        if command == "flush":
            raise IpError("Flush requires arguments.")
        raise IpError('Not enough information: "dev" argument is required.')
    if out["brd"] == "+":
        out["brd"] = out["addr"] | (1 << 32 - out["plen"]) - 1
    return out


def _addr_text(dev: Any, options: Options) -> str:
    found = [] if options.six else addresses(dev)
    if options.brief:
        listed = "".join(f"{ip4_text(a.addr)}/{a.plen} " for a in found)
        return f"{shown_name(dev):<16} {dev.operstate:<14} {listed}\n"
    if options.oneline:
        return "".join(f"{dev.ifindex}: {dev.name}    {_inet(a)}\\       valid_lft forever preferred_lft forever\n" for a in found)
    lines = [head_line(dev, False), link_line(dev)]
    for a in found:
        lines += [f"    {_inet(a)}", "       valid_lft forever preferred_lft forever"]
    if options.stats:
        lines += stats_lines(dev)
    return "\n".join(lines) + "\n"


def _inet(a: Any) -> str:
    brd = f" brd {ip4_text(a.brd)}" if a.brd else ""
    second = " secondary" if getattr(a, "secondary", False) else ""
    return f"inet {ip4_text(a.addr)}/{a.plen}{brd} scope {SCOPES.get(a.scope, str(a.scope))}{second} {a.label}"
