"""VXLAN, dummy and tun devices: RFC 7348, and what 6.18 puts into the outer header."""

from __future__ import annotations

from netlab import Lab

from kubenet.fabric.capture import Recorder, skb_to_bytes
from kubenet.fabric.graph import two_nodes
from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.dev.dummy import Dummy
from kubenet.kernel.dev.tun import Tun
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.ipv4.neigh import NUD_PERMANENT, neigh_set_static
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.kernel.stack import new_namespace
from kubenet.kernel.vxlan.device import Vxlan, VxlanConfig, flow_hash
from kubenet.kernel.vxlan.fdb import NLM_F_CREATE, VxlanRdst
from kubenet.kernel.vxlan.receive import vxlan_socks
from kubenet.wire.addr import ip4
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.packet import bytes_to_frame
from kubenet.wire.tcp import TcpHdr


def overlay(lab: Lab):
    """Two nodes with flannel.1 and a pod each, wired as flannel does: a route, a neighbour and an FDB entry per other node."""
    nodes = two_nodes().build(lab.loop).nodes
    devs, pods = [], []
    for k, node in enumerate(nodes, 1):
        ip_forward_write(node.net, 1)
        dev = Vxlan(node.net, "flannel.1", VxlanConfig(1, local=node.spec.ip, link=node.nic, learning=False))
        dev_change_flags(dev, True)
        inet_addr_add(dev, ip4(f"10.48.{k}.0"), 32)
        devs.append(dev)
        pod = new_namespace(node.host, f"pod-{k}")
        lab.cable(pod, "eth0", f"10.48.{k}.5/24", node.net, "veth5", f"10.48.{k}.1/24")
        fib_add(pod, 0, 0, gateway=ip4(f"10.48.{k}.1"))
        pods.append(pod)
    for mine, other, k in ((0, 1, 2), (1, 0, 1)):
        net, dev = nodes[mine].net, devs[mine]
        neigh_set_static(net.neigh[2], dev, ip4(f"10.48.{k}.0"), devs[other].addr)
        dev.fdb.update(devs[other].addr, VxlanRdst(nodes[other].spec.ip), NUD_PERMANENT, NLM_F_CREATE)
        fib_add(net, ip4(f"10.48.{k}.0"), 24, gateway=ip4(f"10.48.{k}.0"), dev=dev, onlink=True)
    return nodes, devs, pods


def test_a_ping_through_the_tunnel() -> None:
    """Outer: no DF, TTL 64, port 8472, source port from the local range; inner TTL already one less; one hop per node."""
    lab = Lab()
    nodes, devs, pods = overlay(lab)
    wire = Recorder()
    wire.attach(nodes[0].nic)
    assert lab.ping(pods[0], "10.48.2.5") == ["64 bytes from 10.48.2.5: ttl=62"]
    outer = next(skb for _, _, out, skb in wire.frames if out and skb.protocol == ETH_P_IP)
    assert (outer.ip.frag, outer.ip.ttl, outer.l4.dport, outer.len) == (0, 64, 8472, 84 + 50)
    assert 32768 <= outer.l4.sport <= 60999
    frame = bytes_to_frame(skb_to_bytes(outer))
    assert frame.payload == bytes.fromhex("0800000000000100")  # RFC 7348 5: the I flag, VNI 1
    inner = frame.inner
    assert (inner.eth.src, inner.eth.dst, inner.l3.daddr, inner.l3.ttl) == (devs[0].addr, devs[1].addr, ip4("10.48.2.5"), 63)
    assert devs[0].mtu == 1450


def test_an_inner_packet_above_the_tunnels_mtu_is_answered() -> None:
    lab = Lab()
    nodes, devs, pods = overlay(lab)
    assert lab.ping(pods[0], "10.48.2.5", size=1423) == ["From 10.48.1.1 Frag needed and DF set (mtu = 1450)"]
    lab = Lab()
    nodes, devs, pods = overlay(lab)
    assert lab.ping(pods[0], "10.48.2.5", size=1422) == ["1430 bytes from 10.48.2.5: ttl=62"]


def test_flows_have_source_ports_of_their_own_and_other_vnis_are_not_ours() -> None:
    """Both directions of an ICMP flow have one port, those of a TCP flow two (its sockets bring hashes of their own), ARP one for all;
    an unknown VNI is received by UDP (InDatagrams), then dropped in silence. Recorded on 6.18."""
    lab = Lab()
    nodes, devs, pods = overlay(lab)
    net = nodes[0].net

    def port(ip: IpHdr, l4: TcpHdr | None = None) -> int:
        return flow_hash(SkBuff(net, ETH_P_IP, ip, l4, b"", 0, 20))

    assert port(IpHdr(1, 2, 1)) == port(IpHdr(2, 1, 1)) != port(IpHdr(2, 3, 1))
    assert port(IpHdr(1, 2, 6), TcpHdr(5, 6, 0, 0, 0, 0)) != port(IpHdr(2, 1, 6), TcpHdr(6, 5, 0, 0, 0, 0))
    sock = vxlan_socks(devs[1].net)[8472]
    sock.devices = {2: devs[1]}
    assert lab.ping(pods[0], "10.48.2.5") == []
    assert nodes[1].net.snmp["UdpNoPorts"] == 0 and nodes[1].net.snmp["UdpInDatagrams"] == 1
    assert [s.data["reason"] for s in drops(lab)] == ["VXLAN_VNI_NOT_FOUND"]


def drops(lab: Lab):
    return [s for trace in lab.loop.tracer.packets.values() for s in trace.stations if s.func == "kfree_skb_reason"]


def test_a_dummy_swallows_and_holds_addresses() -> None:
    lab = Lab()
    pod = lab.ns("a")
    dummy = Dummy(pod, "kube-ipvs0")
    inet_addr_add(dummy, ip4("10.96.0.1"), 32)
    assert lab.ping(pod, "10.96.0.1") == ["64 bytes from 10.96.0.1: ttl=64"]  # even while it is down
    dev_change_flags(dummy, True)
    fib_add(pod, ip4("10.97.0.0"), 16, dev=dummy)
    assert lab.ping(pod, "10.97.0.1") == [] and dummy.tx_packets == 1


def test_tun_hands_packets_to_a_program_and_takes_its() -> None:
    lab = Lab()
    pod = lab.ns("a")
    out: list[SkBuff] = []
    tun = Tun(pod, "tun0", out.append)
    dev_change_flags(tun, True)
    inet_addr_add(tun, ip4("192.168.0.1"), 16)
    request = IpHdr(ip4("192.0.2.1"), ip4("192.168.0.1"), 1)
    fib_add(pod, 0, 0, dev=tun)
    tun.inject(SkBuff(pod, ETH_P_IP, request, IcmpHdr(8, 0, 7), b"abc", 3, 31))
    lab.run(0)
    answer, = out
    assert (answer.ip.daddr, answer.l4.type, answer.l4.rest, answer.payload, answer.eth) == (ip4("192.0.2.1"), 0, 7, b"abc", None)
