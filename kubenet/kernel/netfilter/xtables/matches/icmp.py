"""-m icmp --icmp-type type[/code] or a name.

Source: Linux icmp_match() (ip_tables.c, xt_tcpudp.c); iptables libipt_icmp.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number, options
from kubenet.kernel.netfilter.xtables.spec import AF_INET, Ctx, Header, HotDrop, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

# name -> (type, lowest code, highest code); the first name of an entry is the one printed
NAMES: dict[str, tuple[int, int, int]] = {
    "any": (255, 0, 255), "echo-reply": (0, 0, 255), "pong": (0, 0, 255), "destination-unreachable": (3, 0, 255),
    "network-unreachable": (3, 0, 0), "host-unreachable": (3, 1, 1), "protocol-unreachable": (3, 2, 2),
    "port-unreachable": (3, 3, 3), "fragmentation-needed": (3, 4, 4), "source-route-failed": (3, 5, 5),
    "network-unknown": (3, 6, 6), "host-unknown": (3, 7, 7), "network-prohibited": (3, 9, 9), "host-prohibited": (3, 10, 10),
    "TOS-network-unreachable": (3, 11, 11), "TOS-host-unreachable": (3, 12, 12), "communication-prohibited": (3, 13, 13),
    "host-precedence-violation": (3, 14, 14), "precedence-cutoff": (3, 15, 15), "source-quench": (4, 0, 255),
    "redirect": (5, 0, 255), "network-redirect": (5, 0, 0), "host-redirect": (5, 1, 1), "TOS-network-redirect": (5, 2, 2),
    "TOS-host-redirect": (5, 3, 3), "echo-request": (8, 0, 255), "ping": (8, 0, 255), "router-advertisement": (9, 0, 255),
    "router-solicitation": (10, 0, 255), "time-exceeded": (11, 0, 255), "ttl-exceeded": (11, 0, 255),
    "ttl-zero-during-transit": (11, 0, 0), "ttl-zero-during-reassembly": (11, 1, 1), "parameter-problem": (12, 0, 255),
    "ip-header-bad": (12, 0, 0), "required-option-missing": (12, 1, 1), "timestamp-request": (13, 0, 255),
    "timestamp-reply": (14, 0, 255), "address-mask-request": (17, 0, 255), "address-mask-reply": (18, 0, 255),
}


def read_type(text: str, ext: str, opt: str) -> tuple[int, int, int]:
    """Reads a name (or its unambiguous beginning), type, or type/code. iptables: ipt_parse_icmp()."""
    lower = text.lower()
    hits = [value for name, value in NAMES.items() if name.lower().startswith(lower)]
    exact = [value for name, value in NAMES.items() if name.lower() == lower]
    if exact or len(hits) == 1:
        return (exact or hits)[0]
    if len(hits) > 1:
        first, second = [name for name in NAMES if name.lower().startswith(lower)][:2]
        raise XtablesError(f"Ambiguous ICMP type `{text}': `{first}' or `{second}'?")
    kind, slash, code = text.partition("/")
    a, b = number(kind), number(code) if slash else 0
    if a is None or a > 255:
        raise XtablesError(f"Unknown ICMP type `{text}'")
    if b is None or b > 255:
        raise XtablesError(f"Unknown ICMP code `{text}'")
    return (a, b, b) if slash else (a, 0, 255)


@xt_match("icmp", AF_INET)
@dataclass(frozen=True, slots=True)
class IcmpMatch(Match):
    """Type is this one (255: any), code in range. Linux: icmp_match()."""

    kind: int
    low: int
    high: int
    inv: bool
    PROTOS = (1,)
    OPTS = options(Opt("icmp-type", read_type, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> IcmpMatch:
        kind, low, high = got.get("icmp-type", (255, 0, 255))
        return cls(kind, low, high, got.inv("icmp-type"))

    def save(self) -> str:
        out = f"{' !' if self.inv else ''} --icmp-type "
        if self.kind == 255:
            return out + "any"
        return out + str(self.kind) + ("" if (self.low, self.high) == (0, 255) else f"/{self.low}")

    def listing(self, numeric: bool) -> str:
        bang = "!" if self.inv else ""
        if not numeric:
            for name, value in NAMES.items():
                if value == (self.kind, self.low, self.high):
                    return f" icmp {bang}{name}"
        out = f" icmp {bang}type {self.kind}" if self.inv else f" icmptype {self.kind}"
        if (self.low, self.high) != (0, 255):
            out += f" code {self.low}" if self.low == self.high else f" codes {self.low}-{self.high}"
        return out

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        l4 = skb.l4
        if l4 is None:
            if skb.ip.frag & 0x1FFF:
                return False
            raise HotDrop("no ICMP header")
        return (self.kind == 255 or (l4.type == self.kind and self.low <= l4.code <= self.high)) != self.inv
