"""NAT: who is asked, what a connection becomes, which ports are free, and what ends a masqueraded connection."""

from __future__ import annotations

import pytest
from ctworld import Rule, World, add_rule
from scenarios import CLIENT, MASQ, OPEN, SERVER, SERVICE, SYN, WEB, c, icmp, quote, s, udp

from kubenet.kernel.dev.device import NETDEV_DOWN
from kubenet.kernel.netfilter.conntrack.entry import IPS_DST_NAT, IPS_NAT_DONE_MASK, IPS_SRC_NAT
from kubenet.kernel.netfilter.conntrack.tuple import inverse
from kubenet.kernel.netfilter.core import ACCEPT
from kubenet.kernel.netfilter.nat import NatRange, masq_device_event, masq_inet_event, nf_nat_setup_info
from kubenet.kernel.netfilter.nat_unique import (
    NF_NAT_RANGE_PROTO_RANDOM_FULLY,
    NF_NAT_RANGE_PROTO_SPECIFIED,
    get_unique_tuple,
    jhash2,
)
from kubenet.wire.addr import ip4

FULLY = {**MASQ, "fully": True}


def rules_of(world: World) -> list[Rule]:
    return [fn for providers in world.net.nat.providers.values() for _, fn in providers]


def ports_after(world: World, sport: int, count: int) -> list[int]:
    """Source ports on the wire of `count` connections that all come from `sport`, each to another server port."""
    out = [world.deliver(c("S", 1, src=f"10.48.1.{10 + i % 200}", sport=sport, dport=1000 + i)) for i in range(count)]
    return [skb.l4.sport for skb in out if skb is not None]


def test_rules_are_asked_for_the_first_packet_only() -> None:
    world = World([WEB, MASQ])
    for p in [c("S", 1000, dst=SERVICE, **SYN), s("SA", 5000, 1001, sport=8080, dst="10.48.2.1", **SYN),
              c("A", 1001, 5001, dst=SERVICE)]:
        assert world.deliver(p) is not None
    assert [rule.hits for rule in rules_of(world)] == [1, 1]


def test_each_provider_is_asked_until_one_has_bound_the_connection() -> None:
    other = {**WEB, "to": "10.48.2.8:8080"}
    world = World([{**WEB, "dport": 81}, WEB, other])
    world.deliver(c("S", 1000, dst=SERVICE))
    assert [rule.hits for rule in rules_of(world)] == [0, 1, 0]


def test_a_connection_no_rule_wants_is_bound_to_itself() -> None:
    world = World([WEB])
    world.deliver(c("S", 1000))
    ct = world.net.ct.entries()[0]
    assert ct.status & IPS_NAT_DONE_MASK == IPS_NAT_DONE_MASK and not ct.status & (IPS_SRC_NAT | IPS_DST_NAT)
    assert ct.reply == inverse(ct.orig)


def test_a_confirmed_connection_cannot_be_bound_again() -> None:
    world = World([WEB])
    world.deliver(c("S", 1000))
    ct = world.net.ct.entries()[0]
    assert nf_nat_setup_info(ct, NatRange(1, 1, 1), 0) == ACCEPT and ct.reply == inverse(ct.orig)


def test_rules_that_come_later_do_not_touch_open_connections() -> None:
    world = World([{**WEB, "dport": 81}])
    world.deliver(c("S", 1000, dst=SERVICE))
    add_rule(world.net, WEB)
    again = world.deliver(c("S", 1000, dst=SERVICE))
    assert again is not None and again.ip.daddr == ip4(SERVICE)


def test_an_invalid_packet_passes_unchanged() -> None:
    """The answer outside of the window keeps the pod's address: the client does not know it and resets."""
    world = World([WEB])
    for p in [c("S", 1000, dst=SERVICE, **SYN), s("SA", 5000, 1001, sport=8080, **SYN), c("A", 1001, 5001, dst=SERVICE)]:
        world.deliver(p)
    stray = s("A", 900_000_000, 1001, sport=8080, len=10)
    skb = world.deliver(stray, drop_invalid=False)
    assert skb is not None and skb.ip.saddr == ip4(SERVER) and world.net.ct.stats["invalid"] == 1
    world.net.sysctl.netfilter.nf_conntrack_tcp_be_liberal = 1
    skb = world.deliver(stray, drop_invalid=False)
    assert skb is not None and skb.ip.saddr == ip4(SERVICE)


def test_headers_that_a_clone_shares_are_copied_first() -> None:
    world = World([WEB])
    skb = world.skb(c("S", 1000, dst=SERVICE))
    kept = skb.clone()
    assert world.forward(skb, "client")
    assert (skb.l4.dport, kept.l4.dport, kept.ip.daddr) == (8080, 80, ip4(SERVICE))


def test_a_redirect_for_a_translated_connection_is_dropped() -> None:
    """nf_nat_icmp_reply_translation(): the shorter way would be to an address the sender does not use."""
    world = World([WEB])
    world.deliver(c("S", 1000, dst=SERVICE))
    redirect = icmp("server", "10.48.2.9", CLIENT, 5, code=1, rest=1, quote=quote(c("S", 1000, dport=8080)))
    assert world.deliver(redirect) is None


# -- ports

def test_masquerade_keeps_a_free_source_port() -> None:
    assert ports_after(World([MASQ]), 40000, 20) == [40000] * 20  # one port serves many destinations


@pytest.mark.parametrize(("sport", "low", "high"), [(80, 1, 511), (700, 600, 1023), (1024, 1024, 65535), (512, 600, 1023)])
def test_random_ports_stay_in_their_class(sport: int, low: int, high: int) -> None:
    """1-511, 600-1023 and 1024-65535: 1500 connections on Linux 6.18 gave exactly these bounds for the first two."""
    ports = ports_after(World([FULLY]), sport, 1500)
    assert min(ports) >= low and max(ports) <= high and len(set(ports)) > 100
    if high < 1024:
        assert (min(ports), max(ports)) == (low, high)


def test_a_port_that_is_taken_becomes_another_of_its_class() -> None:
    world = World([MASQ])
    first, second = (world.deliver(c("S", 1, src=src)) for src in ("10.48.1.5", "10.48.1.6"))
    assert first is not None and first.l4.sport == 40000
    assert second is not None and second.l4.sport != 40000 and second.l4.sport >= 1024
    assert world.net.ct.stats["found"] >= 1


def test_ports_run_out_per_destination() -> None:
    """10 ports: the eleventh connection to one server is dropped when it is confirmed; another server is no problem."""
    world = World([{"chain": "POSTROUTING", "out": "tun1", "to": "10.9.0.1:2000-2009"}])
    passed = [world.deliver(c("S", 1, src=f"10.48.1.{10 + i}")) for i in range(11)]
    assert sorted(skb.l4.sport for skb in passed[:10] if skb is not None) == list(range(2000, 2010))
    assert passed[10] is None and world.net.ct.stats["insert_failed"] == 1
    assert world.loop.tracer.packets[next(reversed(world.loop.tracer.packets))].stations[-1].data == {"reason": "NAT_NO_PORT"}
    assert world.deliver(c("S", 1, src="10.48.1.30", dport=81)) is not None


def test_unique_tuple_evicts_an_old_time_wait() -> None:
    """At the end of the search, and only if the sequence numbers have moved on (nf_nat_used_tuple_harder())."""
    world = World([{"chain": "POSTROUTING", "out": "tun1", "to": "10.9.0.1:2000-2001", "fully": True}])
    sides = {}
    for n, src in enumerate(("10.48.1.5", "10.48.1.6")):
        syn = world.deliver(c("S", 1000, src=src))
        assert syn is not None
        sides[src] = {"dst": "10.9.0.1", "dport": syn.l4.sport}
        for p in [s("SA", 5000, 1001, **sides[src]), c("A", 1001, 5001, src=src), c("FA", 1001, 5001, src=src),
                  s("FA", 5001, 1002, **sides[src]), c("A", 1002, 5002, src=src)]:
            assert world.deliver(p) is not None, (n, p)
    assert [line.split()[3] for line in world.lines()] == ["TIME_WAIT", "TIME_WAIT"]
    assert world.deliver(c("S", 10, src="10.48.1.7")) is None  # an older sequence number: the server would refuse
    assert world.deliver(c("S", 90_000, src="10.48.1.7")) is not None
    assert sorted(line.split()[3] for line in world.lines()) == ["SYN_SENT", "TIME_WAIT"]


def test_an_echo_id_is_a_port_too() -> None:
    world = World([MASQ])
    first, second = (world.deliver(icmp("client", src, SERVER, 8, id=77)) for src in ("10.48.1.5", "10.48.1.6"))
    assert first is not None and second is not None
    assert first.l4.rest >> 16 == 77 != second.l4.rest >> 16
    answer = world.deliver(icmp("server", SERVER, "10.48.2.1", 0, id=second.l4.rest >> 16))
    assert answer is not None and answer.ip.daddr == ip4("10.48.1.6") and answer.l4.rest == 77 << 16 | 1


def test_destination_ports_are_tried_from_the_first() -> None:
    world = World([])
    add_rule(world.net, {"chain": "PREROUTING", "dst": SERVICE, "dport": 80, "to": "10.48.2.7:8000-8009"})
    skb = world.deliver(c("S", 1, dst=SERVICE))
    assert skb is not None and skb.l4.dport == 8000


def test_random_fully_never_asks_whether_the_port_is_free_to_stay() -> None:
    world = World([MASQ])
    skb = world.deliver(c("S", 1))
    assert skb is not None
    current = inverse(skb.ct.reply)
    rng = NatRange(NF_NAT_RANGE_PROTO_RANDOM_FULLY | NF_NAT_RANGE_PROTO_SPECIFIED, min_port=3000, max_port=3999)
    ports = {get_unique_tuple(current, rng, skb.ct, 0)[1] for _ in range(50)}
    assert len(ports) > 20 and all(3000 <= port <= 3999 for port in ports)


def test_the_hash_is_jenkins_lookup3() -> None:
    """driver5() of lookup3.c: hashword() of nothing is 0xdeadbeef + initval."""
    assert jhash2((), 0) == 0xDEADBEEF and jhash2((), 0x10) == 0xDEADBEFF


# -- the end of masqueraded connections

def test_a_device_that_goes_down_takes_its_masqueraded_connections_along() -> None:
    world = World([MASQ])
    for p in [c("S", 1), udp("client", CLIENT, 5000, SERVER, 53), udp("server", SERVER, 6000, CLIENT, 7000)]:
        assert world.deliver(p) is not None
    masq_device_event(NETDEV_DOWN, world.devs["client"])
    assert world.net.ct.count == 3
    masq_device_event(NETDEV_DOWN, world.devs["server"])
    assert [line.split()[0] for line in world.lines()] == ["udp"] and world.net.ct.bysource.keys() != {}


def test_an_address_that_goes_takes_its_masqueraded_connections_along() -> None:
    world = World([MASQ])
    world.deliver(c("S", 1))
    masq_inet_event(world.devs["server"], ip4("10.48.2.2"))
    assert world.net.ct.count == 1
    masq_inet_event(world.devs["server"], ip4("10.48.2.1"))
    assert world.net.ct.count == 0 and world.net.ct.bysource == {}


def test_a_masqueraded_connection_does_not_leave_by_another_device() -> None:
    world = World([MASQ])
    world.deliver(c("S", 1000, **SYN))
    assert world.deliver(s("SA", 5000, 1001, dst="10.48.2.1", **SYN)) is not None
    world.devs["server"].ifindex = 9  # the route has moved
    assert world.deliver(c("A", 1001, 5001)) is None and world.net.ct.count == 0


def test_masquerade_without_an_address_says_so() -> None:
    world = World([MASQ])
    world.devs["server"].ifaddrs.clear()
    assert world.deliver(c("S", 1)) is None
    assert world.host.dmesg[-1][1] == "tun1 ate my IP address"


def test_the_trace_names_the_translation() -> None:
    world = World([WEB])
    skb = world.skb(c("S", 1000, dst=SERVICE))
    skb.tr = world.loop.tracer.open(skb.id, {})
    assert world.forward(skb, "client")
    words = [(station.func, station.what) for station in skb.tr.stations]
    assert ("nf_nat_setup_info", "destination of the connection is translated") in words
    assert ("nf_nat_manip_pkt", "destination 10.96.0.1:80 becomes 10.48.2.7:8080") in words
    assert skb.tr.stations[-1].ct == "tcp SYN_SENT 10.48.1.5:40000 -> 10.96.0.1:80 dnat 10.48.2.7:8080"


# -- what it costs

def calls(world: World, packet: dict[str, object]) -> dict[str, int]:
    """Python functions entered while the packet passes, by module."""
    import sys

    counts: dict[str, int] = {}

    def note(frame: object, event: str, arg: object) -> None:
        if event == "call":
            name = frame.f_code.co_filename.rpartition("/netfilter/")[2]  # type: ignore[attr-defined]
            counts[name] = counts.get(name, 0) + 1

    skb = world.skb(packet)
    sys.setprofile(note)
    try:
        world.forward(skb, str(packet["from"]))
    finally:
        sys.setprofile(None)
    return {name: n for name, n in counts.items() if name.startswith(("conntrack", "nat"))}


def test_calls_of_an_established_packet() -> None:
    """PREROUTING: nf_conntrack_in, tcp_packet, tcp_in_window; POSTROUTING: nf_confirm; and one per nat hook."""
    world = World([{**WEB, "dport": 81}])
    for p in OPEN:
        world.deliver(p)
    assert calls(world, c("PA", 1001, 5001, len=10)) == {
        "conntrack/core.py": 2, "conntrack/tcp.py": 1, "conntrack/tcp_window.py": 1, "nat.py": 2}


def test_calls_of_a_translated_packet() -> None:
    """One more where it is translated: nf_nat_manip_pkt."""
    world = World([WEB])
    for p in [c("S", 1000, dst=SERVICE, **SYN), s("SA", 5000, 1001, sport=8080, **SYN), c("A", 1001, 5001, dst=SERVICE)]:
        world.deliver(p)
    assert calls(world, c("PA", 1001, 5001, dst=SERVICE, len=10)) == {
        "conntrack/core.py": 2, "conntrack/tcp.py": 1, "conntrack/tcp_window.py": 1, "nat.py": 3}
