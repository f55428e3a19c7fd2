"""ip: addr, link, route, neigh, rule, netns.

show prints iproute2 6.1's lines to the blank; add, del, set, replace, flush and get change or ask the namespace through the
kernel's own functions, whose errors come out as "RTNETLINK answers: ..." (exit 2) or "Error: ...", as netlink's extended acks do.
Names may be shortened as in the real tool (`ip a`, `ip r`, `ip n`). Source: ip(8), observed output.
Leaves out: IPv6 addresses, tunnels, xfrm, -d beyond the device kind.
"""

from __future__ import annotations

import errno
import json
from typing import Any

from kubenet.userland.netview import addresses, neighbours
from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.wire.addr import ip4, ip4_text, mac, mac_text, parse_cidr, prefix_mask

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
SCOPE_NUMBERS = {name: number for number, name in SCOPES.items()}
TYPES = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
         9: "throw"}
TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
PROTOCOLS = {0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 16: "dhcp", 186: "bgp"}
TABLES = {253: "default", 254: "main", 255: "local"}
IFF_NAMES = ((0x8, "LOOPBACK"), (0x2, "BROADCAST"), (0x10, "POINTOPOINT"), (0x1000, "MULTICAST"), (0x80, "NOARP"),
             (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x400, "MASTER"), (0x800, "SLAVE"))


class IpError(Exception):
    """What ip prints, and its exit code."""

    def __init__(self, text: str, code: int = 255) -> None:
        super().__init__(text)
        self.code = code


class Options:
    """-4 -6 -o -s -br -d -j -p -c -n NS."""

    def __init__(self) -> None:
        self.oneline = self.stats = self.brief = self.details = self.json = self.six = False


@tool("ip")
def ip(proc: Process, argv: list[str]) -> int:
    """ip [OPTIONS] OBJECT COMMAND ..."""
    args, options = argv[1:], Options()
    net = proc.net
    while args and args[0].startswith("-"):
        flag = args.pop(0).lstrip("-")
        if flag in ("n", "netns") and args:
            found = _namespace(proc, args.pop(0))
            if found is None:
                return 1
            net = found
        elif flag in ("o", "oneline"):
            options.oneline = True
        elif flag in ("s", "stats", "statistics"):
            options.stats = True
        elif flag in ("br", "brief"):
            options.brief = True
        elif flag in ("d", "details"):
            options.details = True
        elif flag in ("j", "json"):
            options.json = True
        elif flag == "6":
            options.six = True
        elif flag in ("V", "Version"):
            proc.out("ip utility, iproute2-6.1.0, libbpf 1.1.0\n")
            return 0
        elif flag not in ("4", "p", "pretty", "c", "color", "0", "r", "N", "h", "human", "t", "f", "force", "a", "all"):
            proc.err(f'Option "-{flag}" is unknown, try "ip -help".\n')
            return 255
    if not args:
        proc.err(USAGE)
        return 255
    handlers = {"address": _addr, "link": _link, "route": _route, "neighbour": _neigh, "neighbor": _neigh, "rule": _rule,
                "netns": _netns, "monitor": _monitor}
    name = next((n for n in handlers if n.startswith(args[0])), "")
    if args[0] == "help":
        proc.err(USAGE)
        return 255
    if not name:
        proc.err(f'Object "{args[0]}" is unknown, try "ip help".\n')
        return 1
    try:
        out = handlers[name](proc, net, options, args[1:])
        if out:
            proc.out(out)
        return 0
    except IpError as error:
        if str(error):
            proc.err(f"{error}\n")
        return error.code
    except OSError as error:
        words = error.strerror or str(error)
        extended = words[:1].isupper() and words.endswith(".") or words.startswith("ipv4:")
        proc.err(f"Error: {words}\n" if extended else f"RTNETLINK answers: {words}\n")
        return 2


USAGE = """Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }
       ip [ -force ] -batch filename
where  OBJECT := { address | link | monitor | neighbour | netns | route | rule }
"""


def _namespace(proc: Process, name: str) -> Any:
    """A named namespace of the machine, visible on nodes only."""
    spaces = proc.container.host.namespaces if proc.container.image.name == "node" else {}
    found = spaces.get(name) or next((n for key, n in spaces.items() if key.rpartition("/")[2] == name), None)
    if found is None:
        proc.err(f'Cannot open network namespace "{name}": No such file or directory\n')
    return found


def _device(net: Any, name: str) -> Any:
    dev = net.devs.get(name)
    if dev is None:
        raise IpError(f'Cannot find device "{name}"', 1)
    return dev


def _command(args: list[str], names: tuple[str, ...], default: str = "show") -> str:
    """The command word, shortened or missing."""
    if not args:
        return default
    word = args.pop(0)
    if word in ("list", "lst", "ls"):
        return "show"
    found = next((n for n in names if n.startswith(word)), None)
    if found is None:
        args.insert(0, word)
        raise IpError(f'Command "{word}" is unknown, try "ip help".')
    return found


# ---- link and addr --------------------------------------------------------------------------------------------------


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


def _select(net: Any, args: list[str]) -> list[Any]:
    """The devices a show command means."""
    devs = sorted(net.devs.values(), key=lambda d: d.ifindex)
    while args:
        word = args.pop(0)
        if word == "up":
            devs = [d for d in devs if d.flags & 1]
        elif word == "master" and args:
            name = args.pop(0)
            devs = [d for d in devs if d.master is not None and d.master.name == name]
        elif word == "type" and args:
            name = args.pop(0)
            devs = [d for d in devs if d.kind == name]
        elif word in ("scope", "to", "label") and args:
            args.pop(0)
        else:
            name = args.pop(0) if word == "dev" and args else word
            name = name.partition("@")[0]
            if name not in net.devs:
                raise IpError(f'Device "{name}" does not exist.', 1)
            devs = [net.devs[name]]
    return devs


def _link(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = _command(args, ("show", "set", "add", "delete", "help"))
    if command == "show":
        devs = _select(net, args)
        if options.json:
            return json.dumps([_json(dev, False) for dev in devs], separators=(",", ":")) + "\n"
        return "".join(_link_text(dev, options) for dev in devs)
    if command == "set":
        _link_set(proc, net, args)
    elif command == "add":
        _link_add(net, args)
    elif command == "delete":
        from kubenet.kernel.dev.device import unregister_netdevice

        if args and args[0] == "dev":
            args.pop(0)
        unregister_netdevice(_device(net, args[0] if args else ""))
    return ""


def _link_text(dev: Any, options: Options) -> str:
    if options.brief:
        return f"{shown_name(dev):<16} {dev.operstate:<14} {mac_text(dev.addr)} <{flag_names(dev)}> \n"
    lines = [head_line(dev, True), link_line(dev) + (_details(dev) if options.details else "")]
    if options.stats:
        lines += stats_lines(dev)
    return ("\\".join(lines) if options.oneline else "\n".join(lines)) + "\n"


def _json(dev: Any, with_addresses: bool) -> dict[str, Any]:
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
        args.pop(0)
    if not args:
        raise IpError('Not enough information: "dev" argument is required.')
    dev = _device(net, args.pop(0))
    while args:
        word = args.pop(0)
        if word in ("up", "down"):
            device.dev_change_flags(dev, word == "up")
        elif word == "mtu":
            device.dev_set_mtu(dev, int(args.pop(0)))
        elif word == "address":
            device.dev_set_addr(dev, mac(args.pop(0)))
        elif word in ("txqlen", "txqueuelen", "qlen"):
            dev.txqlen = int(args.pop(0))
        elif word == "name":
            device.dev_change_name(dev, args.pop(0))
        elif word == "netns":
            target = _namespace(proc, args.pop(0))
            if target is None:
                raise IpError('Error: argument "netns" is wrong: Invalid "netns" value', 255)
            device.dev_change_net(dev, target, dev.name)
        elif word == "master":
            _device(net, args.pop(0)).add_port(dev)
        elif word == "nomaster":
            if dev.master is not None:
                dev.master.del_port(dev)
        elif word == "promisc":
            dev.flags = dev.flags | 0x100 if args.pop(0) == "on" else dev.flags & ~0x100
        else:
            raise IpError(f'Error: either "dev" is duplicate, or "{word}" is a garbage.')


def _link_add(net: Any, args: list[str]) -> None:
    from kubenet.kernel.dev import device

    name, kind, peer = "", "", ""
    while args:
        word = args.pop(0)
        if word in ("name", "dev"):
            name = args.pop(0)
        elif word == "type":
            kind = args.pop(0)
        elif word == "peer":
            if args and args[0] == "name":
                args.pop(0)
            peer = args.pop(0)
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


def _addr(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = _command(args, ("show", "add", "delete", "flush", "change", "replace"))
    if command == "show":
        devs = _select(net, args)
        if options.json:
            return json.dumps([_json(dev, True) for dev in devs], separators=(",", ":")) + "\n"
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
        word = args.pop(0)
        if word == "dev":
            out["dev"] = _device(net, args.pop(0))
        elif word in ("brd", "broadcast"):
            value = args.pop(0)
            out["brd"] = "+" if value == "+" else ip4(value)
        elif word == "label":
            out["label"] = args.pop(0)
        elif word in ("scope", "metric", "valid_lft", "preferred_lft"):
            args.pop(0)
        elif word not in ("local", "noprefixroute"):
            try:
                out["addr"], out["plen"] = _cidr(word)
            except ValueError:
                raise IpError(f'Error: any valid prefix is expected rather than "{word}".', 1) from None
    if out["dev"] is None:
        if command == "flush":
            raise IpError("Flush requires arguments.")
        raise IpError('Not enough information: "dev" argument is required.')
    if out["brd"] == "+":
        out["brd"] = out["addr"] | (1 << 32 - out["plen"]) - 1
    return out


def _cidr(text: str) -> tuple[int, int]:
    """(address, length), host bits kept."""
    address, slash, length = text.partition("/")
    plen = int(length) if slash else 32
    if not 0 <= plen <= 32:
        raise ValueError(text)
    return ip4(address), plen


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


# ---- route ----------------------------------------------------------------------------------------------------------


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


def _route(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = _command(args, ("show", "add", "delete", "get", "replace", "change", "append", "flush"))
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
        word = args.pop(0)
        value = args[0] if args else ""
        if word == "via":
            value = args.pop(0)
            if value in ("inet", "inet6"):
                value = args.pop(0)
            out["gateway"] = _ip_argument(value)
        elif word in ("dev", "oif"):
            out["dev"] = _device(net, args.pop(0))
        elif word == "src":
            out["src"] = _ip_argument(args.pop(0))
        elif word in ("metric", "priority", "preference"):
            out["metric"] = int(args.pop(0))
        elif word == "scope":
            out["scope"] = SCOPE_NUMBERS[args.pop(0)]
        elif word == "table":
            args.pop(0)
            out["all"] = value == "all"
            out["table"] = next((n for n, t in TABLES.items() if t == value), int(value) if value.isdigit() else 0)
        elif word in ("proto", "protocol"):
            args.pop(0)
            out["proto"] = next((n for n, t in PROTOCOLS.items() if t == value), int(value) if value.isdigit() else 0)
        elif word == "mtu":
            out["mtu"] = int(args.pop(0) if value != "lock" else [args.pop(0), args.pop(0)][1])
        elif word == "onlink":
            out["onlink"] = True
        elif word in TYPE_NUMBERS:
            out["type"] = TYPE_NUMBERS[word]
        elif word in ("to", "exact", "root", "match"):
            continue
        else:
            try:
                if word not in ("default", "any"):
                    out["prefix"], out["plen"] = _cidr(word) if "/" in word else (ip4(word), 32)
            except ValueError:
                raise IpError(f'Error: any valid prefix is expected rather than "{word}".', 1) from None
            out["given"] = True
            if out["prefix"] & ~prefix_mask(out["plen"]) & 0xFFFFFFFF:
                raise OSError(errno.EINVAL, "Invalid argument")
    return out


def _ip_argument(text: str) -> int:
    try:
        return ip4(text)
    except ValueError:
        raise IpError(f'Error: any valid address is expected rather than "{text}".', 1) from None


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
        word = args.pop(0)
        if word == "from":
            saddr = _ip_argument(args.pop(0))
        elif word in ("oif", "dev"):
            oif = _device(net, args.pop(0)).ifindex
        elif word == "iif":
            iif = args.pop(0)
        elif word == "mark":
            mark = int(args.pop(0), 0)
        elif word != "to":
            target = _ip_argument(word.partition("/")[0])
    if iif:
        return _route_get_input(net, target, saddr, _device(net, iif), mark)
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


# ---- neigh, rule, netns, monitor ------------------------------------------------------------------------------------


def _neigh(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = _command(args, ("show", "add", "delete", "replace", "change", "flush", "get"))
    dev = None
    addr, lladdr, state = 0, None, ""
    while args:
        word = args.pop(0)
        if word == "dev":
            dev = _device(net, args.pop(0))
        elif word == "lladdr":
            lladdr = mac(args.pop(0))
        elif word == "nud":
            state = args.pop(0).upper()
        elif word in ("to", "proxy", "all"):
            continue
        else:
            addr = _ip_argument(word)
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


def _rule(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    from kubenet.kernel.ipv4 import fib as fib_module

    command = _command(args, ("show", "add", "delete", "flush"))
    rules = net.fib[2].rules
    if command == "show":
        return "".join(_rule_line(rule) for rule in rules)
    words = {args[i]: args[i + 1] for i in range(0, len(args) - 1, 2)}
    table = words.get("table") or words.get("lookup") or "main"
    number = next((n for n, t in TABLES.items() if t == table), int(table) if table.isdigit() else 0)
    pref = words.get("pref") or words.get("priority") or words.get("order")
    if command == "add":
        lowest = min((r.pref for r in rules if r.pref), default=32766)
        rule = fib_module.FibRule(int(pref) if pref else lowest - 1, number)
        for key, address, length in (("from", "src", "src_len"), ("to", "dst", "dst_len")):
            if words.get(key, "all") != "all":
                prefix, plen = parse_cidr(words[key]) if "/" in words[key] else (ip4(words[key]), 32)
                setattr(rule, address, prefix)
                setattr(rule, length, plen)
        if "fwmark" in words:
            mark, _, mask = words["fwmark"].partition("/")
            rule.mark, rule.mask = int(mark, 0), int(mask, 0) if mask else 0xFFFFFFFF
        for key in ("iif", "oif"):
            if key in words:
                setattr(rule, key, words[key])
        fib_module.fib_rule_add(net, rule)
        return ""
    match = [r for r in rules if (not pref or r.pref == int(pref)) and (("table" not in words and "lookup" not in words) or
                                                                       r.table == number)]
    if not match:
        raise OSError(errno.ENOENT, "No such file or directory")
    fib_module.fib_rule_del(net, match[0])
    return ""


def _rule_line(rule: Any) -> str:
    source = f"{ip4_text(rule.src)}{'/' + str(rule.src_len) if rule.src_len < 32 else ''}" if rule.src_len else "all"
    out = f"{rule.pref}:\tfrom {source}"
    if rule.dst_len:
        out += f" to {ip4_text(rule.dst)}{'/' + str(rule.dst_len) if rule.dst_len < 32 else ''}"
    if rule.mark:
        out += f" fwmark {rule.mark:#x}" + (f"/{rule.mask:#x}" if rule.mask != 0xFFFFFFFF else "")
    for key in ("iif", "oif"):
        if getattr(rule, key):
            out += f" {key} {getattr(rule, key)}"
    return out + f" lookup {TABLES.get(rule.table, str(rule.table))}\n"


def _netns(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = _command(args, ("list", "show", "exec", "identify"), "list")
    spaces = proc.container.host.namespaces if proc.container.image.name == "node" else {}
    others = [n for n in spaces.values() if n is not proc.net]
    if command in ("list", "show"):
        return "".join(f"{n.name.rpartition('/')[2]} (id: {i})\n" for i, n in enumerate(others))
    if command == "exec" and len(args) > 1:
        found = _namespace(proc, args[0])
        if found is None:
            raise IpError("", 1)
        main, real = proc.container.resolve(args[1:], proc.env, proc.cwd)
        proc.net, proc.argv = found, real
        raise _Became(main(proc, real) or 0)
    return ""


class _Became(IpError):
    """The process became another program, which ended with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__("", code)


def _monitor(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    raise IpError("ip monitor is not available here; use conntrack -E or tcpdump", 1)
