"""-m addrtype: what kind of address this is to us, as the routing table says. --dst-type LOCAL finds NodePorts.

Source: Linux addrtype_mt_v1() (xt_addrtype.c); iptables libxt_addrtype.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import AF_INET, AF_INET6, Ctx, Header, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.skbuff import SkBuff

TYPES = ("UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW",
         "NAT", "XRESOLVE")


_ASKS_ROUTES = ("LOCAL", "ANYCAST", "UNREACHABLE")
ROUTED_TYPES = sum(1 << TYPES.index(name) for name in _ASKS_ROUTES)
NOT_IN_IPV6 = sum(1 << TYPES.index(name) for name in ("BROADCAST", "BLACKHOLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE"))


def read_types(text: str, ext: str, opt: str) -> int:
    """Reads LOCAL,UNICAST,... in any case."""
    value = 0
    for word in text.split(","):
        if word.upper() not in TYPES:
            raise XtablesError(f'addrtype: bad type "{word}"')
        value |= 1 << TYPES.index(word.upper())
    return value


def types_text(value: int) -> str:
    """Bits as UNICAST,LOCAL,..."""
    return ",".join(name for i, name in enumerate(TYPES) if value >> i & 1)


@xt_match("addrtype")
@dataclass(frozen=True, slots=True)
class AddrtypeMatch(Match):
    """The source's and destination's types are among these. Linux: addrtype_mt_v1()."""

    source: int
    dest: int
    source_inv: bool
    dest_inv: bool
    limit: str  # "", "in", "out": only addresses of that device count as LOCAL
    family: int = AF_INET
    OPTS = options(
        Opt("src-type", read_types, invert=True), Opt("dst-type", read_types, invert=True),
        Opt("limit-iface-in", excl=("limit-iface-out",)), Opt("limit-iface-out", excl=("limit-iface-in",)),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> AddrtypeMatch:
        if "src-type" not in got.values and "dst-type" not in got.values:
            raise XtablesError("addrtype: you must specify --src-type or --dst-type")
        limit = "in" if got.get("limit-iface-in") else "out" if got.get("limit-iface-out") else ""
        return cls(got.get("src-type", 0), got.get("dst-type", 0), got.inv("src-type"), got.inv("dst-type"), limit,
                   head.family)

    def save(self) -> str:
        out = ""
        if self.source:
            out += f"{' !' if self.source_inv else ''} --src-type {types_text(self.source)}"
        if self.dest:
            out += f"{' !' if self.dest_inv else ''} --dst-type {types_text(self.dest)}"
        return out + (f" --limit-iface-{self.limit}" if self.limit else "")

    def listing(self, numeric: bool) -> str:
        out = " ADDRTYPE match"
        if self.source:
            out += f" src-type {'!' if self.source_inv else ''}{types_text(self.source)}"
        if self.dest:
            out += f" dst-type {'!' if self.dest_inv else ''}{types_text(self.dest)}"
        return out + (f" limit-{self.limit}" if self.limit else "")

    def check(self, net: object, rule: RuleSpec, table: str, hooks: int) -> int:
        if hooks & 0b00011 and self.limit == "out":  # PREROUTING, INPUT: there is no output device
            return errno.EINVAL
        if self.family == AF_INET6 and (self.source | self.dest) & NOT_IN_IPV6:
            return errno.EINVAL
        return errno.EINVAL if hooks & 0b11000 and self.limit == "in" else 0

    def compile(self, key: Key) -> Predicate:
        return self._test if self.family == AF_INET else self._test6

    def _test6(self, skb: SkBuff, ctx: Ctx) -> bool:
        """Linux: addrtype_mt6(): every type asked for must hold, not one of them."""
        dev = None if not self.limit else skb.indev if self.limit == "in" else skb.outdev
        if self.source and has_types6(ctx, skb.ip.saddr, dev, self.source) == self.source_inv:
            return False
        return not self.dest or has_types6(ctx, skb.ip.daddr, dev, self.dest) != self.dest_inv

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        dev = None if not self.limit else skb.indev if self.limit == "in" else skb.outdev
        if self.source and (self.source >> address_type(ctx, skb.ip.saddr, dev) & 1) == self.source_inv:
            return False
        return not self.dest or (self.dest >> address_type(ctx, skb.ip.daddr, dev) & 1) != self.dest_inv


def has_types6(ctx: Ctx, addr: int, dev: Any, types: int) -> bool:
    """The address is all of these types. Linux: match_type6(). simplified: no IPv6 route says UNREACHABLE or ANYCAST."""
    is_multicast = addr >> 120 == 0xFF
    if types & 1 << TYPES.index("MULTICAST") and not is_multicast:
        return False
    if types & 1 << TYPES.index("UNICAST") and (is_multicast or addr == 0):
        return False
    if types & 1 << TYPES.index("UNSPEC") and addr != 0:
        return False
    if not types & ROUTED_TYPES:
        return True
    owner = ctx.net.local_addrs.get(AF_INET6, {}).get(addr)
    return bool(types & 1 << TYPES.index("LOCAL")) and owner is not None and dev in (None, owner)


def address_type(ctx: Ctx, addr: int, dev: Any) -> int:
    """RTN_LOCAL, RTN_UNICAST ... of an address here. With a device, only its own addresses are LOCAL."""
    from kubenet.kernel.ipv4.route import inet_addr_type

    kind = inet_addr_type(ctx.net, addr)
    if dev is not None and kind == 2 and all(mine.addr != addr for mine in dev.ifaddrs):
        return 1
    return kind
