r"""The Linux bridge (cni0): a learning switch made of devices, which is itself a device of the node.

    port --> br_handle_frame --> learn src --> known dst: br_forward() to that port
                                            --> own MAC:   br_pass_frame_up() to the node's IP stack
                                            --> unknown or group: br_flood() to every other port
    node's IP stack --> Bridge.xmit() --> the same towards the ports

FDB entries age after 300 s without a frame from them. A frame never goes back through the port it came in on unless
hairpin mode is on there. The bridge takes the lowest MAC of its ports unless one was set, and the lowest MTU likewise.
STP is off: ports forward at once.

br_netfilter (ipv4/br_netfilter.py) hangs on the bridge family's hooks: PREROUTING when a frame comes in from a port,
FORWARD and POSTROUTING when it goes to one. It keeps its notes in skb.nf_bridge, an NfBridge.

The bridge's share of time is paid by the port's veth (veth.cost), so a hand-over inside the bridge is no event of its
own. Left out: VLANs, STP, multicast snooping (groups are flooded), neighbour suppression. Sources: Linux
net/bridge/br_input.c, br_forward.c, br_fdb.c, br_device.c, br_if.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import (
    IFF_LOOPBACK,
    IFF_UP,
    NETDEV_CHANGEADDR,
    NETDEV_CHANGEMTU,
    OPER_DOWN,
    OPER_UP,
    VETH_COST,
    NetDevice,
    call_netdevice_notifiers,
    dev_queue_xmit,
    is_skb_forwardable,
    netif_receive_skb,
    oserror,
    register_netdevice,
)
from kubenet.kernel.netfilter.core import ACCEPT, FORWARD, NFPROTO_BRIDGE, POSTROUTING, PREROUTING, nf_hook
from kubenet.kernel.skbuff import PACKET_HOST, DropReason, SkBuff, drop, station
from kubenet.units import SEC
from kubenet.wire.ethernet import EthHdr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

AGEING_TIME = 300 * SEC
BR_MAX_PORTS = 1023
UNKNOWN_SPEED = ("vxlan", "dummy", "tun")  # their drivers tell ethtool no speed
LINK_LOCAL = 0x0180C2000000  # ..0F: never forwarded (IEEE 802.1D 7.12.6)


class NfBridge:
    """br_netfilter's notes on one frame. Linux: struct nf_bridge_info.

    physindev, physoutdev: the ports (`-m physdev`); daddr: before PREROUTING; bridged_dnat: the frame was DNATed to a host
    on this bridge and waits for its MAC; src_mac: the sender's, to be restored then.
    """

    __slots__ = ("physindev", "physoutdev", "daddr", "bridged_dnat", "src_mac")

    def __init__(self, physindev: NetDevice, daddr: int) -> None:
        self.physindev = physindev
        self.physoutdev: NetDevice | None = None
        self.daddr = daddr
        self.bridged_dnat: bool = False
        self.src_mac: int = 0


class FdbEntry:
    """Where a MAC address lives. port None: the bridge itself. `updated`: ns of the last frame from it.

    is_local: frames to it are ours; is_static: it does not age; sticky: it does not move to another port.
    """

    __slots__ = ("mac", "port", "updated", "is_local", "is_static", "sticky")

    def __init__(
        self, mac: int, port: BridgePort | None, updated: int, is_local: bool = False, is_static: bool = False
    ) -> None:
        self.mac = mac
        self.port = port
        self.updated = updated
        self.is_local = is_local
        self.is_static = is_static
        self.sticky: bool = False


class BridgePort:
    """One port. Linux: struct net_bridge_port."""

    __slots__ = ("dev", "br", "port_no", "hairpin", "flood", "learning", "isolated", "priority", "path_cost")

    def __init__(self, br: Bridge, dev: NetDevice, port_no: int, hairpin: bool) -> None:
        self.br = br
        self.dev = dev
        self.port_no = port_no
        self.hairpin = hairpin
        self.flood: bool = True
        self.learning: bool = True
        self.isolated: bool = False
        self.priority: int = 32
        self.path_cost: int = 100 if dev.kind in UNKNOWN_SPEED else 2  # port_cost(): of 10 Gbit/s


class Bridge(NetDevice):
    """The bridge device. `data` is the dict of ports by device name."""

    __slots__ = ("ports", "fdb", "ageing", "mtu_set", "fake_dst")

    def __init__(self, net: NetNamespace, name: str, mtu: int = 1500) -> None:
        super().__init__(net, name, "bridge", mtu=mtu, addr=net.host.mac(net.name, name))
        self.ports: dict[str, BridgePort] = {}
        self.data = self.ports
        self.fdb: dict[int, FdbEntry] = {}
        self.ageing: int = AGEING_TIME
        self.mtu_set: bool = False
        self.fake_dst: object = None
        self.carrier = False
        register_netdevice(net, self)
        self.fdb[self.addr] = FdbEntry(self.addr, None, 0, True, True)

    # -- configuration

    def add_port(self, dev: NetDevice, hairpin: bool = False) -> BridgePort:
        """`dev` is a port from now on. OSError EBUSY, EINVAL (lo), ELOOP (another bridge), EXFULL.

        Linux: br_add_if().
        """
        if dev.flags & IFF_LOOPBACK or dev.net is not self.net:
            raise oserror(errno.EINVAL)
        if dev.kind == "bridge":
            raise oserror(errno.ELOOP)
        if dev.master is not None:
            raise oserror(errno.EBUSY)
        if len(self.ports) >= BR_MAX_PORTS:
            raise oserror(errno.EXFULL)
        used = {port.port_no: True for port in self.ports.values()}
        port_no = next(n for n in range(1, BR_MAX_PORTS + 1) if n not in used)
        port = self.ports[dev.name] = BridgePort(self, dev, port_no, hairpin)
        dev.master, dev.br_port, dev.rx_handler = self, port, br_handle_frame
        dev.promiscuity += 1
        if hasattr(dev, "cost"):
            dev.cost = 2 * VETH_COST
        self.fdb[dev.addr] = FdbEntry(dev.addr, port, 0, True, True)
        self.recalculate_bridge_id()
        self.mtu_auto_adjust()
        self.update_carrier()
        return port

    def del_port(self, dev: NetDevice) -> None:
        """`dev` is an ordinary device again; what was learned behind it is forgotten. Linux: br_del_if()."""
        port = dev.br_port
        if port is None or port.br is not self:
            raise oserror(errno.EINVAL)
        self.ports = self.data = {name: p for name, p in self.ports.items() if p is not port}
        dev.master = dev.br_port = dev.rx_handler = None
        dev.promiscuity -= 1
        if hasattr(dev, "cost"):
            dev.cost = VETH_COST
        self.fdb_flush(port)
        self.recalculate_bridge_id()
        self.mtu_auto_adjust()
        self.update_carrier()

    def fdb_flush(self, port: BridgePort | None = None) -> None:
        """Forget what was learned behind `port` (its own MAC too), or behind all ports.

        Linux: br_fdb_delete_by_port().
        """
        if port is not None:
            gone = [mac for mac, entry in self.fdb.items() if entry.port is port]
        else:
            gone = [mac for mac, entry in self.fdb.items() if not entry.is_static]
        for mac in gone:
            del self.fdb[mac]

    def fdb_add(self, mac: int, port: BridgePort | None, local: bool, static: bool, sticky: bool, excl: bool) -> None:
        """`mac` lives behind `port` (None: here), as an administrator says. OSError EEXIST if excl and it is known, EINVAL.

        Linux: br_fdb_add(), fdb_add_entry().
        """
        if not mac or (port is None and not local) or (sticky and local):
            raise oserror(errno.EINVAL)
        if excl and any(entry.mac == mac for entry in self.fdb_entries()):
            raise oserror(errno.EEXIST)
        entry = self.fdb[mac] = FdbEntry(mac, port, self.net.loop.now, local, local or static)
        entry.sticky = sticky

    def fdb_delete(self, mac: int, port: BridgePort | None) -> None:
        """`mac` is not known behind `port` any more. OSError ENOENT. Linux: fdb_delete_by_addr_and_port()."""
        entry = self.fdb.get(mac)
        if entry is None or entry.port is not port:
            raise oserror(errno.ENOENT)
        del self.fdb[mac]

    def fdb_entries(self) -> list[FdbEntry]:
        """The entries that have not aged out, for `bridge fdb`."""
        now = self.net.loop.now
        return [e for e in self.fdb.values() if e.is_static or now - e.updated <= self.ageing]

    def recalculate_bridge_id(self) -> None:
        """The bridge's MAC is the lowest of its ports', unless one was set. Linux: br_stp_recalculate_bridge_id()."""
        if self.addr_set or not self.ports:
            return
        lowest = min(port.dev.addr for port in self.ports.values())
        if lowest != self.addr:
            old, self.addr = self.addr, lowest
            self.own_addr_changed(old)
            call_netdevice_notifiers(NETDEV_CHANGEADDR, self)

    def own_addr_changed(self, old: int) -> None:
        """The FDB knows the bridge's new address. Linux: br_fdb_change_mac_address()."""
        entry = self.fdb.get(old)
        if entry is not None and entry.port is None:
            del self.fdb[old]
            for port in self.ports.values():
                if port.dev.addr == old:
                    self.fdb[old] = FdbEntry(old, port, 0, True, True)
        if self.addr not in self.fdb or not self.fdb[self.addr].is_local:
            self.fdb[self.addr] = FdbEntry(self.addr, None, 0, True, True)

    def port_addr_changed(self, dev: NetDevice, old: int) -> None:
        """A port has another MAC. Linux: br_fdb_changeaddr()."""
        self.fdb.pop(old, None)
        self.fdb[dev.addr] = FdbEntry(dev.addr, dev.br_port, 0, True, True)
        self.recalculate_bridge_id()

    def mtu_auto_adjust(self) -> None:
        """The bridge's MTU is the lowest of its ports', unless one was set. Linux: br_mtu_auto_adjust()."""
        if not self.mtu_set and self.ports:
            lowest = min(port.dev.mtu for port in self.ports.values())
            if lowest != self.mtu:
                self.mtu = lowest
                call_netdevice_notifiers(NETDEV_CHANGEMTU, self)

    def update_carrier(self) -> None:
        """There is a carrier while one port has one. Linux: br_port_carrier_check()."""
        self.set_carrier(any(port.dev.carrier and port.dev.flags & IFF_UP for port in self.ports.values()))
        self.operstate = OPER_UP if self.flags & IFF_UP and self.carrier else OPER_DOWN

    # -- from the node's own stack

    def xmit(self, skb: SkBuff) -> int:
        """The node's own frame goes out through the ports its destination is behind. Linux: br_dev_xmit()."""
        note = skb.nf_bridge
        if note is not None and note.bridged_dnat:
            br_nf_dev_xmit(skb)
            return 0
        self.tx_packets += 1
        self.tx_bytes += skb.len + 14
        dst = skb.eth.dst  # type: ignore[union-attr]
        entry = None if dst >> 40 & 1 else self.fdb.get(dst)
        if entry is None or (not entry.is_static and self.net.loop.now - entry.updated > self.ageing):
            br_flood(self, skb, None)
        elif entry.port is None:
            drop(skb, DropReason.BRIDGE_DEAD_END)
        else:
            br_forward(entry.port, skb, None)
        return 0


def br_nf_dev_xmit(skb: SkBuff) -> None:
    """A frame whose MAC was just found leaves the detour through the bridge device and is bridged as it came.

    Linux: br_nf_dev_xmit(), br_nf_pre_routing_finish_bridge_slow().
    """
    note = skb.nf_bridge
    note.bridged_dnat = False
    note.physoutdev = None
    skb.eth.src = note.src_mac  # type: ignore[union-attr]
    skb.dev = note.physindev
    br_handle_frame_finish(skb)


# -- from a port -----------------------------------------------------------------------------------------------------


def br_handle_frame(skb: SkBuff) -> None:
    """A port received a frame: sanity, then the bridge family's PREROUTING. Linux: br_handle_frame()."""
    port: BridgePort = skb.dev.br_port
    eth: EthHdr = skb.eth  # type: ignore[assignment]
    if eth.src >> 40 & 1 or eth.src == 0:
        return drop(skb, DropReason.NOT_SPECIFIED)
    br = port.br
    if not br.flags & IFF_UP:
        return drop(skb, DropReason.DEV_READY)
    if eth.dst == br.addr:
        skb.pkt_type = PACKET_HOST
    elif eth.dst & ~0xF == LINK_LOCAL:
        return br_pass_frame_up(br, skb)
    if skb.net.nf.run[NFPROTO_BRIDGE][PREROUTING] and nf_hook(NFPROTO_BRIDGE, PREROUTING, skb) != ACCEPT:
        return None
    return br_handle_frame_finish(skb)


def br_handle_frame_finish(skb: SkBuff) -> None:
    """Learn where the frame came from and decide where it goes. Linux: br_handle_frame_finish()."""
    port: BridgePort = skb.dev.br_port
    br = port.br
    eth: EthHdr = skb.eth  # type: ignore[assignment]
    now = br.net.loop.now
    entry = br.fdb.get(eth.src)
    if entry is not None and entry.port is port and not entry.is_local:
        entry.updated = now
    else:
        br_fdb_update(br, port, eth.src, entry)
    dst = eth.dst
    if dst >> 40 & 1:
        if skb.tr is not None:
            station(skb, "br_handle_frame_finish", f"{br.name}: to a group, so to every port and the node")
        br_flood(br, skb.clone(), port)
        return br_pass_frame_up(br, skb)
    entry = br.fdb.get(dst)
    if entry is None or (now - entry.updated > br.ageing and not entry.is_static):
        if skb.tr is not None:
            station(skb, "br_handle_frame_finish", f"{br.name}: unknown destination, so to every port")
        return br_flood(br, skb, port)
    if entry.is_local:
        return br_pass_frame_up(br, skb)
    return br_forward(entry.port, skb, port)  # type: ignore[arg-type]


def br_fdb_update(br: Bridge, port: BridgePort, mac: int, entry: FdbEntry | None) -> None:
    """The FDB says that `mac` lives behind `port`. Linux: br_fdb_update()."""
    if not port.learning:
        return
    if entry is None:
        br.fdb[mac] = FdbEntry(mac, port, br.net.loop.now)
    elif entry.is_local:
        br.net.host.printk(f"{br.name}: received packet on {port.dev.name} with own address as source address")
    elif not entry.sticky:
        entry.port = port
        entry.updated = br.net.loop.now


def br_pass_frame_up(br: Bridge, skb: SkBuff) -> None:
    """The node's own IP stack receives the frame, on the bridge device. Linux: br_pass_frame_up()."""
    br.rx_packets += 1
    br.rx_bytes += skb.len + 14
    skb.dev = br
    netif_receive_skb(skb)


def should_deliver(port: BridgePort, skb: SkBuff, source: BridgePort | None) -> bool:
    """May the frame leave through `port`? Not where it came from, unless hairpin. Linux: should_deliver()."""
    if port is source and not port.hairpin:
        return False
    if not port.dev.flags & IFF_UP or not port.dev.carrier:
        return False
    return not (port.isolated and source is not None and source.isolated)


def br_forward(to: BridgePort, skb: SkBuff, source: BridgePort | None) -> None:
    """The frame leaves through one port. `source` None: it is the node's own. Linux: br_forward(), __br_forward()."""
    if not should_deliver(to, skb, source):
        dead_end = to is source
        return drop(skb, DropReason.BRIDGE_DEAD_END if dead_end else DropReason.BRIDGE_NO_PORT)
    if skb.tr is not None:
        station(skb, "br_forward", f"{to.br.name}: to port {to.dev.name}")
    hooks = skb.net.nf.run[NFPROTO_BRIDGE]
    skb.dev = to.dev
    if source is not None and hooks[FORWARD] and nf_hook(NFPROTO_BRIDGE, FORWARD, skb) != ACCEPT:
        return None
    if hooks[POSTROUTING] and nf_hook(NFPROTO_BRIDGE, POSTROUTING, skb) != ACCEPT:
        return None
    return br_dev_queue_push_xmit(skb)


def br_dev_queue_push_xmit(skb: SkBuff) -> None:
    """Out through skb.dev, unless it is too large for that port. Linux: br_dev_queue_push_xmit()."""
    if not is_skb_forwardable(skb.dev, skb):
        return drop(skb, DropReason.DEV_MTU)
    dev_queue_xmit(skb)
    return None


def br_flood(br: Bridge, skb: SkBuff, source: BridgePort | None) -> None:
    """A copy leaves through every port that may have it. Linux: br_flood()."""
    is_group = bool(skb.eth.dst >> 40 & 1)  # type: ignore[union-attr]
    targets = [p for p in br.ports.values() if (is_group or p.flood) and should_deliver(p, skb, source)]
    if not targets:
        if not is_group:
            drop(skb, DropReason.BRIDGE_NO_PORT)
        return
    last = targets.pop()
    for port in targets:
        br_forward(port, skb.clone(), source)
    br_forward(last, skb, source)
