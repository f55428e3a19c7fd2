"""ARP and neighbour unreachability detection: RFC 826, RFC 4861 7.3, ip-sysctl neigh/*, and the times of the kernel
profile."""

from __future__ import annotations

import errno

from netlab import Lab, lines, sniff

from kubenet.kernel.dev.device import ETH_BROADCAST, dev_change_flags
from kubenet.kernel.ipv4.arp import arp_announce_addresses, arp_send
from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_conf_write
from kubenet.kernel.ipv4.neigh import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    neigh_confirm,
    neigh_set_static,
)
from kubenet.units import SEC
from kubenet.wire.addr import ip4, mac
from kubenet.wire.arp import ARPOP_REPLY, ARPOP_REQUEST


def pair() -> tuple[Lab, list, list]:
    lab = Lab()
    a, b = lab.ns("a"), lab.ns("b")
    ends = lab.cable(a, "eth0", "10.9.0.1/24", b, "eth0", "10.9.0.2/24")
    return lab, [a, b], list(ends)


def entry(net, ip: str):
    return net.neigh[2].lookup(net.devs["eth0"], ip4(ip))


def times(recorder) -> list[float]:
    return [round(t / SEC, 6) for t, *_ in recorder.frames]


def test_first_packet_asks_then_goes_and_the_asker_is_learnt() -> None:
    """RFC 826 "Packet Reception": who is asked learns the asker; Linux keeps him as STALE."""
    lab, (a, b), (eth0, _) = pair()
    seen = sniff(eth0)
    lab.send(a, "10.9.0.2", wait=0.5)
    assert lines(seen)[:3] == ["eth0 > arp who-has 10.9.0.2 tell 10.9.0.1", "eth0 < arp reply 10.9.0.2",
                               "eth0 > 10.9.0.1 10.9.0.2 ttl 64"]
    assert entry(a, "10.9.0.2").state == NUD_REACHABLE
    assert entry(b, "10.9.0.1").state in (NUD_STALE, NUD_DELAY)
    assert entry(b, "10.9.0.1").ha == eth0.addr


def test_three_requests_a_second_apart_then_host_unreachable_for_each_waiting_packet() -> None:
    lab, (a, _), (eth0, _) = pair()
    seen = sniff(eth0)
    lab.echo(a, "10.9.0.99")
    lab.run(0.5)
    lab.echo(a, "10.9.0.99")
    lab.run(4)
    assert times(seen) == [0.0, 1.0, 2.0]
    assert lab.got == ["From 10.9.0.1 Destination Host Unreachable"] * 2
    assert entry(a, "10.9.0.99").state == NUD_FAILED
    lab.echo(a, "10.9.0.99")  # a failed entry asks again
    lab.run(0)
    assert len(seen.frames) == 4


def test_reachable_for_15_to_45_seconds_then_stale_when_unused() -> None:
    """base_reachable_time 30 s x 0.5..1.5."""
    lab, (a, _), _ = pair()
    lab.send(a, "10.9.0.2", wait=14.9)
    assert entry(a, "10.9.0.2").state == NUD_REACHABLE
    lab.run(30.2)
    assert entry(a, "10.9.0.2").state == NUD_STALE


def test_a_stale_entry_is_used_at_once_and_probed_by_unicast_after_five_seconds() -> None:
    lab, (a, b), (eth0, other) = pair()
    lab.send(a, "10.9.0.2", wait=46)
    seen = sniff(eth0)
    start = lab.loop.now
    lab.send(a, "10.9.0.2", wait=0)
    assert lines(seen) == ["eth0 > 10.9.0.1 10.9.0.2 ttl 64"]
    assert entry(a, "10.9.0.2").state == NUD_DELAY
    lab.run(4.9)
    before = len([f for f in seen.frames if f[2]])
    assert before == 1
    lab.run(0.2)
    probe = [f for f in seen.frames if f[2]][1]
    assert probe[0] - start == 5 * SEC and probe[3].eth.dst == other.addr
    assert entry(a, "10.9.0.2").state == NUD_REACHABLE


def test_a_neighbour_that_died_is_probed_three_times_and_fails() -> None:
    lab, (a, b), (eth0, other) = pair()
    lab.send(a, "10.9.0.2", wait=46)
    neigh_set_static(a.neigh[2], eth0, ip4("10.9.0.2"), mac("02:00:00:00:00:77"), NUD_STALE)  # nobody there
    seen = sniff(eth0)
    start = lab.loop.now
    lab.echo(a, "10.9.0.2")
    lab.run(7.5)
    assert entry(a, "10.9.0.2").state == NUD_PROBE
    lab.run(2)
    probes = [(f[0] - start) // SEC for f in seen.frames if f[2] and f[3].eth.dst == mac("02:00:00:00:00:77")]
    assert probes == [0, 5, 6, 7]
    assert entry(a, "10.9.0.2").state == NUD_FAILED


def test_progress_of_tcp_spares_the_probe() -> None:
    """dst_confirm(): an entry in DELAY that was confirmed is REACHABLE without a question."""
    lab, (a, _), (eth0, _) = pair()
    lab.send(a, "10.9.0.2", wait=46)
    lab.send(a, "10.9.0.2", wait=1)
    seen = sniff(eth0)
    neigh_confirm(entry(a, "10.9.0.2"))
    lab.run(5)
    assert entry(a, "10.9.0.2").state == NUD_REACHABLE
    assert not any("who-has 10.9.0.2" in line for line in lines(seen))


def test_the_queue_of_waiting_packets_is_limited_in_bytes_and_the_oldest_give_way() -> None:
    """unres_qlen_bytes 212992."""
    lab, (a, _), _ = pair()
    for _ in range(200):
        lab.datagram(a, "10.9.0.99", size=1480)
        lab.send(a, "10.9.0.99", wait=0, size=1480)
    neigh = entry(a, "10.9.0.99")
    assert neigh.queue_bytes <= 212992
    assert len(neigh.queue) == 212992 // (1500 + 768)


def test_gratuitous_arp_updates_who_is_known_and_makes_strangers_known_only_with_arp_accept() -> None:
    """A pod that moved announces itself. ip-sysctl arp_accept; RFC 5944 4.6."""
    lab, (a, b), (eth0, other) = pair()
    lab.send(a, "10.9.0.2", wait=2)
    other.addr = mac("02:00:00:00:00:99")
    arp_announce_addresses(b, other)
    lab.run(0.1)
    assert entry(a, "10.9.0.2").ha == mac("02:00:00:00:00:99")
    arp_send(other, ARPOP_REQUEST, ip4("10.9.0.50"), ip4("10.9.0.50"), 0)
    lab.run(0.1)
    assert entry(a, "10.9.0.50") is None
    inet_conf_write(a, "eth0", "arp_accept", 1)
    arp_send(other, ARPOP_REQUEST, ip4("10.9.0.50"), ip4("10.9.0.50"), 0)
    lab.run(0.1)
    assert entry(a, "10.9.0.50").state == NUD_STALE


def test_an_unasked_reply_of_a_stranger_is_ignored() -> None:
    lab, (a, _), (eth0, other) = pair()
    arp_send(other, ARPOP_REPLY, ip4("10.9.0.1"), ip4("10.9.0.66"), eth0.addr, eth0.addr)
    lab.run(0.1)
    assert entry(a, "10.9.0.66") is None


def test_linux_answers_for_any_of_its_addresses_unless_arp_ignore() -> None:
    """The weak host model; arp_ignore=1 answers only on the device that has the address."""
    lab, (a, b), (eth0, _) = pair()
    inet_addr_add(b.lo, ip4("10.9.0.200"), 32)
    seen = sniff(eth0)
    lab.send(a, "10.9.0.200", wait=0.1)
    assert "eth0 < arp reply 10.9.0.200" in lines(seen)
    inet_conf_write(b, "all", "arp_ignore", 1)
    a.neigh[2].flush_dev(eth0)
    seen.frames.clear()
    lab.send(a, "10.9.0.200", wait=0.1)
    assert lines(seen) == ["eth0 > arp who-has 10.9.0.200 tell 10.9.0.1"]


def test_duplicate_address_detection_probe_is_answered() -> None:
    """RFC 5227 2.1.1: sender address zero."""
    lab, (a, b), (eth0, other) = pair()
    seen = sniff(eth0)
    arp_send(eth0, ARPOP_REQUEST, ip4("10.9.0.2"), 0, 0)
    lab.run(0.1)
    assert lines(seen) == ["eth0 > arp who-has 10.9.0.2 tell 0.0.0.0", "eth0 < arp reply 10.9.0.2"]
    assert entry(b, "0.0.0.0") is None


def test_proxy_arp_answers_for_what_is_routed_elsewhere() -> None:
    lab = Lab()
    client, router, server = lab.routed()
    inet_conf_write(router, "c0", "proxy_arp", 1)
    seen = sniff(client.devs["eth0"])
    arp_send(client.devs["eth0"], ARPOP_REQUEST, ip4("10.2.0.2"), ip4("10.1.0.2"), 0)
    lab.run(0.1)
    assert lines(seen)[1] == "eth0 < arp reply 10.2.0.2"


def test_permanent_entries_are_not_moved_by_arp() -> None:
    lab, (a, b), (eth0, other) = pair()
    neigh_set_static(a.neigh[2], eth0, ip4("10.9.0.2"), other.addr)
    arp_send(other, ARPOP_REQUEST, ip4("10.9.0.2"), ip4("10.9.0.2"), 0, ETH_BROADCAST)
    lab.run(0.1)
    assert entry(a, "10.9.0.2").state == NUD_PERMANENT


def test_a_lost_carrier_makes_all_neighbours_unknown_but_the_permanent_ones() -> None:
    """arp_netdev_event(): NETDEV_CHANGE without carrier. Routes stay (observed on 6.18: they are shown as linkdown)."""
    lab, (a, _), (eth0, other) = pair()
    lab.send(a, "10.9.0.2", wait=0.1)
    neigh_set_static(a.neigh[2], eth0, ip4("10.9.0.3"), other.addr)
    dev_change_flags(other, False)
    assert [n.ip for n in a.neigh[2].dump()] == [ip4("10.9.0.3")]
    assert lab.send(a, "10.9.0.2", wait=0) == 0


def test_neighbours_go_with_their_device_and_count_against_the_machine() -> None:
    """gc_thresh3 is one limit for all namespaces of a kernel: "neighbor table overflow!"."""
    lab, (a, _), (eth0, _) = pair()
    lab.host.neigh_gc_thresh = (1, 2, 3)
    for k in range(3):
        lab.send(a, f"10.9.0.{100 + k}", wait=0)
    assert lab.host.neigh_count == 3
    assert lab.send(a, "10.9.0.200", wait=0) == -errno.ENOBUFS
    assert lab.host.dmesg[-1][1].endswith("neighbor table overflow!")
    dev_change_flags(eth0, False)
    assert lab.host.neigh_count == 0
