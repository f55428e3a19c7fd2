"""-j REJECT: drop the packet and tell its sender, by an ICMP error or a TCP reset.

kube-proxy writes it for Services without endpoints; port-unreachable is what makes connect() fail at once with ECONNREFUSED.

simplified: a reset for a bridged packet leaves by the routing table, with the bridge's MAC address as its source.

Sources: Linux reject_tg() (ipt_REJECT.c), nf_send_reset() (nf_reject_ipv4.c); iptables libipt_REJECT.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.core import DROP
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, any_text, options
from kubenet.kernel.netfilter.xtables.spec import AF_INET, Action, Ctx, Header, Key, RuleSpec, Target, xt_target
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff, arm
from kubenet.wire.tcp import TcpHdr

# name, its older spelling, ICMP code of type 3 (-1: a reset)
KINDS = (
    ("icmp-net-unreachable", "net-unreach", 0), ("icmp-host-unreachable", "host-unreach", 1),
    ("icmp-proto-unreachable", "proto-unreach", 2), ("icmp-port-unreachable", "port-unreach", 3),
    ("icmp-net-prohibited", "net-prohib", 9), ("icmp-host-prohibited", "host-prohib", 10),
    ("tcp-reset", "tcp-rst", -1), ("icmp-admin-prohibited", "admin-prohib", 13),
)
CODES = {name: code for name, _, code in KINDS}

FIN, SYN, RST, ACK = 1, 2, 4, 16


@xt_target("REJECT", AF_INET)
@dataclass(frozen=True, slots=True)
class RejectTarget(Target):
    """The sender knows, and the packet goes no further. Linux: reject_tg()."""

    kind: str
    TABLES = ("filter",)
    HOOKS = 0b01110
    OPTS = options(Opt("reject-with", any_text))

    @classmethod
    def parse(cls, got: Got, head: Header) -> RejectTarget:
        text = got.get("reject-with", "icmp-port-unreachable")
        for name, short, _ in KINDS:
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
        code = CODES[self.kind]

        def reject_tg(skb: SkBuff, ctx: Ctx) -> int:
            if code < 0:
                nf_send_reset(skb)
            else:
                from kubenet.kernel.ipv4.icmp import icmp_send

                icmp_send(skb, 3, code, 0)
            return DROP

        return reject_tg


def nf_send_reset(old: SkBuff) -> None:
    """The sender of this segment gets a RST that it will believe. Linux: nf_send_reset() (nf_reject_ipv4.c)."""
    th = old.l4
    if old.ip.frag & 0x1FFF or th is None or old.ip.proto != 6 or th.flags & RST:
        return
    if old.dst is not None and old.dst.type in (3, 5):  # broadcast, multicast
        return
    if th.flags & ACK:
        reset = TcpHdr(th.dport, th.sport, th.ack_seq, 0, RST, 0)
    else:
        length = old.plen + (th.flags & SYN != 0) + (th.flags & FIN != 0)
        reset = TcpHdr(th.dport, th.sport, 0, (th.seq + length) & 0xFFFFFFFF, RST | ACK, 0)
    from kubenet.kernel.ipv4.output import ip_local_out, ip_route_me_harder
    from kubenet.kernel.netfilter.conntrack import nf_conntrack_attach
    from kubenet.wire.ipv4 import IpHdr

    net = old.net
    sysctl = net.sysctl.ipv4
    nskb = SkBuff(net, ETH_P_IP, IpHdr(old.ip.daddr, old.ip.saddr, 6, 0, 0x4000, sysctl.ip_default_ttl), reset, b"", 0, 40)
    nskb.mark = old.mark if sysctl.fwmark_reflect else 0
    nskb.dst = old.dst
    if ip_route_me_harder(nskb) < 0:
        return
    nf_conntrack_attach(nskb, old)
    arm(nskb, False)
    ip_local_out(nskb)
