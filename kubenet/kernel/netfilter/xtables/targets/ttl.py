"""-j TTL in the mangle table: set, raise or lower the time to live.

Source: Linux ttl_tg() (xt_HL.c); iptables libipt_TTL.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import AF_INET, CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff

WORDS = {"ttl-set": "set to", "ttl-dec": "decrement by", "ttl-inc": "increment by"}


@xt_target("TTL", AF_INET)
@dataclass(frozen=True, slots=True)
class TtlTarget(Target):
    """The TTL is changed, within 0..255. Linux: ttl_tg()."""

    mode: str
    value: int
    TABLES = ("mangle",)
    OPTS = options(
        Opt("ttl-set", uint(0, 255), excl=("ttl-dec", "ttl-inc")), Opt("ttl-dec", uint(1, 255), excl=("ttl-set", "ttl-inc")),
        Opt("ttl-inc", uint(1, 255), excl=("ttl-set", "ttl-dec")),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> TtlTarget:
        mode = next((name for name in WORDS if name in got.values), "")
        if not mode:
            raise XtablesError("TTL: You must specify an action")
        return cls(mode, got.get(mode))

    def save(self) -> str:
        return f" --{self.mode} {self.value}"

    def listing(self, numeric: bool) -> str:
        return f" TTL {WORDS[self.mode]} {self.value}"

    def compile(self, key: Key) -> Action:
        mode, value = self.mode, self.value

        def ttl_tg(skb: SkBuff, ctx: Ctx) -> int:
            ttl = skb.ip.ttl
            if mode == "ttl-set":
                skb.ip.ttl = value
            elif mode == "ttl-dec":
                skb.ip.ttl = max(0, ttl - value)
            else:
                skb.ip.ttl = min(255, ttl + value)
            return CONTINUE

        return ttl_tg
