"""-m hashlimit: a limit for each address, port or pair of them. Packets beyond its rate do not match (--hashlimit-above: they do).

Tables have names and belong to the namespace (/proc/net/ipt_hashlimit/NAME). An entry's bucket starts full and is filled with
time, in credits, as that of -m limit; with a rate in bytes, a packet costs as many credits as it has chunks of 16 bytes, and a
burst is a number of times that the bucket may be filled at once. An entry not seen for `htable-expire` is forgotten.

Sources: Linux hashlimit_mt_common(), rateinfo_init(), rateinfo_recalc(), hashlimit_byte_cost(), dsthash_alloc_init()
(xt_hashlimit.c, revision 3); iptables 1.8.9 libxt_hashlimit.c. simplified: entries go at their time, not at the next run of the
garbage collector (htable-gcinterval).
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from typing import Any

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, text_of, uint
from kubenet.kernel.netfilter.xtables.spec import AF_INET, Ctx, Header, HotDrop, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff
from kubenet.units import MSEC

SCALE = 1_000_000  # XT_HASHLIMIT_SCALE_v2
HZ = 1000
_U32 = 0xFFFFFFFF
BYTE_SHIFT = 4
CREDITS_PER_JIFFY = 1 << 37  # POW2_BELOW64(0xFFFFFFFFFFFFFFFF / (HZ * 60 * 60 * 24))
CREDITS_PER_JIFFY_BYTES = 1 << 22  # POW2_BELOW32(0xFFFFFFFF / HZ)
BYTES_CAP = CREDITS_PER_JIFFY_BYTES * HZ
BURST, BURST_MAX = 5, 1_000_000
EXPIRE, BYTE_EXPIRE, BYTE_EXPIRE_BURST = 10_000, 15_000, 60_000  # ms
GCINTERVAL = 1000  # ms
DEFAULT_SIZE = 8192  # of a machine with more than 1 GiB
UNITS = (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1))
LONG_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
BYTE_UNITS = (("m", 1 << 20), ("k", 1 << 10), ("", 1))
MODES = ("srcip", "srcport", "dstip", "dstport")


@dataclass(frozen=True, slots=True)
class Rate:
    """What follows --hashlimit-upto. `avg`: µs a packet, or the cost of 16 bytes; `mult`: the unit's seconds."""

    avg: int
    bytes: bool
    mult: int


def bytes_to_cost(count: int) -> int:
    """Bytes a second as credits for a chunk. iptables: bytes_to_cost()."""
    return _U32 // ((count >> BYTE_SHIFT) + 1)


def cost_to_bytes(cost: int) -> int:
    """The way back, rounded down to chunks. iptables: cost_to_bytes(); Linux: user2rate_bytes()."""
    return ((_U32 // cost if cost else _U32) - 1) << BYTE_SHIFT


def read_rate(text: str, ext: str, opt: str) -> Rate:
    """Reads 5/min, 10/second, 3 and 512kb/s. iptables: parse_bytes(), parse_rate()."""
    found = re.match(r"(\d*)([mk]?)b/s", text)
    if found and int(found[1] or 0):
        return Rate(bytes_to_cost(int(found[1]) * dict(BYTE_UNITS)[found[2]]), True, BYTE_EXPIRE // 1000)
    amount, slash, unit = text.partition("/")
    digits = re.match(r"\d*", amount)
    count = int(digits[0] or 0) if digits else 0
    mult = next((seconds for name, seconds in LONG_UNITS.items() if unit and name.startswith(unit.lower())), 0) if slash else 1
    if not mult or not count:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    if count // mult > SCALE:
        raise XtablesError(f'Rate too fast "{text}"')
    return Rate(SCALE * mult // count, False, mult)


def read_burst(text: str, ext: str, opt: str) -> int:
    """Reads 5, 100kb, 1mb. iptables: parse_burst()."""
    found = re.fullmatch(r"(\d+)(?:([mk]?)b)?", text)
    value = int(found[1]) * dict(BYTE_UNITS)[found[2] or ""] if found else 0
    if not 1 <= value <= (_U32 if found and not text.isdigit() else BURST_MAX):
        raise XtablesError(f'bad value for option "--{opt}", or out of range (1-{BURST_MAX}).')
    return value


def read_modes(text: str, ext: str, opt: str) -> tuple[str, ...]:
    """Reads srcip,dstport."""
    words = [word for word in text.split(",") if word]
    if any(word not in MODES for word in words):
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return tuple(mode for mode in MODES if mode in words)


def read_interval(text: str, ext: str, opt: str) -> int:
    """Reads seconds, at least one."""
    if not text.isdigit() or not 1 <= int(text) <= _U32:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return int(text)


def _unit_of(avg: int) -> tuple[str, int]:
    """The unit in which print_rate() shows a period: the last in which it is a whole number, nearly."""
    at = 1
    while at < len(UNITS):
        whole = UNITS[at][1] * SCALE
        if avg > whole or whole // avg < whole % avg:
            break
        at += 1
    return UNITS[at - 1]


def rate_text(avg: int) -> str:
    """iptables: print_rate()."""
    name, seconds = _unit_of(avg)
    return f"{seconds * SCALE // avg}/{name}"


def _bytes_unit(count: int) -> tuple[str, int]:
    return next((name, size) for name, size in BYTE_UNITS if count >= size or size == 1)


class HashEntry:
    """One bucket. prev and expires: ms; with --hashlimit-rate-match credit is the count of the present window."""

    __slots__ = ("expires", "prev", "credit", "cap", "over")

    def __init__(self, now: int, credit: int, cap: int) -> None:
        self.expires = 0
        self.prev = now
        self.credit = credit
        self.cap = cap
        self.over = False  # rate-match: the last whole window had more than the rate


@dataclass(slots=True)
class HashTable:
    """All rules of this name share it; the first one's settings hold. Linux: struct xt_hashlimit_htable."""

    match: HashlimitMatch
    entries: dict[tuple[int, int, int, int], HashEntry] = field(default_factory=dict)


def hashlimit_tables(net: NetNamespace, family: int) -> dict[str, HashTable]:
    """name -> table (/proc/net/ipt_hashlimit, /proc/net/ip6t_hashlimit)."""
    found: dict[str, HashTable] = net.extra.setdefault("ipt_hashlimit" if family == AF_INET else "ip6t_hashlimit", {})
    return found


@xt_match("hashlimit")
@dataclass(frozen=True, slots=True)
class HashlimitMatch(Match):
    """A credit is left in the packet's bucket, and now spent. Linux: hashlimit_mt()."""

    name: str
    above: bool
    bytes: bool
    avg: int
    burst: int
    modes: tuple[str, ...]
    size: int
    most: int
    gcinterval: int
    expire: int
    srcmask: int
    dstmask: int
    rate_match: bool
    interval: int
    family: int = AF_INET
    PURE = False
    OPTS = options(
        Opt("hashlimit-upto", read_rate, invert=True, excl=("hashlimit-above",)),
        Opt("hashlimit-above", read_rate, invert=True, excl=("hashlimit-upto",)),
        Opt("hashlimit", read_rate, invert=True, alias="hashlimit-upto"), Opt("hashlimit-burst", read_burst),
        Opt("hashlimit-mode", read_modes), Opt("hashlimit-name", text_of(254), mand=True),
        Opt("hashlimit-srcmask", uint(0, 255)), Opt("hashlimit-dstmask", uint(0, 255)),
        Opt("hashlimit-htable-size", uint(0, _U32)), Opt("hashlimit-htable-max", uint(0, _U32)),
        Opt("hashlimit-htable-gcinterval", uint(0, _U32)), Opt("hashlimit-htable-expire", uint(0, _U32)),
        Opt("hashlimit-rate-match"), Opt("hashlimit-rate-interval", read_interval),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> HashlimitMatch:
        option = next((name for name in ("hashlimit-upto", "hashlimit-above") if name in got.values), "")
        if not option:
            raise XtablesError("You have to specify --hashlimit")
        rate: Rate = got.get(option)
        burst, windows = got.get("hashlimit-burst", 0 if rate.bytes else BURST), got.get("hashlimit-rate-match", False)
        interval = got.get("hashlimit-rate-interval", rate.mult if windows and not rate.bytes else 1)
        expire = got.get("hashlimit-htable-expire", rate.mult * 1000)
        if rate.bytes and burst:
            whole = cost_to_bytes(rate.avg)
            if burst < whole:
                raise XtablesError(f"burst cannot be smaller than {whole}b")
            burst //= whole
            expire = got.get("hashlimit-htable-expire", BYTE_EXPIRE_BURST)
        bits = 32 if head.family == AF_INET else 128
        avg = rate.avg // rate.mult if windows and not rate.bytes else rate.avg
        return cls(got.get("hashlimit-name"), (option == "hashlimit-above") != got.inv(option), rate.bytes, avg, burst,
                   got.get("hashlimit-mode", ()), got.get("hashlimit-htable-size", 0), got.get("hashlimit-htable-max", 0),
                   got.get("hashlimit-htable-gcinterval", GCINTERVAL), expire, got.get("hashlimit-srcmask", bits),
                   got.get("hashlimit-dstmask", bits), windows, interval, head.family)

    def _rate(self, dash: str, avg: int) -> tuple[str, int]:
        """(rate and burst as text, the expiry in ms that goes without saying). iptables: print_bytes(), print_rate()."""
        if not self.bytes:
            return f" {rate_text(avg)} {dash}burst {self.burst}", _unit_of(avg)[1] * 1000
        count = cost_to_bytes(avg)
        name, size = next((n, s) for n, s in BYTE_UNITS if s == 1 or count >= s and bytes_to_cost(count & ~(s - 1)) == avg)
        text = f" {count // size}{name}b/s"
        if not self.burst:
            return text, BYTE_EXPIRE
        count *= self.burst + 1
        name, size = _bytes_unit(count)
        return f"{text} {dash}burst {count // size}{name}b", BYTE_EXPIRE_BURST

    def _sizes(self, dash: str, quantum: int) -> str:
        bits = 32 if self.family == AF_INET else 128
        shown = (("htable-size", self.size, 0), ("htable-max", self.most, 0), ("htable-gcinterval", self.gcinterval, GCINTERVAL),
                 ("htable-expire", self.expire, quantum), ("srcmask", self.srcmask, bits), ("dstmask", self.dstmask, bits))
        out = "".join(f" {dash}{name} {value}" for name, value, usual in shown if value != usual)
        if not self.rate_match:
            return out
        return out + f" {dash}rate-match" + (f" {dash}rate-interval {self.interval}" if self.interval != 1 else "")

    def save(self) -> str:
        dash = "--hashlimit-"
        rate, quantum = self._rate(dash, self.avg)
        modes = f" {dash}mode {','.join(self.modes)}" if self.modes else ""
        return f" {dash}{'above' if self.above else 'upto'}{rate}{modes} {dash}name {self.name}" + self._sizes(dash, quantum)

    def listing(self, numeric: bool) -> str:
        rate, quantum = self._rate("", self.avg if self.bytes else self.avg * self.interval)
        modes = f" mode {'-'.join(self.modes)}" if self.modes else ""
        return f" limit: {'above' if self.above else 'up to'}{rate}{modes}" + self._sizes("", quantum)

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        """Linux: hashlimit_mt_check_common()."""
        bits = 32 if self.family == AF_INET else 128
        if self.srcmask > bits or self.dstmask > bits or not self.gcinterval or not self.expire or "/" in self.name:
            return errno.EINVAL
        if not self.rate_match and not self.bytes and _user2credits(self.avg * self.burst) < _user2credits(self.avg):
            return errno.ERANGE
        hashlimit_tables(net, self.family).setdefault(self.name, HashTable(self))
        return 0

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _key(self, skb: SkBuff) -> tuple[int, int, int, int]:
        """(source, port, destination, port) as far as the mode asks for them. Linux: hashlimit_init_dst()."""
        bits = 32 if self.family == AF_INET else 128
        ip, l4 = skb.ip, skb.l4
        src = ip.saddr >> (bits - self.srcmask) << (bits - self.srcmask) if "srcip" in self.modes else 0
        dst = ip.daddr >> (bits - self.dstmask) << (bits - self.dstmask) if "dstip" in self.modes else 0
        ports = (l4.sport, l4.dport) if l4 is not None and hasattr(l4, "sport") else (0, 0)
        return (src, ports[0] if "srcport" in self.modes else 0, dst, ports[1] if "dstport" in self.modes else 0)

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        tables = hashlimit_tables(ctx.net, self.family)
        table = tables.get(self.name)
        if table is None:
            table = tables[self.name] = HashTable(self)
        now = ctx.net.loop.now // MSEC
        key = self._key(skb)
        entry = table.entries.get(key)
        if entry is None or entry.expires <= now:
            if entry is None:
                _forget_expired(table, now)
            if entry is None and len(table.entries) >= table.match._room():
                raise HotDrop("the hashlimit table is full")
            entry = table.entries[key] = table.match._init(now)
        else:
            table.match._recalc(entry, now)
        entry.expires = now + table.match.expire
        return table.match._spend(entry, skb.len) != self.above

    def _room(self) -> int:
        """How many entries there may be. Linux: htable_create()."""
        size = self.size or DEFAULT_SIZE
        return max(self.most, size) if self.most else 8 * size

    def _init(self, now: int) -> HashEntry:
        """A full bucket. Linux: rateinfo_init()."""
        if self.rate_match:
            return HashEntry(now, 0, self._window_burst())
        if self.bytes:
            return HashEntry(now, BYTES_CAP, self.burst)
        cap = _user2credits(self.avg * self.burst)
        return HashEntry(now, cap, cap)

    def _rate_of_window(self) -> int:
        return cost_to_bytes(self.avg) if self.bytes else SCALE // self.avg if self.avg else 0

    def _window_burst(self) -> int:
        rate = self._rate_of_window()
        return (self.burst * rate if self.burst else rate) if self.bytes else self.burst + rate

    def _recalc(self, entry: HashEntry, now: int) -> None:
        """Time fills the bucket. Linux: rateinfo_recalc()."""
        delta = now - entry.prev
        if not delta:
            return
        if self.rate_match:
            interval = self.interval * HZ
            if delta >= interval:
                entry.prev = now
                entry.over = entry.credit * interval > delta * self._rate_of_window()
                entry.credit = 0
            return
        entry.prev = now
        if self.bytes:
            entry.credit = min(entry.credit + CREDITS_PER_JIFFY_BYTES * delta, BYTES_CAP)
        else:
            entry.credit = min(entry.credit + CREDITS_PER_JIFFY * delta, entry.cap)

    def _spend(self, entry: HashEntry, size: int) -> bool:
        """True below the rate. Linux: hashlimit_mt_common(), hashlimit_byte_cost()."""
        if self.rate_match:
            entry.credit += size if self.bytes else 1
            return not entry.over and entry.credit <= entry.cap
        if self.bytes:
            cost = min(((size >> BYTE_SHIFT) + 1) * (self.avg * HZ * CREDITS_PER_JIFFY_BYTES >> 32), BYTES_CAP)
            if entry.credit < cost and entry.cap:
                entry.cap -= 1
                entry.credit = BYTES_CAP
        else:
            cost = _user2credits(self.avg)
        if entry.credit < cost:
            return False
        entry.credit -= cost
        return True


def _user2credits(user: int) -> int:
    """µs as credits, in 64 bits. Linux: user2credits()."""
    return user * (HZ * CREDITS_PER_JIFFY // SCALE) & 0xFFFFFFFFFFFFFFFF


def _forget_expired(table: HashTable, now: int) -> None:
    """Linux: htable_selective_cleanup()."""
    for key in [key for key, entry in table.entries.items() if entry.expires <= now]:
        del table.entries[key]


def hashlimit_text(net: NetNamespace, family: int, name: str) -> str:
    """/proc/net/ipt_hashlimit/NAME: seconds left, the key, credit, cap, cost. Linux: dl_seq_real_show()."""
    from kubenet.wire.addr import ip4_text, ip6_text

    table = hashlimit_tables(net, family)[name]
    now, match = net.loop.now // MSEC, table.match
    cost = match.avg * HZ * CREDITS_PER_JIFFY_BYTES >> 32 if match.bytes else _user2credits(match.avg)
    show: Any = ip4_text if family == AF_INET else (lambda a: f"[{ip6_text(a)}]")
    return "".join(f"{(e.expires - now) // 1000} {show(key[0])}:{key[1]}->{show(key[2])}:{key[3]} {e.credit} {e.cap} {cost}\n"
                   for key, e in table.entries.items() if e.expires > now)


__all__ = ["HashlimitMatch", "hashlimit_tables", "hashlimit_text"]
