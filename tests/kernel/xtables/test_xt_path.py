"""Rules on the path of real packets: a node between a client's and a server's namespace, with routes, ARP, tracking, NAT.

    client 10.48.1.5 -- veth -- 10.48.1.1 node-1 10.48.2.1 -- veth -- 10.48.2.7 web-0

kube-proxy's rules for a ClusterIP stand on the node. What is asserted are packets as the two pods' devices see them.
"""

from __future__ import annotations

# ruff: noqa: E501  (rules and packets read best as one line each)
from typing import Any

import pytest

from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import fib_add, ip_route_output_key
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.restore import iptables_restore
from kubenet.kernel.netfilter.xtables.table import xt_table
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC
from kubenet.wire.addr import ip4, ip4_text
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import TcpHdr
from kubenet.wire.udp import UdpHdr

SYN, RST, ACK = 2, 4, 16
CLIENT, WEB, SERVICE = "10.48.1.5", "10.48.2.7", "10.96.0.1"

KUBE = f"""*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
-A KUBE-SERVICES -m comment --comment "default/web cluster IP" -m tcp -p tcp -d {SERVICE} --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A -m comment --comment "default/web cluster IP" -m tcp -p tcp -d {SERVICE} --dport 80 ! -s 10.48.0.0/16 -j KUBE-MARK-MASQ
-A KUBE-SVC-A -m comment --comment "default/web -> {WEB}:8080" -j KUBE-SEP-A
-A KUBE-SEP-A -m comment --comment default/web -s {WEB} -j KUBE-MARK-MASQ
-A KUBE-SEP-A -m comment --comment default/web -m tcp -p tcp -j DNAT --to-destination {WEB}:8080
COMMIT
"""


class Tap:
    """Writes down the IP packets that come in: "src:port dst:port words"."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.skbs: list[SkBuff] = []

    def capture(self, dev: Any, skb: SkBuff, outgoing: bool) -> None:
        if outgoing or skb.protocol != ETH_P_IP:
            return
        ip, l4 = skb.ip, skb.l4
        self.skbs.append(skb.clone())
        if ip.proto == 1:
            self.lines.append(f"{ip4_text(ip.saddr)} {ip4_text(ip.daddr)} icmp {l4.type}/{l4.code}")
        else:
            flags = getattr(l4, "flags", 0)
            self.lines.append(f"{ip4_text(ip.saddr)}:{l4.sport} {ip4_text(ip.daddr)}:{l4.dport} {flags}")


class World:
    """Three namespaces and two cables."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.host = Host(self.loop, "node-1")
        self.node = new_namespace(self.host, "node-1")
        self.client = new_namespace(self.host, "client")
        self.web = new_namespace(self.host, "web-0")
        self.taps: dict[str, Tap] = {}
        for net, side, addr, router in ((self.client, "c", CLIENT, "10.48.1.1"), (self.web, "w", WEB, "10.48.2.1")):
            pod, port = create_veth_pair(net, "eth0", self.node, f"veth{side}")
            inet_addr_add(pod, ip4(addr), 24)
            inet_addr_add(port, ip4(router), 24)
            dev_change_flags(pod, True)
            dev_change_flags(port, True)
            fib_add(net, 0, 0, gateway=ip4(router))
            tap = self.taps[net.name] = Tap()
            pod.taps = [tap]
            iptables_command(net, AF_INET, "-A INPUT -j DROP".split())  # the pods see packets and answer none
        fib_add(self.node, 0, 0, gateway=ip4(WEB))  # as a node's default route: without one it cannot reach a ClusterIP
        ip_forward_write(self.node, 1)

    def send(self, net: NetNamespace, dst: str, l4: Any, src: str = "", ttl: int = 64) -> int:
        """One packet from a namespace, through its own output path; then time passes until all is still."""
        result = self.emit(net, dst, l4, src, ttl)
        self.loop.run(self.loop.now + SEC)
        return result

    def emit(self, net: NetNamespace, dst: str, l4: Any, src: str = "", ttl: int = 64) -> int:
        route = ip_route_output_key(net, ip4(dst), ip4(src) if src else 0)
        tcp = isinstance(l4, TcpHdr)
        ip = IpHdr(ip4(src) if src else route.prefsrc, ip4(dst), 6 if tcp else 17, 0, 0x4000, ttl)
        skb = SkBuff(net, ETH_P_IP, ip, l4, b"", 0, 40 if tcp else 28)
        skb.dst = route
        return ip_local_out(skb)

    def rules(self, text: str) -> None:
        for line in text.strip().splitlines():
            code, _, words = iptables_command(self.node, AF_INET, line.split())
            assert code == 0, words


@pytest.fixture
def world() -> World:
    return World()


def syn(dport: int = 80, sport: int = 40000) -> TcpHdr:
    return TcpHdr(sport, dport, 1000, 0, SYN, 64240)


def test_cluster_ip_is_translated_and_back(world: World) -> None:
    """A pod's connection keeps its source; the answer comes from the ClusterIP."""
    iptables_restore(world.node, AF_INET, KUBE)
    world.send(world.client, SERVICE, syn())
    assert world.taps["web-0"].lines[0] == f"{CLIENT}:40000 {WEB}:8080 2"
    world.send(world.web, CLIENT, TcpHdr(8080, 40000, 5000, 1001, SYN | ACK, 65160))
    assert f"{SERVICE}:80 {CLIENT}:40000 18" in world.taps["client"].lines


def test_rules_are_asked_once_per_connection(world: World) -> None:
    """Linux: nat chains see the first packet; later ones follow the connection."""
    iptables_restore(world.node, AF_INET, KUBE)
    world.emit(world.client, SERVICE, syn())
    world.emit(world.client, SERVICE, syn())
    world.loop.run(SEC)
    table = xt_table(world.node, AF_INET, "nat")
    assert table.counters["KUBE-SERVICES"][0] == 1
    assert table.counters["KUBE-SEP-A"] == [0, 0, 1, 40]


def test_the_node_itself_is_masqueraded(world: World) -> None:
    """Its source is no pod's: KUBE-MARK-MASQ marks it, POSTROUTING gives it the device's address and clears the mark."""
    iptables_restore(world.node, AF_INET, KUBE)
    inet_addr_add(world.node.devs["vethc"], ip4("172.18.0.2"), 32)
    world.send(world.node, SERVICE, syn(), src="172.18.0.2")
    line = world.taps["web-0"].lines[0]
    assert line.startswith("10.48.2.1:")
    assert line.endswith(f" {WEB}:8080 2")
    assert xt_table(world.node, AF_INET, "nat").counters["KUBE-MARK-MASQ"] == [1, 40]


def test_reject_with_port_unreachable(world: World) -> None:
    """RFC 792 type 3 code 3, from the node, about the packet as the client sent it; nothing reaches the server."""
    world.rules(f"-A FORWARD -d {SERVICE} -p tcp --dport 80 -j REJECT")
    world.send(world.client, SERVICE, syn())
    assert world.taps["client"].lines == [f"10.48.1.1 {CLIENT} icmp 3/3"]
    quote = world.taps["client"].skbs[0].inner
    assert (quote.ip.daddr, quote.l4.dport) == (ip4(SERVICE), 80)
    assert world.taps["web-0"].lines == []


@pytest.mark.parametrize(("kind", "code"), [("icmp-net-unreachable", 0), ("icmp-host-prohibited", 10), ("icmp-admin-prohibited", 13)])
def test_reject_codes(world: World, kind: str, code: int) -> None:
    world.rules(f"-A FORWARD -p udp -j REJECT --reject-with {kind}")
    world.send(world.client, WEB, UdpHdr(40000, 53))
    assert world.taps["client"].lines == [f"10.48.1.1 {CLIENT} icmp 3/{code}"]


def test_reject_with_a_reset(world: World) -> None:
    """RFC 9293 3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK> for a SYN; <SEQ=SEG.ACK><CTL=RST> for an ACK.
    It comes from the address the segment was for."""
    world.rules("-A FORWARD -p tcp -j REJECT --reject-with tcp-reset")
    world.send(world.client, WEB, syn())
    world.send(world.client, WEB, TcpHdr(40000, 80, 1001, 777, ACK, 64240))
    world.send(world.client, WEB, TcpHdr(40000, 80, 1001, 777, RST, 0))
    assert world.taps["client"].lines == [f"{WEB}:80 {CLIENT}:40000 {RST | ACK}", f"{WEB}:80 {CLIENT}:40000 {RST}"]
    first, second = (skb.l4 for skb in world.taps["client"].skbs)
    assert (first.seq, first.ack_seq) == (0, 1001)
    assert (second.seq, second.ack_seq) == (777, 0)


def test_drop_in_output_is_eperm(world: World) -> None:
    """send(2): EPERM when a local rule refuses the packet."""
    code, _, words = iptables_command(world.client, AF_INET, ["-A", "OUTPUT", "-p", "udp", "-j", "DROP"])
    assert code == 0, words
    assert world.send(world.client, WEB, UdpHdr(40000, 53)) == -1
    assert world.taps["web-0"].lines == []


def test_drop_by_policy_is_counted(world: World) -> None:
    world.rules("-P FORWARD DROP")
    world.send(world.client, WEB, syn())
    assert world.taps["web-0"].lines == []
    assert xt_table(world.node, AF_INET, "filter").policy_counters["FORWARD"] == [1, 40]


def test_established_answers_pass(world: World) -> None:
    """The usual stateful rule: answers of a connection that was let out come in."""
    world.rules("-P FORWARD DROP\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -s 10.48.1.0/24 -j ACCEPT")
    world.send(world.web, CLIENT, UdpHdr(53, 40000))
    assert world.taps["client"].lines == []
    world.send(world.client, WEB, UdpHdr(40001, 53))
    world.send(world.web, CLIENT, UdpHdr(53, 40001))
    assert world.taps["client"].lines[-1] == f"{WEB}:53 {CLIENT}:40001 0"


def test_node_port_by_addrtype(world: World) -> None:
    """-m addrtype --dst-type LOCAL: any of the node's addresses, and no other."""
    world.rules(f"-t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 30080 -j DNAT --to-destination {WEB}:8080")
    world.send(world.client, "10.48.2.1", syn(30080))
    world.send(world.client, WEB, syn(30080, 40001))
    assert world.taps["web-0"].lines[:2] == [f"{CLIENT}:40000 {WEB}:8080 2", f"{CLIENT}:40001 {WEB}:30080 2"]


def test_redirect_ends_here(world: World) -> None:
    """REDIRECT: the destination is the address of the device the packet came through."""
    world.rules("-t nat -A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5353\n-A INPUT -p udp -d 10.48.1.1 --dport 5353 -j DROP")
    world.send(world.client, WEB, UdpHdr(40000, 53))
    assert xt_table(world.node, AF_INET, "filter").counters["INPUT"] == [1, 28]


def test_notrack_leaves_nat_out(world: World) -> None:
    """An untracked packet meets no nat rule."""
    iptables_restore(world.node, AF_INET, KUBE)
    world.rules("-t raw -A PREROUTING -j NOTRACK\n-A FORWARD -s 10.48.1.5 -m conntrack --ctstate UNTRACKED")
    world.send(world.client, WEB, syn())
    assert xt_table(world.node, AF_INET, "filter").counters["FORWARD"] == [1, 40]
    assert "KUBE-SERVICES" not in xt_table(world.node, AF_INET, "nat").counters
    assert list(world.node.ct.entries()) == []


def test_ttl_and_mark_in_mangle(world: World) -> None:
    world.rules("-t mangle -A PREROUTING -s 10.48.1.5 -j TTL --ttl-set 10\n-t mangle -A PREROUTING -j MARK --set-mark 7\n"
                "-A FORWARD -m mark --mark 7 -j ACCEPT\n-P FORWARD DROP")
    world.send(world.client, WEB, syn())
    assert world.taps["web-0"].skbs[0].ip.ttl == 9


def test_connections_in_zones_do_not_meet(world: World) -> None:
    """CT --zone: the same addresses and ports in two zones are two connections."""
    world.rules("-t raw -A PREROUTING -i vethc -j CT --zone 5")
    world.send(world.client, WEB, UdpHdr(40000, 53))
    assert [ct.zone.id for ct in world.node.ct.entries()] == [5]


def test_a_new_connection_is_shown_rule_by_rule(world: World) -> None:
    """The first packet's trace has the chains it went through, in order."""
    iptables_restore(world.node, AF_INET, KUBE)
    route = ip_route_output_key(world.client, ip4(SERVICE))
    skb = SkBuff(world.client, ETH_P_IP, IpHdr(ip4(CLIENT), ip4(SERVICE), 6), syn(), b"", 0, 40)
    skb.dst = route
    from kubenet.kernel.skbuff import arm

    arm(skb, True)
    ip_local_out(skb)
    world.loop.run(SEC)
    trace = world.loop.tracer.packets[skb.id]
    seen = [(s.table, s.chain, s.rule, s.verdict) for s in trace.stations if s.func == "ipt_do_table" and s.table == "nat"]
    assert seen[:4] == [("nat", "PREROUTING", 1, "jump KUBE-SERVICES"), ("nat", "KUBE-SERVICES", 1, "jump KUBE-SVC-A"),
                        ("nat", "KUBE-SVC-A", 2, "jump KUBE-SEP-A"), ("nat", "KUBE-SEP-A", 2, "DNAT")]
    assert ("nat", "KUBE-POSTROUTING", 1, "RETURN") in seen
