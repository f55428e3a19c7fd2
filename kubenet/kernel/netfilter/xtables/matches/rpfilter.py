"""-m rpfilter: would an answer go out where this packet came in? rp_filter as a rule, with exceptions.

Source: Linux rpfilter_mt(), rpfilter_lookup_reverse() (ipt_rpfilter.c); iptables libxt_rpfilter.c. simplified: IPv4 only.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import AF_INET, Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

FLAGS = ("loose", "validmark", "accept-local", "invert")


@xt_match("rpfilter", family=AF_INET)
@dataclass(frozen=True, slots=True)
class RpfilterMatch(Match):
    """The source is reachable through the device of arrival (loose: through any). Linux: rpfilter_mt()."""

    flags: tuple[str, ...]
    TABLES = ("raw", "mangle")
    HOOKS = 0b00001
    OPTS = options(*(Opt(name) for name in FLAGS))

    @classmethod
    def parse(cls, got: Got, head: Header) -> RpfilterMatch:
        return cls(tuple(name for name in FLAGS if name in got.values))

    def save(self) -> str:
        return "".join(f" --{name}" for name in self.flags)

    def listing(self, numeric: bool) -> str:
        return " rpfilter" + "".join(f" {name}" for name in self.flags)

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        return self._believable(skb, ctx) != ("invert" in self.flags)

    def _believable(self, skb: SkBuff, ctx: Ctx) -> bool:
        from kubenet.kernel.ipv4.fib import RTN_LOCAL, RTN_UNICAST, Flow, fib_lookup

        dev, saddr, daddr = skb.indev, skb.ip.saddr, skb.ip.daddr
        assert dev is not None
        if dev is ctx.net.lo:
            return True
        if daddr >> 28 == 0xE and not saddr >> 24:
            local: bool = daddr >> 8 == 0xE00000
            return local
        towards = 0 if daddr >> 28 == 0xE or daddr == 0xFFFFFFFF or not daddr >> 24 else daddr
        mark = skb.mark if "validmark" in self.flags else 0
        route = fib_lookup(ctx.net, Flow(saddr, towards, 0, ctx.net.lo.ifindex, mark, skb.ip.tos))
        if route is None or route.type != RTN_UNICAST and (route.type != RTN_LOCAL or "accept-local" not in self.flags):
            return False
        same: bool = route.dev is dev
        return same or "loose" in self.flags
