"""bridge: the forwarding database and the ports of the bridges.

`fdb show` prints, device by device, what a bridge knows behind its port (newest first), then the addresses the device itself
listens to (`self`): those added by hand and the groups it has joined. `add` without `master` means `self`, as in the real tool.
The entries of a VXLAN device are its own (`self`), with their destinations.
Leaves out: VLANs, mdb, statistics (-s), port flags this bridge does not have (guard, neigh_suppress ...).
Source: bridge(8), iproute2 bridge/fdb.c, bridge/link.c; Linux rtnl_fdb_add(), ndo_dflt_fdb_dump(), br_fdb_dump(); recordings of
iproute2 6.1 on Linux 6.18 (tests/userland/golden/bridge.txt).
"""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.dev.device import IFF_LOOPBACK, IFF_UP, oserror
from kubenet.kernel.vxlan.device import Vxlan
from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.ip.common import IpError, Options, json_text, number_of, take
from kubenet.userland.tools.ip.link import flag_names
from kubenet.userland.tools.vxlan_fdb import (
    VXLAN_WORDS,
    VxlanWords,
    vxlan_dst_text,
    vxlan_fdb_modify,
    vxlan_fdb_rows,
)
from kubenet.wire.addr import mac, mac_text

ALL_HOSTS, ALL_SNOOPERS = 0x01005E000001, 0x01005E00006A  # 224.0.0.1 on every device, 224.0.0.106 on a bridge
ON_OFF = {"off": False, "on": True}
PORT_FLAGS = ("hairpin", "learning", "flood", "isolated")
OTHER_FLAGS = ("guard", "root_block", "fastleave", "mcast_flood", "bcast_flood", "mcast_to_unicast", "neigh_suppress", "vlan_tunnel",
               "locked", "learning_sync", "mcast_router", "hwmode", "backup_port", "state")


@tool("bridge")
def bridge(proc: Process, argv: list[str]) -> int:
    """bridge [-d] [-j] [-p] {fdb|link} ..."""
    args, options, net = argv[1:], Options(), proc.net
    while args and args[0].startswith("-"):
        flag = args.pop(0).lstrip("-")
        options.details |= flag in ("d", "details")
        options.json |= flag in ("j", "json")
        options.pretty |= flag in ("p", "pretty")
        if flag in ("V", "Version"):
            proc.out("bridge utility, 6.1.0\n")
            return 0
        if flag not in ("d", "details", "j", "json", "p", "pretty", "s", "stats", "statistics", "o", "oneline", "c", "color", "4", "6"):
            proc.err(f'Option "-{flag}" is unknown, try "bridge help".\n')
            return 255
    word = args.pop(0) if args else "help"
    handler = next((fn for name, fn in (("fdb", _fdb), ("link", _link)) if name.startswith(word)), None)
    if handler is None:
        proc.err(USAGE if "help".startswith(word) else f'Object "{word}" is unknown, try "bridge help".\n')
        return 255
    try:
        proc.out(handler(net, options, args))
    except IpError as error:
        proc.err(f"{error}\n")
        return error.code
    except OSError as error:
        words = error.strerror or str(error)
        proc.err(f"Error: {words}\n" if words.endswith(".") else f"RTNETLINK answers: {words}\n")
        return 255
    return 0


def _device(net: Any, name: str, what: str = "device") -> Any:
    if name not in net.devs:
        raise IpError(f'Cannot find {what} "{name}"')
    return net.devs[name]


# ---- fdb -------------------------------------------------------------------------------------------------------------


def _fdb(net: Any, options: Options, args: list[str]) -> str:
    word = args.pop(0) if args else "show"
    command = next((n for n in ("add", "append", "replace", "delete", "get", "show", "lst", "list", "flush") if n.startswith(word)), "")
    if command in ("show", "lst", "list"):
        return _fdb_show(net, options, args)
    if command == "get":
        return _fdb_get(net, options, args)
    if command == "flush":
        return _fdb_flush(net, args)
    if not command:
        raise IpError(f'Command "{word}" is unknown, try "bridge fdb help".')
    _fdb_modify(net, command, args)
    return ""


def _fdb_modify(net: Any, command: str, args: list[str]) -> None:
    """Linux: rtnl_fdb_add(), rtnl_fdb_del(); tool: fdb_modify()."""
    name, address, kind = "", "", "permanent"
    vxlan = VxlanWords()
    to_master = to_self = sticky = False
    while args:
        word = args.pop(0)
        if word == "dev":
            name = take(args)
        elif word in ("self", "master"):
            to_self, to_master = to_self or word == "self", to_master or word == "master"
        elif word in ("local", "permanent"):
            kind = "permanent"
        elif word in ("static", "dynamic", "temp"):
            kind = word
        elif word == "sticky":
            sticky = True
        elif word in VXLAN_WORDS:
            vxlan.take(net, word, args)
        elif word in ("vlan", "use", "nhid", "src_vni"):
            raise oserror(errno.EOPNOTSUPP)
        else:
            if word == "to":
                word = take(args)
            if address:
                raise IpError(f'Error: either "to" is duplicate, or "{word}" is a garbage.')
            address = word
    if not name or not address:
        raise IpError("Device and address are required arguments.")
    try:
        lladdr = mac(address)
    except ValueError:
        raise IpError(f"Invalid mac address {address}") from None
    dev = _device(net, name)
    if dev.flags & IFF_LOOPBACK:
        raise oserror(errno.EINVAL, f"FDB {'delete' if command == 'delete' else 'add'} only supported for Ethernet devices.")
    if to_master and dev.master is None:
        raise oserror(errno.EOPNOTSUPP)
    homes = [(dev.master, dev.br_port)] * to_master
    if dev.kind == "bridge":
        homes += [(dev, None)] * (to_self or not to_master)
        to_self = False
    else:
        to_self = to_self or not to_master
    for br, port in homes:
        if command == "delete":
            br.fdb_delete(lladdr, port)
        else:
            br.fdb_add(lladdr, port, kind == "permanent", kind == "static", sticky, command == "add")
    if to_self and isinstance(dev, Vxlan):
        vxlan_fdb_modify(dev, lladdr, kind, vxlan, command)
    elif to_self:
        _self_modify(net, dev, lladdr, command)


def _self_addresses(net: Any) -> dict[int, dict[int, bool]]:
    """By device index: the addresses put into its filter by hand (dev->uc, dev->mc)."""
    found: dict[int, dict[int, bool]] = net.extra.setdefault("dev_addresses", {})
    return found


def _self_modify(net: Any, dev: Any, lladdr: int, command: str) -> None:
    """Linux: ndo_dflt_fdb_add(), ndo_dflt_fdb_del()."""
    known = _self_addresses(net).setdefault(dev.ifindex, {})
    if command == "delete":
        if known.pop(lladdr, None) is None:
            raise oserror(errno.ENOENT)
    elif lladdr in known:
        if command == "add":
            raise oserror(errno.EEXIST)
    else:
        known[lladdr] = True


def _rows(net: Any) -> list[dict[str, Any]]:
    """Every entry, as -j prints it, with its device and bridge. Linux: rtnl_fdb_dump()."""
    out: list[dict[str, Any]] = []
    for dev in sorted(net.devs.values(), key=lambda d: d.ifindex):
        if dev.flags & IFF_LOOPBACK:
            continue
        own = vxlan_fdb_rows(dev) if isinstance(dev, Vxlan) else [
            _row(address, dev, None, ["self"], "permanent") for address in _listens(net, dev)]
        br = dev if dev.kind == "bridge" else dev.master
        if br is None:
            out += own
            continue
        learned = [_row(e.mac, dev, br, ["sticky"] * e.sticky, "permanent" if e.is_local else "static" if e.is_static else "")
                   for e in reversed(br.fdb_entries()) if e.port is dev.br_port]
        out += own + learned if br is dev else learned + own
    return out


def _row(address: int, dev: Any, br: Any, flags: list[str], state: str) -> dict[str, Any]:
    return {"mac": mac_text(address), "dev": dev, "flags": flags, "br": br, "state": state}


def _listens(net: Any, dev: Any) -> list[int]:
    by_hand = list(_self_addresses(net).get(dev.ifindex, ()))
    groups = [0x01005E000000 | group & 0x7FFFFF for group in sorted(net.extra.get("mc_groups", {}).get(dev.ifindex, ()))]
    joined = [ALL_HOSTS] if dev.flags & IFF_UP else []
    if dev.kind == "bridge" and dev.flags & IFF_UP:
        joined.insert(0, ALL_SNOOPERS)
    return ([a for a in by_hand if not a >> 40 & 1] + joined + [g for g in groups if g != ALL_HOSTS]
            + [a for a in by_hand if a >> 40 & 1])


def _fdb_show(net: Any, options: Options, args: list[str]) -> str:
    """Tool: fdb_show()."""
    dev = br = None
    state = ""
    nothing = False
    while args:
        word = args.pop(0)
        if word == "br":
            br = _device(net, take(args), "bridge device")
        elif word in ("dev", "brport"):
            dev = _device(net, take(args))
        elif word == "vlan":
            nothing = bool(take(args))  # no entry has a VLAN
        elif word == "state":
            state = take(args)
        elif word == "dynamic":
            state = "dynamic"
    rows = [] if nothing else _rows(net)
    if br is not None:
        rows = [r for r in rows if r["dev"] is br or r["dev"].master is br]
    if dev is not None:
        rows = [r for r in rows if r["dev"] is dev]
    if state and state != "all":
        rows = [r for r in rows if (r["state"] != "permanent" if state == "dynamic" else r["state"] == state)]
    return _fdb_print(rows, options, dev is not None)


def _fdb_print(rows: list[dict[str, Any]], options: Options, one_device: bool) -> str:
    """Tool: print_fdb()."""
    if options.json:
        return json_text([{"mac": r["mac"], **({} if one_device else {"ifname": r["dev"].name}), **r.get("dst", {}), "flags": r["flags"],
                           **({"master": r["br"].name} if r["br"] is not None else {}), "state": r["state"]} for r in rows], options)
    return "".join(_line(r, one_device) for r in rows)


def _line(r: dict[str, Any], one_device: bool) -> str:
    device = "" if one_device else f"dev {r['dev'].name} "
    master = f"master {r['br'].name} " if r["br"] is not None else ""
    return f"{r['mac']} {device}{vxlan_dst_text(r)}{''.join(f'{f} ' for f in r['flags'])}{master}{r['state']}\n"


def _fdb_get(net: Any, options: Options, args: list[str]) -> str:
    """Linux: rtnl_fdb_get(), br_fdb_get()."""
    where, address, own = None, "", False
    while args:
        word = args.pop(0)
        if word in ("dev", "brport", "br"):
            where = _device(net, take(args), "bridge device" if word == "br" else "device")
        elif word in ("self", "master"):
            own = word == "self"
        else:
            address = take(args) if word == "to" else word
    if where is None or not address:
        raise IpError("Device or master and address are required arguments.")
    br = None if own and isinstance(where, Vxlan) else where if where.kind == "bridge" else where.master
    if br is None and not (own and isinstance(where, Vxlan)):
        raise IpError("Error: Device is not a bridge port.", 254) if isinstance(where, Vxlan) else oserror(errno.EOPNOTSUPP)
    found = [r for r in _rows(net) if r["br"] is br and r["mac"] == address.lower() and (br is not None or r["dev"] is where)]
    if not found:
        raise IpError("Error: Fdb entry not found.", 254)
    return _fdb_print(found, options, False)


def _fdb_flush(net: Any, args: list[str]) -> str:
    """Everything a bridge knows, or all behind one port. Linux: br_fdb_delete_bulk()."""
    dev = None
    while args:
        word = args.pop(0)
        if word == "dev":
            dev = _device(net, take(args))
        elif word not in ("self", "master"):
            raise oserror(errno.EOPNOTSUPP)
    if dev is None:
        raise IpError("Device is a required argument.")
    if isinstance(dev, Vxlan) and dev.master is None:
        dev.fdb.flush(everything=True)
        return ""
    br = dev if dev.kind == "bridge" else dev.master
    if br is None:
        raise oserror(errno.EOPNOTSUPP)
    if dev is br:
        br.fdb.clear()
    else:
        br.fdb_flush(dev.br_port)
    return ""


# ---- link ------------------------------------------------------------------------------------------------------------


def _link(net: Any, options: Options, args: list[str]) -> str:
    word = args.pop(0) if args else "show"
    command = next((n for n in ("set", "change", "show", "lst", "list") if n.startswith(word)), "")
    if command in ("set", "change"):
        _link_set(net, args)
        return ""
    if not command:
        raise IpError(f'Command "{word}" is unknown, try "bridge link help".')
    devs = [d for d in sorted(net.devs.values(), key=lambda d: d.ifindex) if d.master is not None]
    while args:
        word = args.pop(0)
        if word == "dev":
            dev = _device(net, take(args))
            devs = [d for d in devs if d is dev]
        elif word == "master":
            br = _device(net, take(args))
            devs = [d for d in devs if d.master is br]
    if options.json:
        return json_text([_link_fields(dev, options) for dev in devs], options)
    return "".join(_link_text(dev, options) for dev in devs)


def _link_fields(dev: Any, options: Options) -> dict[str, Any]:
    port = dev.br_port
    forwards = dev.flags & IFF_UP and dev.carrier
    out = {"ifindex": dev.ifindex, **_lower(dev), "ifname": dev.name, "flags": flag_names(dev).split(","), "mtu": dev.mtu,
           "master": dev.master.name, "state": "forwarding" if forwards else "disabled", "priority": port.priority,
           "cost": port.path_cost}
    if options.details:
        out |= {"hairpin": port.hairpin, "guard": False, "root_block": False, "fastleave": False, "learning": port.learning,
                "flood": port.flood, "mcast_flood": True, "bcast_flood": True, "mcast_router": 1, "mcast_to_unicast": False,
                "neigh_suppress": False, "vlan_tunnel": False, "isolated": port.isolated, "locked": False}
    return out


def _lower(dev: Any) -> dict[str, Any]:
    """The other end of a veth: its index is read as one of this namespace, since AF_BRIDGE's answer names no other."""
    peer = dev.peer if dev.kind == "veth" else None
    if peer is None or peer.ifindex == dev.ifindex:
        return {}
    here = dev.net.dev_by_index.get(peer.ifindex)
    return {"link": here.name} if here is not None else {"link_index": peer.ifindex}


def _link_text(dev: Any, options: Options) -> str:
    f = _link_fields(dev, options)
    lower = f"@{f.pop('link')}" if "link" in f else f"@if{f.pop('link_index')}" if "link_index" in f else ""
    out = (f"{f['ifindex']}: {f['ifname']}{lower}: <{','.join(f['flags'])}> mtu {f['mtu']} master {f['master']} state {f['state']} "
           f"priority {f['priority']} cost {f['cost']} \n")
    if options.details:
        words = {True: "on", False: "off"}
        names = list(f)[8:]
        out += "    " + "".join(f"{n} {words[f[n]] if isinstance(f[n], bool) else f[n]} " for n in names) + "\n"
    return out


def _link_set(net: Any, args: list[str]) -> None:
    """Tool: brlink_modify()."""
    name, values = "", dict[str, int]()
    while args:
        word = args.pop(0)
        if word == "dev":
            name = take(args)
        elif word in PORT_FLAGS:
            value = take(args)
            if value not in ON_OFF:
                raise IpError(f'Error: argument of "{word}" must be one of "off", "on", not "{value}"', 234)
            values[word] = ON_OFF[value]
        elif word in ("cost", "priority"):
            values["path_cost" if word == "cost" else word] = number_of(take(args), f"invalid {word}")
        elif word in OTHER_FLAGS:
            raise oserror(errno.EOPNOTSUPP)
        elif word not in ("self", "master"):
            raise IpError(LINK_USAGE.rstrip())
    if not name:
        raise IpError("Device is a required argument.")
    dev = _device(net, name)
    if dev.br_port is None:
        raise oserror(errno.EOPNOTSUPP)
    for key, number in values.items():
        setattr(dev.br_port, key, number)


USAGE = """Usage: bridge [ OPTIONS ] OBJECT { COMMAND | help }
where  OBJECT := { link | fdb }
       OPTIONS := { -V[ersion] | -d[etails] | -p[retty] -j[son] }
"""
LINK_USAGE = """Usage: bridge link set dev DEV [ cost COST ] [ priority PRIO ]
                               [ hairpin {on | off} ]
                               [ learning {on | off} ]
                               [ flood {on | off} ]
                               [ isolated {on | off} ]
                               [ self ] [ master ]
       bridge link show [dev DEV]
"""
