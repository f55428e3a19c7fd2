"""The life of an entry: made at PREROUTING, confirmed at POSTROUTING or INPUT, ended by its timeout or by hand."""

from __future__ import annotations

from typing import Any

import pytest
from ctworld import World
from scenarios import CLIENT, OPEN, SERVER, SYN, c, icmp, quote, s, udp

from kubenet.kernel.netfilter.conntrack import (
    Zone,
    ct_state_name,
    nf_conntrack_attach,
    nf_ct_invert_tuple,
    nf_ct_netns_get,
    nf_ct_netns_put,
    nf_ct_tmpl_alloc,
)
from kubenet.kernel.netfilter.conntrack.entry import IPS_ASSURED, IPS_SEEN_REPLY
from kubenet.kernel.netfilter.conntrack.tcp_states import STATE_NAMES, TCP_CONNTRACKS, render_states
from kubenet.kernel.netfilter.core import DROP, FORWARD, NFPROTO_IPV4, PREROUTING, nf_hook, nf_register_net_hook
from kubenet.kernel.skbuff import IP_CT_RELATED_REPLY, IP_CT_UNTRACKED, SkBuff, drop
from kubenet.units import SEC

TCP_ENTRY = (0x0A300105, 40000, 0x0A300207, 80, 2 << 8 | 6)


@pytest.fixture
def world() -> World:
    return World()


def refuse(skb: SkBuff, hook: int) -> int:
    drop(skb, 6)
    return DROP


def test_a_packet_dropped_in_between_leaves_no_entry(world: World) -> None:
    nf_register_net_hook(world.net, NFPROTO_IPV4, FORWARD, 0, refuse, "refuse")
    assert world.deliver(c("S", 1000)) is None
    assert world.net.ct.count == 0 and world.lines() == []


def test_the_entry_is_there_once_the_packet_has_left(world: World) -> None:
    skb = world.deliver(c("S", 1000))
    assert skb is not None and ct_state_name(skb) == "NEW"
    assert list(world.net.ct.table) == [TCP_ENTRY, nf_ct_invert_tuple(TCP_ENTRY)]


def test_states_as_ctstate_names_them(world: World) -> None:
    names = [ct_state_name(skb) for p in OPEN if (skb := world.deliver(p))]
    assert names == ["NEW", "ESTABLISHED", "ESTABLISHED"]


def test_nothing_is_tracked_until_somebody_needs_it() -> None:
    world = World(track=False)
    assert not world.net.nf.run[NFPROTO_IPV4][PREROUTING]
    nf_ct_netns_get(world.net)
    nf_ct_netns_get(world.net)
    world.deliver(c("S", 1000))
    nf_ct_netns_put(world.net)
    assert world.net.nf.run[NFPROTO_IPV4][PREROUTING]
    nf_ct_netns_put(world.net)
    assert not any(world.net.nf.run[NFPROTO_IPV4])
    assert world.net.ct.count == 1  # entries stay until their time is over


def test_notrack(world: World) -> None:
    skb = world.skb(c("S", 1000))
    skb.ctinfo = IP_CT_UNTRACKED
    assert world.forward(skb, "client", drop_invalid=False)
    assert skb.ct is None and ct_state_name(skb) == "UNTRACKED" and world.net.ct.count == 0


def test_zones_are_separate_tables(world: World) -> None:
    for zone in (0, 7):
        skb = world.skb(c("S", 1000))
        skb.ct = nf_ct_tmpl_alloc(world.net, Zone(zone)) if zone else None
        assert world.forward(skb, "client") and skb.ct.zone.id == zone
    assert world.net.ct.count == 2
    assert [line.split("mark=0 ")[1] for line in world.lines()] == ["use=1", "zone=7 use=1"]
    assert world.net.ct.lookup(TCP_ENTRY)[0].zone.id == 0
    assert world.net.ct.lookup(TCP_ENTRY, Zone(7))[0].zone.id == 7
    assert world.net.ct.lookup(TCP_ENTRY, Zone(8)) is None


def test_an_entry_ends_at_its_timeout_and_watchers_hear_of_it(world: World) -> None:
    events: list[tuple[int, str]] = []
    world.net.watchers.append(lambda event, ct: events.append((world.loop.now // SEC, event)))
    world.deliver(udp("client", CLIENT, 5000, SERVER, 53))
    world.at(10_000)
    world.deliver(udp("client", CLIENT, 5000, SERVER, 53))  # refreshed: 30 s from here
    world.at(39_999)
    assert world.net.ct.count == 1
    world.at(40_001)
    assert world.net.ct.count == 0
    assert events == [(0, "NEW"), (40, "DESTROY")]


def test_events_of_a_tcp_connection(world: World) -> None:
    """As `conntrack -E` shows a connection on Linux 6.18: one UPDATE per change of state."""
    events: list[str] = []
    world.net.watchers.append(lambda event, ct: events.append(f"{event} {STATE_NAMES[ct.proto.state]}"))
    for p in [*OPEN, c("PA", 1001, 5001, len=5), s("A", 5001, 1006), c("FA", 1006, 5001), s("FA", 5001, 1007),
              c("A", 1007, 5002)]:
        world.deliver(p)
    assert events == ["NEW SYN_SENT", "UPDATE SYN_RECV", "UPDATE ESTABLISHED", "UPDATE FIN_WAIT", "UPDATE LAST_ACK",
                      "UPDATE TIME_WAIT"]


def test_a_shorter_timeout_is_kept_too(world: World) -> None:
    """From 432000 s (ESTABLISHED) to 10 s (CLOSE): the collector comes in time."""
    for p in [*OPEN, s("R", 5001, 0)]:
        world.deliver(p)
    assert world.net.ct.count == 1
    world.at(10_001)
    assert world.net.ct.count == 0


def test_udp_is_a_stream_after_two_seconds(world: World) -> None:
    """30 s; ASSURED and 120 s if it goes on for longer than 2 s (linux-6.18)."""
    world.deliver(udp("client", CLIENT, 5000, SERVER, 53))
    world.deliver(udp("server", SERVER, 53, CLIENT, 5000))
    world.at(2_000)
    world.deliver(udp("client", CLIENT, 5000, SERVER, 53))
    ct = world.net.ct.entries()[0]
    assert ct.status & IPS_SEEN_REPLY and not ct.status & IPS_ASSURED and ct.timeout == 32 * SEC
    world.at(2_001)
    world.deliver(udp("client", CLIENT, 5000, SERVER, 53))
    assert ct.status & IPS_ASSURED and (ct.timeout - world.loop.now) == 120 * SEC


def test_established_timeout_is_the_sysctl_at_the_next_packet(world: World) -> None:
    for p in OPEN:
        world.deliver(p)
    ct = world.net.ct.entries()[0]
    assert ct.timeout == 432000 * SEC
    world.net.sysctl.netfilter.nf_conntrack_tcp_timeout_established = 86400
    assert ct.timeout == 432000 * SEC
    world.deliver(c("A", 1001, 5001))
    assert ct.timeout == 86400 * SEC


def test_icmp_error_neither_counts_nor_refreshes(world: World) -> None:
    world.net.sysctl.netfilter.nf_conntrack_acct = 1
    world.deliver(c("S", 1000))
    before = world.net.ct.entries()[0].timeout
    world.at(1000)
    skb = world.deliver(icmp("server", "10.48.2.9", CLIENT, 3, code=1, quote=quote(c("S", 1000))))
    assert skb is not None and skb.ctinfo == IP_CT_RELATED_REPLY
    ct = world.net.ct.entries()[0]
    assert (ct.packets, ct.timeout) == ([1, 0], before)


def test_icmp_error_about_nothing_known_counts_as_error(world: World) -> None:
    skb = world.deliver(icmp("server", "10.48.2.9", CLIENT, 3, code=1, quote=quote(c("S", 1000))), drop_invalid=False)
    assert skb is not None and ct_state_name(skb) == "INVALID"
    assert world.net.ct.stats["error"] == 1 and world.net.ct.stats["invalid"] == 0


def test_a_rejects_answer_does_not_confirm(world: World) -> None:
    cause = world.skb(c("S", 1000))
    cause.indev = world.devs["client"]
    nf_hook(NFPROTO_IPV4, PREROUTING, cause)
    answer = world.skb(s("RA", 0, 1001))
    nf_conntrack_attach(answer, cause)
    assert world.forward(answer, "server")
    assert ct_state_name(answer) == "RELATED" and world.net.ct.count == 0


def test_a_clone_of_a_tracked_packet_keeps_its_connection(world: World) -> None:
    skb = world.deliver(c("S", 1000))
    assert skb is not None and skb.clone().ct is skb.ct


def test_flow_with_equal_ends_is_its_own_inverse(world: World) -> None:
    """A socket that sends to itself: one tuple for both directions, so its second datagram counts as an answer (6.18)."""
    p = udp("client", CLIENT, 9, CLIENT, 9)
    world.deliver(p)
    assert "[UNREPLIED]" in world.lines()[0]
    world.deliver(p)
    assert world.net.ct.count == 1 and len(world.lines()) == 1 and "[UNREPLIED]" not in world.lines()[0]
    world.net.ct.flush()
    assert world.net.ct.count == 0 and world.net.ct.table == {}


def test_acct_counts_super_segments_once(world: World) -> None:
    world.net.sysctl.netfilter.nf_conntrack_acct = 1
    for p in [*OPEN, c("PA", 1001, 5001, len=14480)]:
        world.deliver(p)
    ct = world.net.ct.entries()[0]
    syn = 20 + 20 + 4 + 4 + 4  # mss; sackOK and wscale with their NOPs
    assert ct.packets == [3, 1] and ct.bytes == [syn + 40 + 40 + 14480, syn]


def test_conntrack_forgets_nothing_in_hidden_places(world: World) -> None:
    """1000 connections that are reset leave nothing behind but what the collector drops at its next visit."""
    for i in range(1000):
        world.deliver(c("S", 1000, sport=20000 + i, **SYN))
        world.deliver({**s("RA", 0, 1001), "dport": 20000 + i})
    assert world.net.ct.count == 0 and world.net.ct.table == {} and world.net.ct.bysource == {}
    world.at(121_000)
    assert world.net.ct._heap == []


def test_log_invalid(world: World) -> None:
    world.net.sysctl.netfilter.nf_conntrack_log_invalid = 6
    for p in [*OPEN, c("A", 900000, 5001)]:
        world.deliver(p)
    assert [text for _, text in world.host.dmesg] == [
        "nf_ct_proto_6: SEQ is over upper bound 65242 (over the window of the receiver) IN=tun0 OUT= SRC=10.48.1.5 "
        "DST=10.48.2.7 LEN=40 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=TCP SPT=40000 DPT=80 WINDOW=64240 RES=0x00 ACK URGP=0"
    ]


# -- the table of states

def test_each_cell_of_the_state_table_is_shown_in_words() -> None:
    text = render_states()
    cells = sum(1 for d in TCP_CONNTRACKS for kind in d for new in kind if new != 10)
    assert len(text.splitlines()) == cells
    assert "SYN_SENT     SYN-ACK from the server  SYN_RECV\n" in text
    assert render_states("ESTABLISHED").count("\n") == 8


def test_a_rst_closes_from_every_state_that_exists() -> None:
    for direction in TCP_CONNTRACKS:
        assert [STATE_NAMES[new] for new in direction[4][1:]] == ["CLOSE"] * 9


CASES: list[tuple[str, dict[str, Any]]] = [
    ("SYN_SENT", OPEN[0]), ("SYN_RECV", OPEN[1]), ("ESTABLISHED", OPEN[2]), ("FIN_WAIT", c("FA", 1001, 5001)),
    ("CLOSE_WAIT", s("A", 5001, 1002)), ("LAST_ACK", s("FA", 5001, 1002)), ("TIME_WAIT", c("A", 1002, 5002)),
]


def test_states_and_timeouts_along_a_connection(world: World) -> None:
    """nf_conntrack-sysctl.rst: seconds per state."""
    seconds = {"SYN_SENT": 120, "SYN_RECV": 60, "ESTABLISHED": 432000, "FIN_WAIT": 120, "CLOSE_WAIT": 60, "LAST_ACK": 30,
               "TIME_WAIT": 120}
    for state, packet in CASES:
        world.deliver(packet)
        assert world.lines()[0].startswith(f"tcp      6 {seconds[state]} {state} src=10.48.1.5 ")
