"""-m iprange: addresses from here to there.

Source: Linux iprange_mt4(), iprange_mt6() (xt_iprange.c); iptables libxt_iprange.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.save import addr_text
from kubenet.kernel.netfilter.xtables.spec import AF_INET, Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff
from kubenet.wire.addr import ip4, ip6

Range = tuple[int, int]


def read_range(text: str, ext: str, opt: str) -> Range:
    """Reads first-last, or one address."""
    first, dash, last = text.partition("-")
    try:
        return ip4(first), ip4(last if dash else first)
    except ValueError:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')


def read_range6(text: str, ext: str, opt: str) -> Range:
    """Reads first-last, or one address, for ip6tables."""
    first, dash, last = text.partition("-")
    for part in (first, last if dash else first):
        try:
            ip6(part)
        except ValueError:
            raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{part}"')
    return ip6(first), ip6(last if dash else first)


def range_text(value: Range, family: int) -> str:
    """first-last."""
    return f"{addr_text(value[0], family)}-{addr_text(value[1], family)}"


@xt_match("iprange")
@dataclass(frozen=True, slots=True)
class IprangeMatch(Match):
    """Source and destination lie in these ranges. Linux: iprange_mt4()."""

    src: Range | None
    dst: Range | None
    src_inv: bool
    dst_inv: bool
    family: int = AF_INET
    OPTS = options(Opt("src-range", read_range, invert=True, read6=read_range6),
                   Opt("dst-range", read_range, invert=True, read6=read_range6))

    @classmethod
    def parse(cls, got: Got, head: Header) -> IprangeMatch:
        if not got.values:
            raise XtablesError("iprange match: You must specify `--src-range' or `--dst-range'")
        return cls(got.get("src-range"), got.get("dst-range"), got.inv("src-range"), got.inv("dst-range"), head.family)

    def save(self) -> str:
        out = ""
        if self.src is not None:
            out += f"{' !' if self.src_inv else ''} --src-range {range_text(self.src, self.family)}"
        if self.dst is not None:
            out += f"{' !' if self.dst_inv else ''} --dst-range {range_text(self.dst, self.family)}"
        return out

    def listing(self, numeric: bool) -> str:
        out = ""
        if self.src is not None:
            out += f" source IP range{' !' if self.src_inv else ''} {range_text(self.src, self.family)}"
        if self.dst is not None:
            out += f" destination IP range{' !' if self.dst_inv else ''} {range_text(self.dst, self.family)}"
        return out

    def warning(self) -> str:
        """What the tool says about a range that is the wrong way round."""
        return "".join(f"xt_iprange: range {range_text(r, self.family)} is reversed and will never match\n"
                       for r in (self.src, self.dst) if r is not None and r[0] > r[1])

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        src, dst = self.src, self.dst
        if src is not None and (src[0] <= skb.ip.saddr <= src[1]) == self.src_inv:
            return False
        return dst is None or (dst[0] <= skb.ip.daddr <= dst[1]) != self.dst_inv
