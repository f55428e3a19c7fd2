"""-m pkttype: for us, for all, for a group, or for somebody else, by its Ethernet destination.

Source: Linux pkttype_mt() (xt_pkttype.c); iptables libxt_pkttype.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match

TYPES = {"unicast": 0, "broadcast": 1, "multicast": 2, "host": 0, "bcast": 1, "mcast": 2}


def read_type(text: str, ext: str, opt: str) -> int:
    """Reads unicast, broadcast, multicast."""
    if text.lower() not in TYPES:
        raise XtablesError(f'Bad packet type "{text}"')
    return TYPES[text.lower()]


@xt_match("pkttype")
@dataclass(frozen=True, slots=True)
class PkttypeMatch(Match):
    """skb->pkt_type is this one. Linux: pkttype_mt()."""

    kind: int
    inv: bool
    OPTS = options(Opt("pkt-type", read_type, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> PkttypeMatch:
        return cls(got.get("pkt-type", 0), got.inv("pkt-type"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --pkt-type {list(TYPES)[self.kind]}"

    def listing(self, numeric: bool) -> str:
        return f" PKTTYPE {'!=' if self.inv else '='} {list(TYPES)[self.kind]}"

    def compile(self, key: Key) -> Predicate:
        kind, inv = self.kind, self.inv
        return lambda skb, ctx: (skb.pkt_type == kind) != inv
