"""-m ttl: the packet's time to live.

Source: Linux ttl_mt() (xt_hl.c); iptables libipt_ttl.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import AF_INET, Header, Key, Match, Predicate, xt_match

MODES = ("ttl-eq", "ttl-lt", "ttl-gt")


@xt_match("ttl", AF_INET)
@dataclass(frozen=True, slots=True)
class TtlMatch(Match):
    """ttl ==, <, > value. Linux: ttl_mt()."""

    mode: str
    value: int
    inv: bool
    OPTS = options(
        Opt("ttl-eq", uint(0, 255), invert=True), Opt("ttl", uint(0, 255), invert=True, alias="ttl-eq"),
        Opt("ttl-lt", uint(0, 255), excl=("ttl-eq", "ttl-gt")), Opt("ttl-gt", uint(0, 255), excl=("ttl-eq", "ttl-lt")),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> TtlMatch:
        mode = next((name for name in MODES if name in got.values), "")
        if not mode:
            raise XtablesError("TTL match: You must specify one of `--ttl-eq', `--ttl-lt', `--ttl-gt")
        return cls(mode, got.get(mode), got.inv(mode))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --{self.mode} {self.value}"

    def listing(self, numeric: bool) -> str:
        sign = {"ttl-eq": "!=" if self.inv else "==", "ttl-lt": "<", "ttl-gt": ">"}[self.mode]
        return f" TTL match TTL {sign} {self.value}"

    def compile(self, key: Key) -> Predicate:
        value, inv = self.value, self.inv
        if self.mode == "ttl-lt":
            return lambda skb, ctx: skb.ip.ttl < value
        if self.mode == "ttl-gt":
            return lambda skb, ctx: skb.ip.ttl > value
        return lambda skb, ctx: (skb.ip.ttl == value) != inv
