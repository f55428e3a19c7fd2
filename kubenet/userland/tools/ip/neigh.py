"""ip neigh: the ARP table. Source: ip-neighbour(8), iproute2 ip/ipneigh.c, observed output."""

from __future__ import annotations

import errno
from typing import Any

from kubenet.userland.netview import neighbours
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import IpError, Options, address_of, command_of, device_of, take
from kubenet.wire.addr import ip4_text, mac, mac_text


def neigh_command(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = command_of(args, ("show", "add", "delete", "replace", "change", "flush", "get"))
    dev = None
    addr, lladdr, state = 0, None, ""
    while args:
        word = take(args)
        if word == "dev":
            dev = device_of(net, take(args))
        elif word == "lladdr":
            lladdr = mac(take(args))
        elif word == "nud":
            state = take(args).upper()
        elif word in ("to", "proxy", "all"):
            continue
        else:
            addr = address_of(word)
    rows = [n for n in neighbours(net) if (dev is None or n.dev == dev.name) and (not addr or n.addr == addr)
            and (not state or n.state == state or command not in ("show", "flush"))]
    if command == "show":
        return "".join(_neigh_line(n, dev is not None) for n in rows if n.state not in ("NONE", "NOARP"))
    from kubenet.kernel.ipv4 import neigh

    table = net.neigh[2]
    if command == "flush":
        for n in rows:
            if n.state not in ("PERMANENT", "NOARP"):
                table.remove(n.entry)
        return ""
    if command == "delete":
        if not rows:
            raise OSError(errno.ENOENT, "No such file or directory")
        for n in rows:
            table.remove(n.entry)
        return ""
    if dev is None or not addr or lladdr is None:
        raise IpError('Device and destination are required arguments.')
    if rows and command == "add":
        raise OSError(errno.EEXIST, "File exists")
    numbers = {name: number for number, name in neigh.NUD_NAMES.items()}
    neigh.neigh_set_static(table, dev, addr, lladdr, numbers.get(state, 0x80))
    return ""


def _neigh_line(n: Any, one_device: bool) -> str:
    dev = "" if one_device else f" dev {n.dev}"
    ll = f" lladdr {mac_text(n.lladdr)}" if n.lladdr is not None else ""
    return f"{ip4_text(n.addr)}{dev}{ll} {n.state} \n"
