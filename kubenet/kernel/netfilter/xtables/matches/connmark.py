"""-m connmark --mark value[/mask]: the mark of the packet's connection.

Source: Linux connmark_mt() (xt_connmark.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.matches.mark import mark_text
from kubenet.kernel.netfilter.xtables.options import Got, Opt, mark_mask, options
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match


@xt_match("connmark")
@dataclass(frozen=True, slots=True)
class ConnmarkMatch(Match):
    """ct->mark & mask == value; false without a connection. Linux: connmark_mt()."""

    value: int
    mask: int
    inv: bool
    CONNTRACK = True
    OPTS = options(Opt("mark", mark_mask, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> ConnmarkMatch:
        value, mask = got.get("mark", (0, 0))
        return cls(value, mask, got.inv("mark"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --mark {mark_text(self.value, self.mask)}"

    def listing(self, numeric: bool) -> str:
        return f" connmark match {'!' if self.inv else ''} {mark_text(self.value, self.mask)}"

    def compile(self, key: Key) -> Predicate:
        value, mask, inv = self.value, self.mask, self.inv
        return lambda skb, ctx: skb.ct is not None and (skb.ct.mark & mask == value) != inv
