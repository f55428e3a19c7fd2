"""-m icmp6 --icmpv6-type type[/code] or a name.

Source: Linux icmp6_match() (ip6_tables.c); iptables libip6t_icmp6.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number, options
from kubenet.kernel.netfilter.xtables.spec import AF_INET6, Ctx, Header, HotDrop, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

# name -> (type, lowest code, highest code); the first name of an entry is the one printed
NAMES: dict[str, tuple[int, int, int]] = {
    "destination-unreachable": (1, 0, 255), "no-route": (1, 0, 0), "communication-prohibited": (1, 1, 1),
    "beyond-scope": (1, 2, 2), "address-unreachable": (1, 3, 3), "port-unreachable": (1, 4, 4), "failed-policy": (1, 5, 5),
    "reject-route": (1, 6, 6), "packet-too-big": (2, 0, 255), "time-exceeded": (3, 0, 255), "ttl-exceeded": (3, 0, 255),
    "ttl-zero-during-transit": (3, 0, 0), "ttl-zero-during-reassembly": (3, 1, 1), "parameter-problem": (4, 0, 255),
    "bad-header": (4, 0, 0), "unknown-header-type": (4, 1, 1), "unknown-option": (4, 2, 2), "echo-request": (128, 0, 255),
    "ping": (128, 0, 255), "echo-reply": (129, 0, 255), "pong": (129, 0, 255), "router-solicitation": (133, 0, 255),
    "router-advertisement": (134, 0, 255), "neighbour-solicitation": (135, 0, 255), "neighbor-solicitation": (135, 0, 255),
    "neighbour-advertisement": (136, 0, 255), "neighbor-advertisement": (136, 0, 255), "redirect": (137, 0, 255),
}


def read_type(text: str, ext: str, opt: str) -> tuple[int, int, int]:
    """Reads a name (or its unambiguous beginning), type, or type/code. iptables: ipt_parse_icmpv6()."""
    lower = text.lower()
    hits = [name for name in NAMES if name.startswith(lower)]
    if lower in NAMES or len(hits) == 1:
        return NAMES[lower if lower in NAMES else hits[0]]
    if len(hits) > 1:
        raise XtablesError(f"Ambiguous ICMPv6 type `{text}': `{hits[0]}' or `{hits[1]}'?")
    kind, slash, code = text.partition("/")
    a, b = number(kind), number(code) if slash else 0
    if a is None or a > 255:
        raise XtablesError(f"Unknown ICMPv6 type `{kind}'")
    if b is None or b > 255:
        raise XtablesError(f"Unknown ICMPv6 code `{text}'")
    return (a, b, b) if slash else (a, 0, 255)


@xt_match("icmp6", AF_INET6)
@dataclass(frozen=True, slots=True)
class Icmp6Match(Match):
    """Type is this one, code in range. Linux: icmp6_match()."""

    kind: int
    low: int
    high: int
    inv: bool
    PROTOS = (58,)
    OPTS = options(Opt("icmpv6-type", read_type, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> Icmp6Match:
        kind, low, high = got.get("icmpv6-type", (255, 0, 255))
        return cls(kind, low, high, got.inv("icmpv6-type"))

    def save(self) -> str:
        code = "" if (self.low, self.high) == (0, 255) else f"/{self.low}"
        return f"{' !' if self.inv else ''} --icmpv6-type {self.kind}{code}"

    def listing(self, numeric: bool) -> str:
        bang = "!" if self.inv else ""
        if not numeric:
            for name, value in NAMES.items():
                if value == (self.kind, self.low, self.high):
                    return f" ipv6-icmp {bang}{name}"
        out = f" ipv6-icmp {bang}type {self.kind}" if self.inv else f" ipv6-icmptype {self.kind}"
        if (self.low, self.high) != (0, 255):
            out += f" code {self.low}"
        return out

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        l4 = skb.l4
        if l4 is None:
            raise HotDrop("no ICMPv6 header")
        return bool(l4.type == self.kind and self.low <= l4.code <= self.high) != self.inv
