"""ip addr: addresses of devices. Source: ip-address(8), iproute2 ip/ipaddress.c, observed output."""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.dev.device import oserror
from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_addr_del
from kubenet.userland.netview import addresses
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import (
    SCOPES,
    IpError,
    Options,
    address_of,
    command_of,
    device_of,
    json_text,
    named_number,
    prefix_of,
    take,
)
from kubenet.userland.tools.ip.link import head_line, link_json, link_line, netns_text, select_devices, shown_name, stats_lines
from kubenet.wire.addr import ip4_text, prefix_mask


def addr(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    """ip addr [show|add|del|change|replace|flush] ..."""
    command = command_of(args, ("show", "add", "delete", "flush", "change", "replace"), what="address")
    if command == "show":
        wanted, narrow = _filter(args)
        rows = []
        for dev in select_devices(net, args):
            found = [] if options.six else [a for a in addresses(dev) if wanted(a)]
            if found or not narrow:
                rows.append((dev, found))
        if options.json:
            return json_text([link_json(dev, options, found) for dev, found in rows], options)
        return "".join(_addr_text(dev, found, options, narrow) for dev, found in rows)
    if command == "flush":
        if not args:
            raise IpError("Flush requires arguments.", 1)
        wanted, _ = _filter(args)
        for dev in select_devices(net, args):
            for address in [a for a in addresses(dev) if wanted(a)]:
                if address in dev.ifaddrs:  # it goes with its primary one
                    inet_addr_del(dev, address.addr, address.plen)
        return ""
    given = _address_args(net, args)
    if command == "delete":
        inet_addr_del(given["dev"], given["addr"], given["plen"])
        return ""
    exists = any(a.addr == given["addr"] and a.plen == given["plen"] for a in addresses(given["dev"]))
    if not (exists and command in ("change", "replace")):
        inet_addr_add(given["dev"], given["addr"], given["plen"], given["brd"], given["label"], given["scope"])
    return ""


def _filter(args: list[str]) -> tuple[Any, bool]:
    """Takes to, scope and label out of the words: do they fit an address, and is a device without one left out?

    Tool: ipaddr_list_flush_or_save(); only `to` and `label` leave devices out.
    """
    prefix, plen, scope, label, rest = 0, -1, -1, "", list[str]()
    while args:
        word = take(args)
        if word == "to":
            prefix, plen = prefix_of(take(args))
        elif word == "scope":
            scope = named_number(take(args), SCOPES, 'invalid "scope"\n')
        elif word == "label":
            label = take(args)
        elif word not in ("permanent", "primary", "secondary", "dynamic"):
            rest.append(word)
    args.extend(rest)
    mask = prefix_mask(max(plen, 0))

    def wanted(a: Any) -> bool:
        return ((plen < 0 or a.plen >= plen and not (a.addr ^ prefix) & mask) and scope in (-1, a.scope)
                and (not label or label == a.label or (label.endswith("*") and a.label.startswith(label[:-1]))))

    return wanted, plen >= 0 or bool(label)


def _address_args(net: Any, args: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"dev": None, "addr": 0, "plen": 32, "brd": None, "label": None, "scope": None}
    while args:
        word = take(args)
        if word == "dev":
            out["dev"] = device_of(net, take(args))
        elif word in ("brd", "broadcast"):
            value = take(args)
            out["brd"] = value if value in "+-" else address_of(value, "inet")
        elif word == "label":
            out["label"] = take(args)
        elif word == "scope":
            out["scope"] = named_number(take(args), SCOPES, "invalid scope value.\n")
        elif word in ("metric", "valid_lft", "preferred_lft", "peer"):
            raise oserror(errno.EOPNOTSUPP)
        elif word not in ("local", "noprefixroute"):
            out["addr"], out["plen"] = prefix_of(word)
    if out["dev"] is None:
        raise IpError('Not enough information: "dev" argument is required.', 1)
    if out["brd"] in ("+", "-"):
        ones = (1 << 32 - out["plen"]) - 1
        out["brd"] = out["addr"] | ones if out["brd"] == "+" else out["addr"] & ~ones
    return out


def _addr_text(dev: Any, found: list[Any], options: Options, narrow: bool) -> str:
    if options.brief:
        listed = "".join(f"{ip4_text(a.addr)}/{a.plen} " for a in found)
        return f"{shown_name(dev):<16} {dev.operstate:<14} {listed}\n"
    if options.oneline:
        return "".join(f"{dev.ifindex}: {dev.name}    {_inet(a)}\\       valid_lft forever preferred_lft forever\n" for a in found)
    lines = [head_line(dev, False), link_line(dev)]
    if options.four or narrow:  # one family was asked for: no link layer
        lines = [head_line(dev, False) + netns_text(dev)]
    for a in found:
        lines += [f"    {_inet(a)}", "       valid_lft forever preferred_lft forever"]
    if options.stats:
        lines += stats_lines(dev)
    return "\n".join(lines) + "\n"


def _inet(a: Any) -> str:
    brd = f" brd {ip4_text(a.brd)}" if a.brd else ""
    second = " secondary" if a.secondary else ""
    return f"inet {ip4_text(a.addr)}/{a.plen}{brd} scope {SCOPES.get(a.scope, str(a.scope))}{second} {a.label}"
