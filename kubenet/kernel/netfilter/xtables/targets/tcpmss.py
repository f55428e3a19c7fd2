"""-j TCPMSS: lower the MSS that a SYN announces, for paths whose ICMP errors get lost.

Source: Linux tcpmss_tg4(), tcpmss_mangle_packet() (xt_TCPMSS.c); iptables libxt_TCPMSS.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.core import DROP
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.matches.tcp import TcpMatch
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, RuleSpec, Target, xt_target
from kubenet.kernel.skbuff import SkBuff, skb_ensure_writable

CLAMP = 0  # value: clamp to the path's MTU


@xt_target("TCPMSS")
@dataclass(frozen=True, slots=True)
class TcpmssTarget(Target):
    """The SYN announces no more than this. Linux: tcpmss_tg4()."""

    mss: int
    PROTOS = (6,)
    OPTS = options(Opt("set-mss", uint(0, 65495), excl=("clamp-mss-to-pmtu",)), Opt("clamp-mss-to-pmtu", excl=("set-mss",)))

    @classmethod
    def parse(cls, got: Got, head: Header) -> TcpmssTarget:
        if not got.values:
            raise XtablesError("TCPMSS target: At least one parameter is required")
        return cls(CLAMP if "clamp-mss-to-pmtu" in got.values else got.get("set-mss"))

    def save(self) -> str:
        return " --clamp-mss-to-pmtu" if self.mss == CLAMP else f" --set-mss {self.mss}"

    def listing(self, numeric: bool) -> str:
        return " TCPMSS clamp to PMTU" if self.mss == CLAMP else f" TCPMSS set {self.mss}"

    def check(self, net: object, rule: RuleSpec, table: str, hooks: int) -> int:
        """It must be sure to see SYNs only, and a clamp needs a route."""
        if self.mss == CLAMP and hooks & 0b00011:
            return errno.EINVAL
        syn = any(isinstance(m, TcpMatch) and m.mask & 2 and m.comp & 2 and not m.flags_inv for m in rule.matches)
        return 0 if syn else errno.EINVAL

    def compile(self, key: Key) -> Action:
        return self._run

    def _run(self, skb: SkBuff, ctx: Ctx) -> int:
        if skb.ip.frag & 0x1FFF:
            return CONTINUE
        if skb.l4 is None:
            return DROP
        mss = self.mss
        if mss == CLAMP:
            from kubenet.kernel.ipv4.route import dst_mtu, ip_route_output_key

            mtu = dst_mtu(skb.dst)
            try:
                mtu = min(mtu, dst_mtu(ip_route_output_key(ctx.net, skb.ip.saddr)))  # the way back
            except OSError:
                pass
            if mtu <= 40:
                return DROP
            mss = mtu - 40
        old = skb.l4.options.mss
        if old and old <= mss:
            return CONTINUE
        if not old and skb.plen:
            return CONTINUE  # data in the SYN: there is no room to add an option
        skb_ensure_writable(skb)
        th = skb.l4
        th.options = th.options.copy()
        # RFC 9293 3.7.1: without the option the other side must assume 536, so more may not be announced for it
        th.options.mss = mss if old else min(mss, 536)
        if not old:
            th.doff += 4
            skb.len += 4
        return CONTINUE
