"""-m hl: the hop limit of an IPv6 packet; what -m ttl is for IPv4.

Source: Linux hl_mt6() (xt_hl.c); iptables libip6t_hl.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import AF_INET6, Header, Key, Match, Predicate, xt_match

MODES = ("hl-eq", "hl-lt", "hl-gt")


@xt_match("hl", AF_INET6)
@dataclass(frozen=True, slots=True)
class HlMatch(Match):
    """hop limit ==, <, > value. Linux: hl_mt6()."""

    mode: str
    value: int
    inv: bool
    OPTS = options(
        Opt("hl-eq", uint(0, 255), invert=True), Opt("hl-lt", uint(0, 255), excl=("hl-eq", "hl-gt")),
        Opt("hl-gt", uint(0, 255), excl=("hl-eq", "hl-lt")),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> HlMatch:
        mode = next((name for name in MODES if name in got.values), "")
        if not mode:
            raise XtablesError("HL match: You must specify one of `--hl-eq', `--hl-lt', `--hl-gt'")
        return cls(mode, got.get(mode), got.inv(mode))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --{self.mode} {self.value}"

    def listing(self, numeric: bool) -> str:
        sign = {"hl-eq": "!=" if self.inv else "==", "hl-lt": "<", "hl-gt": ">"}[self.mode]
        return f" HL match HL {sign} {self.value}"

    def compile(self, key: Key) -> Predicate:
        value, inv = self.value, self.inv
        if self.mode == "hl-lt":
            return lambda skb, ctx: skb.ip.hop_limit < value
        if self.mode == "hl-gt":
            return lambda skb, ctx: skb.ip.hop_limit > value
        return lambda skb, ctx: (skb.ip.hop_limit == value) != inv
