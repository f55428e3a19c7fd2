"""ip link: devices. Source: ip-link(8), iproute2 ip/ipaddress.c, ip/iplink.c, observed output."""

from __future__ import annotations

import errno
import json
from typing import Any

from kubenet.userland.netview import addresses
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import IFF_NAMES, SCOPES, IpError, Options, command_of, device_of, namespace_of, take
from kubenet.wire.addr import ip4_text, mac, mac_text


def flag_names(dev: Any) -> str:
    """<BROADCAST,MULTICAST,UP,LOWER_UP>, with NO-CARRIER in front."""
    names = []
    up, carrier = dev.flags & 1, getattr(dev, "carrier", True)
    if up and not carrier:
        names.append("NO-CARRIER")
    names += [name for bit, name in IFF_NAMES if dev.flags & bit]
    if up:
        names.append("UP")
    if up and carrier:
        names.append("LOWER_UP")
    elif not carrier and dev.kind == "veth" and not up and dev.peer is not None and not dev.peer.flags & 1:
        names.append("M-DOWN")
    return ",".join(names)


def shown_name(dev: Any) -> str:
    """eth0@if5 for a veth whose other end is elsewhere, vethA@eth0 if it is here."""
    if dev.kind == "veth" and dev.peer is not None:
        peer = dev.peer
        return f"{dev.name}@{peer.name}" if peer.net is dev.net else f"{dev.name}@if{peer.ifindex}"
    return str(dev.name)


def _netns_id(dev: Any) -> str:
    if dev.kind != "veth" or dev.peer is None or dev.peer.net is dev.net:
        return ""
    others = [n for n in dev.net.host.namespaces.values() if n is not dev.net]
    init = next(iter(dev.net.host.namespaces.values()))
    if dev.net is init:
        return f" link-netns {dev.peer.net.name.rpartition('/')[2]}"
    return f" link-netnsid {others.index(dev.peer.net) if dev.peer.net in others and dev.peer.net is not init else 0}"


def head_line(dev: Any, mode: bool) -> str:
    """The first line of a device."""
    qdisc = getattr(dev.qdisc, "kind", None) or getattr(dev.qdisc, "name", None) or getattr(dev, "default_qdisc", "noqueue")
    if not dev.flags & 1 and dev.kind != "loopback":
        qdisc = "noop"
    master = f" master {dev.master.name}" if dev.master is not None else ""
    line = f"{dev.ifindex}: {shown_name(dev)}: <{flag_names(dev)}> mtu {dev.mtu} qdisc {qdisc}{master} state {dev.operstate} "
    line += "mode DEFAULT " if mode else ""
    return line + f"group default qlen {dev.txqlen}"


def link_line(dev: Any) -> str:
    """    link/ether ..."""
    kind = "loopback" if dev.kind == "loopback" else "ether"
    brd = "00:00:00:00:00:00" if kind == "loopback" else "ff:ff:ff:ff:ff:ff"
    return f"    link/{kind} {mac_text(dev.addr)} brd {brd}{_netns_id(dev)}"


def stats_lines(dev: Any) -> list[str]:
    """RX and TX of ip -s: columns as wide as their longest number, with iproute2's least widths."""
    rx = [dev.rx_bytes, dev.rx_packets, dev.rx_errors, dev.rx_dropped, 0, getattr(dev, "rx_multicast", 0)]
    tx = [dev.tx_bytes, dev.tx_packets, dev.tx_errors, dev.tx_dropped, 0, 0]
    widths = [max(len(str(r)), len(str(t)), least) for r, t, least in zip(rx, tx, (5, 7, 6, 7, 7, 7), strict=True)]
    widths[0] = max(widths[0], 5)
    out = []
    for label, names, values in (("RX", ("bytes", "packets", "errors", "dropped", "missed", "mcast"), rx),
                                 ("TX", ("bytes", "packets", "errors", "dropped", "carrier", "collsns"), tx)):
        heads = " ".join(n.rjust(w) for n, w in zip(names, widths, strict=True))
        out.append(f"    {label}:  {heads}           ")
        out.append("         " + " ".join(str(v).rjust(w) for v, w in zip(values, widths, strict=True)) + " ")
    return out


def _details(dev: Any) -> str:
    extra = {"veth": "veth ", "bridge": "bridge forward_delay 1500 hello_time 200 max_age 2000 ", "vxlan": "vxlan "}.get(dev.kind, "")
    return f" promiscuity {getattr(dev, 'promiscuity', 0)}  allmulti 0 minmtu 68 maxmtu 65535 \n    {extra}addrgenmode eui64 "


def select_devices(net: Any, args: list[str]) -> list[Any]:
    """The devices a show command means."""
    devs = sorted(net.devs.values(), key=lambda d: d.ifindex)
    while args:
        word = take(args)
        if word == "up":
            devs = [d for d in devs if d.flags & 1]
        elif word == "master" and args:
            name = take(args)
            devs = [d for d in devs if d.master is not None and d.master.name == name]
        elif word == "type" and args:
            name = take(args)
            devs = [d for d in devs if d.kind == name]
        elif word in ("scope", "to", "label") and args:
            take(args)
        else:
            name = take(args) if word == "dev" and args else word
            name = name.partition("@")[0]
            if name not in net.devs:
                raise IpError(f'Device "{name}" does not exist.', 1)
            devs = [net.devs[name]]
    return devs


def link(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = command_of(args, ("show", "set", "add", "delete", "help"))
    if command == "show":
        devs = select_devices(net, args)
        if options.json:
            return json.dumps([link_json(dev, False) for dev in devs], separators=(",", ":")) + "\n"
        return "".join(_link_text(dev, options) for dev in devs)
    if command == "set":
        _link_set(proc, net, args)
    elif command == "add":
        _link_add(net, args)
    elif command == "delete":
        from kubenet.kernel.dev.device import unregister_netdevice

        if args and args[0] == "dev":
            take(args)
        unregister_netdevice(device_of(net, args[0] if args else ""))
    return ""


def _link_text(dev: Any, options: Options) -> str:
    if options.brief:
        return f"{shown_name(dev):<16} {dev.operstate:<14} {mac_text(dev.addr)} <{flag_names(dev)}> \n"
    lines = [head_line(dev, True), link_line(dev) + (_details(dev) if options.details else "")]
    if options.stats:
        lines += stats_lines(dev)
    return ("\\".join(lines) if options.oneline else "\n".join(lines)) + "\n"


def link_json(dev: Any, with_addresses: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"ifindex": dev.ifindex, "ifname": dev.name, "flags": flag_names(dev).split(","), "mtu": dev.mtu,
                           "qdisc": getattr(dev, "default_qdisc", "noqueue"), "operstate": dev.operstate, "group": "default",
                           "txqlen": dev.txqlen, "link_type": "loopback" if dev.kind == "loopback" else "ether",
                           "address": mac_text(dev.addr)}
    if dev.master is not None:
        out["master"] = dev.master.name
    if with_addresses:
        out["addr_info"] = [{"family": "inet", "local": ip4_text(a.addr), "prefixlen": a.plen, "scope": SCOPES.get(a.scope, str(a.scope)),
                             "label": a.label, "valid_life_time": 4294967295, "preferred_life_time": 4294967295}
                            for a in addresses(dev)]
    return out


def _link_set(proc: Process, net: Any, args: list[str]) -> None:
    from kubenet.kernel.dev import device

    if args and args[0] == "dev":
        take(args)
    if not args:
        raise IpError('Not enough information: "dev" argument is required.')
    dev = device_of(net, take(args))
    while args:
        word = take(args)
        if word in ("up", "down"):
            device.dev_change_flags(dev, word == "up")
        elif word == "mtu":
            device.dev_set_mtu(dev, int(take(args)))
        elif word == "address":
            device.dev_set_addr(dev, mac(take(args)))
        elif word in ("txqlen", "txqueuelen", "qlen"):
            dev.txqlen = int(take(args))
        elif word == "name":
            device.dev_change_name(dev, take(args))
        elif word == "netns":
            target = namespace_of(proc, take(args))
            if target is None:
                raise IpError('Error: argument "netns" is wrong: Invalid "netns" value', 255)
            device.dev_change_net(dev, target, dev.name)
        elif word == "master":
            device_of(net, take(args)).add_port(dev)
        elif word == "nomaster":
            if dev.master is not None:
                dev.master.del_port(dev)
        elif word == "promisc":
            dev.flags = dev.flags | 0x100 if take(args) == "on" else dev.flags & ~0x100
        else:
            raise IpError(f'Error: either "dev" is duplicate, or "{word}" is a garbage.')


def _link_add(net: Any, args: list[str]) -> None:
    from kubenet.kernel.dev import device

    name, kind, peer = "", "", ""
    while args:
        word = take(args)
        if word in ("name", "dev"):
            name = take(args)
        elif word == "type":
            kind = take(args)
        elif word == "peer":
            if args and args[0] == "name":
                take(args)
            peer = take(args)
        elif not name:
            name = word
    if name in net.devs:
        raise OSError(errno.EEXIST, "File exists")
    if kind == "bridge":
        from kubenet.kernel.dev.bridge import Bridge

        bridge = Bridge(net, name)
        if name not in net.devs:
            device.register_netdevice(net, bridge)
    elif kind == "veth":
        from kubenet.kernel.dev.veth import create_veth_pair

        create_veth_pair(net, name, net, peer or "veth0")
    elif kind == "dummy":
        from kubenet.kernel.dev.dummy import Dummy

        device.register_netdevice(net, Dummy(net, name))
    else:
        raise IpError("Error: Unknown device type.", 2)
