"""-m iprange: addresses from here to there.

Source: Linux iprange_mt4() (xt_iprange.c); iptables libxt_iprange.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff
from kubenet.wire.addr import ip4, ip4_text

Range = tuple[int, int]


def read_range(text: str, ext: str, opt: str) -> Range:
    """Reads first-last, or one address."""
    first, dash, last = text.partition("-")
    try:
        return ip4(first), ip4(last if dash else first)
    except ValueError:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')


def range_text(value: Range) -> str:
    """first-last."""
    return f"{ip4_text(value[0])}-{ip4_text(value[1])}"


@xt_match("iprange")
@dataclass(frozen=True, slots=True)
class IprangeMatch(Match):
    """Source and destination lie in these ranges. Linux: iprange_mt4()."""

    src: Range | None
    dst: Range | None
    src_inv: bool
    dst_inv: bool
    OPTS = options(Opt("src-range", read_range, invert=True), Opt("dst-range", read_range, invert=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> IprangeMatch:
        if not got.values:
            raise XtablesError("iprange match: You must specify `--src-range' or `--dst-range'")
        return cls(got.get("src-range"), got.get("dst-range"), got.inv("src-range"), got.inv("dst-range"))

    def save(self) -> str:
        out = ""
        if self.src is not None:
            out += f"{' !' if self.src_inv else ''} --src-range {range_text(self.src)}"
        if self.dst is not None:
            out += f"{' !' if self.dst_inv else ''} --dst-range {range_text(self.dst)}"
        return out

    def listing(self, numeric: bool) -> str:
        out = ""
        if self.src is not None:
            out += f" source IP range{' !' if self.src_inv else ''} {range_text(self.src)}"
        if self.dst is not None:
            out += f" destination IP range{' !' if self.dst_inv else ''} {range_text(self.dst)}"
        return out

    def warning(self) -> str:
        """What the tool says about a range that is the wrong way round."""
        return "".join(f"xt_iprange: range {range_text(r)} is reversed and will never match\n"
                       for r in (self.src, self.dst) if r is not None and r[0] > r[1])

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        src, dst = self.src, self.dst
        if src is not None and (src[0] <= skb.ip.saddr <= src[1]) == self.src_inv:
            return False
        return dst is None or (dst[0] <= skb.ip.daddr <= dst[1]) != self.dst_inv
