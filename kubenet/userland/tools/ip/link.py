"""ip link: devices. Source: ip-link(8), iproute2 ip/ipaddress.c, ip/iplink.c, observed output."""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.dev import device
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import oserror, unregister_netdevice
from kubenet.kernel.dev.dummy import Dummy
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import (
    IFF_NAMES,
    SCOPES,
    IpError,
    Options,
    command_of,
    device_of,
    invarg,
    json_text,
    named_number,
    namespace_of,
    number_of,
    take,
)
from kubenet.userland.tools.ip.link_vxlan import vxlan_add, vxlan_json, vxlan_set, vxlan_text
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
    return f"{dev.name}@if{dev.ifindex}" if _link_net(dev) is not dev.net else str(dev.name)


def _link_net(dev: Any) -> Any:
    """The namespace of a veth's other end, or of a tunnel's packets; else the device's own. Linux: rtnl_link_ops->get_link_net()."""
    if dev.kind == "vxlan":
        return dev.underlay
    return dev.peer.net if dev.kind == "veth" and dev.peer is not None else dev.net


def _netns_number(dev: Any) -> int:
    """The id under which a device's namespace knows that of the other end."""
    others = [n for n in dev.net.host.namespaces.values() if n is not dev.net]
    init = next(iter(dev.net.host.namespaces.values()))
    other = _link_net(dev)
    return others.index(other) if other in others and other is not init else 0


def netns_text(dev: Any) -> str:
    """Where the other end of a veth, or a tunnel's socket, is, if elsewhere."""
    other = _link_net(dev)
    if other is dev.net:
        return ""
    if dev.net is next(iter(dev.net.host.namespaces.values())):
        return f" link-netns {other.name.rpartition('/')[2]}"
    return f" link-netnsid {_netns_number(dev)}"


def _qdisc(dev: Any) -> str:
    if not dev.activated and dev.kind != "loopback":
        return "noop"
    return str(getattr(dev.qdisc, "kind", None) or getattr(dev.qdisc, "name", None) or dev.default_qdisc)


def head_line(dev: Any, mode: bool) -> str:
    """The first line of a device."""
    master = f" master {dev.master.name}" if dev.master is not None else ""
    line = f"{dev.ifindex}: {shown_name(dev)}: <{flag_names(dev)}> mtu {dev.mtu} qdisc {_qdisc(dev)}{master} state {dev.operstate} "
    line += "mode DEFAULT " if mode else ""
    return line + f"group {dev.group or 'default'} qlen {dev.txqlen}"


def link_line(dev: Any) -> str:
    """    link/ether ..."""
    kind = "loopback" if dev.kind == "loopback" else "ether"
    brd = "00:00:00:00:00:00" if kind == "loopback" else "ff:ff:ff:ff:ff:ff"
    return f"    link/{kind} {mac_text(dev.addr)} brd {brd}{netns_text(dev)}"


def stats_lines(dev: Any) -> list[str]:
    """RX and TX of ip -s: columns as wide as their longest number, with iproute2's least widths."""
    rx = [dev.rx_bytes, dev.rx_packets, dev.rx_errors, dev.rx_dropped, 0, getattr(dev, "rx_multicast", 0)]
    tx = [dev.tx_bytes, dev.tx_packets, dev.tx_errors, dev.tx_dropped, getattr(dev, "tx_carrier_errors", 0), getattr(dev, "collisions", 0)]
    widths = [max(len(str(r)), len(str(t)), least) for r, t, least in zip(rx, tx, (5, 7, 6, 7, 7, 7), strict=True)]
    widths[0] = max(widths[0], 5)
    out = []
    for label, names, values in (("RX", ("bytes", "packets", "errors", "dropped", "missed", "mcast"), rx),
                                 ("TX", ("bytes", "packets", "errors", "dropped", "carrier", "collsns"), tx)):
        heads = " ".join(n.rjust(w) for n, w in zip(names, widths, strict=True))
        out.append(f"    {label}:  {heads}           ")
        out.append("         " + " ".join(str(v).rjust(w) for v, w in zip(values, widths, strict=True)) + " ")
    return out


KINDS = {"veth": "veth ", "bridge": "bridge forward_delay 1500 hello_time 200 max_age 2000 ", "vxlan": ""}
GSO = {"gso_max_size": 65536, "gso_max_segs": 65535, "tso_max_size": 524280, "tso_max_segs": 65535, "gro_max_size": 65536}


def _detail_fields(dev: Any) -> dict[str, Any]:
    """What -d adds to -j. A veth has a queue for each CPU. Linux: rtnl_fill_ifinfo(), veth_newlink()."""
    loop = dev.kind == "loopback"
    queues = dev.net.host.cpus if dev.kind == "veth" else 1
    return {"promiscuity": dev.promiscuity, "allmulti": int(bool(dev.flags & 0x200)), "min_mtu": 0 if loop else 68,
            "max_mtu": 0 if loop else 65535, **({"linkinfo": _linkinfo(dev)} if dev.kind in KINDS else {}),
            "inet6_addr_gen_mode": "eui64", "num_tx_queues": queues, "num_rx_queues": queues, **GSO,
            **({"tso_max_size": 65536} if dev.kind == "vxlan" and dev.cfg.link is None else {})}


def _linkinfo(dev: Any) -> dict[str, Any]:
    return {"info_kind": dev.kind, **({"info_data": vxlan_json(dev)} if dev.kind == "vxlan" else {})}


def _details(dev: Any) -> str:
    f = _detail_fields(dev)
    own = vxlan_text(dev) if dev.kind == "vxlan" else KINDS.get(dev.kind, "")
    kind = f"\n    {own}" if own else ""
    return (f" promiscuity {f['promiscuity']}  allmulti {f['allmulti']} minmtu {f['min_mtu']} maxmtu {f['max_mtu']} {kind}"
            f"addrgenmode eui64 numtxqueues {f['num_tx_queues']} numrxqueues {f['num_rx_queues']} "
            + "".join(f"{name} {f[name]} " for name in GSO))


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
    command = command_of(args, ("show", "set", "add", "delete", "help"), what="link")
    if command == "show":
        devs = select_devices(net, args)
        if options.json:
            return json_text([link_json(dev, options, None) for dev in devs], options)
        return "".join(_link_text(dev, options) for dev in devs)
    if command == "set":
        _link_set(proc, net, args)
    elif command == "add":
        proc.err(_link_add(net, args))
    elif command == "delete":
        while args and args[0] in ("dev", "type"):
            if args.pop(0) == "type":
                take(args)
        if not args:
            raise IpError('Not enough information: "dev" argument is required.')
        dev = device_of(net, take(args))
        if dev.kind in ("loopback", "nic"):  # no rtnl_link_ops->dellink
            raise oserror(errno.EOPNOTSUPP)
        unregister_netdevice(dev)
    return ""


def _link_text(dev: Any, options: Options) -> str:
    if options.brief:
        return f"{shown_name(dev):<16} {dev.operstate:<14} {mac_text(dev.addr)} <{flag_names(dev)}> \n"
    lines = [head_line(dev, True), link_line(dev) + (_details(dev) if options.details else "")]
    if dev.alias:
        lines.append(f"    alias {dev.alias}")
    if options.stats:
        lines += stats_lines(dev)
    return ("\\".join(lines) if options.oneline else "\n".join(lines)) + "\n"


def link_json(dev: Any, options: Options, found: list[Any] | None) -> dict[str, Any]:
    """A device as -j prints it, with its addresses for `ip addr`. Tool: print_linkinfo()."""
    ether = dev.kind != "loopback"
    address = mac_text(dev.addr)
    if options.brief:
        out: dict[str, Any] = {**_lower(dev), "ifname": dev.name, "operstate": dev.operstate}
        out |= {"address": address, "flags": flag_names(dev).split(",")} if found is None else {}
    else:
        out = {"ifindex": dev.ifindex, **_lower(dev), "ifname": dev.name, "flags": flag_names(dev).split(","), "mtu": dev.mtu,
               "qdisc": _qdisc(dev)}
        if dev.master is not None:
            out["master"] = dev.master.name
        out["operstate"] = dev.operstate
        if found is None:
            out["linkmode"] = "DEFAULT"
        out |= {"group": str(dev.group or "default"), "txqlen": dev.txqlen, "link_type": "ether" if ether else "loopback",
                "address": address, "broadcast": "ff:ff:ff:ff:ff:ff" if ether else "00:00:00:00:00:00"}
        if netns_text(dev):
            out["link_netnsid"] = _netns_number(dev)
        if options.details:
            out |= _detail_fields(dev)
        if dev.alias:
            out["ifalias"] = dev.alias
        if options.stats:
            out["stats64"] = _stats_json(dev)
    if found is not None:
        out["addr_info"] = [_addr_json(a, options) for a in found]
    return out


def _addr_json(a: Any, options: Options) -> dict[str, Any]:
    if options.brief:
        return {"local": ip4_text(a.addr), "prefixlen": a.plen}
    return {"family": "inet", "local": ip4_text(a.addr), "prefixlen": a.plen, **({"broadcast": ip4_text(a.brd)} if a.brd else {}),
            "scope": SCOPES.get(a.scope, str(a.scope)), **({"secondary": True} if a.secondary else {}), "label": a.label,
            "valid_life_time": 4294967295, "preferred_life_time": 4294967295}


def _lower(dev: Any) -> dict[str, Any]:
    if dev.kind != "veth" or dev.peer is None:
        return {}
    return {"link": dev.peer.name} if dev.peer.net is dev.net else {"link_index": dev.peer.ifindex}


def _stats_json(dev: Any) -> dict[str, Any]:
    return {"rx": {"bytes": dev.rx_bytes, "packets": dev.rx_packets, "errors": dev.rx_errors, "dropped": dev.rx_dropped, "over_errors": 0,
                   "multicast": dev.rx_multicast},
            "tx": {"bytes": dev.tx_bytes, "packets": dev.tx_packets, "errors": dev.tx_errors, "dropped": dev.tx_dropped,
                   "carrier_errors": getattr(dev, "tx_carrier_errors", 0), "collisions": getattr(dev, "collisions", 0)}}


SWITCHES = {"arp": -0x80, "multicast": 0x1000, "allmulticast": 0x200, "promisc": 0x100}  # flag; negative: set by "off"


def _lladdr(word: str) -> int:
    try:
        return mac(word)
    except ValueError:
        raise IpError(f'"{word}" is invalid lladdr.', 1) from None


def _name(word: str) -> str:
    if not device.dev_valid_name(word):
        raise invarg('"name" not a valid ifname', word)
    return word


def _link_set(proc: Process, net: Any, args: list[str]) -> None:
    """Tool: iplink_modify(); Linux: do_setlink()."""
    if args and args[0] == "dev":
        args.pop(0)
    if not args:
        raise IpError('Not enough information: "dev" argument is required.')
    dev = device_of(net, take(args))
    while args:
        word = take(args)
        if word in ("up", "down"):
            device.dev_change_flags(dev, word == "up")
        elif word == "mtu":
            device.dev_set_mtu(dev, number_of(take(args), 'Invalid "mtu" value\n'))
        elif word == "address":
            device.dev_set_addr(dev, _lladdr(take(args)))
        elif word in ("txqlen", "txqueuelen", "qlen"):
            dev.txqlen = number_of(take(args), 'Invalid "txqueuelen" value\n')
        elif word == "name":
            device.dev_change_name(dev, _name(take(args)))
        elif word == "alias":
            dev.alias = take(args)
        elif word == "group":
            dev.group = named_number(take(args), {0: "default"}, 'Invalid "group" value\n', 0xFFFFFFFF)
        elif word == "netns":
            target = namespace_of(proc, take(args))
            if target is None:
                raise IpError('Error: argument "netns" is wrong: Invalid "netns" value', 255)
            device.dev_change_net(dev, target, dev.name)
        elif word == "master":
            master = net.devs.get(name := take(args))
            if master is None:
                raise invarg("Device does not exist\n", name)
            if master.kind != "bridge":
                raise oserror(errno.EOPNOTSUPP)
            master.add_port(dev)
        elif word == "nomaster":
            if dev.master is not None:
                dev.master.del_port(dev)
        elif word == "type" and args and args[0] == dev.kind == "vxlan":
            take(args)
            vxlan_set(net, dev, args)
        elif word in SWITCHES:
            value, flag = take(args), SWITCHES[word]
            if value not in ("on", "off"):
                raise IpError(f'Error: argument of "{word}" must be one of "off", "on", not "{value}"', 234)
            on = (value == "on") == (flag > 0)
            dev.flags = dev.flags | abs(flag) if on else dev.flags & ~abs(flag)
        else:
            raise IpError(f'Error: either "dev" is duplicate, or "{word}" is a garbage.')


def _link_add(net: Any, args: list[str]) -> str:
    """What it prints as a warning. Linux: rtnl_newlink(); of a veth pair the peer comes first, as in veth_newlink()."""
    name, kind, peer, mtu, address = "", "", "", 0, 0
    warning = ""
    words: list[str] = []
    while args:
        word = take(args)
        if word in ("name", "dev"):
            name = take(args)
        elif word == "type":
            kind = take(args)
            if kind == "vxlan":
                words, args[:] = args[:], []
        elif word == "mtu":
            mtu = number_of(take(args), 'Invalid "mtu" value\n')
        elif word == "address":
            address = _lladdr(take(args))
        elif word == "peer":
            if args and args[0] == "name":
                take(args)
            peer = take(args)
        elif not name:
            name = word
    if not kind:
        raise IpError('Not enough information: "type" argument is required', 1)
    name = _name(name or next(f"{kind}{n}" for n in range(len(net.devs) + 1) if f"{kind}{n}" not in net.devs))
    if name in net.devs:
        raise oserror(errno.EEXIST)
    if kind == "bridge":
        Bridge(net, name)
    elif kind == "veth":
        peer = peer or next(f"veth{n}" for n in range(len(net.devs) + 2) if f"veth{n}" not in (name, *net.devs))
        create_veth_pair(net, _name(peer), net, name)
    elif kind == "dummy":
        device.register_netdevice(net, Dummy(net, name))
    elif kind == "vxlan":
        warning, mtu = vxlan_add(net, name, mtu, words), 0
    else:
        raise IpError("Error: Unknown device type.", 2)
    if mtu:
        device.dev_set_mtu(net.devs[name], mtu)
    if address:
        device.dev_set_addr(net.devs[name], address)
    return warning
