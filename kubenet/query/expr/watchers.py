"""What questions about the past look back on: frames of a device, packets at a table of a hook. Noted from the first question on.

    wire('node-1/eth0').packets(flags='S', dst='10.48.2.7:8080')    frames, oldest first; .first .last .gaps_ms
    at('node-1', 'OUTPUT', 'mangle').saw(dst='10.96.0.1:80')        has such a packet come to the table's place in the hook

A Wire is a tap as tcpdump's; a HookPoint is a hook function that accepts everything and stands right before the table, so it sees what
the tables before let pass. Neither changes what happens, and nothing is left of them when the question's Facts are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kubenet.errors import NotFoundError, UsageError
from kubenet.kernel.dev.device import NetDevice, add_tap, remove_tap
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    HOOK_NAMES,
    NFPROTO_IPV4,
    nf_ready,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from kubenet.kernel.netfilter.xtables.table import TABLES
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff
from kubenet.query.crossings import tcp_flags
from kubenet.query.expr.records import Fields, Record, Series
from kubenet.wire.addr import ip4_text
from kubenet.wire.ethernet import ETH_P_IP

IPPROTO_TCP = 6
PROTOCOLS = {1: "icmp", IPPROTO_TCP: "tcp", 17: "udp", 132: "sctp"}
KEPT = 20_000  # frames that one Wire or HookPoint remembers


class Seen(NamedTuple):
    """One IPv4 packet as it was at that moment. t in ns; flags: of TCP; outgoing: leaving through the device."""

    t: int
    saddr: int
    daddr: int
    proto: int
    sport: int
    dport: int
    flags: int
    seq: int
    ack: int
    win: int
    length: int
    data: int
    outgoing: bool


def see(skb: SkBuff, outgoing: bool) -> Seen | None:
    """The packet's facts, or None if it is not IPv4."""
    if skb.protocol != ETH_P_IP:
        return None
    ip, l4 = skb.ip, skb.l4
    return Seen(skb.net.loop.now, ip.saddr, ip.daddr, ip.proto, getattr(l4, "sport", 0), getattr(l4, "dport", 0), getattr(l4, "flags", 0),
                getattr(l4, "seq", 0), getattr(l4, "ack_seq", 0), getattr(l4, "window", 0), skb.len, skb.plen, outgoing)


def _proto(p: Seen) -> str:
    return PROTOCOLS.get(p.proto, str(p.proto))


def _side(addr: int, port: int) -> str:
    return f"{ip4_text(addr)}:{port}" if port else ip4_text(addr)


PACKET: Fields = {
    "t": lambda p: p.t, "src": lambda p: _side(p.saddr, p.sport), "dst": lambda p: _side(p.daddr, p.dport),
    "flags": lambda p: tcp_flags(p.flags), "seq": lambda p: p.seq, "ack": lambda p: p.ack, "win": lambda p: p.win,
    "len": lambda p: p.length, "data": lambda p: p.data, "out": lambda p: p.outgoing,
    "proto": lambda p: _proto(p),
}
Peer = Callable[["str | int"], tuple[int, int]]


class Log:
    """The packets that came by, the newest KEPT at least."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.seen: list[Seen] = []
        self._asked: dict[tuple[object, ...], tuple[int, Series]] = {}  # question -> how many were looked at, what fits of them

    def note(self, seen: Seen | None) -> None:
        """One more."""
        if seen is not None:
            self.seen.append(seen)
            if len(self.seen) > 2 * KEPT:
                del self.seen[:KEPT]
                self._asked.clear()

    def packets(self, flags: str = "", src: str = "", dst: str = "", proto: str = "", win: int = -1, out: bool | None = None) -> Series:
        """packets(flags='S', src=, dst='10.48.2.7:8080', proto='tcp', win=0, out=True): those that fit, oldest first"""
        key = (flags, src, dst, proto, win, out)
        looked, found = self._asked.get(key, (0, Series()))
        if looked < len(self.seen):
            ends = (self.peer(src) if src else (0, 0)), (self.peer(dst) if dst else (0, 0))
            found.extend(Record("packet", PACKET, p) for p in self.seen[looked:] if _fits(p, ends, flags, proto, win, out))
            self._asked[key] = len(self.seen), found
        return found

    def saw(self, flags: str = "", src: str = "", dst: str = "", proto: str = "") -> bool:
        """saw(src=, dst='10.96.0.1:80', flags='S'): has such a packet come by"""
        return bool(self.packets(flags, src, dst, proto))

    def count(self, flags: str = "", src: str = "", dst: str = "", proto: str = "") -> int:
        """count(src=, dst=, flags=): how many such packets have come by"""
        return len(self.packets(flags, src, dst, proto))

    def close(self) -> None:
        """Nothing is noted any more."""


class Wire(Log):
    """The frames of one device, in both directions."""

    def __init__(self, dev: NetDevice, peer: Peer) -> None:
        super().__init__(peer)
        self.dev = dev
        add_tap(dev, self)

    def capture(self, dev: NetDevice, skb: SkBuff, outgoing: bool) -> None:
        """The tap's callback."""
        self.note(see(skb, outgoing))

    def close(self) -> None:
        remove_tap(self.dev, self)


class HookPoint(Log):
    """The packets that come to a table's place in a hook."""

    def __init__(self, net: NetNamespace, hook: str, table: str, peer: Peer) -> None:
        super().__init__(peer)
        self.net = net
        if table not in TABLES:
            raise UsageError(f"no table {table}", why="tables: " + ", ".join(TABLES))
        places = [HOOK_NAMES[number] for number in TABLES[table]]
        if hook not in places:
            raise UsageError(f"{table} does not look at {hook}", why=f"it looks at {', '.join(places)}",
                             try_=f"at('node-1', '{places[0]}', '{table}')")
        self.hook = HOOK_NAMES.index(hook)
        nf_ready(net)
        nf_register_net_hook(net, NFPROTO_IPV4, self.hook, TABLES[table][self.hook] - 1, self._look, f"question about {table}")

    def _look(self, skb: SkBuff, hook: int) -> int:
        self.note(see(skb, False))
        return ACCEPT

    def close(self) -> None:
        nf_unregister_net_hook(self.net, NFPROTO_IPV4, self.hook, self._look)


def _fits(p: Seen, ends: tuple[tuple[int, int], tuple[int, int]], flags: str, proto: str, win: int, out: bool | None) -> bool:
    (src, sport), (dst, dport) = ends
    if (src and p.saddr != src) or (sport and p.sport != sport) or (dst and p.daddr != dst) or (dport and p.dport != dport):
        return False
    if (flags and (p.proto != IPPROTO_TCP or tcp_flags(p.flags) != flags)) or (proto and _proto(p) != proto):
        return False
    return (win < 0 or (p.win == win and p.proto == IPPROTO_TCP)) and (out is None or p.outgoing == out)


def device(net: NetNamespace, place: str, name: str) -> NetDevice:
    """The device of this name; "" for the first that is not lo. NotFoundError."""
    found: NetDevice | None = net.devs.get(name) if name else next((dev for dev in net.devs.values() if dev.kind != "loopback"), None)
    if found is None:
        raise NotFoundError(f"{place} has no device {name or 'but lo'}", why="it has: " + ", ".join(net.devs),
                            try_=f"kubenet exec {place} -- ip link")
    return found


LOG: Fields = {name: lambda log, name=name: Series.FIELDS[name](log.packets()) for name in Series.FIELDS}  # type: ignore[misc]
METHODS = ("packets", "saw", "count")
