"""VXLAN devices: Ethernet frames inside UDP, so that machines that share no LAN think they do (flannel.1).

    vx = Vxlan(net, "flannel.1", VxlanConfig(vni=1, local=ip4("172.18.0.2"), link=eth0, learning=False))
    vx.fdb.update(mac, VxlanRdst(ip4("172.18.0.3")), NUD_PERMANENT, NLM_F_CREATE)      who is behind which node

    vxlan_xmit        whom the frame is for: one VTEP, several (the all-zero MAC's), or nobody
      vxlan_xmit_one  route to it, path MTU, outer header: DF off, TTL 64, a source port by the inner flow's hash, so that the
                      underlay spreads flows; then ip_local_out(): OUTPUT, POSTROUTING and conntrack see a UDP packet
    receive.py        the other way

The inner packet travels inside by reference and keeps its id. The MTU is 50 below that of `link`, or 1500 without one: then outer
packets are fragmented, unless df is set, and local senders learn the smaller MTU from their own device. Counters count bytes
without the Ethernet header (observed on 6.18), and no packet that found no VTEP.

A super-segment is wrapped whole; the last device that can carry it so has it cut inside, as TSO for tunnels does.

simplified: a TCP flow's hash does not change after retransmissions (sk_rethink_txhash).
Left out: IPv6 underlay, external (metadata) mode, GBP, GPE, rsc, vnifilter, MDB.
Sources: RFC 7348; Linux drivers/net/vxlan/vxlan_core.c, include/net/udp_tunnel.h udp_flow_src_port(), net/ipv4/ip_tunnel_core.c
iptunnel_xmit(), skb_tunnel_check_pmtu(), include/net/inet_ecn.h.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import (
    IFF_UP,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    OPER_DOWN,
    OPER_UNKNOWN,
    NetDevice,
    netdev_chain,
    oserror,
    register_netdevice,
    unregister_netdevice,
)
from kubenet.kernel.dev.gso import skb_gso_network_seglen
from kubenet.kernel.ipv4.icmp import quote_of
from kubenet.kernel.ipv4.neigh import NUD_CONNECTED, NUD_PERMANENT, NUD_REACHABLE
from kubenet.kernel.ipv4.output import ip_local_out, ip_select_ident
from kubenet.kernel.ipv4.pmtu import ip_rt_update_pmtu
from kubenet.kernel.ipv4.route import BROADCAST, dst_mtu, ip_route_output_key, is_multicast
from kubenet.kernel.skbuff import ETH_HLEN, ETH_P_ARP, ETH_P_IP, DropReason, SkBuff, arm, drop, station
from kubenet.kernel.vxlan.fdb import (
    ALL_ZEROS,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    VxlanFdb,
    VxlanFdbEntry,
    VxlanRdst,
)
from kubenet.kernel.vxlan.receive import vxlan_arp_reply, vxlan_encap_bypass, vxlan_sock_add, vxlan_sock_release, vxlan_socks
from kubenet.sim.rng import hash64
from kubenet.units import SEC
from kubenet.wire.addr import ip4_text, mac_text
from kubenet.wire.arp import ARPOP_REQUEST
from kubenet.wire.ethernet import EthHdr
from kubenet.wire.icmp import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, IcmpHdr, icmp_is_error
from kubenet.wire.ipv4 import IP_DF, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IpHdr
from kubenet.wire.packet import quote_len
from kubenet.wire.udp import UdpHdr, UdpHdrNoCheck
from kubenet.wire.vxlan import VXLAN_HLEN, VXLAN_PORT, VxlanHdr, build_vxlan

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

VXLAN_HEADROOM = 20 + 8 + VXLAN_HLEN + ETH_HLEN  # 50
DF_UNSET, DF_SET, DF_INHERIT = 0, 1, 2
TOS_INHERIT = 1
AF_INET = 2
ICMP_ROOM = 576 - 20 - 8  # RFC 1812 4.3.2.3
TUNNELS_IN_TUNNELS = 3  # observed on 6.18; Linux: iptunnel_xmit(), dev_recursion_level()
INET_ECN_MASK, INET_ECN_ECT_0, INET_ECN_CE = 3, 2, 3


@dataclass(slots=True)
class VxlanConfig:
    """What `ip link add type vxlan` says. Linux: struct vxlan_config, VXLAN_F_* as booleans.

    remote: the default destination, 0 for none, or a group; local: our end, 0: as the route says; link: where outer packets to
    `remote` leave; ttl 0: the host's; tos 1: the inner packet's; ageing: seconds; addrmax 0: no limit.
    """

    vni: int
    remote: int = 0
    local: int = 0
    link: NetDevice | None = None
    port: int = VXLAN_PORT
    port_min: int = 0
    port_max: int = 0
    learning: bool = True
    ttl: int = 0
    ttl_inherit: bool = False
    tos: int = 0
    df: int = DF_UNSET
    ageing: int = 300
    addrmax: int = 0
    udp_csum: bool = True
    udp6_zero_csum_tx: bool = False
    udp6_zero_csum_rx: bool = False
    proxy: bool = False
    l2miss: bool = False
    l3miss: bool = False


class Vxlan(NetDevice):
    """One tunnel device. `underlay`: the namespace it was made in, where its socket stays even if the device moves."""

    __slots__ = ("cfg", "underlay", "fdb", "header", "tx_carrier_errors", "collisions", "rx_frame_errors")

    def __init__(self, net: NetNamespace, name: str, cfg: VxlanConfig, mtu: int = 0) -> None:
        """Registered, down. OSError EEXIST: the VNI is taken; EINVAL. Linux: __vxlan_dev_create(), vxlan_config_apply()."""
        _validate(net, cfg)
        most = 65535 if cfg.link is None else max(cfg.link.mtu - VXLAN_HEADROOM, 68)
        default = 1500 if cfg.link is None else most
        super().__init__(net, name, "vxlan", mtu=min(mtu or default, most), addr=net.host.mac(net.name, name))
        self.cfg = cfg
        self.underlay = net
        self.fdb = VxlanFdb(net.loop, cfg.ageing * SEC, cfg.addrmax)
        self.header: bytes = build_vxlan(VxlanHdr(cfg.vni))
        self.tx_carrier_errors: int = 0
        self.collisions: int = 0
        self.rx_frame_errors: int = 0
        register_netdevice(net, self)
        if cfg.remote:
            self.fdb.update(ALL_ZEROS, self.default_dst(), NUD_PERMANENT | NUD_REACHABLE, NLM_F_CREATE | NLM_F_EXCL)

    def default_dst(self) -> VxlanRdst:
        """Where frames go whose MAC is not known."""
        return VxlanRdst(self.cfg.remote, ifindex=self.cfg.link.ifindex if self.cfg.link is not None else 0)

    def set_remote(self, remote: int) -> None:
        """`ip link set type vxlan remote`. Linux: vxlan_changelink()."""
        if remote == self.cfg.remote:
            return
        old = self.default_dst()
        self.cfg.remote = remote
        if remote:
            self.fdb.update(ALL_ZEROS, self.default_dst(), NUD_PERMANENT | NUD_REACHABLE, NLM_F_CREATE | NLM_F_APPEND)
        if old.remote_ip and self.fdb.find(ALL_ZEROS) is not None:
            self.fdb.delete(ALL_ZEROS, old)

    def update_carrier(self) -> None:
        self.operstate = OPER_UNKNOWN if self.flags & IFF_UP else OPER_DOWN

    def open(self) -> None:
        """The UDP port is open; OSError EADDRINUSE. A group is joined. Linux: vxlan_open()."""
        vxlan_sock_add(self)
        if is_multicast(self.cfg.remote):
            self._group(True)

    def stop(self) -> None:
        """Linux: vxlan_stop()."""
        if is_multicast(self.cfg.remote):
            self._group(False)
        vxlan_sock_release(self)
        self.fdb.flush()

    def _group(self, join: bool) -> None:
        """simplified: no IGMP report; switches flood groups. Linux: vxlan_igmp_join(), vxlan_group_used()."""
        link = self.cfg.link
        assert link is not None
        groups: dict[int, list[int]] = self.underlay.extra.setdefault("mc_groups", {})
        joined = groups.setdefault(link.ifindex, [])
        others = [v for v in vxlans(self.underlay)
                  if v is not self and v.flags & IFF_UP and v.cfg.remote == self.cfg.remote and v.cfg.link is link]
        if join and self.cfg.remote not in joined:
            joined.append(self.cfg.remote)
        elif not join and not others and self.cfg.remote in joined:
            joined.remove(self.cfg.remote)

    def change_mtu(self, mtu: int) -> None:
        """OSError EINVAL above the link's MTU less 50. Linux: vxlan_change_mtu()."""
        if self.cfg.link is not None and mtu > self.cfg.link.mtu - VXLAN_HEADROOM:
            raise oserror(errno.EINVAL)

    def xmit(self, skb: SkBuff) -> int:
        """The frame is on its way to every VTEP its MAC is behind, as UDP packets. Linux: vxlan_xmit()."""
        eth = skb.eth
        assert eth is not None
        if self.cfg.proxy and skb.protocol == ETH_P_ARP:
            return arp_reduce(self, skb)
        entry = self.fdb.find(eth.dst)
        if entry is None:
            entry = self.fdb.find(ALL_ZEROS)
            if entry is None:
                if self.cfg.l2miss and not eth.dst >> 40 & 1:
                    _miss(self, mac_text(eth.dst))
                self.tx_dropped += 1
                drop(skb, DropReason.NO_TX_TARGET)
                return 0
        entry.used = self.net.loop.now
        remotes = entry.remotes
        for remote in remotes[1:]:
            vxlan_xmit_one(self, skb.clone(), remote)
        vxlan_xmit_one(self, skb, remotes[0])
        return 0

    def source_port(self, skb: SkBuff) -> int:
        """The same for every packet of a flow, between port_min and port_max or 32768..60999. Linux: udp_flow_src_port()."""
        low, high = self.cfg.port_min, self.cfg.port_max
        if low >= high:
            low, high = self.underlay.sysctl.ipv4.ip_local_port_range
        return low + (flow_hash(skb) * (high - low) >> 32)


def vxlans(net: NetNamespace) -> list[Vxlan]:
    """The devices whose sockets are in `net`. Linux: struct vxlan_net vxlan_list."""
    found: list[Vxlan] = net.extra.setdefault("vxlan_list", [])
    return found


def _validate(net: NetNamespace, cfg: VxlanConfig) -> None:
    """Linux: vxlan_config_validate()."""
    if cfg.port_min > cfg.port_max:
        raise oserror(errno.EINVAL, "Invalid source port range.")
    if is_multicast(cfg.remote) and cfg.link is None:
        raise oserror(errno.EINVAL, "Local interface required for multicast remote destination.")
    if any((v.cfg.vni, v.cfg.port) == (cfg.vni, cfg.port) for v in vxlans(net)):
        raise oserror(errno.EEXIST, "A VXLAN device with the specified VNI already exists.")


def flow_hash(skb: SkBuff) -> int:
    """32 bits. Both directions of a flow have the same, but for TCP, whose sockets bring a hash of their own; all ARP has one.

    Linux: skb_get_hash(), __flow_hash_consistentify(), skb_set_hash_from_sk(). The secret is the kernel's (hashrnd).
    """
    net = skb.net
    secret = net.host.extra.get("hashrnd")
    if secret is None:
        secret = net.host.extra["hashrnd"] = net.host.secret("hashrnd")
    ip, l4 = skb.ip, skb.l4
    if skb.protocol != ETH_P_IP:
        return hash64(secret, skb.protocol) & 0xFFFFFFFF
    one, other = (ip.saddr, getattr(l4, "sport", 0)), (ip.daddr, getattr(l4, "dport", 0))
    if other < one and ip.proto != IPPROTO_TCP:
        one, other = other, one
    return hash64(secret, ip.proto, *one, *other) & 0xFFFFFFFF


def vxlan_xmit_one(vxlan: Vxlan, skb: SkBuff, rdst: VxlanRdst) -> None:
    """The frame leaves for one VTEP. Linux: vxlan_xmit_one()."""
    cfg, net = vxlan.cfg, vxlan.underlay
    if not rdst.remote_ip:
        vxlan.tx_dropped += 1
        return drop(skb, DropReason.NO_TX_TARGET)
    old = skb.ip if skb.protocol == ETH_P_IP else None
    tos = cfg.tos if cfg.tos != TOS_INHERIT else old.tos if old is not None else 0
    try:
        dst = ip_route_output_key(net, rdst.remote_ip, cfg.local, rdst.ifindex, 0, tos & ~INET_ECN_MASK)
    except OSError as error:
        return _no_route(vxlan, skb, error.errno or 0)
    if dst.dev is vxlan:
        return _no_route(vxlan, skb, errno.ELOOP)
    port, vni = rdst.port or cfg.port, rdst.vni if rdst.vni >= 0 else cfg.vni
    if dst.local and not is_multicast(rdst.remote_ip):
        sock = vxlan_socks(net).get(port)
        other = sock.devices.get(vni) if sock is not None else None
        if other is None:
            vxlan.tx_errors += 1
            return drop(skb, DropReason.VXLAN_VNI_NOT_FOUND)
        return vxlan_encap_bypass(skb, vxlan, other)
    mtu = dst_mtu(dst) - VXLAN_HEADROOM
    if skb_gso_network_seglen(skb) > mtu and skb.protocol == ETH_P_IP and skb_tunnel_check_pmtu(vxlan, skb, mtu):
        return None
    plen = VXLAN_HLEN + ETH_HLEN + skb.len
    ttl = old.ttl if cfg.ttl_inherit and old is not None else cfg.ttl
    ttl = ttl or (1 if is_multicast(rdst.remote_ip) else net.sysctl.ipv4.ip_default_ttl)
    df = cfg.df == DF_SET or (cfg.df == DF_INHERIT and old is not None and bool(old.frag & IP_DF))
    saddr = cfg.local or dst.prefsrc
    ident = ip_select_ident(net, saddr, rdst.remote_ip, IPPROTO_UDP, skb.gso_segs)
    ip = IpHdr(saddr, rdst.remote_ip, IPPROTO_UDP, ident, IP_DF if df else 0, ttl, ip_tunnel_ecn_encap(tos, old))
    make = UdpHdr if cfg.udp_csum else UdpHdrNoCheck
    header = vxlan.header if vni == cfg.vni else build_vxlan(VxlanHdr(vni))
    outer = SkBuff(net, ETH_P_IP, ip, make(vxlan.source_port(skb), port), header, plen, 28 + plen)
    outer.id, outer.tr, outer.inner, outer.dst = skb.id, skb.tr, skb, dst
    if skb.gso_size:  # plen is what will be cut: the data inside
        outer.gso_size, outer.gso_segs, outer.plen = skb.gso_size, skb.gso_segs, skb.plen
    outer.mark = skb.mark if net is vxlan.net else 0  # skb_scrub_packet(xnet)
    if outer.tr is not None:
        s = station(outer, "vxlan_xmit_one", f"wrapped by {vxlan.name}: VNI {vni}, to {ip4_text(rdst.remote_ip)}:{port}")
        s.dev, s.data = vxlan.name, {"vni": vni, "remote": f"{ip4_text(rdst.remote_ip)}:{port}"}
    length, extra = skb.len, net.host.extra
    depth: int = extra.get("xmit_recursion", 0)
    if depth >= TUNNELS_IN_TUNNELS:
        net.host.printk(f"ip_tunnel_core: Dead loop on virtual device {vxlan.name}, fix it urgently!")
        vxlan.tx_errors += 1
        return drop(outer, DropReason.RECURSION_LIMIT)
    extra["xmit_recursion"] = depth + 1
    result = ip_local_out(outer)
    extra["xmit_recursion"] = depth
    if result:
        vxlan.tx_dropped += 1
    else:
        vxlan.tx_packets += 1
        vxlan.tx_bytes += length
    return None


def _no_route(vxlan: Vxlan, skb: SkBuff, error: int) -> None:
    """Linux: vxlan_xmit_one() tx_error."""
    if error == errno.ELOOP:
        vxlan.collisions += 1
    elif error == errno.ENETUNREACH:
        vxlan.tx_carrier_errors += 1
    vxlan.tx_errors += 1
    drop(skb, DropReason.IP_OUTNOROUTES)


def skb_tunnel_check_pmtu(vxlan: Vxlan, skb: SkBuff, mtu: int) -> bool:
    """An inner packet is too large for the way out: its own route's MTU gets smaller, and it is sent all the same; but a bridge
    port has no such route, so the sender is told in the name of the receiver, and the packet ends (True).

    Linux: skb_tunnel_check_pmtu(), iptunnel_pmtud_check_icmp().
    """
    if skb.dst is not None:
        ip_rt_update_pmtu(skb.net, skb.dst, skb.ip.daddr, mtu)
    ip = skb.ip
    if vxlan.br_port is None or mtu < 576 or ip.frag != IP_DF or _nobodys(ip.saddr) or is_multicast(ip.daddr) or ip.daddr == BROADCAST:
        return False
    if ip.proto == IPPROTO_ICMP and skb.l4 is not None and icmp_is_error(skb.l4.type):
        return False
    vxlan_encap_bypass(iptunnel_pmtud_build_icmp(skb, mtu), vxlan, vxlan, snoop=False)
    drop(skb, DropReason.PKT_TOO_BIG)
    return True


def _nobodys(saddr: int) -> bool:
    return saddr >> 24 in (0, 127) or is_multicast(saddr) or saddr == BROADCAST


def iptunnel_pmtud_build_icmp(skb: SkBuff, mtu: int) -> SkBuff:
    """The frame with the ICMP error: 576 bytes of it at most, addresses exchanged, DF, TTL 64 (observed on 6.18)."""
    assert skb.eth is not None
    quote = quote_of(skb, ICMP_ROOM)
    length = quote_len(quote)
    ip = IpHdr(skb.ip.daddr, skb.ip.saddr, IPPROTO_ICMP, 0, IP_DF, 64)
    error = SkBuff(skb.net, ETH_P_IP, ip, IcmpHdr(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu), b"", length, 28 + length)
    error.eth = EthHdr(skb.eth.src, skb.eth.dst, ETH_P_IP)
    error.inner = quote
    arm(error, False)
    return error


def ip_tunnel_ecn_encap(tos: int, inner: Any) -> int:
    """The outer TOS with the inner packet's ECN bits; CE becomes ECT(0). RFC 6040; Linux: ip_tunnel_ecn_encap()."""
    ecn = 0 if inner is None else inner.tos & INET_ECN_MASK
    return tos & ~INET_ECN_MASK | (INET_ECN_ECT_0 if ecn == INET_ECN_CE else ecn)


def arp_reduce(vxlan: Vxlan, skb: SkBuff) -> int:
    """`proxy`: ARP never leaves; it is answered from the neighbour table, or the miss is told. Linux: arp_reduce()."""
    arp = skb.ip
    if arp.op == ARPOP_REQUEST and arp.tpa >> 24 != 127 and not is_multicast(arp.tpa):
        neigh = vxlan.net.neigh[AF_INET].lookup(vxlan, arp.tpa)
        if neigh is None:
            if vxlan.cfg.l3miss:
                _miss(vxlan, ip4_text(arp.tpa))
        elif neigh.state & NUD_CONNECTED:
            entry: VxlanFdbEntry | None = vxlan.fdb.find(neigh.ha)
            if entry is None or entry.remotes[0].remote_ip:
                vxlan_arp_reply(vxlan, skb, neigh.ha)
    return 0


def _miss(vxlan: Vxlan, what: str) -> None:
    """Whoever listens is told what is missing. Linux: vxlan_fdb_miss(), vxlan_ip_miss()."""
    for watcher in vxlan.net.watchers:
        watcher("neigh", ("miss", vxlan, what))


def vxlan_netdevice_event(event: str, dev: NetDevice) -> None:
    """A device that goes takes along the tunnels over it. A tunnel is in its namespace's list while it is in any.

    Linux: vxlan_netdevice_event(), vxlan_handle_lowerdev_unregister().
    """
    if isinstance(dev, Vxlan):
        known = vxlans(dev.underlay)
        if event == NETDEV_REGISTER and dev not in known:
            known.append(dev)
        elif event == NETDEV_UNREGISTER and dev in known:
            known.remove(dev)
        return
    if event != NETDEV_UNREGISTER or "vxlan_list" not in dev.net.extra:
        return
    for other in list(vxlans(dev.net)):
        if other.cfg.link is dev:
            unregister_netdevice(other)


netdev_chain.append(vxlan_netdevice_event)
