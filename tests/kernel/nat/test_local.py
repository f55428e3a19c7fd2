"""NAT with the real IP layer: packets made on the machine itself are translated in OUTPUT and routed again."""

from __future__ import annotations

from typing import Any

import pytest
from ctworld import add_rule

from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_addr_del
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.ipv4.icmp import icmp_send
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import ip_route_output_key
from kubenet.kernel.netfilter.conntrack import conntrack_line, nf_ct_netns_get
from kubenet.kernel.netfilter.core import ACCEPT, DROP, FORWARD, NFPROTO_IPV4, OUTPUT, nf_register_net_hook
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, DropReason, SkBuff, drop
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.wire.addr import ip4, ip4_text
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.udp import UdpHdr


class Machines:
    """`node` with two legs, 10.48.1.1 towards `left` 10.48.1.5 and 10.48.2.1 towards `right` 10.48.2.7."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.host = Host(self.loop, "node-1")
        self.node, self.left, self.right = (new_namespace(self.host, name) for name in ("node-1", "left", "right"))
        self.seen: list[tuple[str, str, str]] = []
        for net, subnet, host in ((self.left, 1, 5), (self.right, 2, 7)):
            a, b = create_veth_pair(self.node, net.name, net, "eth0")
            inet_addr_add(a, ip4(f"10.48.{subnet}.1"), 24)
            inet_addr_add(b, ip4(f"10.48.{subnet}.{host}"), 24)
            dev_change_flags(a, True)
            dev_change_flags(b, True)
            for dev in (a, b):
                dev.taps = [Tap(self.seen, dev.net.name)]
            fib_add(net, 0, 0, gateway=ip4(f"10.48.{subnet}.1"))
        nf_ct_netns_get(self.node)

    def send(self, net: NetNamespace, daddr: str, l4: Any) -> int:
        dst = ip_route_output_key(net, ip4(daddr))
        proto = 17 if isinstance(l4, UdpHdr) else 1
        skb = SkBuff(net, ETH_P_IP, IpHdr(dst.prefsrc, ip4(daddr), proto, 1), l4, b"x" * 8, 8, 36)
        skb.dst = dst
        result = ip_local_out(skb)
        self.loop.run(self.loop.now + 1_000_000_000)
        return result

    def lines(self) -> list[str]:
        return [conntrack_line(ct, self.loop.now) for ct in self.node.ct.entries()]


class Tap:
    """Remembers IP packets that arrive."""

    def __init__(self, seen: list[tuple[str, str, str]], where: str) -> None:
        self.seen, self.where = seen, where

    def capture(self, dev: Any, skb: SkBuff, outgoing: bool) -> None:
        if not outgoing and skb.protocol == ETH_P_IP:
            self.seen.append((self.where, ip4_text(skb.ip.saddr), ip4_text(skb.ip.daddr)))


@pytest.fixture
def machines() -> Machines:
    return Machines()


def test_an_own_packet_takes_the_way_of_its_new_destination(machines: Machines) -> None:
    """Routed to the left, translated in OUTPUT, leaves to the right; and `-o` in filter OUTPUT still sees the left (6.18)."""
    add_rule(machines.node, {"chain": "OUTPUT", "proto": "icmp", "dst": "10.48.1.9", "to": "10.48.2.7"})
    devices: list[str] = []

    def note(skb: SkBuff, hook: int) -> int:
        devices.append(skb.outdev.name)
        return ACCEPT

    nf_register_net_hook(machines.node, NFPROTO_IPV4, OUTPUT, 0, note, "note")
    machines.send(machines.node, "10.48.1.9", IcmpHdr(8, 0, 7 << 16 | 1))
    assert devices == ["left"]
    assert machines.seen == [("right", "10.48.1.1", "10.48.2.7"), ("node-1", "10.48.2.7", "10.48.1.1")]
    assert machines.lines()[0].startswith("icmp     1 29 src=10.48.1.1 dst=10.48.1.9 type=8 code=0 id=7 src=10.48.2.7 ")


def test_masquerade_takes_the_address_of_the_way_out(machines: Machines) -> None:
    machines.node.sysctl.ipv4.ip_forward = 1
    for dev in machines.node.devs.values():
        dev.conf.forwarding = 1
    add_rule(machines.node, {"chain": "POSTROUTING", "proto": "all", "out": "right", "to": "masquerade"})
    machines.send(machines.left, "10.48.2.7", IcmpHdr(8, 0, 7 << 16 | 1))
    assert machines.seen == [
        ("node-1", "10.48.1.5", "10.48.2.7"), ("right", "10.48.2.1", "10.48.2.7"),  # the request
        ("node-1", "10.48.2.7", "10.48.2.1"), ("left", "10.48.2.7", "10.48.1.5"),  # the answer, translated back
    ]
    assert machines.lines() == [  # one second later
        "icmp     1 29 src=10.48.1.5 dst=10.48.2.7 type=8 code=0 id=7 src=10.48.2.7 dst=10.48.2.1 type=0 code=0 id=7 "
        "mark=0 use=1"]
    inet_addr_del(machines.node.devs["right"], ip4("10.48.2.1"))
    assert machines.lines() == []


def test_a_masqueraded_connection_ends_with_its_device(machines: Machines) -> None:
    add_rule(machines.node, {"chain": "POSTROUTING", "proto": "all", "out": "right", "to": "masquerade"})
    machines.send(machines.node, "10.48.2.7", IcmpHdr(8, 0, 7 << 16 | 1))
    assert len(machines.lines()) == 1
    dev_change_flags(machines.node.devs["right"], False)
    assert machines.lines() == []


def test_closed_port_answers_are_translated_for_the_sender(machines: Machines) -> None:
    """A datagram to a service whose pod has no such port: the ICMP error quotes what the sender sent."""
    add_rule(machines.node, {"chain": "OUTPUT", "proto": "udp", "dst": "10.96.0.10", "dport": 53, "to": "10.48.2.7:5353"})
    fib_add(machines.node, 0, 0, dev=machines.node.devs["left"])
    quotes: list[tuple[str, int]] = []

    class QuoteTap:
        def capture(self, dev: Any, skb: SkBuff, outgoing: bool) -> None:
            if not outgoing and skb.protocol == ETH_P_IP and skb.inner is not None:
                quotes.append((ip4_text(skb.inner.ip.daddr), skb.inner.l4.dport))

    machines.node.devs["right"].taps = [QuoteTap()]
    handled: list[tuple[str, int]] = []
    machines.node.inet_protos[17] = (
        lambda skb: None,
        lambda skb, info: handled.append((ip4_text(skb.inner.ip.daddr), skb.inner.l4.dport)))
    machines.send(machines.node, "10.96.0.10", UdpHdr(5000, 53))
    assert quotes == [("10.48.2.7", 5353)]
    assert handled == [("10.96.0.10", 53)]


@pytest.mark.parametrize("ttl, error", [(64, (3, 3)), (1, (11, 0))], ids=["rejected", "expired"])
def test_an_error_about_a_first_packet_is_translated_for_the_sender(machines: Machines, ttl: int, error: tuple[int, int]) -> None:
    """DNAT, then REJECT or an expired TTL: the connection is in no table yet, and still the error speaks of the service.

    Seen on Linux 6.18: `10.9.9.9 > 10.1.0.2: ICMP 10.9.9.9 tcp port 80 unreachable` for a DNAT of 10.9.9.9 that FORWARD rejects
    (ECONNREFUSED at once), and conntrack -L stays empty.
    """
    machines.node.sysctl.ipv4.ip_forward = 1
    for dev in machines.node.devs.values():
        dev.conf.forwarding = 1
    add_rule(machines.node, {"chain": "PREROUTING", "proto": "udp", "dst": "10.96.0.10", "dport": 53, "to": "10.48.2.7:5353"})

    def reject(skb: SkBuff, hook: int) -> int:
        icmp_send(skb, 3, 3, 0)
        drop(skb, DropReason.NETFILTER_DROP)
        return DROP

    nf_register_net_hook(machines.node, NFPROTO_IPV4, FORWARD, 0, reject, "reject")
    told: list[tuple[Any, ...]] = []

    class QuoteTap:
        def capture(self, dev: Any, skb: SkBuff, outgoing: bool) -> None:
            if not outgoing and skb.protocol == ETH_P_IP and skb.inner is not None:
                quote = skb.inner
                told.append(((skb.l4.type, skb.l4.code), ip4_text(skb.ip.saddr), ip4_text(quote.ip.daddr), quote.l4.dport))

    machines.left.devs["eth0"].taps = [QuoteTap()]
    dst = ip_route_output_key(machines.left, ip4("10.96.0.10"))
    skb = SkBuff(machines.left, ETH_P_IP, IpHdr(dst.prefsrc, ip4("10.96.0.10"), 17, 1, 0, ttl), UdpHdr(4000, 53), b"x" * 8, 8, 36)
    skb.dst = dst
    ip_local_out(skb)
    machines.loop.run(machines.loop.now + 1_000_000_000)
    assert told == [(error, "10.96.0.10", "10.96.0.10", 53)]
    assert machines.lines() == []
