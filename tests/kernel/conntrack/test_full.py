"""A full table and colliding entries: what is evicted, what is dropped, and which counter says so."""

from __future__ import annotations

from ctworld import World
from scenarios import CLIENT, OPEN, SERVER, c, s, udp

from kubenet.units import MSEC


def fill(world: World, limit: int) -> None:
    world.host.nf_conntrack_max = limit
    for i in range(limit):
        assert world.deliver(udp("client", CLIENT, 5000 + i, SERVER, 53)) is not None


def test_a_full_table_drops_new_connections_and_says_so() -> None:
    """Linux 6.18: "table full in netns N"; the drop counter moves; the packet is gone."""
    world = World()
    fill(world, 20)  # 20 entries in 262144 slots: nothing near to evict
    assert world.deliver(c("S", 1000)) is None
    assert world.net.ct.stats["drop"] == 1 and world.net.ct.stats["early_drop"] == 0
    assert world.host.dmesg[-1][1] == "nf_conntrack: nf_conntrack: table full in netns 4026531833, dropping packet"


def test_open_connections_are_not_touched_by_a_full_table() -> None:
    world = World()
    for p in OPEN:
        world.deliver(p)
    world.host.nf_conntrack_max = 1
    assert world.deliver(c("S", 1000, sport=40001)) is None
    assert world.deliver(c("PA", 1001, 5001, len=10)) is not None


def test_entries_that_are_not_assured_make_room() -> None:
    """Few slots: the new tuple's neighbourhood has entries, and all of its first slot that are not ASSURED go."""
    world = World()
    world.host.nf_conntrack_buckets = 8
    fill(world, 16)
    assert world.deliver(c("S", 1000)) is not None
    stats = world.net.ct.stats
    assert stats["early_drop"] >= 1 and stats["drop"] == 0
    assert world.net.ct.count == 16 - stats["early_drop"] + 1


def test_assured_entries_are_never_evicted() -> None:
    world = World()
    world.host.nf_conntrack_buckets = 1
    for p in OPEN:
        world.deliver(p)
    world.host.nf_conntrack_max = 1
    assert world.deliver(c("S", 1000, sport=40001)) is None
    assert world.net.ct.stats["early_drop"] == 0 and world.net.ct.count == 1


def test_the_kernel_log_is_limited() -> None:
    """net_ratelimit: 10 lines in 5 s."""
    world = World()
    world.host.nf_conntrack_max = 1
    world.deliver(c("S", 1000))
    for i in range(50):
        world.deliver(c("S", 1000, sport=41000 + i))
    assert len(world.host.dmesg) == 10
    world.at(5_001)
    world.deliver(c("S", 1000, sport=45000))
    assert len(world.host.dmesg) == 11


def test_limit_zero_is_no_limit() -> None:
    world = World()
    world.host.nf_conntrack_max = 0
    assert world.deliver(c("S", 1000)) is not None


# -- two packets of one flow at the same instant on two CPUs (race_ns makes the second blind for the first's entry)

DNS_A = {"chain": "PREROUTING", "proto": "udp", "dst": "10.96.0.10", "dport": 53, "to": "10.48.2.7:53"}


def racing(rules: list[dict[str, object]] | None = None, level: int = 2) -> World:
    world = World(rules)
    world.net.ct.race_ns = MSEC
    world.net.ct.clash_resolution = level
    return world


def test_two_datagrams_of_one_flow_join() -> None:
    world = racing()
    p = udp("client", CLIENT, 5000, SERVER, 53)
    assert world.deliver(p) is not None and world.deliver(p) is not None
    stats = world.net.ct.stats
    assert (world.net.ct.count, stats["clash_resolve"], stats["insert_failed"]) == (1, 1, 0)


def test_before_clash_resolution_the_second_datagram_was_lost() -> None:
    """The 5 s DNS delay: A and AAAA query from one socket, insert_failed +1, drop +1."""
    world = racing([DNS_A], level=0)
    p = udp("client", CLIENT, 5000, "10.96.0.10", 53)
    assert world.deliver(p) is not None and world.deliver(p) is None
    stats = world.net.ct.stats
    assert (stats["insert_failed"], stats["drop"], stats["clash_resolve"]) == (1, 1, 0)


def other_backend(world: World) -> None:
    """The next new connection goes to another pod, as a `statistic` rule would have it."""
    for providers in world.net.nat.providers.values():
        for _, rule in providers:
            rule.range.min_addr = rule.range.max_addr = 0x0A300208


def test_the_same_flow_to_two_backends_needs_todays_kernel() -> None:
    """Different DNAT for one original tuple: dropped before 5.7; today the answer finds a one-second entry."""
    p = udp("client", CLIENT, 5000, "10.96.0.10", 53)
    for level, passed in ((1, False), (2, True)):
        world = racing([DNS_A], level)
        world.deliver(p)
        other_backend(world)
        assert (world.deliver(p) is not None) is passed
        assert world.net.ct.stats["insert_failed"] == (0 if passed else 1)
        answer = world.deliver(udp("server", "10.48.2.8", 53, CLIENT, 5000))
        assert len(world.lines()) == (1 if passed else 2)  # the short-lived one is not listed
        if passed:
            assert answer is not None and answer.ip.saddr == 0x0A60000A  # translated back
            world.at(1_001)
            assert world.net.ct.count == 1


def test_tcp_clashes_are_never_resolved() -> None:
    world = racing()
    assert world.deliver(c("S", 1000)) is not None
    assert world.deliver(c("S", 1000)) is None
    assert world.net.ct.stats["insert_failed"] == 1


def test_a_race_is_over_once_there_was_an_answer() -> None:
    world = racing()
    assert [world.deliver(p) is not None for p in OPEN] == [True, True, True]
    assert world.deliver(s("A", 5001, 1001)) is not None and world.net.ct.count == 1


def test_after_a_drop_the_collector_makes_room() -> None:
    """Within a minute the table is below 95 %: UDP without a stream goes, open TCP connections stay."""
    world = World()
    for p in OPEN:
        world.deliver(p)
    world.net.sysctl.netfilter.nf_conntrack_udp_timeout = 600
    world.host.nf_conntrack_max = 200
    for i in range(199):
        world.deliver(udp("client", CLIENT, 5000 + i, SERVER, 53))
    world.at(60_001)
    assert world.net.ct.count == 200  # full, but nothing was lost yet
    assert world.deliver(c("S", 1000, sport=41000)) is None
    world.at(120_002)
    assert world.net.ct.count == 189 and world.lines()[0].startswith("tcp ")


def test_a_small_limit_has_no_95_percent() -> None:
    """nf_conntrack_max / 100 * 95 is 0 for a limit of 64."""
    world = World()
    world.net.sysctl.netfilter.nf_conntrack_udp_timeout = 600
    fill(world, 64)
    assert world.deliver(c("S", 1000)) is None
    world.at(120_000)
    assert world.net.ct.count == 64


def test_the_collector_makes_room_one_batch_at_a_time() -> None:
    """On 6.18 with HZ=250 three drops in a row were followed by 257 evictions, and no more: 64000 / HZ + 1."""
    world = World()
    world.net.sysctl.netfilter.nf_conntrack_udp_timeout = 600
    fill(world, 2000)
    for i in range(3):
        assert world.deliver(c("S", 1000, sport=41000 + i)) is None
    world.at(120_000)
    assert world.net.ct.count == 2000 - 65
