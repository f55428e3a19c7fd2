"""-j CT and -j NOTRACK in the raw table: what connection tracking, which comes right after, shall do with the packet.

--notrack leaves the packet untracked, and so without NAT. --zone puts its connection into a zone of its own.
simplified: helpers and event masks are refused (no helper is known), as on a kernel without those modules.

Source: Linux xt_ct_target(), notrack_tg() (xt_CT.c); iptables libxt_CT.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, any_text, options, uint
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, RuleSpec, Target, xt_target
from kubenet.kernel.skbuff import IP_CT_UNTRACKED, SkBuff

ZONE_DIRS = {"-orig": 1, "-reply": 2, "": 3}


@xt_target("CT")
@dataclass(frozen=True, slots=True)
class CtTarget(Target):
    """The packet is untracked, or its zone is chosen. Linux: xt_ct_target_v1()."""

    notrack: bool
    zone: int
    zone_dir: str  # "", "-orig", "-reply"
    helper: str
    alias: bool
    TABLES = ("raw",)
    CONNTRACK = True
    OPTS = options(
        Opt("notrack"), Opt("helper", any_text), Opt("zone", uint(0, 65535), excl=("zone-orig", "zone-reply")),
        Opt("zone-orig", uint(0, 65535), excl=("zone", "zone-reply")),
        Opt("zone-reply", uint(0, 65535), excl=("zone", "zone-orig")),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> CtTarget:
        kind = next((d for d in ("", "-orig", "-reply") if f"zone{d}" in got.values), "")
        return cls(got.get("notrack", False), got.get(f"zone{kind}", -1), kind, got.get("helper", ""), False)

    def save_as(self) -> str:
        return "NOTRACK" if self.alias else "CT"

    def save(self) -> str:
        if self.alias:
            return ""
        out = " --notrack" if self.notrack else ""
        if self.helper:
            out += f" --helper {self.helper}"
        return out + (f" --zone{self.zone_dir} {self.zone}" if self.zone >= 0 else "")

    def listing(self, numeric: bool) -> str:
        if self.alias:
            return " NOTRACK"
        out = " CT"
        if self.notrack:
            out += " notrack"
        if self.helper:
            out += f" helper {self.helper}"
        return out + (f" zone{self.zone_dir} {self.zone}" if self.zone >= 0 else "")

    def check(self, net: object, rule: RuleSpec, table: str, hooks: int) -> int:
        return errno.ENOENT if self.helper else 0

    def compile(self, key: Key) -> Action:
        return self._run

    def _run(self, skb: SkBuff, ctx: Ctx) -> int:
        if skb.ct is None and skb.ctinfo != IP_CT_UNTRACKED:
            if self.notrack:
                skb.ctinfo = IP_CT_UNTRACKED
            elif self.zone >= 0:
                from kubenet.kernel.netfilter.conntrack.entry import Zone, nf_ct_tmpl_alloc

                skb.ct = nf_ct_tmpl_alloc(ctx.net, Zone(self.zone, ZONE_DIRS[self.zone_dir]))
        return CONTINUE


@xt_target("NOTRACK")
class NotrackTarget(CtTarget):
    """-j NOTRACK is -j CT --notrack under its older name."""

    __slots__ = ()
    OPTS = options()

    @classmethod
    def parse(cls, got: Got, head: Header) -> CtTarget:
        return CtTarget(True, -1, "", "", True)
