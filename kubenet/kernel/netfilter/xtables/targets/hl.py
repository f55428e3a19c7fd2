"""-j HL in ip6tables' mangle table: set, raise or lower the hop limit; what -j TTL is for IPv4.

Source: Linux hl_tg6() (xt_HL.c); iptables libip6t_HL.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import AF_INET6, CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff

WORDS = {"hl-set": "set to", "hl-dec": "decrement by", "hl-inc": "increment by"}


@xt_target("HL", AF_INET6)
@dataclass(frozen=True, slots=True)
class HlTarget(Target):
    """The hop limit is changed, within 0..255. Linux: hl_tg6()."""

    mode: str
    value: int
    TABLES = ("mangle",)
    OPTS = options(
        Opt("hl-set", uint(0, 255), excl=("hl-dec", "hl-inc")), Opt("hl-dec", uint(1, 255), excl=("hl-set", "hl-inc")),
        Opt("hl-inc", uint(1, 255), excl=("hl-set", "hl-dec")),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> HlTarget:
        mode = next((name for name in WORDS if name in got.values), "")
        if not mode:
            raise XtablesError("HL: You must specify an action")
        return cls(mode, got.get(mode))

    def save(self) -> str:
        return f" --{self.mode} {self.value}"

    def listing(self, numeric: bool) -> str:
        return f" HL {WORDS[self.mode]} {self.value}"

    def compile(self, key: Key) -> Action:
        mode, value = self.mode, self.value

        def hl_tg6(skb: SkBuff, ctx: Ctx) -> int:
            limit = skb.ip.hop_limit
            if mode == "hl-set":
                skb.ip.hop_limit = value
            else:
                skb.ip.hop_limit = max(0, limit - value) if mode == "hl-dec" else min(255, limit + value)
            return CONTINUE

        return hl_tg6
