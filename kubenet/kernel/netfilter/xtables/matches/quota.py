"""-m quota --quota BYTES: true until so many bytes have passed. Starts again whenever the table is replaced.

Source: Linux quota_mt() (xt_quota.c); iptables libxt_quota.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff


@xt_match("quota")
@dataclass(frozen=True, slots=True)
class QuotaMatch(Match):
    """The packet fits into what is left, which is now less. Linux: quota_mt()."""

    quota: int
    inv: bool
    PURE = False
    OPTS = options(Opt("quota", uint(0, (1 << 64) - 1), invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> QuotaMatch:
        return cls(got.get("quota", 0), got.inv("quota"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --quota {self.quota}"

    def listing(self, numeric: bool) -> str:
        return f" quota: {self.quota} bytes"

    def compile(self, key: Key) -> Predicate:
        quota, inv = self.quota, self.inv

        def spend(skb: SkBuff, ctx: Ctx) -> bool:
            left = ctx.state.get(key, quota)
            if left >= skb.len:
                ctx.state[key] = left - skb.len
                return not inv
            ctx.state[key] = 0  # nothing smaller may slip through later
            return inv

        return spend
