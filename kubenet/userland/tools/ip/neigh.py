"""ip neigh: the ARP table, as show, add, replace, change, del, get and flush see it.

Unlike Linux, whose order is that of a hash with a random key, rows come in the order of their making.
Leaves out: proxy entries, router and extern_learn flags, -s. Source: ip-neighbour(8), iproute2 ip/ipneigh.c, Linux neigh_add(),
recordings of iproute2 6.1 on Linux 6.18 (tests/userland/golden/ip-neigh.txt).
"""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.dev.device import oserror
from kubenet.kernel.ipv4.neigh import (
    NUD_NAMES,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_VALID,
    Neighbour,
    neigh_set_static,
    neigh_update,
)
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import IpError, Options, address_of, device_of, invarg, json_text, prefix_of, take
from kubenet.wire.addr import ip4_text, mac, mac_text, prefix_mask

STATES = {name.lower(): number for number, name in NUD_NAMES.items()} | {"none": NUD_NONE}


def neigh_command(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    """ip neigh [show|add|replace|change|del|get|flush] ..."""
    word = args.pop(0) if args else "show"
    names = ("add", "change", "chg", "replace", "delete", "get", "show", "lst", "list", "flush")
    command = next((n for n in names if n.startswith(word)), "")
    if command in ("show", "lst", "list"):
        return _show(net, options, args)
    if command == "flush":
        return _flush(net, args)
    if command == "get":
        return _get(net, options, args)
    if not command:
        raise IpError(f'Command "{word}" is unknown, try "ip neigh help".')
    _modify(net, command, args)
    return ""


def _state(word: str) -> int:
    if word not in STATES:
        raise invarg("nud state is bad", word)
    return STATES[word]


def _modify(net: Any, command: str, args: list[str]) -> None:
    """Tool: ipneigh_modify(); Linux: neigh_add(), neigh_delete()."""
    dev, addr, lladdr, state = "", "", "", NUD_PERMANENT
    while args:
        word = args.pop(0)
        if word == "lladdr":
            lladdr = take(args)
        elif word == "nud":
            state = _state(take(args))
        elif word == "dev":
            dev = take(args)
        elif word in ("proxy", "router", "use", "managed", "extern_learn", "protocol"):
            raise oserror(errno.EOPNOTSUPP)
        else:
            if word == "to":
                word = take(args)
            if addr:
                raise IpError(f'Error: either "to" is duplicate, or "{word}" is a garbage.')
            addr = ip4_text(address_of(word))
    if not dev or not addr:
        raise IpError("Device and destination are required arguments.")
    mac_number = _lladdr(lladdr)
    device, target, table = device_of(net, dev), address_of(addr), net.neigh[2]
    neigh = table.lookup(device, target)
    if command == "delete":
        if neigh is None:
            raise oserror(errno.ENOENT)
        table.remove(neigh)
        return
    if neigh is not None and command == "add":
        raise oserror(errno.EEXIST)
    if neigh is None and command in ("change", "chg"):
        raise oserror(errno.ENOENT)
    if mac_number is None and state & NUD_VALID and (neigh is None or not neigh.state & NUD_VALID):
        raise oserror(errno.EINVAL, "No link layer address given.")
    if mac_number is not None and state & NUD_VALID:
        neigh_set_static(table, device, target, mac_number, state)
        return
    if neigh is None:
        neigh = table.create(device, target)
    if neigh is None:
        raise oserror(errno.ENOBUFS)
    neigh_update(neigh, mac_number, state, override=True, admin=True)


def _lladdr(text: str) -> int | None:
    if not text:
        return None
    try:
        return mac(text)
    except ValueError:
        raise IpError(f'"{text}" is invalid lladdr.', 1) from None


def _selected(net: Any, args: list[str], states: int) -> tuple[list[Neighbour], bool]:
    """The entries that fit, and whether the device was given. Tool: do_show_or_flush()."""
    dev, prefix, plen, asked = None, 0, -1, 0
    while args:
        word = args.pop(0)
        if word == "dev":
            dev = device_of(net, take(args))
        elif word == "nud":
            value = take(args)
            asked |= 0xFF if value == "all" else _state(value)
        elif word not in ("unused", "all", "any"):
            prefix, plen = prefix_of(take(args) if word == "to" else word)
    states = asked or states
    mask = prefix_mask(max(plen, 0))
    rows = net.neigh[2].dump()
    return [n for n in rows if n.state & states and (dev is None or n.dev is dev) and (plen < 0 or not (n.ip ^ prefix) & mask)
            ], dev is not None


def _show(net: Any, options: Options, args: list[str]) -> str:
    rows, one_device = _selected(net, args, 0xFF & ~NUD_NOARP)
    return "" if options.six else _print(rows, options, one_device)


def _flush(net: Any, args: list[str]) -> str:
    if not args:
        raise IpError("Flush requires arguments.", 1)
    for neigh in _selected(net, args, 0xFF & ~(NUD_PERMANENT | NUD_NOARP))[0]:
        net.neigh[2].remove(neigh)
    return ""


def _get(net: Any, options: Options, args: list[str]) -> str:
    """Tool: ipneigh_get(); Linux: neigh_get()."""
    dev, addr = None, None
    while args:
        word = args.pop(0)
        if word == "dev":
            dev = device_of(net, take(args))
        else:
            addr = address_of(take(args) if word == "to" else word)
    if dev is None or addr is None:
        raise IpError("Device and address are required arguments.", 1)
    neigh = net.neigh[2].lookup(dev, addr)
    if neigh is None:
        raise oserror(errno.ENOENT, "Neighbour entry not found.")
    return _print([neigh], options, False)


def _print(rows: list[Neighbour], options: Options, one_device: bool) -> str:
    """Tool: print_neigh()."""
    out = []
    for n in rows:
        fields: dict[str, Any] = {"dst": ip4_text(n.ip)}
        if not one_device:
            fields["dev"] = n.dev.name
        if n.state & NUD_VALID:
            fields["lladdr"] = mac_text(n.ha)
        fields["state"] = [NUD_NAMES[n.state]]
        out.append(fields)
    if options.json:
        return json_text(out, options)
    return "".join("".join(f"{value[0]} " if key == "state" else f"{value} " if key == "dst" else f"{key} {value} "
                           for key, value in fields.items()) + "\n" for fields in out)
