"""-j REJECT of ip6tables: drop the packet and tell its sender, by an ICMPv6 error or a TCP reset.

simplified: there is no IPv6 stack to send the answer; the packet ends here and its trace says so.

Sources: Linux reject_tg6() (ip6t_REJECT.c); iptables libip6t_REJECT.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.core import DROP
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, any_text, options
from kubenet.kernel.netfilter.xtables.spec import AF_INET6, Action, Ctx, Header, Key, RuleSpec, Target, xt_target
from kubenet.kernel.skbuff import SkBuff

# name, its older spelling
KINDS = (
    ("icmp6-no-route", "no-route"), ("icmp6-adm-prohibited", "adm-prohibited"), ("icmp6-addr-unreachable", "addr-unreach"),
    ("icmp6-port-unreachable", "port-unreach"), ("tcp-reset", "tcp-reset"), ("icmp6-policy-fail", "policy-fail"),
    ("icmp6-reject-route", "reject-route"),
)


@xt_target("REJECT", AF_INET6)
@dataclass(frozen=True, slots=True)
class Reject6Target(Target):
    """The packet goes no further. Linux: reject_tg6()."""

    kind: str
    TABLES = ("filter",)
    HOOKS = 0b01110
    OPTS = options(Opt("reject-with", any_text))

    @classmethod
    def parse(cls, got: Got, head: Header) -> Reject6Target:
        text = got.get("reject-with", "icmp6-port-unreachable")
        for name, short in KINDS:
            if text and (name.startswith(text.lower()) or short.startswith(text.lower())):
                return cls(name)
        raise XtablesError(f'unknown reject type "{text}"')

    def save(self) -> str:
        return f" --reject-with {self.kind}"

    def listing(self, numeric: bool) -> str:
        return f" reject-with {self.kind}"

    def check(self, net: object, rule: RuleSpec, table: str, hooks: int) -> int:
        if self.kind == "tcp-reset" and (rule.head.proto != 6 or rule.head.proto_inv):
            return errno.EINVAL
        return 0

    def compile(self, key: Key) -> Action:
        return self._run

    def _run(self, skb: SkBuff, ctx: Ctx) -> int:
        return DROP
