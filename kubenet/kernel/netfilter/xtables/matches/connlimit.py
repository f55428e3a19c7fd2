"""-m connlimit: how many connections an address (or its network) has. Counts the live ones in the connection table.

Source: Linux connlimit_mt() (xt_connlimit.c), nf_conncount.c; iptables libxt_connlimit.c. simplified: the kernel keeps a list
per rule of the connections it has seen; here all tracked connections count. TCP ones being closed do not, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number, options, uint
from kubenet.kernel.netfilter.xtables.spec import AF_INET, AF_INET6, Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

_U32 = 0xFFFFFFFF


def read_mask6(text: str, ext: str, opt: str) -> int:
    """Reads a prefix length of ip6tables."""
    value = number(text)
    if value is None or value > 128:
        raise XtablesError(f'{ext}: bad value for option "--{opt}", neither a valid network mask nor valid CIDR (0-128).\n')
    return value


@xt_match("connlimit")
@dataclass(frozen=True, slots=True)
class ConnlimitMatch(Match):
    """The address has more than (or at most) so many connections. Linux: connlimit_mt()."""

    limit: int
    above: bool
    plen: int
    dest: bool
    family: int = AF_INET
    CONNTRACK = True
    OPTS = options(
        Opt("connlimit-above", uint(0, _U32), excl=("connlimit-upto",)),
        Opt("connlimit-upto", uint(0, _U32), excl=("connlimit-above",)),
        Opt("connlimit-mask", uint(0, 32), read6=read_mask6), Opt("connlimit-saddr", excl=("connlimit-daddr",)),
        Opt("connlimit-daddr", excl=("connlimit-saddr",)),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> ConnlimitMatch:
        above = "connlimit-above" in got.values
        if not above and "connlimit-upto" not in got.values:
            raise XtablesError('You must specify "--connlimit-above" or "--connlimit-upto".')
        limit = got.get("connlimit-above" if above else "connlimit-upto")
        plen = got.get("connlimit-mask", 32 if head.family == AF_INET else 128)
        return cls(limit, above, plen, got.get("connlimit-daddr", False), head.family)

    def save(self) -> str:
        side = "daddr" if self.dest else "saddr"
        return f" --connlimit-{'above' if self.above else 'upto'} {self.limit} --connlimit-mask {self.plen} --connlimit-{side}"

    def listing(self, numeric: bool) -> str:
        return f" #conn {'dst' if self.dest else 'src'}/{self.plen} {'>' if self.above else '<='} {self.limit}"

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        bits = 128 if self.family == AF_INET6 else 32
        mask = ((1 << self.plen) - 1) << (bits - self.plen)
        index = 2 if self.dest else 0
        ct = skb.ct
        mine = ct.orig if ct is not None else None
        want = (mine[index] if mine is not None else skb.ip.daddr if self.dest else skb.ip.saddr) & mask
        count = 0 if ct is not None and any(other is ct for other in self._entries(ctx)) else 1
        count += sum(1 for other in self._entries(ctx) if other.orig[index] & mask == want and other.family == self.family)
        return (count > self.limit) == self.above

    @staticmethod
    def _entries(ctx: Ctx) -> list[Any]:
        return list(ctx.net.ct.entries()) if ctx.net.ct is not None else []
