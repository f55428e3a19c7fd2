"""Two namespaces, a cable and a VXLAN device each: what Linux 6.18 did there (recorded with iproute2 6.1, tcpdump and `ip -s link`)."""

from __future__ import annotations

from typing import Any

import pytest
from netlab import Lab

from kubenet.fabric.capture import Recorder, skb_to_bytes
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import NETIF_F_TSO, dev_change_flags, dev_change_net, dev_set_mtu, unregister_netdevice
from kubenet.kernel.ipv4.arp import arp_send
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.neigh import NUD_PERMANENT, neigh_set_static
from kubenet.kernel.ipv4.route import dst_mtu, ip_route_output_key
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.kernel.socket.inet import inet_bind, inet_listen, sock_create
from kubenet.kernel.vxlan.device import DF_INHERIT, DF_SET, TOS_INHERIT, Vxlan, VxlanConfig
from kubenet.kernel.vxlan.fdb import ALL_ZEROS, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, VxlanRdst
from kubenet.sim.task import spawn
from kubenet.units import SEC
from kubenet.wire.addr import ip4
from kubenet.wire.packet import bytes_to_frame
from kubenet.wire.udp import UdpHdrNoCheck

A, B = ip4("172.18.0.2"), ip4("172.18.0.3")
MAC_A, MAC_B = 0x02000000000A, 0x02000000000B
NEW = NLM_F_CREATE | NLM_F_EXCL


class Pair:
    """vxa (172.18.0.2) and vxb (172.18.0.3), v0 in both: VNI 42, port 4789, 10.9.0.1/24 and 10.9.0.2/24."""

    def __init__(self, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None, link: bool = True) -> None:
        self.lab = Lab()
        self.a, self.b = self.lab.ns("vxa"), self.lab.ns("vxb")
        self.wires = self.lab.cable(self.a, "u0", "172.18.0.2/16", self.b, "u0", "172.18.0.3/16")
        self.va = self._device(self.a, A, MAC_A, "10.9.0.1", {"remote": B} if a is None else a, link)
        self.vb = self._device(self.b, B, MAC_B, "10.9.0.2", {"remote": A} if b is None else b, link)
        self.wire = Recorder()
        self.wire.attach(self.wires[0])

    def _device(self, net: NetNamespace, local: int, mac: int, addr: str, options: dict[str, Any], link: bool) -> Vxlan:
        cfg = {"vni": 42, "port": 4789, "local": local, "link": net.devs["u0"] if link else None} | options
        dev = Vxlan(net, "v0", VxlanConfig(**cfg))
        dev.addr = mac
        inet_addr_add(dev, ip4(addr), 24)
        dev_change_flags(dev, True)
        return dev

    def ping(self, size: int = 56, wait: float = 1, **options: Any) -> list[str]:
        return self.lab.ping(self.a, "10.9.0.2", size=size, wait=wait, **options)

    def outer(self) -> list[SkBuff]:
        return [skb for _, _, _, skb in self.wire.frames if skb.protocol == ETH_P_IP]

    def shown(self, dev: Vxlan) -> list[tuple[int, int]]:
        return [(e.mac, r.remote_ip) for e in dev.fdb.dump() for r in e.remotes]


def counters(dev: Vxlan) -> tuple[int, ...]:
    """RX bytes, packets; TX bytes, packets, errors, dropped, carrier, as `ip -s link` has them."""
    return dev.rx_bytes, dev.rx_packets, dev.tx_bytes, dev.tx_packets, dev.tx_errors, dev.tx_dropped, dev.tx_carrier_errors


def test_ping_learns_both_vteps_and_counts_without_ethernet_headers() -> None:
    """$ ping -c 2: fdb `02:..:0b dst 172.18.0.3 self`, newest first; RX and TX 196 bytes, 3 packets; Udp: InDatagrams 3, OutDatagrams 0."""
    pair = Pair()
    assert pair.ping() == ["64 bytes from 10.9.0.2: ttl=64"] == pair.ping()
    assert pair.shown(pair.va) == [(MAC_B, B), (ALL_ZEROS, B)]
    assert pair.shown(pair.vb) == [(MAC_A, A), (ALL_ZEROS, A)]
    assert counters(pair.va) == counters(pair.vb) == (196, 3, 196, 3, 0, 0, 0)
    assert (pair.a.snmp["UdpInDatagrams"], pair.a.snmp["UdpOutDatagrams"]) == (3, 0)
    first = pair.outer()[0]
    assert (first.ip.ttl, first.ip.frag, first.ip.tos, first.len) == (64, 0, 0, 78)


def test_a_learned_entry_ages_and_a_device_that_goes_down_forgets_it() -> None:
    """ageing 300: vxlan_cleanup(). `ip link set v0 down` keeps the permanent default entry."""
    pair = Pair()
    pair.ping()
    assert pair.va.fdb.find(MAC_B) is not None
    pair.lab.run(340)  # the neighbour's last probe, a few seconds after the ping, was a frame too
    assert pair.va.fdb.find(MAC_B) is None and pair.shown(pair.va) == [(ALL_ZEROS, B)]
    pair.ping()
    dev_change_flags(pair.va, False)
    assert pair.shown(pair.va) == [(ALL_ZEROS, B)]
    assert pair.a.udp.dump() == []


def test_nolearning_replicates_to_every_default_destination() -> None:
    """vxb: nolearning, 00:.. dst 172.18.0.2 and 172.18.0.77: the second copy of each frame asks ARP for a host that is not there.
    $ ip -s link: RX 112 bytes 2 packets, TX 224 bytes 4 packets."""
    pair = Pair({"remote": B}, {"learning": False})
    for remote in ("172.18.0.2", "172.18.0.77", "172.18.0.77"):
        pair.vb.fdb.update(ALL_ZEROS, VxlanRdst(ip4(remote)), NUD_PERMANENT, NLM_F_CREATE | NLM_F_APPEND)
    assert pair.ping() == ["64 bytes from 10.9.0.2: ttl=64"]
    assert pair.shown(pair.vb) == [(ALL_ZEROS, A), (ALL_ZEROS, ip4("172.18.0.77"))]
    assert counters(pair.vb)[:4] == (112, 2, 224, 4)


def test_no_vtep_no_route_and_this_machine() -> None:
    """No entry: TX dropped. $ fdb replace .. dst 192.0.2.1: errors 1, carrier 1. dst 172.18.0.2, ourselves: TX and RX 98 bytes."""
    pair = Pair({}, {})
    neigh_set_static(pair.a.neigh[2], pair.va, ip4("10.9.0.2"), MAC_B)
    assert pair.ping() == [] and counters(pair.va) == (0, 0, 0, 0, 0, 1, 0)
    pair.va.fdb.update(MAC_B, VxlanRdst(ip4("172.18.99.99")), NUD_PERMANENT, NEW)
    assert pair.ping() == [] and counters(pair.va) == (0, 0, 84, 1, 0, 1, 0)
    pair.va.fdb.update(MAC_B, VxlanRdst(ip4("192.0.2.1")), NUD_PERMANENT, NLM_F_CREATE | NLM_F_REPLACE)
    assert pair.ping() == [] and counters(pair.va) == (0, 0, 84, 1, 1, 1, 1)
    pair.va.fdb.update(MAC_B, VxlanRdst(A), NUD_PERMANENT, NLM_F_CREATE | NLM_F_REPLACE)
    pair.ping()
    assert counters(pair.va) == (98, 1, 182, 2, 1, 1, 1)


def test_an_unknown_vni_is_silent_and_a_closed_port_is_not() -> None:
    """vxb: VNI 43: nothing comes back, UDP counts it. vxb's v0 down: `udp port 4789 unreachable`, which the tunnel ignores
    (no IcmpInErrors), and ARP fails in the end."""
    pair = Pair(b={"remote": A, "vni": 43})
    assert pair.ping(wait=0.9) == [] and pair.b.snmp["UdpInDatagrams"] == 1 and pair.vb.rx_packets == 0
    dev_change_flags(pair.vb, False)
    pair.lab.run(5)
    assert pair.ping(wait=5)[-1] == "From 10.9.0.1 Destination Host Unreachable"
    assert pair.b.snmp["UdpNoPorts"] > 2 and pair.a.snmp["IcmpInErrors"] == 0


def test_an_inner_mtu_of_1500_means_fragments_outside_and_a_smaller_mtu_inside() -> None:
    """Without `dev` the MTU is 1500. $ ping -M do -s 1472: answered, in outer fragments; then `local error: message too long, mtu=1450`,
    and `ip route get` says `expires 599sec mtu 1450`. IpFragOKs 1 for the request here."""
    pair = Pair(link=False)
    assert pair.va.mtu == 1500
    assert pair.ping(size=1472) == ["1480 bytes from 10.9.0.2: ttl=64"]
    assert [(s.ip.frag & 0x2000, (s.ip.frag & 0x1FFF) * 8, s.len) for s in pair.outer()[2:4]] == [(0x2000, 0, 1500), (0, 1480, 70)]
    assert pair.a.snmp["IpFragOKs"] == 1 and pair.a.snmp["IpReasmOKs"] == 1
    assert dst_mtu(ip_route_output_key(pair.a, ip4("10.9.0.2"))) == 1450
    assert counters(pair.va)[:4] == (1528, 2, 1528, 2)


def test_df_set_loses_what_is_too_large() -> None:
    """$ ip link .. df set; ping -M do -s 1472: silence (TX dropped 1), after that the smaller MTU is known."""
    pair = Pair({"remote": B, "df": DF_SET}, link=False)
    assert pair.ping(size=100) == ["108 bytes from 10.9.0.2: ttl=64"]
    assert not any("bytes from" in line for line in pair.ping(size=1472))
    assert counters(pair.va)[4:6] == (0, 1)
    assert dst_mtu(ip_route_output_key(pair.a, ip4("10.9.0.2"))) == 1450


def test_tos_ttl_and_df_from_inside() -> None:
    """tos, ttl, df inherit and noudpcsum: `tos 0x48, ttl 33, flags [DF]` outside; the other side has tos 0x20 ttl 7."""
    pair = Pair({"remote": B, "udp_csum": False, "tos": TOS_INHERIT, "ttl_inherit": True, "df": DF_INHERIT},
                {"remote": A, "tos": 0x20, "ttl": 7})
    pair.ping(ttl=33, tos=0x48)
    arp, back, there, reply = pair.outer()
    assert (there.ip.tos, there.ip.ttl, there.ip.frag) == (0x48, 33, 0x4000)
    assert isinstance(there.l4, UdpHdrNoCheck)
    assert (arp.ip.tos, arp.ip.ttl, arp.ip.frag) == (0, 64, 0)
    assert (back.ip.tos, back.ip.ttl) == (reply.ip.tos, reply.ip.ttl) == (0x20, 7)


def test_congestion_marks_cross_the_tunnel() -> None:
    """RFC 6040: CE inside is ECT(0) outside; CE from outside gets in where the inner packet knows ECN."""
    pair = Pair({"remote": B}, {"remote": A})
    pair.ping()
    pair.ping(tos=3)
    assert pair.outer()[-2].ip.tos == 2
    assert pair.ping(tos=2) and pair.outer()[-2].ip.tos == 2


def test_a_router_in_between_teaches_the_outer_path() -> None:
    """Fragmentation needed about an outer packet: __udp4_lib_err_encap() finds the tunnel, the route to the VTEP has the MTU."""
    lab = Lab()
    a, router, b = lab.routed()
    for net, mine, other, addr in ((a, "10.1.0.2", "10.2.0.2", "10.9.0.1"), (b, "10.2.0.2", "10.1.0.2", "10.9.0.2")):
        dev = Vxlan(net, "v0", VxlanConfig(42, local=ip4(mine), remote=ip4(other), port=4789, df=DF_SET))
        inet_addr_add(dev, ip4(addr), 24)
        dev_change_flags(dev, True)
    lab.ping(a, "10.9.0.2")
    dev_set_mtu(router.devs["s0"], 1300)
    lab.ping(a, "10.9.0.2", size=1400)
    assert a.snmp["IcmpInErrors"] == 0 and dst_mtu(ip_route_output_key(a, ip4("10.2.0.2"), ip4("10.1.0.2"))) == 1300
    lab.ping(a, "10.9.0.2", size=1400)
    assert dst_mtu(ip_route_output_key(a, ip4("10.9.0.2"))) == 1250


def test_proxy_answers_arp_itself() -> None:
    """proxy: arp_reduce() answers from the neighbour table; what is not there never leaves."""
    pair = Pair({"remote": B, "proxy": True}, {"remote": A})
    assert pair.ping() == [] and pair.outer() == []
    other = ip4("10.9.0.7")
    neigh_set_static(pair.a.neigh[2], pair.va, other, MAC_B)
    pair.lab.run(5)
    seen = Recorder()
    seen.attach(pair.va)
    arp_send(pair.va, 1, other, ip4("10.9.0.1"), 0)
    pair.lab.run(1)
    assert [(out, skb.ip.op, skb.ip.sha) for _, _, out, skb in seen.frames] == [(True, 1, MAC_A), (False, 2, MAC_B)]


def test_the_port_is_taken_and_the_link_goes() -> None:
    """A program has 4789: `RTNETLINK answers: Address already in use` at `up`. A device goes with the one below."""
    lab = Lab()
    net = lab.ns("a")
    lab.cable(net, "u0", "172.18.0.2/16", lab.ns("b"), "u0", "172.18.0.3/16")
    sk = sock_create(net, 2, 2, 17)
    inet_bind(sk, (0, 4789))
    dev = Vxlan(net, "v0", VxlanConfig(1, port=4789, link=net.devs["u0"]))
    with pytest.raises(OSError, match="Address already in use"):
        dev_change_flags(dev, True)
    assert not dev.flags & 1
    unregister_netdevice(net.devs["u0"])
    assert "v0" not in net.devs


def test_a_permanent_entry_does_not_move_and_strange_bytes_are_dropped() -> None:
    """vxlan_snoop(): a static MAC behind another VTEP is dropped. A program's datagram to the port: parsed, or VXLAN_INVALID_HDR."""
    pair = Pair()
    pair.vb.fdb.update(MAC_A, VxlanRdst(ip4("172.18.0.9")), NUD_PERMANENT, NEW)
    assert pair.ping(wait=5) == ["From 10.9.0.1 Destination Host Unreachable"]
    sk = sock_create(pair.a, 2, 2, 17)
    for data in (b"", b"\0" * 8, b"\x08\0\0\0\0\0\x2a\0", b"\x08\0\0\0\0\0\x2a\0" + b"\xff" * 40):
        sk.prot.sendmsg(sk, data, 0, (B, 4789), 0)
    before = pair.b.snmp["UdpInDatagrams"]
    pair.lab.run(1)
    assert pair.b.snmp["UdpInDatagrams"] == before + 4
    why = [s.data["reason"] for t in pair.lab.loop.tracer.packets.values() for s in t.stations if s.func == "kfree_skb_reason"]
    assert why.count("VXLAN_ENTRY_EXISTS") == 3 and why.count("VXLAN_INVALID_HDR") == 3 and "MAC_INVALID_SOURCE" in why, why


def test_entries_have_a_limit() -> None:
    """maxaddress 2: `RTNETLINK answers: No space left on device`; what cannot be learned is forwarded all the same."""
    pair = Pair({"remote": B, "addrmax": 2})
    pair.va.fdb.update(1 << 41, VxlanRdst(B), NUD_PERMANENT, NEW)
    with pytest.raises(OSError, match="No space left on device"):
        pair.va.fdb.update(1 << 42, VxlanRdst(B), NUD_PERMANENT, NEW)
    assert pair.ping() == ["64 bytes from 10.9.0.2: ttl=64"]
    assert pair.va.fdb.ageing == 300 * SEC


def test_a_bridged_sender_is_told_by_the_tunnel_in_the_receivers_name() -> None:
    """Two bridges joined by VXLAN, MTU 1500 everywhere. $ ping -M do -s 1472: `From 10.9.0.2 Frag needed and DF set (mtu = 1450)`, an
    ICMP error of 576 bytes, [DF], ttl 64, whose MACs are exchanged; without DF the echo arrives, in outer fragments."""
    lab = Lab()
    nets = [lab.ns(f"vx{n}") for n in "ab"]
    lab.cable(nets[0], "u0", "172.18.0.2/16", nets[1], "u0", "172.18.0.3/16")
    pods, ports = [], []
    for net, mine, other, addr in ((nets[0], A, B, "10.9.0.1/24"), (nets[1], B, A, "10.9.0.2/24")):
        bridge = Bridge(net, "br0")
        dev_change_flags(bridge, True)
        pods.append(lab.ns("pod-" + net.name))
        port, _ = lab.cable(net, "p0", "", pods[-1], "eth0", addr)
        dev = Vxlan(net, "v0", VxlanConfig(42, port=4789, local=mine, remote=other))
        dev_change_flags(dev, True)
        for one in (port, dev):
            bridge.add_port(one)
        ports.append(dev)
    assert [port.br_port.path_cost for port in (nets[0].devs["p0"], ports[0])] == [2, 100]  # $ bridge link show
    assert lab.ping(pods[0], "10.9.0.2", wait=1) == ["64 bytes from 10.9.0.2: ttl=64"]
    seen = Recorder()
    seen.attach(pods[0].devs["eth0"])
    before = counters(ports[0])
    assert lab.ping(pods[0], "10.9.0.2", size=1472, wait=1) == ["From 10.9.0.2 Frag needed and DF set (mtu = 1450)"]
    sent, error = (skb for _, _, _, skb in seen.frames if skb.protocol == ETH_P_IP)
    assert (error.len, error.ip.ttl, error.ip.frag, error.ip.id, error.ip.tos) == (576, 64, 0x4000, 0, 0)
    assert (error.eth.src, error.eth.dst) == (sent.eth.dst, sent.eth.src)
    after = counters(ports[0])
    assert [b - a for a, b in zip(before, after, strict=True)] == [590, 1, 590, 1, 0, 0, 0]
    assert lab.ping(pods[0], "10.9.0.2", size=1472, df=False) == ["1480 bytes from 10.9.0.2: ttl=64"]


def test_a_group_carries_what_nobody_is_known_for() -> None:
    """group 239.1.1.1 dev u0: ARP goes to the group (TTL 1), its answer to the VTEP that was learned: $ ping: 1 received, fdb
    `02:..:0b dst 172.18.0.3 self`, counters 112 bytes, 2 packets both ways."""
    group = ip4("239.1.1.1")
    pair = Pair({"remote": group}, {"remote": group})
    assert pair.ping() == ["64 bytes from 10.9.0.2: ttl=64"]
    assert pair.shown(pair.va) == [(MAC_B, B), (ALL_ZEROS, group)]
    assert counters(pair.va)[:4] == counters(pair.vb)[:4] == (112, 2, 112, 2)
    first = pair.outer()[0]
    assert (first.ip.daddr, first.ip.ttl, first.eth.dst) == (group, 1, 0x01005E010101)
    dev_change_flags(pair.vb, False)
    assert pair.b.extra["mc_groups"][pair.wires[1].ifindex] == []  # it has left the group


def test_a_tunnel_keeps_its_socket_where_it_was_made() -> None:
    """$ ip link set v0 netns vxc: 4789 is open in vxa, not in vxc, and pods of vxc are reached through it; `ip link del u0` in vxa takes
    v0 along, and no second device in vxa may have its VNI."""
    pair = Pair()
    other = pair.lab.ns("vxc")
    dev_change_net(pair.va, other)
    assert pair.a.udp.dump() == []
    inet_addr_add(pair.va, ip4("10.9.0.1"), 24)
    dev_change_flags(pair.va, True)
    assert [sk.sport for sk in pair.a.udp.dump()] == [4789] and other.udp.dump() == []
    assert pair.lab.ping(other, "10.9.0.2", wait=1) == ["64 bytes from 10.9.0.2: ttl=64"]
    with pytest.raises(OSError, match="A VXLAN device with the specified VNI already exists"):
        Vxlan(pair.a, "v1", VxlanConfig(42, port=4789))
    unregister_netdevice(pair.wires[0])
    assert "v0" not in other.devs and pair.a.udp.dump() == []


def test_tunnels_that_lead_into_each_other_end() -> None:
    """v0's VTEP is behind v1, v1's behind v0. `ip_tunnel_core: Dead loop on virtual device v1, fix it urgently!`; v0 2 packets, v1 1 packet
    and 1 error, IpOutRequests 4."""
    lab = Lab()
    net = lab.ns("a")
    devs = []
    for n, remote in ((1, "10.2.0.9"), (2, "10.1.0.9")):
        dev = Vxlan(net, f"v{n - 1}", VxlanConfig(n, port=4789, remote=ip4(remote)))
        inet_addr_add(dev, ip4(f"10.{n}.0.1"), 24)
        dev_change_flags(dev, True)
        neigh_set_static(net.neigh[2], dev, ip4(f"10.{n}.0.9"), MAC_B)
        devs.append(dev)
    assert lab.ping(net, "10.1.0.9", wait=1) == []
    assert [(dev.tx_packets, dev.tx_errors) for dev in devs] == [(2, 0), (1, 1)]
    assert net.snmp["IpOutRequests"] == 4
    assert [text for _, text in net.host.dmesg] == ["ip_tunnel_core: Dead loop on virtual device v1, fix it urgently!"]


def transfer(pair: Pair) -> bytes:
    """20000 bytes by TCP from vxa to vxb through the tunnel: what arrived."""
    server, client = (sock_create(net, 2, 1, 6) for net in (pair.b, pair.a))
    inet_bind(server, (0, 8080))
    inet_listen(server, 5)
    taken: list[bytes] = []

    def serve() -> None:
        peer = server.prot.accept(server, None)
        while data := peer.prot.recvmsg(peer, 65536, 0, None)[0]:
            taken.append(bytes(data))

    def send() -> None:
        client.prot.connect(client, (ip4("10.9.0.2"), 8080), None)
        client.prot.sendmsg(client, bytes(range(250)) * 80, 0, None, None)
        client.prot.close(client, 0)

    spawn(pair.lab.loop, serve, name="serve")
    spawn(pair.lab.loop, send, name="send")
    pair.lab.run(5)
    return b"".join(taken)


@pytest.mark.parametrize("offload", [True, False])
def test_super_segments_are_wrapped_whole_and_cut_inside(offload: bool) -> None:
    """Recorded: `head -c 20000 | nc` over vxlan. v0 and u0 show 5 segments of 1398 in one packet, u0's UDP length 7092, outer ids 5 apart;
    with tx-udp_tnl-segmentation off u0 shows UDP packets of 1500 whose outer and inner ids and seq count up, v0 still the whole."""
    pair = Pair()
    if not offload:
        pair.wires[0].features &= ~NETIF_F_TSO
    inside = Recorder()
    inside.attach(pair.va)
    taken = transfer(pair)
    assert taken == bytes(range(250)) * 80
    whole = [skb for _, _, out, skb in inside.frames if out and skb.protocol == ETH_P_IP and skb.len > 1450]
    sent = [skb for _, _, out, skb in pair.wire.frames if out and skb.protocol == ETH_P_IP and skb.inner.len > 1000]
    assert whole and max(skb.len for skb in whole) > 7000
    if offload:
        big = [skb for skb in sent if skb.gso_size]
        assert [skb.len for skb in big] == [skb.len + 50 for skb in whole]
        assert big[1].ip.id - big[0].ip.id == big[0].gso_segs
    else:
        assert all(skb.len <= 1500 and not skb.gso_size for skb in sent)
        first = sent[: whole[0].gso_segs]
        assert [skb.ip.id - first[0].ip.id for skb in first] == [skb.inner.ip.id - first[0].inner.ip.id for skb in first] == list(range(len(first)))
        assert [skb.inner.l4.seq - first[0].inner.l4.seq for skb in first] == [1398 * n for n in range(len(first))]
        for skb in sent:
            again = bytes_to_frame(skb_to_bytes(skb))
            assert again.csum_ok and again.inner.csum_ok and again.inner.l4 == skb.inner.l4
    assert pair.va.tx_packets < 20 + 2


def test_super_segments_are_fragmented_where_the_underlay_is_too_narrow() -> None:
    """ip_finish_output_gso(): cut, then fragments of each, DF being off outside. TCP, on the same machine, learns from its route that
    1350 fit (skb_tunnel_check_pmtu()), and the rest needs no fragments."""
    pair = Pair()
    for end in pair.wires:
        dev_set_mtu(end, 1400)
    assert transfer(pair) == bytes(range(250)) * 80
    pieces = pair.a.snmp["IpFragCreates"]
    assert 2 <= pieces == 2 * pair.b.snmp["IpReasmOKs"] and pair.b.snmp["IpReasmFails"] == 0
    assert max(skb.len for skb in pair.outer() if not skb.gso_size) <= 1400
    assert dst_mtu(ip_route_output_key(pair.a, ip4("10.9.0.2"))) == 1350
