"""Cables and the switch: times to the nanosecond, queues, dice, rules, partitions."""

from __future__ import annotations

import pytest

import kubenet.fabric.link as link_module
from kubenet.fabric.capture import Capture, Recorder
from kubenet.fabric.graph import Fabric, from_manifest, two_nodes
from kubenet.fabric.impair import DelayMatching, DropMatching, heal, partition
from kubenet.kernel.dev.device import NETIF_F_TSO, add_tap
from kubenet.kernel.ipv4.neigh import neigh_set_static
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import ip_route_output_key
from kubenet.kernel.skbuff import CSUM_BAD, ETH_P_IP, SkBuff
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC, SEC, USEC
from kubenet.wire.addr import ip4
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.pcap import read_pcapng

PROTO = 253


class World:
    """Two machines of a topology that know each other's MACs; send() from the first, arrivals at the second."""

    def __init__(self, fabric: Fabric) -> None:
        self.loop = fabric.loop
        self.fabric = fabric
        self.a, self.b = fabric.nodes[:2]
        for mine, other in ((self.a, self.b), (self.b, self.a)):
            neigh_set_static(mine.net.neigh[2], mine.nic, other.spec.ip, other.nic.addr)
            fabric.switch.fdb[mine.nic.addr] = (mine.link.ends[1].device, 0)
        self.arrivals: list[tuple[int, SkBuff]] = []
        self.b.net.inet_protos[PROTO] = (self.arrive, None)

    def arrive(self, skb: SkBuff) -> None:
        self.arrivals.append((self.loop.now, skb))

    def packet(self, size: int = 100) -> SkBuff:
        route = ip_route_output_key(self.a.net, self.b.spec.ip)
        skb = SkBuff(self.a.net, ETH_P_IP, IpHdr(route.prefsrc, self.b.spec.ip, PROTO), None, bytes(size), size, 20 + size)
        skb.dst = route
        return skb

    def send(self, count: int = 1, size: int = 100) -> list[int]:
        return [ip_local_out(self.packet(size)) for _ in range(count)]

    def run(self, ns: int = SEC) -> None:
        self.loop.run(until=self.loop.now + ns)


def world(**link: object) -> World:
    topo = from_manifest({"spec": {"nodes": [{"name": "a"}, {"name": "b"}], "links": [{"node": "a", **link}]}})
    return World(topo.build(EventLoop()))


def test_one_event_from_card_to_card_5_us_plus_two_cables() -> None:
    w = world()
    step = w.loop.step
    w.send()
    w.run()
    assert w.arrivals[0][0] == 5 * USEC + 2 * 25 * USEC
    assert w.loop.step - step == 1


def test_a_rate_serialises_frames_one_after_the_other() -> None:
    """1 Mbit/s: a 1,000-byte packet is 1,014 + 24 bytes of line time, 8.304 ms."""
    w = world(rate="1mbit")
    w.send(3, size=980)
    w.run()
    first, second, third = (t for t, _ in w.arrivals)
    assert first == 5 * USEC + 8_304_000 + 50 * USEC
    assert second - first == third - second == 8_304_000


def test_a_full_queue_drops_and_the_sender_hears_of_it() -> None:
    """pfifo_fast: NET_XMIT_DROP; one frame on the wire, `queue` behind it."""
    w = world(rate="1mbit", queue=4)
    assert w.send(8, size=980) == [0] * 5 + [-105] * 3
    w.run()
    assert len(w.arrivals) == 5
    assert w.a.nic.qdisc.drops == 3


def test_without_a_number_the_cards_own_queue_holds_1000() -> None:
    w = world(rate="1mbit")
    results = w.send(1100)
    assert results.count(0) == 1001
    assert w.a.nic.qdisc.qlen(w.loop.now) == 1000


def test_dice_and_rates_switch_offload_off_and_a_clean_cable_has_it() -> None:
    assert world().a.nic.features & NETIF_F_TSO
    for setting in ({"rate": "1gbit"}, {"loss": "5%"}, {"reorder": 0.1}, {"duplicate": 0.1}, {"corrupt": 0.1},
                    {"offload": "off"}):
        assert not world(**setting).a.nic.features & NETIF_F_TSO, setting
    w = world()
    w.a.link.set(loss=0.5)
    assert not w.a.nic.features & NETIF_F_TSO
    w.a.link.set(loss=0.0)
    assert w.a.nic.features & NETIF_F_TSO


def test_loss_is_about_what_was_asked_and_the_same_every_time() -> None:
    counts = []
    for _ in range(2):
        w = world(loss="10%")
        w.send(2000)
        w.run()
        counts.append(len(w.arrivals))
    assert counts[0] == counts[1]
    assert 1730 < counts[0] < 1870  # 1800 +- 5 sigma


def test_duplicates_corruption_and_reordering() -> None:
    w = world(duplicate=1.0)
    w.send()
    w.run()
    assert [skb.id for _, skb in w.arrivals] == [w.arrivals[0][1].id] * 2
    w = world(corrupt=1.0)
    w.send()
    w.run()
    assert w.arrivals[0][1].csum == CSUM_BAD
    w = world(reorder=0.3)
    w.send(100)
    w.run()
    ids = [skb.id for _, skb in w.arrivals]
    assert ids != sorted(ids) and sorted(ids) == list(range(min(ids), min(ids) + 100))


def test_a_slow_machine_does_not_hold_up_a_fast_one() -> None:
    """Two senders to one receiver: the switch passes frames on in the order they reach it, not the order they were sent."""
    topo = from_manifest({"spec": {"nodes": [{"name": "a", "link": {"latency": "10ms"}}, {"name": "b"}, {"name": "c"}]}})
    w = World(topo.build(EventLoop()))
    c = w.fabric.machines["c"]
    neigh_set_static(c.net.neigh[2], c.nic, w.b.spec.ip, w.b.nic.addr)
    w.send()
    fast = w.packet()
    fast.net, fast.dst = c.net, ip_route_output_key(c.net, w.b.spec.ip)
    fast.ip.saddr = c.spec.ip
    ip_local_out(fast)
    w.run()
    assert [t for t, _ in w.arrivals] == [55 * USEC, 10 * MSEC + 30 * USEC]


def test_jitter_varies_the_delay_but_not_the_order() -> None:
    w = world(latency="10ms", jitter="3ms")
    for _ in range(50):
        w.send()
        w.run(2 * MSEC)
    w.run()
    ids = [skb.id for _, skb in w.arrivals]
    assert ids == sorted(ids) and len(ids) == 50
    gaps = {b[0] - a[0] for a, b in zip(w.arrivals, w.arrivals[1:], strict=False)}
    assert len(gaps) > 10


def test_a_cut_cable_takes_the_carrier_away() -> None:
    w = world()
    w.a.link.set(up=False)
    assert (w.a.nic.carrier, w.a.nic.operstate) == (False, "DOWN")
    assert w.send() == [0]  # noop_enqueue() answers NET_XMIT_CN: the sender does not hear of it
    w.a.link.set(up=True)
    w.send()
    w.run()
    assert len(w.arrivals) == 1


def test_the_mtu_of_the_receiving_card_is_a_limit() -> None:
    w = World(two_nodes().build(EventLoop()))
    w.b.nic.mtu = 1400
    w.send(1, size=1450)
    w.send(1, size=1380)
    w.run()
    assert [skb.plen for _, skb in w.arrivals] == [1380]
    assert w.b.nic.rx_errors == 1


def test_rules_drop_the_nth_frames_and_delay_others() -> None:
    w = world()
    rule = DropMatching(proto=PROTO, skip=1, count=2)
    w.a.link.add_rule(rule)
    w.send(5)
    w.run()
    assert (len(w.arrivals), rule.hits) == (3, 2)
    w.a.link.remove_rule(rule)
    w.a.link.add_rule(DelayMatching(50 * MSEC, proto=PROTO, count=1))
    w.arrivals.clear()
    start = w.loop.now
    w.send(2)
    w.run()
    assert [t - start for t, _ in w.arrivals] == [55 * USEC, 50 * MSEC + 55 * USEC]


def test_a_partition_separates_two_sides_and_heals() -> None:
    topo = from_manifest({"spec": {"nodes": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}})
    w = World(topo.build(EventLoop()))
    rules = partition(w.fabric.cables(), ["a"], ["b"])
    w.send(3)
    w.run()
    assert w.arrivals == []
    assert w.fabric.machines["c"].link.plain
    heal(rules)
    w.send(3)
    w.run()
    assert len(w.arrivals) == 3 and w.a.link.plain


def test_the_switch_floods_what_it_does_not_know() -> None:
    w = world()
    outside = Recorder()
    add_tap(w.fabric.gateway.nic, outside)  # type: ignore[union-attr]
    w.fabric.switch.fdb.clear()
    w.send()
    w.run()
    assert len(w.arrivals) == 1 and len(outside.frames) == 1
    w.fabric.switch.fdb[w.b.nic.addr] = (w.b.link.ends[1].device, w.loop.now)
    w.send()
    w.run()
    assert len(w.arrivals) == 2 and len(outside.frames) == 1


def test_a_frozen_machine_neither_sends_nor_hears() -> None:
    w = world()
    w.b.host.alive = False
    w.send()
    w.run()
    assert w.arrivals == []
    w.a.host.alive = False
    assert w.send() == [-105]


def test_every_frame_survives_the_way_to_bytes_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "wire_check", True)
    w = world()
    w.send(2, size=0)
    w.run()
    assert len(w.arrivals) == 2
    broken = w.packet()
    broken.len += 1
    with pytest.raises(AssertionError, match="skb.len"):
        ip_local_out(broken)


def test_captures_hold_the_bytes_and_the_virtual_time(tmp_path) -> None:
    w = world()
    path = tmp_path / "out.pcapng"
    with open(path, "wb") as file:
        capture = Capture(file, epoch=10 * SEC)
        capture.attach(w.a.nic, "a:eth0")
        capture.attach(w.b.nic, "b:eth0")
        w.send(1, size=46)
        w.run()
        capture.close()
        w.send()
        w.run()
    with open(path, "rb") as file:
        packets = [(p.interface.name, p.t_ns, len(p.data)) for p in read_pcapng(file)]
    assert packets == [("a:eth0", 10 * SEC, 80), ("b:eth0", 10 * SEC + 55 * USEC, 80)]


def test_the_same_world_has_the_same_digest_whoever_watches() -> None:
    digests = []
    for watched in (False, True):
        w = world(loss=0.2, jitter="1ms", latency="2ms")
        w.loop.tracer.arm_all = watched
        if watched:
            Recorder().attach(w.a.nic)
        w.send(200)
        w.run()
        digests.append(w.loop.ledger.digest())
    assert digests[0] == digests[1]
    assert ip4("172.18.0.2") == w.a.spec.ip
