"""Network devices: the record, its life (register, up, down, rename, move), and the two doors every frame passes.

    dev_queue_xmit(skb)        out: captures, segmentation if the device cannot carry a super-segment, dev.xmit()
    netif_receive_skb(skb)     in:  captures, the bridge if the device is a port, else the protocol's handler

A device is a subclass with one method, xmit(skb). The kernel's other layers hang on by tables, as in Linux: a bridge
sets `rx_handler` of its ports, protocols stand in net.ptype, and whoever must know that a device came, went or changed
adds a function to `netdev_chain` (addresses, routes and neighbours do).

Handing over costs time: VETH_COST for veth, loopback and the bridge, NIC_COST for a network card. xmit() never calls
the other side's receive function: it makes one event, so recursion is bounded and a packet is at one place at a time.
Between two namespaces or hosts a frame leaves a line in the ledger (ledger_frame) and loses what belongs to the old
one (scrub).

Sources: Linux net/core/dev.c, include/linux/netdevice.h, include/linux/if_link.h.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from os import strerror
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.gso import skb_gso_segment
from kubenet.kernel.skbuff import (
    ETH_P_ARP,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    DropReason,
    SkBuff,
    drop,
    station,
)
from kubenet.kernel.sysctl import Ipv4Conf, NeighConf
from kubenet.sim.ledger import Line

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_POINTOPOINT = 0x1, 0x2, 0x8, 0x10
IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MASTER, IFF_SLAVE, IFF_MULTICAST = 0x80, 0x100, 0x200, 0x400, 0x800, 0x1000

NETIF_F_TSO, NETIF_F_GSO, NETIF_F_GRO, NETIF_F_CSUM = 1, 2, 4, 8
NETIF_F_ALL = 15

VETH_COST = 1_000  # ns: a hand-over inside one machine
NIC_COST = 5_000  # ns: driver, DMA and interrupt

ETH_BROADCAST = 0xFFFFFFFFFFFF

NET_XMIT_DROP = -errno.ENOBUFS  # what net_xmit_errno() makes of it

# operstate (RFC 2863), as `ip link` prints it
OPER_UNKNOWN, OPER_DOWN, OPER_LOWERLAYERDOWN, OPER_UP = "UNKNOWN", "DOWN", "LOWERLAYERDOWN", "UP"

# events of netdev_chain
NETDEV_UP, NETDEV_DOWN, NETDEV_REGISTER, NETDEV_UNREGISTER = "UP", "DOWN", "REGISTER", "UNREGISTER"
NETDEV_CHANGEADDR, NETDEV_CHANGEMTU, NETDEV_CHANGE = "CHANGEADDR", "CHANGEMTU", "CHANGE"

netdev_chain: list[Callable[[str, NetDevice], None]] = []  # told of every change, in order of registration


def oserror(code: int, text: str = "") -> OSError:
    """An OSError with Linux's errno and words."""
    return OSError(code, text or strerror(code))


class IfAddr:
    """One IPv4 address of a device. scope: 0 global, 253 link, 254 host. Linux: struct in_ifaddr."""

    __slots__ = ("addr", "plen", "scope", "brd", "label", "secondary")

    def __init__(self, addr: int, plen: int, scope: int = 0, brd: int = 0, label: str = "") -> None:
        self.addr = addr
        self.plen = plen
        self.scope = scope
        self.brd = brd
        self.label = label
        self.secondary: bool = False


class NetDevice:
    """What every device has. Subclasses set `kind` and write xmit(). Linux: struct net_device."""

    __slots__ = (
        "net", "name", "ifindex", "mtu", "addr", "flags", "operstate", "carrier", "features", "kind", "peer", "master",
        "br_port", "rx_handler", "qdisc", "taps", "ledger_name", "rx_packets", "rx_bytes", "rx_dropped", "rx_errors",
        "tx_packets", "tx_bytes", "tx_dropped", "tx_errors", "rx_multicast", "conf", "neigh_conf", "ifaddrs", "txqlen",
        "alias", "group", "default_qdisc", "addr_set", "activated", "promiscuity", "reachable_time", "reachable_until", "data",
    )

    def __init__(self, net: NetNamespace, name: str, kind: str, mtu: int = 1500, addr: int = 0) -> None:
        self.net = net
        self.name = name
        self.ifindex: int = 0
        self.mtu = mtu
        self.addr = addr
        self.flags: int = IFF_BROADCAST | IFF_MULTICAST
        self.operstate: str = OPER_DOWN
        self.carrier: bool = True
        self.features: int = NETIF_F_ALL
        self.kind = kind
        self.peer: Any = None
        self.master: Any = None
        self.br_port: Any = None
        self.rx_handler: Callable[[SkBuff], None] | None = None
        self.qdisc: Any = None
        self.taps: list[Any] | None = None
        self.ledger_name: str = ""
        self.rx_packets: int = 0
        self.rx_bytes: int = 0
        self.rx_dropped: int = 0
        self.rx_errors: int = 0
        self.rx_multicast: int = 0
        self.tx_packets: int = 0
        self.tx_bytes: int = 0
        self.tx_dropped: int = 0
        self.tx_errors: int = 0
        self.conf: Ipv4Conf = _NO_CONF
        self.neigh_conf: NeighConf = _NO_NEIGH
        self.ifaddrs: list[IfAddr] = []
        self.txqlen: int = 1000
        self.default_qdisc: str = "noqueue"
        self.alias: str = ""
        self.group: int = 0
        self.addr_set: bool = False  # an administrator chose the MAC (a bridge then keeps it)
        self.activated: bool = False  # it was up once, and has its queueing discipline since: dev_activate()
        self.promiscuity: int = 0
        self.reachable_time: int = 0  # ns; this device's present draw of base_reachable_time x 0.5..1.5
        self.reachable_until: int = -1
        self.data: Any = None

    def xmit(self, skb: SkBuff) -> int:
        """Carry the frame away; it is not the caller's any more. 0, or NET_XMIT_DROP if the sender can know it is lost.

        Linux: ndo_start_xmit().
        """
        raise NotImplementedError

    def open(self) -> None:
        """The device is about to be up; OSError if it cannot be. Linux: ndo_open()."""

    def stop(self) -> None:
        """The device is about to be down. Linux: ndo_stop()."""

    def change_mtu(self, mtu: int) -> None:
        """OSError if the device cannot have this MTU. Linux: ndo_change_mtu()."""

    def update_carrier(self) -> None:
        """Set `carrier` and `operstate` from what the device depends on."""
        self.operstate = OPER_UP if self.flags & IFF_UP else OPER_DOWN

    def set_carrier(self, carrier: bool) -> None:
        """The carrier is there or not; who must know is told while the device is up. Linux: netif_carrier_on()/off()."""
        was, self.carrier = self.carrier, carrier
        if was != carrier and self.flags & IFF_UP:
            call_netdevice_notifiers(NETDEV_CHANGE, self)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.ledger_name or self.name}>"


_NO_CONF = Ipv4Conf()
_NO_NEIGH = NeighConf()


def call_netdevice_notifiers(event: str, dev: NetDevice) -> None:
    """Everybody in netdev_chain and the namespace's watchers have heard of it."""
    for fn in netdev_chain:
        fn(event, dev)
    for watcher in dev.net.watchers:
        watcher("link", (event, dev))


def dev_new_index(net: NetNamespace) -> int:
    """The next interface index of this namespace; none is used twice. Linux: dev_index_reserve()."""
    index: int = net.extra.get("ifindex", 0) + 1
    while index in net.dev_by_index:
        index += 1
    net.extra["ifindex"] = index
    return index


def dev_valid_name(name: str) -> bool:
    """Linux: dev_valid_name()."""
    return 0 < len(name) < 16 and name not in (".", "..") and not any(c in "/:" or c.isspace() for c in name)


def register_netdevice(net: NetNamespace, dev: NetDevice) -> None:
    """The device is visible in `net`, down. OSError EEXIST, EINVAL as `ip link add`. Linux: register_netdevice()."""
    if not dev_valid_name(dev.name):
        raise oserror(errno.EINVAL)
    if dev.name in net.devs:
        raise oserror(errno.EEXIST)
    dev.net = net
    if not dev.ifindex or dev.ifindex in net.dev_by_index:
        dev.ifindex = dev_new_index(net)
    net.devs[dev.name] = dev
    net.dev_by_index[dev.ifindex] = dev
    net.sysctl.add_device(dev.name)
    _name_changed(dev)
    call_netdevice_notifiers(NETDEV_REGISTER, dev)


def _name_changed(dev: NetDevice) -> None:
    net = dev.net
    dev.conf = net.sysctl.conf4[dev.name]
    dev.neigh_conf = net.sysctl.neigh4[dev.name]
    dev.ledger_name = f"{net.host.name}/{net.name}/{dev.name}"


def unregister_netdevice(dev: NetDevice) -> None:
    """The device is gone, with its addresses, routes and neighbours; a veth takes its peer along.

    Linux: unregister_netdevice(), veth_dellink().
    """
    net = dev.net
    if net.devs.get(dev.name) is not dev:
        return
    dev_change_flags(dev, False)
    if dev.master is not None:
        dev.master.del_port(dev)
    call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
    del net.devs[dev.name]
    del net.dev_by_index[dev.ifindex]
    net.sysctl.remove_device(dev.name)
    if dev.kind == "bridge":
        for port in list(dev.data.values()):
            port.dev.master.del_port(port.dev)
    peer, dev.peer = dev.peer, None
    if peer is not None:
        peer.peer = None
        unregister_netdevice(peer)


def dev_change_flags(dev: NetDevice, up: bool) -> None:
    """The device is up or down, and everybody knows. Linux: __dev_open(), __dev_close()."""
    if bool(dev.flags & IFF_UP) == up:
        return
    if up:
        dev.open()
        dev.activated = True
    else:
        dev.stop()
    dev.flags ^= IFF_UP
    dev.update_carrier()
    if dev.peer is not None:
        dev.peer.update_carrier()
    call_netdevice_notifiers(NETDEV_UP if up else NETDEV_DOWN, dev)
    for other in (dev.master, dev.peer.master if dev.peer is not None else None):
        if other is not None:
            other.update_carrier()


def dev_set_mtu(dev: NetDevice, mtu: int) -> None:
    """The largest network-layer packet is `mtu` bytes from now on. OSError EINVAL. Linux: dev_set_mtu(), dev_validate_mtu()."""
    if mtu < 68:
        raise oserror(errno.EINVAL, "mtu less than device minimum.")
    if mtu > (65536 if dev.kind == "loopback" else 65535):
        raise oserror(errno.EINVAL, "mtu greater than device maximum.")
    if mtu != dev.mtu:
        dev.change_mtu(mtu)
        dev.mtu = mtu
        call_netdevice_notifiers(NETDEV_CHANGEMTU, dev)
        if dev.master is not None:
            dev.master.mtu_auto_adjust()


def dev_set_addr(dev: NetDevice, mac: int) -> None:
    """The device's MAC address is `mac`. OSError EADDRNOTAVAIL for zero or a group address. Linux: eth_mac_addr()."""
    if mac == 0 or mac >> 40 & 1:
        raise oserror(errno.EADDRNOTAVAIL)
    old, dev.addr = dev.addr, mac
    dev.addr_set = True
    if dev.master is not None:
        dev.master.port_addr_changed(dev, old)
    elif dev.kind == "bridge":
        dev.own_addr_changed(old)  # type: ignore[attr-defined]
    call_netdevice_notifiers(NETDEV_CHANGEADDR, dev)


def dev_change_name(dev: NetDevice, name: str) -> None:
    """Renamed. OSError EEXIST, EINVAL. Linux: dev_change_name(); allowed while up since 6.2."""
    net = dev.net
    if not dev_valid_name(name):
        raise oserror(errno.EINVAL)
    if name in net.devs:
        raise oserror(errno.EEXIST)
    conf, neigh = net.sysctl.conf4.pop(dev.name), net.sysctl.neigh4.pop(dev.name)
    net.devs = {name if key == dev.name else key: value for key, value in net.devs.items()}
    net.sysctl.conf4[name], net.sysctl.neigh4[name] = conf, neigh
    dev.name = name
    _name_changed(dev)
    call_netdevice_notifiers(NETDEV_CHANGE, dev)


def dev_change_net(dev: NetDevice, net: NetNamespace, name: str = "") -> None:
    """Moved: down and without addresses in the new namespace, index kept if it is free there. OSError EEXIST.

    Linux: __dev_change_net_namespace().
    """
    name = name or dev.name
    if name in net.devs:
        raise oserror(errno.EEXIST)
    dev_change_flags(dev, False)
    if dev.master is not None:
        dev.master.del_port(dev)
    old = dev.net
    call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
    del old.devs[dev.name]
    del old.dev_by_index[dev.ifindex]
    old.sysctl.remove_device(dev.name)
    dev.name = name
    dev.ifaddrs = []
    dev.activated = False  # dev_shutdown()
    register_netdevice(net, dev)


# -- the data path ---------------------------------------------------------------------------------------------------


def dev_queue_xmit(skb: SkBuff) -> int:
    """The frame is on its way through skb.dev (with skb.eth). 0, -ENETDOWN, or -ENOBUFS if it was dropped at once.

    Linux: dev_queue_xmit().
    """
    dev = skb.dev
    if not dev.flags & IFF_UP:
        dev.tx_dropped += 1
        drop(skb, DropReason.DEV_READY)
        return -errno.ENETDOWN
    if skb.gso_size and not dev.features & NETIF_F_TSO:
        return _xmit_segments(dev, skb)
    if dev.taps is not None:
        for tap in dev.taps:
            tap.capture(dev, skb, True)
    if skb.tr is not None:
        station(skb, "dev_queue_xmit", f"out through {dev.name}")
    result: int = dev.xmit(skb)
    return result


def _xmit_segments(dev: NetDevice, skb: SkBuff) -> int:
    """The device carries no super-segments: software cuts them first. Linux: validate_xmit_skb(), skb_gso_segment()."""
    result = 0
    for segment in skb_gso_segment(skb):
        result = dev_queue_xmit(segment) or result
    return result


def eth_type_trans(skb: SkBuff, dev: NetDevice) -> None:
    """skb.pkt_type says for whom the frame is: this device, a group, or somebody else. Linux: eth_type_trans()."""
    dst = skb.eth.dst  # type: ignore[union-attr]
    if dst == dev.addr:
        skb.pkt_type = PACKET_HOST
    elif dst >> 40 & 1:
        skb.pkt_type = PACKET_BROADCAST if dst == ETH_BROADCAST else PACKET_MULTICAST
    else:
        skb.pkt_type = PACKET_OTHERHOST


def skb_scrub_packet(skb: SkBuff, net: NetNamespace) -> None:
    """The packet enters `net` and forgets what it was in the namespace it left: route, connection, mark, socket.

    Linux: skb_scrub_packet(xnet=true).
    """
    skb.net = net
    skb.dst = None
    skb.sk = None
    skb.ct = None
    skb.ctinfo = 0
    skb.mark = 0
    skb.nf_bridge = None
    skb.nf_trace = False
    skb.ignore_df = False


def ledger_frame(dev: NetDevice, skb: SkBuff) -> None:
    """The run's record has a line for this frame: it reached `dev` from another namespace or host."""
    ip, l4 = skb.ip, skb.l4
    loop = dev.net.loop
    if skb.protocol == ETH_P_ARP:
        line: Line = (loop.now, dev.ledger_name, skb.id, skb.len, ip.spa, ip.tpa, 0, 0, ip.op, 0, 0)
    elif l4 is None or ip is None:
        saddr, daddr = getattr(ip, "saddr", 0), getattr(ip, "daddr", 0)
        line = (loop.now, dev.ledger_name, skb.id, skb.len, saddr, daddr, 0, 0, 0, 0, 0)
    elif ip.proto == 6:
        line = (loop.now, dev.ledger_name, skb.id, skb.len, ip.saddr, ip.daddr, l4.sport, l4.dport, l4.flags, l4.seq,
                l4.ack_seq)
    elif ip.proto == 17:
        line = (loop.now, dev.ledger_name, skb.id, skb.len, ip.saddr, ip.daddr, l4.sport, l4.dport, 0, 0, 0)
    else:
        line = (loop.now, dev.ledger_name, skb.id, skb.len, ip.saddr, ip.daddr, 0, 0, l4.type, l4.rest, 0)
    loop.ledger.add(line)


def netif_receive_skb(skb: SkBuff) -> None:
    """The frame came in on skb.dev: to the captures, then to the bridge or the protocol.

    Linux: __netif_receive_skb_core().
    """
    dev = skb.dev
    if not dev.flags & IFF_UP:
        dev.rx_dropped += 1
        return drop(skb, DropReason.DEV_READY)
    skb.iif = dev.ifindex
    if dev.taps is not None:
        for tap in dev.taps:
            tap.capture(dev, skb, False)
    if skb.tr is not None:
        station(skb, "netif_receive_skb", f"in on {dev.name}")
    handler: Callable[[SkBuff], None] | None = dev.rx_handler
    if handler is None:
        handler = dev.net.ptype.get(skb.protocol)
        if handler is None:
            dev.rx_dropped += 1
            return drop(skb, DropReason.UNHANDLED_PROTO)
    handler(skb)
    return None


def is_skb_forwardable(dev: NetDevice, skb: SkBuff) -> bool:
    """False for a frame that the receiving or bridged-to device may not carry. Linux: is_skb_forwardable().

    The limit leaves room for a VLAN tag, and a super-segment always passes, as in Linux.
    """
    return skb.len <= dev.mtu + 4 or skb.gso_size > 0


def add_tap(dev: NetDevice, tap: Any) -> None:
    """`tap.capture(dev, skb, outgoing)` sees every frame; it must not edit, keep (clone) or delay it."""
    if dev.taps is None:
        dev.taps = []
    dev.taps.append(tap)


def remove_tap(dev: NetDevice, tap: Any) -> None:
    """The tap sees nothing any more."""
    if dev.taps is not None:
        dev.taps = [other for other in dev.taps if other is not tap] or None
