"""-m mark --mark value[/mask]: the packet's mark, which kube-proxy uses for "masquerade this" (0x4000).

Source: Linux mark_mt() (xt_mark.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, mark_mask, options
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match


def mark_text(value: int, mask: int) -> str:
    """0x4000/0x4000, or 0x5 when the whole mark is compared."""
    return f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}"


@xt_match("mark")
@dataclass(frozen=True, slots=True)
class MarkMatch(Match):
    """mark & mask == value. Linux: mark_mt()."""

    value: int
    mask: int
    inv: bool
    OPTS = options(Opt("mark", mark_mask, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> MarkMatch:
        value, mask = got.get("mark", (0, 0))
        return cls(value, mask, got.inv("mark"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --mark {mark_text(self.value, self.mask)}"

    def listing(self, numeric: bool) -> str:
        return f" mark match{' !' if self.inv else ''} {mark_text(self.value, self.mask)}"

    def compile(self, key: Key) -> Predicate:
        value, mask, inv = self.value, self.mask, self.inv
        return lambda skb, ctx: (skb.mark & mask == value) != inv
