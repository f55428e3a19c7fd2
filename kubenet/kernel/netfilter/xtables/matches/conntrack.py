"""-m conntrack: what the connection table knows about the packet's connection.

A packet without a connection is UNTRACKED or INVALID, and nothing else can be asked about it. SNAT and DNAT are states
beside NEW or ESTABLISHED: the connection was translated.

Source: Linux conntrack_mt() (xt_conntrack.c); iptables libxt_conntrack.c revision 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.names import PROTOCOLS
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number, options
from kubenet.kernel.netfilter.xtables.save import addr_text, network_text
from kubenet.kernel.netfilter.xtables.spec import AF_INET, AF_INET6, FULL_MASK, Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import IP_CT_UNTRACKED, SkBuff
from kubenet.units import SEC
from kubenet.wire.addr import ip4, ip6

INVALID, NEW, RELATED, ESTABLISHED, UNTRACKED, SNAT, DNAT = 1, 2, 4, 8, 16, 32, 64
STATES = {"INVALID": INVALID, "NEW": NEW, "RELATED": RELATED, "ESTABLISHED": ESTABLISHED, "UNTRACKED": UNTRACKED,
          "SNAT": SNAT, "DNAT": DNAT}
STATE_OF_INFO = (ESTABLISHED, RELATED, NEW, ESTABLISHED, RELATED)  # by skb.ctinfo
STATUSES = {"NONE": 0, "EXPECTED": 1, "SEEN_REPLY": 2, "ASSURED": 4, "CONFIRMED": 8}
IPS_SRC_NAT, IPS_DST_NAT = 0x10, 0x20

Address = tuple[int, int, int]  # address, mask, family
Range = tuple[int, int]


def read_states(text: str, ext: str, opt: str) -> int:
    """Reads NEW,ESTABLISHED,... in any case."""
    value = 0
    for word in text.split(","):
        if word.upper() not in STATES:
            raise XtablesError(f'Bad ctstate "{word}"')
        value |= STATES[word.upper()]
    return value


def read_statuses(text: str, ext: str, opt: str) -> int:
    """Reads ASSURED,CONFIRMED,..."""
    value = 0
    for word in text.split(","):
        if word.upper() not in STATUSES:
            raise XtablesError(f'Bad ctstatus "{word}"')
        value |= STATUSES[word.upper()]
    return value


def read_proto(text: str, ext: str, opt: str) -> int:
    """Reads a protocol's name or number."""
    value = number(text)
    if value is None:
        value = PROTOCOLS.get(text.lower(), 0 if text == "all" else -1)
    if not 0 <= value <= 255:
        raise XtablesError(f'{ext}: bad value for option "--{opt}", or out of range (0-255).\n')
    return value


def read_address(text: str, ext: str, opt: str) -> Address:
    """Reads address[/length or mask]."""
    host, slash, mask = text.partition("/")
    try:
        addr = ip4(host)
        bits = 0xFFFFFFFF
        if slash:
            plen = number(mask)
            if plen is not None and not 0 <= plen <= 32:
                raise ValueError
            bits = ip4(mask) if plen is None else (0xFFFFFFFF << (32 - plen)) & 0xFFFFFFFF
    except ValueError:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return addr & bits, bits, AF_INET


def read_address6(text: str, ext: str, opt: str) -> Address:
    """Reads address[/length or mask] for ip6tables."""
    host, slash, mask = text.partition("/")
    try:
        addr = ip6(host)
        plen = number(mask) if slash else 128
        if plen is not None and not 0 <= plen <= 128:
            raise ValueError
        bits = ip6(mask) if plen is None else ((1 << plen) - 1) << (128 - plen)
    except ValueError:
        raise XtablesError("getaddrinfo: Address family for hostname not supported\n" if ":" not in host
                           else f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return addr & bits, bits, AF_INET6


def read_range(text: str, ext: str, opt: str) -> Range:
    """Reads n or n:m."""
    first, colon, second = text.partition(":")
    low = number(first)
    high = number(second) if colon else low
    if low is None or high is None:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return low, high


def read_dir(text: str, ext: str, opt: str) -> int:
    """Reads ORIGINAL 0 or REPLY 1."""
    if text.upper() not in ("ORIGINAL", "REPLY"):
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return 0 if text.upper() == "ORIGINAL" else 1


def address_text(value: Address) -> str:
    """10.0.0.1, or 10.0.0.0/8."""
    addr, mask, family = value
    return addr_text(addr, family) if mask == FULL_MASK[family] else network_text(addr, mask, family)


def range_text(value: Range) -> str:
    """80, or 80:90."""
    return str(value[0]) if value[0] == value[1] else f"{value[0]}:{value[1]}"


def state_text(value: int) -> str:
    """Bits as INVALID,NEW,..., in the tool's order."""
    return ",".join(name for name, bit in STATES.items() if value & bit)


def status_text(value: int) -> str:
    """Bits as EXPECTED,..., or NONE."""
    return ",".join(name for name, bit in STATUSES.items() if bit & value) or "NONE"


# option -> (reader, printer), in the order of printing
FIELDS: dict[str, tuple[Any, Any]] = {
    "ctstate": (read_states, state_text), "ctproto": (read_proto, str),
    "ctorigsrc": (read_address, address_text), "ctorigdst": (read_address, address_text),
    "ctreplsrc": (read_address, address_text), "ctrepldst": (read_address, address_text),
    "ctorigsrcport": (read_range, range_text), "ctorigdstport": (read_range, range_text),
    "ctreplsrcport": (read_range, range_text), "ctrepldstport": (read_range, range_text),
    "ctstatus": (read_statuses, status_text), "ctexpire": (read_range, range_text), "ctdir": (read_dir, str),
}
DIRS = ("ORIGINAL", "REPLY")
# option -> (reply tuple?, index in the tuple (saddr, sport, daddr, dport, family << 8 | proto))
ADDRESSES = {"ctorigsrc": (False, 0), "ctorigdst": (False, 2), "ctreplsrc": (True, 0), "ctrepldst": (True, 2)}
PORTS = {"ctorigsrcport": (False, 1), "ctorigdstport": (False, 3), "ctreplsrcport": (True, 1), "ctrepldstport": (True, 3)}


def state_bits(skb: SkBuff) -> int:
    """The packet's state as bits, SNAT and DNAT included."""
    ct = skb.ct
    if ct is None:
        return UNTRACKED if skb.ctinfo == IP_CT_UNTRACKED else INVALID
    bits = STATE_OF_INFO[skb.ctinfo]
    status = ct.status
    if status & 0x30:
        bits |= (SNAT if status & IPS_SRC_NAT else 0) | (DNAT if status & IPS_DST_NAT else 0)
    return bits


def state_test(wanted: int, inv: bool) -> Predicate:
    """The packet's state is one of `wanted`, as a test of one call: it stands in most packets' way more than once."""
    if wanted & (SNAT | DNAT):
        return lambda skb, ctx: (state_bits(skb) & wanted != 0) != inv
    hits = tuple((bits & wanted != 0) != inv for bits in STATE_OF_INFO)
    invalid, untracked = (INVALID & wanted != 0) != inv, (UNTRACKED & wanted != 0) != inv
    return lambda skb, ctx: hits[skb.ctinfo] if skb.ct is not None else untracked if skb.ctinfo == IP_CT_UNTRACKED else invalid


@xt_match("conntrack")
@dataclass(frozen=True, slots=True)
class ConntrackMatch(Match):
    """Everything asked about the connection holds. `fields`: (option, value, inverted). Linux: conntrack_mt()."""

    fields: tuple[tuple[str, Any, bool], ...]
    CONNTRACK = True
    OPTS = options(*(Opt(name, reader, invert=name != "ctdir", read6=read_address6 if reader is read_address else None)
                     for name, (reader, _) in FIELDS.items()))

    @classmethod
    def parse(cls, got: Got, head: Header) -> ConntrackMatch:
        if not got.values:
            raise XtablesError("conntrack: At least one option is required")
        return cls(tuple((name, *got.values[name]) for name in FIELDS if name in got.values))

    def save(self) -> str:
        return self._text("--")

    def listing(self, numeric: bool) -> str:
        return self._text("")

    def _text(self, dashes: str) -> str:
        out = ""
        for name, value, inv in self.fields:
            text = DIRS[value] if name == "ctdir" else FIELDS[name][1](value)
            out += f"{' !' if inv else ''} {dashes}{name} {text}"
        return out

    def compile(self, key: Key) -> Predicate:
        if len(self.fields) == 1 and self.fields[0][0] == "ctstate":
            _, wanted, inv = self.fields[0]
            return state_test(wanted, inv)
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        ct = skb.ct
        for name, value, inv in self.fields:
            if name == "ctstate":
                if (state_bits(skb) & value != 0) == inv:
                    return False
                if ct is None:
                    return True  # nothing more can be asked about it
            elif ct is None or self._field(skb, ctx, ct, name, value) == inv:
                return False
        return True

    @staticmethod
    def _field(skb: SkBuff, ctx: Ctx, ct: Any, name: str, value: Any) -> bool:
        if name in ADDRESSES:
            reply, index = ADDRESSES[name]
            return bool((ct.reply if reply else ct.orig)[index] & value[1] == value[0])
        if name in PORTS:
            reply, index = PORTS[name]
            return bool(value[0] <= (ct.reply if reply else ct.orig)[index] <= value[1])
        if name == "ctproto":
            return bool(ct.orig[4] & 0xFF == value)
        if name == "ctstatus":
            return bool(ct.status & value != 0)
        if name == "ctdir":
            return skb.ctdir == int(value)
        left = max(0, ct.timeout - ctx.net.loop.now) // SEC
        return bool(value[0] <= left <= value[1])
