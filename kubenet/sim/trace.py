"""Stations: the way of one packet, written down only for packets that are armed.

`skb.tr` is None, or the packet's PacketTrace. Every station on the path tests it inline (17 ns when off) and appends a
Station when it is set. Armed are packets that somebody asked for, the first packet of each connection while a token bucket
of FIRST_RATE per virtual second lasts, and others while one of `rate` does; floods of connections and bulk transfers outrun
their buckets and pay nothing. A dropped packet
is armed from its drop on. Arming reads no state and changes none, so a packet of the past that was not armed is shown by
running that stretch again with it armed: it comes with the same id.

The tracer keeps the last `keep` packets. Subscribers (a live view, labs) get each station as it happens; they can look and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubenet.units import SEC

RATE = 2000
FIRST_RATE = 500
KEEP = 20_000


class Station:
    """One thing that happened to one packet. Addresses are what the packet carried after it.

    func: the kernel function; what: a few words; hook and prio: -1 and 0 outside netfilter; rule: the number that
    `iptables -L --line-numbers` shows, 0 for none, -1 for the policy; ct: a conntrack summary or ""; data: more, by name.
    """

    # on the class, so that a station stores what it has: most have nothing of a table's
    hook: int = -1
    prio: int = 0
    table: str = ""
    chain: str = ""
    rule: int = 0
    verdict: str = ""
    proto: int = 0
    saddr: int = 0
    sport: int = 0
    daddr: int = 0
    dport: int = 0
    length: int = 0
    mark: int = 0
    ct: str = ""
    data: dict[str, Any] | None = None

    def __init__(self, t: int, host: str, netns: str, dev: str, func: str, what: str) -> None:
        self.t = t
        self.host = host
        self.netns = netns
        self.dev = dev
        self.func = func
        self.what = what


class PacketTrace:
    """The stations of one packet and of its clones, in order. `head` describes it as it was sent."""

    __slots__ = ("id", "stations", "head")

    def __init__(self, packet_id: int, head: dict[str, Any]) -> None:
        self.id = packet_id
        self.stations: list[Station] = []
        self.head = head


class Tracer:
    """Which packets are armed, and the ring of those that were."""

    __slots__ = ("rate", "keep", "left", "firsts_left", "window_end", "packets", "want", "arm_all", "subscribers")

    def __init__(self) -> None:
        self.rate: int = RATE
        self.keep: int = KEEP
        self.left: int = RATE
        self.firsts_left: int = FIRST_RATE
        self.window_end: int = SEC
        self.packets: dict[int, PacketTrace] = {}
        self.want: dict[int, bool] = {}  # ids asked for by a re-run
        self.arm_all: bool = False
        self.subscribers: list[Callable[[PacketTrace, Station], None]] = []

    def wants(self, now: int, packet_id: int, first: bool) -> bool:
        """Should this new packet be armed? `first`: it opens a connection."""
        if self.arm_all or packet_id in self.want:
            return True
        if now >= self.window_end:
            self.window_end = now - now % SEC + SEC
            self.left = self.rate
            self.firsts_left = FIRST_RATE
        if first and self.firsts_left > 0:
            self.firsts_left -= 1
            return True
        if self.left > 0 and self.rate:
            self.left -= 1
            return True
        return False

    def open(self, packet_id: int, head: dict[str, Any]) -> PacketTrace:
        """A trace for this packet, kept in the ring."""
        trace = self.packets.get(packet_id)
        if trace is None:
            trace = self.packets[packet_id] = PacketTrace(packet_id, head)
            if len(self.packets) > self.keep:
                del self.packets[next(iter(self.packets))]
        return trace

    def add(self, trace: PacketTrace, station: Station) -> None:
        """Append a station and tell the subscribers."""
        trace.stations.append(station)
        for subscriber in self.subscribers:
            subscriber(trace, station)
