"""-m nfacct --nfacct-name NAME: counts packets in a named object that outlives rules; always true.

The object must exist (`nfacct add`); kube-proxy makes two at start-up. Objects belong to the namespace.

Source: Linux nfacct_mt() (xt_nfacct.c), nfnetlink_acct.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, text_of
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff


def nfacct_objects(net: NetNamespace) -> dict[str, list[int]]:
    """name -> [packets, bytes], in order of creation (`nfacct list`)."""
    found: dict[str, list[int]] = net.extra.setdefault("nfacct", {})
    return found


def nfacct_add(net: NetNamespace, name: str) -> None:
    """The counter exists. OSError EEXIST if it did before. Linux: nfnl_acct_new()."""
    objects = nfacct_objects(net)
    if name in objects:
        raise OSError(errno.EEXIST, "File exists")
    objects[name] = [0, 0]


@xt_match("nfacct")
@dataclass(frozen=True, slots=True)
class NfacctMatch(Match):
    """Counted. Linux: nfacct_mt()."""

    name: str
    PURE = False
    OPTS = options(Opt("nfacct-name", text_of(31), mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> NfacctMatch:
        return cls(got.get("nfacct-name", ""))

    def save(self) -> str:
        return f" --nfacct-name  {self.name}"

    def listing(self, numeric: bool) -> str:
        return f" nfacct-name  {self.name}"

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        return 0 if self.name in nfacct_objects(net) else errno.ENOENT

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        counts = nfacct_objects(ctx.net).setdefault(self.name, [0, 0])
        counts[0] += 1
        counts[1] += skb.len
        return True
