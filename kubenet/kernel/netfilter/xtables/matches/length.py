"""-m length: the IP packet's length, headers included.

Source: Linux length_mt() (xt_length.c); iptables libxt_length.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint_range
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match


@xt_match("length")
@dataclass(frozen=True, slots=True)
class LengthMatch(Match):
    """low <= length <= high. Linux: length_mt()."""

    low: int
    high: int
    inv: bool
    OPTS = options(Opt("length", uint_range(65535), invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> LengthMatch:
        low, high = got.get("length", (0, 0))
        return cls(low, high, got.inv("length"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --length {self._range()}"

    def listing(self, numeric: bool) -> str:
        return f" length {'!' if self.inv else ''}{self._range()}"

    def _range(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}:{self.high}"

    def compile(self, key: Key) -> Predicate:
        low, high, inv = self.low, self.high, self.inv
        return lambda skb, ctx: (low <= skb.len <= high) != inv
