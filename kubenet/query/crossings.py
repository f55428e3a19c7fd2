"""Packets that cross from one network namespace or machine into another, as the run's ledger tells of them.

    crossings = Crossings(cluster)
    crossings.look()       after every event; the crossings it brought are in crossings.found

A crossing is what kernel/dev/device.py ledger_frame() writes a line for: a frame that reached a veth's far end or a network card.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.query.names import place_name
from kubenet.sim.ledger import Line
from kubenet.wire.addr import AF_INET, AF_INET6, endpoint_text, fmt
from kubenet.wire.tcp import ACK

Obj = dict[str, Any]
FRAME_FIELDS = 11  # time, device, id, length, addresses, ports, flags, seq, ack; no other line has as many
_FLAGS = "FSRP.UEW"  # as tcpdump prints them; ACK is the dot and comes last


class Crossings:
    """The crossings since it was made. Looking changes nothing."""

    def __init__(self, cluster: Cluster) -> None:
        self.ledger = cluster.loop.ledger
        self.lines = self.ledger.lines()
        self.found: list[Line] = []

    def look(self) -> int:
        """Take in what is new; how many crossings there are."""
        lines = self.ledger.lines()
        if lines > self.lines:
            self.found += [line for line in self.ledger.newest(lines - self.lines) if len(line) == FRAME_FIELDS]
            self.lines = lines
        return len(self.found)

    def json(self) -> list[Obj]:
        """What `kubenet step` shows of each."""
        return [crossing_json(line) for line in self.found]


def crossing_json(line: Line) -> Obj:
    """One line of the ledger: when, where, who to whom, what."""
    t, device, packet, length, saddr, daddr, sport, dport, flags, seq, ack = line
    host, _, rest = str(device).partition("/")
    netns, _, dev = rest.rpartition("/")
    numbers = [int(n) for n in (saddr, daddr, sport, dport, flags, seq, ack)]
    what, src, dst = _words(int(length), *numbers)
    return {"t": t, "place": place_name(host, netns), "dev": dev, "packet": packet, "len": length, "src": src, "dst": dst, "what": what}


def _words(length: int, saddr: int, daddr: int, sport: int, dport: int, flags: int, seq: int, ack: int) -> tuple[str, str, str]:
    family = AF_INET if max(saddr, daddr) < 1 << 32 else AF_INET6
    src, dst = fmt(saddr, family), fmt(daddr, family)
    if sport or dport:
        src, dst = endpoint_text(saddr, sport, family), endpoint_text(daddr, dport, family)
        return (f"TCP {tcp_flags(flags)} seq {seq}{f' ack {ack}' if flags & ACK else ''}" if flags else "UDP"), src, dst
    if length == 28 and flags in (1, 2):  # 1 and 2 are no types of ICMP
        return ("ARP who-has" if flags == 1 else "ARP reply"), src, dst
    return f"IP, ICMP type {flags}" if seq or flags else "IP", src, dst


def tcp_flags(flags: int) -> str:
    """S, S., P. ... tcpdump: print of th_flags."""
    return "".join(letter for bit, letter in enumerate(_FLAGS) if flags >> bit & 1 and letter != ".") + ("." if flags & ACK else "")
