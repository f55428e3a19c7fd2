"""-m tcp: ports, flags and options of a TCP segment.

A segment without a readable header (a later fragment, or cut short) matches nothing; the first is what
fragments do anyway, and a header that is cut short is dropped on the spot.

Source: Linux tcp_mt() (xt_tcpudp.c); iptables libxt_tcp.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.names import service_name
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, port_range, uint
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, HotDrop, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}
ANY = (0, 65535)


def flags_of(text: str) -> int:
    """SYN,ACK as bits; ALL and NONE too."""
    value = 0
    for word in text.split(","):
        word = word.upper()
        if word == "ALL":
            value |= 63
        elif word in FLAGS:
            value |= FLAGS[word]
        elif word != "NONE":
            raise XtablesError(f"Unknown TCP flag `{word}'")
    return value


def flags_text(value: int) -> str:
    """Bits as FIN,SYN,..., or NONE."""
    return ",".join(name for name, bit in FLAGS.items() if value & bit) or "NONE"


def read_flags(text: str, ext: str, opt: str) -> tuple[int, int]:
    """Reads the two words of --tcp-flags, joined by a blank."""
    mask, _, comp = text.partition(" ")
    return flags_of(mask), flags_of(comp)


def port_save(name: str, ports: tuple[int, int], inv: bool) -> str:
    """--dport 80, --dport 80:90, or nothing when every port will do."""
    if ports == ANY and not inv:
        return ""
    low, high = ports
    return f"{' !' if inv else ''} --{name} {low}" + (f":{high}" if high != low else "")


def port_words(name: str, ports: tuple[int, int], inv: bool, numeric: bool, proto: int) -> str:
    """dpt:80, dpts:80:90 as `iptables -L` writes them."""
    if ports == ANY and not inv:
        return ""
    low, high = (str(p) if numeric else service_name(p, proto) for p in ports)
    bang = "!" if inv else ""
    return f" {name}:{bang}{low}" if low == high else f" {name}s:{bang}{low}:{high}"


@xt_match("tcp")
@dataclass(frozen=True, slots=True)
class TcpMatch(Match):
    """The segment's ports are in range, its flags are those, it carries the option. Linux: tcp_mt()."""

    sport: tuple[int, int]
    dport: tuple[int, int]
    sport_inv: bool
    dport_inv: bool
    mask: int
    comp: int
    flags_inv: bool
    option: int
    option_inv: bool
    PROTOS = (6,)
    OPTS = options(
        Opt("source-port", port_range, invert=True), Opt("sport", port_range, invert=True, alias="source-port"),
        Opt("destination-port", port_range, invert=True), Opt("dport", port_range, invert=True, alias="destination-port"),
        Opt("syn", invert=True, alias="tcp-flags"), Opt("tcp-flags", read_flags, invert=True, args=2),
        Opt("tcp-option", uint(1, 255), invert=True),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> TcpMatch:
        mask, comp = 0, 0
        flags = got.get("tcp-flags")
        if flags is not None:
            mask, comp = (23, 2) if flags is True else flags
        return cls(got.get("source-port", ANY), got.get("destination-port", ANY), got.inv("source-port"),
                   got.inv("destination-port"), mask, comp, got.inv("tcp-flags"), got.get("tcp-option", 0), got.inv("tcp-option"))

    def save(self) -> str:
        out = port_save("sport", self.sport, self.sport_inv) + port_save("dport", self.dport, self.dport_inv)
        if self.option:
            out += f"{' !' if self.option_inv else ''} --tcp-option {self.option}"
        if self.mask or self.flags_inv:
            out += f"{' !' if self.flags_inv else ''} --tcp-flags {flags_text(self.mask)} {flags_text(self.comp)}"
        return out

    def listing(self, numeric: bool) -> str:
        out = " tcp" + port_words("spt", self.sport, self.sport_inv, numeric, 6)
        out += port_words("dpt", self.dport, self.dport_inv, numeric, 6)
        if self.option:
            out += f" tcp option={'!' if self.option_inv else ''}{self.option}"[4:]
        if self.mask or self.flags_inv:
            bang = "!" if self.flags_inv else ""
            if numeric:
                out += f" flags:{bang}0x{self.mask:02X}/0x{self.comp:02X}"
            else:
                out += f" flags:{bang}{flags_text(self.mask)}/{flags_text(self.comp)}"
        return out

    def compile(self, key: Key) -> Predicate:
        (dlow, dhigh), sinv, dinv = self.dport, self.sport_inv, self.dport_inv
        plain = self.sport == ANY and not sinv and not self.mask and not self.flags_inv and not self.option
        if plain and dlow == dhigh and not dinv:
            return lambda skb, ctx: skb.l4.dport == dlow if skb.l4 is not None else no_header(skb)
        if plain and self.dport == ANY and not dinv:
            return lambda skb, ctx: skb.l4 is not None or no_header(skb)
        return self._full

    def _full(self, skb: SkBuff, ctx: Ctx) -> bool:
        l4 = skb.l4
        if l4 is None:
            return no_header(skb)
        if (self.sport[0] <= l4.sport <= self.sport[1]) == self.sport_inv:
            return False
        if (self.dport[0] <= l4.dport <= self.dport[1]) == self.dport_inv:
            return False
        if (l4.flags & self.mask == self.comp) == self.flags_inv:
            return False
        return not self.option or has_option(l4, self.option) != self.option_inv


def no_header(skb: SkBuff) -> bool:
    """False for a later fragment; HotDrop if the header is cut short or could be overwritten by a tiny fragment."""
    offset = skb.ip.frag & 0x1FFF
    if offset in (0, 1):
        raise HotDrop("no transport header")
    return False


def has_option(l4: object, kind: int) -> bool:
    """The segment carries a TCP option of this kind."""
    opt = getattr(l4, "options", None)
    if opt is None:
        return False
    return bool({2: opt.mss > 0, 3: opt.wscale >= 0, 4: opt.sack_perm, 5: len(opt.sacks) > 0, 8: opt.ts,
                 34: opt.fastopen is not None}.get(kind, False))
