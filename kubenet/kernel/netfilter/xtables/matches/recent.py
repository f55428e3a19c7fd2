"""-m recent: lists of addresses seen, with the times. kube-proxy's session affinity (ClientIP) is made of it.

A list has a name and belongs to the namespace (/proc/net/xt_recent/NAME); it outlives changes of rules. --set writes the
packet's address down, --rcheck asks whether it is there (within --seconds, at least --hitcount times), --update does both,
--remove strikes it out; --reap throws away the oldest entry if it is older than --seconds. A list holds 100 addresses; the
one not seen for longest makes room (kube-proxy's session affinity forgets clients beyond that).

Source: Linux recent_mt(), recent_entry_*() (xt_recent.c), ip_list_tot=100; iptables libxt_recent.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, text_of, uint
from kubenet.kernel.netfilter.xtables.save import addr_text
from kubenet.kernel.netfilter.xtables.spec import AF_INET, FULL_MASK, Ctx, Header, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff
from kubenet.units import MSEC
from kubenet.wire.addr import ip4, ip4_text, ip6, ip6_text

IP_LIST_TOT = 100
MODES = {"set": "SET", "rcheck": "CHECK", "update": "UPDATE", "remove": "REMOVE"}
_U32 = 0xFFFFFFFF


class RecentEntry:
    """One address: the TTL last seen and the times (ms) it was seen, oldest first."""

    __slots__ = ("ttl", "stamps")

    def __init__(self, ttl: int) -> None:
        self.ttl = ttl
        self.stamps: list[int] = []


def recent_tables(net: NetNamespace) -> dict[str, dict[int, RecentEntry]]:
    """name -> address -> entry, least recently seen first (/proc/net/xt_recent)."""
    found: dict[str, dict[int, RecentEntry]] = net.extra.setdefault("xt_recent", {})
    return found


def read_mask(text: str, ext: str, opt: str) -> int:
    """Reads a dotted mask."""
    try:
        return ip4(text)
    except ValueError:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')


def read_mask6(text: str, ext: str, opt: str) -> int:
    """Reads a mask written as an IPv6 address."""
    try:
        return ip6(text)
    except ValueError:
        raise XtablesError("getaddrinfo: Address family for hostname not supported\n")


@xt_match("recent")
@dataclass(frozen=True, slots=True)
class RecentMatch(Match):
    """The address is (or is now) on the list. Linux: recent_mt()."""

    mode: str
    inv: bool
    seconds: int
    reap: bool
    hitcount: int
    rttl: bool
    name: str
    mask: int
    dest: bool
    family: int = AF_INET
    PURE = False
    OPTS = options(
        Opt("set", invert=True, excl=("rcheck", "update", "remove")),
        Opt("rcheck", invert=True, excl=("set", "update", "remove")),
        Opt("update", invert=True, excl=("set", "rcheck", "remove")),
        Opt("remove", invert=True, excl=("set", "rcheck", "update")),
        Opt("seconds", uint(1, _U32)), Opt("reap", also=("seconds",)), Opt("hitcount", uint(0, _U32)), Opt("rttl"),
        Opt("name", text_of(199)), Opt("rsource", excl=("rdest",)), Opt("rdest", excl=("rsource",)),
        Opt("mask", read_mask, read6=read_mask6),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> RecentMatch:
        mode = next((name for name in MODES if name in got.values), "")
        if not mode:
            raise XtablesError("recent: you must specify one of `--set', `--rcheck' `--update' or `--remove'")
        return cls(mode, got.inv(mode), got.get("seconds", 0), got.get("reap", False), got.get("hitcount", 0),
                   got.get("rttl", False), got.get("name", "DEFAULT"), got.get("mask", FULL_MASK[head.family]),
                   got.get("rdest", False), head.family)

    def save(self) -> str:
        out = f"{' !' if self.inv else ''} --{self.mode}"
        if self.seconds:
            out += f" --seconds {self.seconds}"
        if self.reap:
            out += " --reap"
        if self.hitcount:
            out += f" --hitcount {self.hitcount}"
        if self.rttl:
            out += " --rttl"
        return out + f" --name {self.name} --mask {addr_text(self.mask, self.family)} --{'rdest' if self.dest else 'rsource'}"

    def listing(self, numeric: bool) -> str:
        out = f"{' !' if self.inv else ''} recent: {MODES[self.mode]}"
        if self.seconds:
            out += f" seconds: {self.seconds}"
        if self.reap:
            out += " reap"
        if self.hitcount:
            out += f" hit_count: {self.hitcount}"
        if self.rttl:
            out += " TTL-Match"
        return out + f" name: {self.name} side: {'dest' if self.dest else 'source'} mask: {addr_text(self.mask, self.family)}"

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        if self.mode in ("set", "remove") and (self.seconds or self.hitcount):
            return errno.EINVAL
        recent_tables(net).setdefault(self.name, {})
        return 0

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        table = recent_tables(ctx.net).setdefault(self.name, {})
        now = ctx.net.loop.now // MSEC
        ttl = skb.ip.ttl
        if skb.outdev is not None and skb.sk is None:
            ttl += 1  # as it was before forwarding
        addr = (skb.ip.daddr if self.dest else skb.ip.saddr) & self.mask
        entry = table.get(addr)
        if entry is not None and self.rttl and entry.ttl != ttl:
            entry = None
        if entry is None:
            if self.mode != "set":
                return self.inv
            self._add(table, addr, ttl, now)
            return not self.inv
        hit = self._hit(table, entry, addr, now)
        if (self.mode == "set" or (self.mode == "update" and hit)) and addr in table:
            table[addr] = table.pop(addr)  # now the most recent one
            entry.stamps.append(now)
            del entry.stamps[:-256]
            entry.ttl = ttl
        return hit != self.inv

    def _add(self, table: dict[int, RecentEntry], addr: int, ttl: int, now: int) -> None:
        if len(table) >= IP_LIST_TOT and addr not in table:
            del table[next(iter(table))]
        table.pop(addr, None)
        entry = table[addr] = RecentEntry(ttl)
        entry.stamps.append(now)

    def _hit(self, table: dict[int, RecentEntry], entry: RecentEntry, addr: int, now: int) -> bool:
        if self.mode == "set":
            return True
        if self.mode == "remove":
            del table[addr]
            return True
        since = now - self.seconds * 1000
        hits, hit = 0, False
        for stamp in entry.stamps:
            if self.seconds and stamp < since:
                continue
            hits += 1
            if not self.hitcount or hits >= self.hitcount:
                hit = True
                break
        if self.reap and table:
            oldest = next(iter(table))
            if table[oldest].stamps[-1] < since:
                del table[oldest]
        return hit


INITIAL_JIFFIES = (1 << 32) - 300 * 1000  # jiffies begin 5 minutes before they overflow 32 bits, HZ=1000


def recent_text(net: NetNamespace, name: str) -> str:
    """/proc/net/xt_recent/NAME. Linux: recent_seq_show()."""
    out = ""
    for addr, entry in recent_tables(net)[name].items():
        stamps = [INITIAL_JIFFIES + stamp for stamp in entry.stamps]
        text = ip4_text(addr) if addr < 1 << 32 else ip6_text(addr)
        out += f"src={text} ttl: {entry.ttl} last_seen: {stamps[-1]} oldest_pkt: {len(stamps)} {', '.join(map(str, stamps))}\n"
    return out
