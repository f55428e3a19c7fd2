"""IPv6 packets on their way through ip6tables' rules: matches, NAT, and the compiled chains against the plain interpreter.

There is no IPv6 stack yet, so the hooks are run one by one, as ip6_rcv() and its followers would.
"""

from __future__ import annotations

import pytest

from kubenet.kernel.dev.dummy import Dummy
from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    DROP,
    FORWARD,
    INPUT,
    NFPROTO_IPV6,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    nf_hook,
)
from kubenet.kernel.netfilter.xtables.evaluate import evaluate
from kubenet.kernel.netfilter.xtables.restore import iptables_restore
from kubenet.kernel.netfilter.xtables.table import ipt_do_table, xt_table
from kubenet.kernel.netns import AF_INET6, NetNamespace
from kubenet.kernel.skbuff import ETH_P_IPV6, SkBuff
from kubenet.sim.clock import EventLoop
from kubenet.wire.addr import ip6, ip6_text
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv6 import Ipv6Hdr
from kubenet.wire.tcp import NO_OPTIONS, TcpHdr
from kubenet.wire.udp import UdpHdr

CLIENT, VIP, POD, NODE = (ip6(text) for text in ("fd00:10:48:1::5", "fd00:10:96::1", "fd00:10:48:2::7", "fd00:172:18::2"))


@pytest.fixture
def net() -> NetNamespace:
    made = NetNamespace(Host(EventLoop(), "node-1", 7), "node-1")
    dev = Dummy(made, "eth0")
    made.devs["eth0"] = dev
    made.local_addrs[AF_INET6] = {NODE: dev, 1: object()}
    return made


def packet(net: NetNamespace, daddr: int = VIP, dport: int = 80, saddr: int = CLIENT, udp: bool = False) -> SkBuff:
    l4 = UdpHdr(41000, dport) if udp else TcpHdr(41000, dport, 1, 0, 2, 64240, NO_OPTIONS)
    skb = SkBuff(net, ETH_P_IPV6, Ipv6Hdr(saddr, daddr, 17 if udp else 6), l4, b"", 0, 60)
    skb.indev = net.devs["eth0"]
    return skb


def test_dnat_and_masquerade(net: NetNamespace) -> None:
    """The destination changes at PREROUTING, the source at POSTROUTING: into an address of the device it leaves by."""
    iptables_restore(net, AF_INET6, f"""*nat
-A PREROUTING -d {ip6_text(VIP)} -p tcp -m tcp --dport 80 -j DNAT --to-destination [{ip6_text(POD)}]:8080
-A POSTROUTING -j MASQUERADE
COMMIT
""")
    skb = packet(net)
    assert nf_hook(NFPROTO_IPV6, PREROUTING, skb) == ACCEPT
    assert (skb.ip.daddr, skb.l4.dport) == (POD, 8080)
    skb.indev, skb.outdev = None, net.devs["eth0"]
    assert nf_hook(NFPROTO_IPV6, POSTROUTING, skb) == ACCEPT
    assert skb.ip.saddr == NODE
    reply = packet(net, NODE, skb.l4.sport, POD)
    reply.l4.sport, reply.l4.flags = 8080, 18
    assert nf_hook(NFPROTO_IPV6, PREROUTING, reply) == ACCEPT
    assert (reply.ip.daddr, reply.l4.dport) == (CLIENT, 41000)
    reply.indev, reply.outdev = None, net.devs["eth0"]
    assert nf_hook(NFPROTO_IPV6, POSTROUTING, reply) == ACCEPT
    assert (reply.ip.saddr, reply.l4.sport) == (VIP, 80)


def test_states_and_reject(net: NetNamespace) -> None:
    iptables_restore(net, AF_INET6, """*filter
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctstate NEW -p tcp -m tcp --dport 81 -j REJECT
COMMIT
""")
    for dport, verdict in ((80, ACCEPT), (81, DROP)):
        skb = packet(net, dport=dport)
        assert nf_hook(NFPROTO_IPV6, PREROUTING, skb) == ACCEPT
        assert nf_hook(NFPROTO_IPV6, FORWARD, skb) == verdict


def test_ipv4_rules_see_no_ipv6(net: NetNamespace) -> None:
    iptables_restore(net, 2, "*filter\n:INPUT DROP [0:0]\nCOMMIT\n")
    assert nf_hook(NFPROTO_IPV6, INPUT, packet(net)) == ACCEPT


RULES = f"""*filter
:A - [0:0]
-A FORWARD -m addrtype --dst-type LOCAL -j ACCEPT
-A FORWARD -s fd00:10:48::/48 -j A
-A FORWARD -p udp -m udp --dport 53 -j DROP
-A FORWARD -d {ip6_text(VIP)} -p tcp -m tcp --dport 443 -j DROP
-A FORWARD -d {ip6_text(VIP)} -p tcp -m tcp --dport 80 -j DROP
-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j DROP
-A FORWARD -m hl --hl-lt 2 -j DROP
-A FORWARD -m iprange --dst-range fd00::1-fd00::9 -j DROP
-A A -m recent --set --name X -j RETURN
COMMIT
"""


def test_compiled_chains_agree_with_the_plain_walk(net: NetNamespace) -> None:
    """Verdict and counters are those of the kernel's loop over all rules."""
    iptables_restore(net, AF_INET6, RULES)
    table = xt_table(net, AF_INET6, "filter")
    ping = packet(net)
    ping.ip, ping.l4 = Ipv6Hdr(CLIENT, POD, 58), IcmpHdr(128, 0, 1)
    old = packet(net, POD, 90)
    old.ip.hop_limit = 1
    for skb, verdict in ((packet(net), DROP), (packet(net, NODE), ACCEPT), (packet(net, dport=53, udp=True), DROP), (ping, DROP),
                         (old, DROP), (packet(net, ip6("fd00::5")), DROP), (packet(net, POD, 22), ACCEPT)):
        table.counters.clear()
        assert ipt_do_table(table, skb, FORWARD) == verdict
        counted = {name: list(counts) for name, counts in table.counters.items()}
        table.counters.clear()
        assert evaluate(table, skb, FORWARD, plain=True) == verdict
        assert {name: list(counts) for name, counts in table.counters.items()} == counted


def test_an_own_packet(net: NetNamespace) -> None:
    """nat's OUTPUT redirects to ::1 what is made here."""
    iptables_restore(net, AF_INET6, "*nat\n-A OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080\nCOMMIT\n")
    skb = packet(net, saddr=NODE)
    skb.indev, skb.outdev = None, net.devs["eth0"]
    assert nf_hook(NFPROTO_IPV6, OUTPUT, skb) == ACCEPT
    assert (skb.ip.daddr, skb.l4.dport) == (1, 8080)
