"""A real node, built again from what its tools printed: devices, addresses, routes, sysctls, rules, connections.

    node = build_node(Dumps(rules=("rules", text), routes=("routes", text)))
    node.net          the namespace of an emulated kernel with all of it in
    node.assumed      what had to be taken for granted because no file says it
    node.unknown      rules with parts that cannot be evaluated, by the name of the chain they jump to (unknown.py)
    node.stand_ins    addresses that stand for ones no file shows: MASQUERADE must find something to take

Every device is a port that takes packets and remembers them, with no neighbour to ask: what happens behind it is not in the
files. A packet for the node itself is remembered too, instead of looking for a socket, since sockets are not in the files
either. Only IPv4 is loaded. Raises ManifestError with file and line for what cannot be read or does not fit together.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from kubenet.errors import ManifestError, UsageError
from kubenet.kernel.dev.device import IFF_UP, dev_change_flags, dev_set_addr, dev_set_mtu
from kubenet.kernel.dev.dummy import Dummy
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.ipv4.fib import RT_TABLE_LOCAL, RT_TABLE_MAIN, RTN_LOCAL, RTN_UNICAST, RTPROT_KERNEL, fib_add, fib_dump, fib_remove
from kubenet.kernel.netfilter.conntrack.core import nf_ct_netns_get
from kubenet.kernel.netfilter.conntrack.entry import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_NAT_DONE_MASK,
    IPS_NAT_MASK,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    NfConn,
    TcpTrack,
    Zone,
)
from kubenet.kernel.netfilter.conntrack.tcp_states import STATE_NAMES
from kubenet.kernel.netfilter.conntrack.tcp_window import F_BE_LIBERAL
from kubenet.kernel.netfilter.conntrack.tuple import inverse
from kubenet.kernel.netfilter.core import ACCEPT, POSTROUTING
from kubenet.kernel.netfilter.ipset import ip_sets
from kubenet.kernel.netfilter.nat import nf_nat_register_provider
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.restore import iptables_restore
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff, station
from kubenet.kernel.stack import new_namespace
from kubenet.query.offline.dumps import Device, Entry, RouteLine, read_addresses, read_conntrack, read_routes, read_sysctls
from kubenet.query.offline.sets import load_sets
from kubenet.query.offline.unknown import Unknown, set_aside
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC
from kubenet.userland.procfs import write_sysctl

AF_INET = 2
TABLE_NUMBERS = {"local": RT_TABLE_LOCAL, "main": RT_TABLE_MAIN, "default": 253}
STATEFUL = ("limit", "hashlimit", "recent", "quota", "connlimit", "nfacct")
UPLINK = "(unknown)"
IPVS_DEVICE = "kube-ipvs0"
FIRST_STAND_IN = (169 << 24) | (254 << 16) | (255 << 8)
BRIDGE_NF = "net.bridge.bridge-nf-call-iptables"
SAID_BY_THE_TOOL = ("# Warning:", "# Table `")
"""iptables-save's remarks on what it does not show (nft.c, xtables-save.c)."""

File = tuple[str, str]
"""A file's name and its text; ("", "") if it was not given."""
NO_FILE: File = ("", "")


@dataclass(slots=True)
class Dumps:
    """What there is of a node."""

    rules: File
    conntrack: File = NO_FILE
    routes: File = NO_FILE
    addresses: File = NO_FILE
    sysctls: File = NO_FILE
    sets: File = NO_FILE


class Port(Dummy):
    """A device whose other side is not known: it keeps what is sent."""

    __slots__ = ("sent",)

    def __init__(self, net: NetNamespace, name: str) -> None:
        self.sent: list[SkBuff] = []
        super().__init__(net, name)
        dev_change_flags(self, True)

    def xmit(self, skb: SkBuff) -> int:
        """The packet is kept."""
        self.sent.append(skb)
        if skb.tr is not None:
            station(skb, "dev_queue_xmit", f"out of {self.name}")
        return super().xmit(skb)


@dataclass(slots=True)
class Node:
    """The node, and how sure one can be of it."""

    net: NetNamespace
    unknown: dict[str, Unknown] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    entry_lines: dict[int, int] = field(default_factory=dict)
    """Of a loaded connection (by id()), its line in the file."""
    delivered: list[SkBuff] = field(default_factory=list)
    has_routes: bool = False
    has_addresses: bool = False
    knows_addresses: bool = False
    """All of its addresses are in the files: in --ip-addr, or among the local routes."""
    stand_ins: dict[int, str] = field(default_factory=dict)
    """Of an address made up here, the device it stands for one of."""
    bridge_nf: str = ""
    """net.bridge.bridge-nf-call-iptables; "" without a file of sysctls, "missing" if it is not in there."""

    def port(self, name: str) -> Port:
        """The device of this name, made if no file shows it."""
        dev = self.net.devs.get(name)
        try:
            made = dev if dev is not None else Port(self.net, name)
        except OSError as error:
            raise UsageError(f"{name!r} cannot be a device: {error.strerror}", try_="--in-interface eth0") from None
        assert isinstance(made, Port), f"{name} is not a port"
        return made


def build_node(dumps: Dumps) -> Node:
    """The node as these files describe it. Raises ManifestError."""
    net = new_namespace(Host(EventLoop(), "node"), "node")
    node = Node(net)
    _sockets_are_not_here(node)
    _addresses(node, dumps)
    _routes(node, dumps)
    _sysctls(node, dumps)
    _stand_ins(node)
    _rules(node, dumps)
    _connections(node, dumps)
    return node


def _sockets_are_not_here(node: Node) -> None:
    """What is for the node is kept, instead of being answered with a reset."""

    def keep(skb: SkBuff) -> None:
        node.delivered.append(skb)
        if skb.tr is not None:
            station(skb, "ip_protocol_deliver_rcu", "to a socket, if there is one")

    for proto in (6, 17, 132):
        node.net.inet_protos[proto] = (keep, *node.net.inet_protos.get(proto, (None, None))[1:])


# ---- devices and routes


def _addresses(node: Node, dumps: Dumps) -> None:
    file, text = dumps.addresses
    if not file:
        node.assumed.append("no --ip-addr: the node's own addresses are those that local routes and `src` in --routes name"
                            if dumps.routes[0] else "no --ip-addr and no --routes: none of the node's own addresses is known")
        return
    node.has_addresses = node.knows_addresses = True
    for device in read_addresses(text, file):
        _device(node, device, file)


def _device(node: Node, device: Device, file: str) -> None:
    net = node.net
    try:
        dev = net.lo if device.name == "lo" else Port(net, device.name)
        if device.name != "lo":
            dev_set_mtu(dev, device.mtu)
            if device.mac:
                dev_set_addr(dev, device.mac)
            dev_change_flags(dev, device.is_up)
        for address in device.addresses:
            if address.addr != 0x7F000001:
                inet_addr_add(dev, address.addr, address.plen, address.brd or None, scope=address.scope)
    except OSError as error:
        raise ManifestError(f"{file}: {device.name} does not fit: {error.strerror}", file, 0, try_="ip addr > ip-addr") from None


def _routes(node: Node, dumps: Dumps) -> None:
    file, text = dumps.routes
    net = node.net
    if not file:
        node.assumed.append("no --routes: only the subnets of the node's addresses are known; anything else leaves by an unknown device")
        fib_add(net, 0, 0, dev=node.port(UPLINK), metric=1 << 30)
        return
    node.has_routes = True
    for own in [r for r in fib_dump(net) if r.dev is not None and r.dev is not net.lo]:
        fib_remove(net, own)  # the kernel's own are in the file, if they are there
    routes = read_routes(text, file)
    others = sorted({r.table for r in routes} - set(TABLE_NUMBERS))
    if others:
        node.assumed.append(f"routes of table {', '.join(others)} are not asked: `ip rule` is in no file")
    if not node.has_addresses:
        _addresses_by_routes(node, routes)
    for route in sorted(routes, key=lambda r: bool(r.gateway)):
        if route.table in ("main", "default") or route.table.isdigit():
            _route(node, route, file)


def _addresses_by_routes(node: Node, routes: list[RouteLine]) -> None:
    """local 172.18.0.2 dev eth0; 10.48.1.0/24 dev cni0 src 10.48.1.1"""
    found: dict[int, str] = {}
    for r in routes:
        if r.table == "local" and r.type == RTN_LOCAL and r.plen == 32 and r.dev not in ("", "lo"):
            found.setdefault(r.prefix, r.dev)
            node.knows_addresses = True
        if r.prefsrc and r.dev:
            found.setdefault(r.prefsrc, r.dev)
    for addr, name in found.items():
        if name != "lo":
            inet_addr_add(node.port(name), addr, 32)


def _route(node: Node, r: RouteLine, file: str) -> None:
    net = node.net
    dev = None
    if r.multipath:
        dev = node.port(f"(nexthops:{r.line})"[:15])
        node.assumed.append(f"{file}:{r.line} has several next hops: which one is taken is not known")
    elif r.dev:
        dev = net.lo if r.dev == "lo" else node.port(r.dev)
        if not dev.flags & IFF_UP:
            dev_change_flags(dev, True)
    if dev is None and r.type == RTN_UNICAST:
        raise ManifestError(f"{file}: a route has no device", file, r.line, try_="ip route show table all > routes")
    if r.prefsrc and r.prefsrc not in net.local_addrs[AF_INET] and dev is not None:
        inet_addr_add(dev, r.prefsrc, 32)
    try:
        fib_add(net, r.prefix, r.plen, dev=dev, gateway=r.gateway, prefsrc=r.prefsrc, metric=r.metric, scope=r.scope, type=r.type,
                table=TABLE_NUMBERS.get(r.table) or int(r.table), onlink=True if r.gateway else r.onlink, append=True,
                protocol=RTPROT_KERNEL if r.is_kernel else 4)
    except OSError as error:
        if error.errno != 17:
            raise ManifestError(f"{file}: a route does not fit: {error.strerror}", file, r.line,
                                try_="ip addr > ip-addr; ip route show table all > routes") from None


def _sysctls(node: Node, dumps: Dumps) -> None:
    file, text = dumps.sysctls
    if not file:
        node.assumed.append("no --sysctl: net.ipv4.ip_forward = 1, all else as the kernel sets it (rp_filter = 0)")
        ip_forward_write(node.net, 1)
        return
    values = read_sysctls(text, file)
    node.bridge_nf = values.get(BRIDGE_NF, "missing")
    if not node.has_addresses:
        for name in values:
            dev = name.removeprefix("net.ipv4.conf.").rpartition(".")[0]
            if name.startswith("net.ipv4.conf.") and dev not in ("all", "default", "lo"):
                node.port(dev)
    first = ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding")  # writing them resets the devices' forwarding
    for name in sorted(values, key=lambda name: first.index(name) if name in first else len(first)):
        if name.startswith(("net.ipv4.", "net.netfilter.", "net.bridge.")):
            try:
                write_sysctl(node.net, name, values[name])
            except (OSError, KeyError) as error:
                # one that this kernel has not, or of a device that is in no file, cannot matter to a packet here
                if isinstance(error, OSError) and error.errno == errno.EINVAL and name.startswith(("net.ipv4.conf.", *first)):
                    raise _bad_sysctl(name, values[name], file, text) from None


def _bad_sysctl(name: str, value: str, file: str, text: str) -> ManifestError:
    lines = [at for at, line in enumerate(text.splitlines(), 1) if line.partition("=")[0].strip().replace("/", ".") == name]
    return ManifestError(f"{file}: {name} cannot be {value!r}", file, lines[-1], why="it is a number", try_="sysctl -a > sysctl",
                         at=f"{file}:{lines[-1]}")


def _stand_ins(node: Node) -> None:
    """A device whose address is in no file has one all the same, and MASQUERADE would drop where it finds none.

    If all addresses are known, a device without one really has none, and inet_select_addr() looks at the other devices; only
    behind UPLINK and several next hops, which stand for any device, this tells nothing, unless there is but one address.
    """
    net = node.net
    known = [addr for addr in net.local_addrs[AF_INET] if addr >> 24 != 127]
    for dev in list(net.devs.values()):
        if dev is net.lo or any(d is dev for addr, d in net.local_addrs[AF_INET].items()):
            continue
        if node.knows_addresses and (not dev.name.startswith("(") or len(known) == 1):
            continue
        addr = FIRST_STAND_IN + dev.ifindex % 256
        inet_addr_add(dev, addr, 32)
        node.stand_ins[addr] = dev.name


# ---- rules


def _rules(node: Node, dumps: Dumps) -> None:
    file, text = dumps.rules
    load_sets(node.net, *reversed(dumps.sets))
    loadable, node.unknown = set_aside(text, file, ip_sets(node.net))
    try:
        iptables_restore(node.net, AF_INET, loadable, source=file)
    except XtablesError as error:
        raise ManifestError(f"{file}: the rules cannot be loaded", file, why=error.text.strip().split("\n")[0],
                            try_="iptables-save > rules") from None
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith(SAID_BY_THE_TOOL):
            node.assumed.append(f"{file}:{at} says {line[2:].strip()!r}: those were not asked")
    for name in STATEFUL:
        if f"-m {name} " in text:
            node.assumed.append(f"-m {name} starts afresh: what it has counted so far is in no file")


# ---- connections


def _connections(node: Node, dumps: Dumps) -> None:
    file, text = dumps.conntrack
    if not file:
        node.assumed.append("no --conntrack: the packet is the first of its connection")
        return
    net = node.net
    nf_ct_netns_get(net)  # where there are entries, there is tracking
    assert net.ct is not None
    for entry in read_conntrack(text, file):
        ct = _connection(net, entry)
        node.entry_lines[id(ct)] = entry.line
        net.ct.insert(ct)
        if ct.status & IPS_NAT_MASK and net.nat is None:
            nf_nat_register_provider(net, AF_INET, POSTROUTING, 0, lambda skb, hook: ACCEPT)  # and where they translate, there is NAT


def _connection(net: NetNamespace, entry: Entry) -> NfConn:
    """As ctnetlink makes one from a message; its window is not known, so it is liberal. Linux: ctnetlink_create_conntrack()."""
    ct = NfConn(net, entry.orig, entry.reply, Zone(entry.zone))
    ct.status = IPS_CONFIRMED | IPS_NAT_DONE_MASK
    if not entry.unreplied:
        ct.status |= IPS_SEEN_REPLY
    if entry.assured:
        ct.status |= IPS_ASSURED
    straight = inverse(entry.orig)
    if entry.reply[2:4] != straight[2:4]:
        ct.status |= IPS_SRC_NAT
    if entry.reply[0:2] != straight[0:2]:
        ct.status |= IPS_DST_NAT
    ct.timeout = net.loop.now + max(entry.seconds, 1) * SEC
    ct.mark = entry.mark
    if entry.orig[4] & 0xFF == 6:
        ct.proto = TcpTrack()
        ct.proto.state = STATE_NAMES.index(entry.state)
        for peer in ct.proto.seen:
            peer.flags |= F_BE_LIBERAL
    return ct
